"""The keys of the configuration of every process; `config_file` reads their values.

Every key is a field below with its default; the comment after it is its documentation (`restante config` prints it).
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

TlsMode = Literal["none", "starttls", "implicit"]


class ConfigError(Exception):
    """A configuration that cannot be used. The text names the key and the fault."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """[[tls.certificates]]: one certificate; clients that name no host or an unknown one get the first certificate."""

    certificate: str = ""  # PEM file of the certificate chain
    key: str = ""  # PEM file of the private key
    hosts: tuple[str, ...] = ()  # host names that it serves; none: the names in the certificate


@dataclass(frozen=True, slots=True)
class Tls:
    """[tls]"""

    certificates: tuple[Certificate, ...] = ()
    authentication: Literal["required", "except-loopback"] = "required"  # TLS for passwords: always, or not on loopback
    client_ca: str = ""  # PEM file of the authorities that may sign certificates of gateways on other machines


@dataclass(frozen=True, slots=True)
class Core:
    """[core]"""

    api_host: str = "localhost"  # address of the API for clients (TLS); localhost: 127.0.0.1 and ::1; empty: all
    api_port: int = 50051  # port of the API; 0: any free port; -1: off
    api_connections: int = 1_000  # connections at a time, on api_port and on gateway_port each
    api_connections_per_address: int = 200  # connections of one client address (/64 for IPv6)
    api_handshake_seconds: float = 10.0  # time for the TLS handshake, and again for the HTTP/2 preface
    gateway_host: str = "127.0.0.1"  # address for gateways on other machines (mutual TLS); empty: all
    gateway_port: int = -1  # port for gateways on other machines, usually 50052; -1: off
    drain_seconds: float = 10.0  # time for running calls to finish at a shutdown
    log_calls: Literal["all", "failed"] = "failed"  # log lines for all finished calls, or for failed and slow ones


@dataclass(frozen=True, slots=True)
class Gateway:
    """[gateway]: all gateways."""

    execute: Literal["frames", "grpc"] = "frames"  # form of operations and reads on this machine; else grpc


@dataclass(frozen=True, slots=True)
class Store:
    """[store]"""

    url: str = ""  # database: sqlite:///PATH or postgresql://...; empty: store.db in the data directory
    contents: str = ""  # directory of large contents; empty: contents/ in the data directory
    backups: str = ""  # root of backups by `up` and by administrators' sessions; empty: backups/ in the data directory
    inline_octets: int = 65_536  # contents up to this size are stored in the database
    reserve_octets: int = 1 << 30  # free space below which the server accepts no new mail
    write_lanes: int = 4  # write transactions at a time (PostgreSQL)
    readers: int = 4  # threads for read transactions
    recoverable_days: int = 14  # time for which deleted mail can be recovered
    recoverable_octets: int = 10 << 30  # deleted mail kept in one mailbox; above that, the earliest deleted is removed
    history_days: int = 30  # time for which removals are remembered, for clients that synchronize


@dataclass(frozen=True, slots=True)
class Limits:
    """[limits]"""

    max_message_octets: int = 50 << 20  # largest message, by SMTP (SIZE), IMAP (APPEND) and API
    max_recipients: int = 1_000  # recipients of one message
    account_uploads: int = 1_000  # uploads of one account: unfinished, or not yet used in a message
    account_upload_octets: int = 512 << 20  # total size of these uploads; an upload lapses after an hour
    account_scheduled: int = 1_000  # submissions of one account with a later sending time
    account_scheduled_octets: int = 512 << 20  # total size of these submissions
    account_operations: int = 256  # unanswered operations of one account, on all its connections
    account_streams: int = 128  # streams of one account: Execute, Watch, Sync, reading and uploading
    account_subscriptions: int = 2_000  # subscriptions of one account, on all its Watch streams
    account_queued_octets: int = 16 << 20  # unsent notices of one account, on all its Watch streams
    connections: int = 4_000  # connections of one gateway process
    connections_per_address: int = 200  # connections of one client address (/64 for IPv6) to one gateway process
    reuse_port: bool = False  # whether several processes of one gateway may share a port; `up` sets it itself


@dataclass(frozen=True, slots=True)
class Processes:
    """[processes]: how many processes of each kind `restante up` runs."""

    core: int = 0  # cores (PostgreSQL; SQLite has one); 0, here and below: a number that fits the machine
    smtp: int = 0  # SMTP gateways, which share the ports of the listeners
    imap: int = 0  # IMAP gateways
    pop3: int = 0  # POP3 gateways


@dataclass(frozen=True, slots=True)
class Sessions:
    """[sessions]"""

    token_minutes: float = 15.0  # lifetime of a session token; clients renew it at half of that
    renewable_hours: int = 24  # longest life of a session; then the user must log in again
    hash_memory_kib: int = 19_456  # memory of a password hash (argon2id)
    hash_passes: int = 2  # passes of a password hash (argon2id)


@dataclass(frozen=True, slots=True)
class Transport:
    """[transport]"""

    hostname: str = "localhost"  # name of the server in EHLO, Received, Message-ID and reports
    trusted_authserv_ids: tuple[str, ...] = ()  # names in Authentication-Results that count in mail by LMTP
    forwarding_domain: str = ""  # domain of the rewritten reverse-paths of forwarded mail; empty: that of the alias
    expire_days: float = 5.0  # time after which undelivered mail fails
    warn_hours: float = 4.0  # time after which the sender gets one report of the delay
    first_retry_minutes: float = 15.0  # time to the second attempt; doubles with each attempt
    longest_retry_minutes: float = 240.0  # longest time between two attempts
    failed_address_days: float = 7.0  # time for which senders are warned of a foreign address that failed; 0: never
    trace_days: int = 30  # after a message was accepted or, if scheduled, sent, its trace is kept so long; at least 8


@dataclass(frozen=True, slots=True)
class Listener:
    """One address that a gateway serves."""

    host: str = ""  # address to serve; empty: all addresses
    port: int = 0  # port to serve; 0: any free port
    tls: TlsMode = "starttls"  # implicit: TLS from the first octet; none: no TLS
    proxy_from: tuple[str, ...] = ()  # networks of proxies, whose connections must begin with a PROXY header


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpListener(Listener):
    """One address that the SMTP gateway serves."""

    role: Literal["mx", "submission", "lmtp"]  # mail from: mx other servers, submission users, lmtp trusted servers
    allow_from: tuple[str, ...] = ()  # lmtp: networks of the trusted servers; others are refused
    path: str = ""  # lmtp: Unix socket to serve instead of host and port, for the platform's user and its group


def _listeners(**ports: tuple[int, TlsMode]) -> Any:
    made = {name: Listener(port=port, tls=tls) for name, (port, tls) in ports.items()}
    return field(default_factory=lambda: types.MappingProxyType(made))


@dataclass(frozen=True, slots=True)
class Imap:
    """[imap]"""

    listeners: Mapping[str, Listener] = _listeners(imap=(143, "starttls"), imaps=(993, "implicit"))
    idle_minutes: float = 30.0  # time after which an idle client is logged out (RFC 3501 5.4)


@dataclass(frozen=True, slots=True)
class Pop3:
    """[pop3]"""

    listeners: Mapping[str, Listener] = _listeners(pop3=(110, "starttls"), pop3s=(995, "implicit"))
    idle_minutes: float = 10.0  # time after which an idle client is logged out (RFC 1939 3)


@dataclass(frozen=True, slots=True)
class Smtp:
    """[smtp]"""

    listeners: Mapping[str, SmtpListener] = field(
        default_factory=lambda: types.MappingProxyType(
            {
                "mx": SmtpListener(port=25, role="mx"),
                "submission": SmtpListener(port=587, role="submission"),
                "submissions": SmtpListener(port=465, tls="implicit", role="submission"),
            }
        )
    )
    command_seconds: float = 300.0  # longest wait for a command or for data (RFC 5321 4.5.3.2)
    idle_seconds: float = 600.0  # total wait for commands since the last message; each accepted recipient adds a second
    data_seconds: float = 300.0  # total wait for the data of a message, before data_octets_per_second adds to it
    data_octets_per_second: int = 500  # each time so many octets arrive, data_seconds grows by one; 0: no minimum rate
    longest_data_seconds: float = 3_600.0  # longest time for the data of a message at any rate
    max_hops: int = 100  # Received fields of a message; more are a mail loop


@dataclass(frozen=True, slots=True)
class DnsList:
    """[[checks.dns_lists]]: one list of clients in the DNS (RFC 5782)."""

    zone: str = ""  # its zone, such as "bl.example.org"
    weight: float = 1.0  # of a client that it lists: above 0 for bad clients, below 0 for good ones


@dataclass(frozen=True, slots=True)
class Checks:
    """[checks]: checks of mail from other servers, on listeners with the role mx, and the policy for their results."""

    spf: bool = True  # SPF of the reverse-path and of the name in HELO
    dkim: bool = True  # DKIM signatures
    arc: bool = True  # the ARC chain
    dmarc: bool = True  # DMARC, by the results of SPF and DKIM
    reverse_dns: bool = True  # whether a name of the client's address has the address
    dns_lists: tuple[DnsList, ...] = ()  # lists that are asked about the client
    nameservers: tuple[str, ...] = ()  # name servers, ADDRESS or ADDRESS:PORT; none: those of the system
    seconds: float = 10.0  # longest wait for the DNS after the end of a message; what is missing then is "temperror"
    exempt: tuple[str, ...] = (
        "127.0.0.0/8",
        "::1/128",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "fc00::/7",
        "fe80::/10",
    )  # networks of clients whose mail is neither checked nor greylisted, and about which the DNS is not asked
    junk_weight: float = 1.0  # weight of the DNS lists that have the client, from which mail goes to Junk; 0: never
    refuse_weight: float = 2.0  # weight from which mail is refused; 0: never
    trusted_sealers: tuple[str, ...] = ()  # domains whose ARC results count where DMARC fails


@dataclass(frozen=True, slots=True)
class Greylisting:
    """[greylisting]: mail of unknown clients to domains that have it on (`restante admin domain update`)."""

    wait_seconds: float = 300.0  # least time between the first attempt and a retry that passes
    retry_hours: float = 24.0  # time in which a retry counts; a later one is a first attempt
    keep_days: float = 35.0  # time for which a client that has come again is known, from its last mail on
    proven_after: int = 5  # retries in different hours after which all mail of a client's network passes; 0: never
    skip_passing: tuple[
        Literal["spf", "helo", "reverse-dns"], ...
    ] = ()  # clients that pass one of these are not delayed


@dataclass(frozen=True, slots=True)
class Smarthost:
    """One of [relay.smarthosts]: a server that takes mail for other domains, instead of the servers in the DNS."""

    host: str = ""  # its name or address, required
    port: int = 0  # its port; 0: 465 for implicit TLS, else 587
    tls: Literal["required", "implicit", "opportunistic", "none"] = "required"  # the first two verify its certificate
    recipient_domains: tuple[str, ...] = ()  # domains whose mail goes to it; "*": all domains without another route
    sender_domains: tuple[str, ...] = ()  # sending domains whose mail goes to it; recipient_domains come first
    user: str = ""  # user name of the relay there; empty: no AUTH. Needs required or implicit TLS, but on loopback
    secret_file: str = ""  # file with the password, or with the access token of XOAUTH2; read at each login
    mechanism: Literal["any", "SCRAM-SHA-256", "PLAIN", "LOGIN", "XOAUTH2"] = "any"  # any: the first of the next three


@dataclass(frozen=True, slots=True)
class Source:
    """One of [relay.sources]: the local address from which the mail of some domains leaves."""

    sender_domains: tuple[str, ...] = ()  # sending domains; "*": all others, and reports
    ipv4: str = ""  # local IPv4 address; empty: none, if ipv6 is set, else the system's choice
    ipv6: str = ""  # local IPv6 address; empty: none, if ipv4 is set, else the system's choice
    hostname: str = ""  # name in EHLO; empty: transport.hostname


@dataclass(frozen=True, slots=True)
class Relay:
    """[relay]"""

    send: bool = True  # whether mail to other domains is sent; false: it waits in the queue
    port: int = 25  # port of other servers
    nameservers: tuple[str, ...] = ()  # name servers, ADDRESS or ADDRESS:PORT; none: those of the system
    allow_private: tuple[str, ...] = ()  # private, loopback and link-local networks that the relay may connect to
    routes: Mapping[str, str] = field(default_factory=dict)  # DOMAIN = "HOST:PORT" instead of its MX; "*": all others
    smarthosts: Mapping[str, Smarthost] = field(default_factory=dict)  # servers for other domains, with TLS and AUTH
    sources: Mapping[str, Source] = field(default_factory=dict)  # local addresses for domains of senders
    mta_sts: bool = True  # whether MTA-STS policies of domains are fetched and obeyed (RFC 8461)
    dnssec: bool = False  # whether nameservers, all on loopback, validate by DNSSEC: then DANE is used (RFC 7672)
    authorities: str = ""  # PEM file of the certificate authorities to trust; empty: those of the system
    connections: int = 20  # connections at a time
    connections_per_host: int = 8  # most connections to one host at a time
    first_connections_per_host: int = 2  # the number to begin with; it grows and shrinks as the host copes


@dataclass(frozen=True, slots=True)
class Reports:
    """[reports]: DMARC aggregate reports (RFC 9990) and TLS reports (RFC 8460)."""

    send: bool = True  # whether domains that ask for it get a daily report about mail in their names, and TLS to them
    organization: str = ""  # name of this server's operator in reports; empty: transport.hostname
    sender: str = ""  # address of the author of reports; empty: postmaster at transport.hostname
    addresses: tuple[str, ...] = ()  # addresses here that receive reports about this server's domains
    keep_days: int = 90  # time for which reports are kept
    failure_domains: tuple[
        str, ...
    ] = ()  # domains that may get reports of single failures (RFC 9991); "*": all; none: never
    failure_seconds: float = 60.0  # time for which similar failures are collected before one report stands for them
    failure_hourly: int = 10  # most failure reports of an hour to addresses of one domain
    failure_hourly_total: int = 200  # most failure reports of an hour


@dataclass(frozen=True, slots=True)
class Logging:
    """[logging]"""

    level: Literal["debug", "info", "warning", "error"] = "info"  # lowest level that is logged
    format: Literal["json", "console"] = "json"  # JSON for programs, or text for people
    security_file: str = ""  # log of failed logins with their names; empty: security.log in the data directory


@dataclass(frozen=True, slots=True)
class Health:
    """[health]: metrics, liveness and readiness by HTTP, with one port for each process.

    The second process of a kind has a port 100 higher, the third one 200 higher.
    """

    host: str = "127.0.0.1"  # address of all these ports
    up: int = 9090  # port of `restante up`, for all processes together; -1: off, here and below
    core: int = 9091  # port of the core
    imap: int = 9092  # port of the IMAP gateway
    pop3: int = 9093  # port of the POP3 gateway
    smtp: int = 9094  # port of the SMTP gateway
    relay: int = 9095  # port of the relay


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration."""

    data: str = "/var/lib/restante"  # the data directory
    core_addresses: tuple[str, ...] = ()  # for gateways: "HOST:PORT", "dns:NAME:PORT", "unix:/PATH"; none: own socket
    tls: Tls = field(default_factory=Tls)
    core: Core = field(default_factory=Core)
    gateway: Gateway = field(default_factory=Gateway)
    store: Store = field(default_factory=Store)
    limits: Limits = field(default_factory=Limits)
    processes: Processes = field(default_factory=Processes)
    sessions: Sessions = field(default_factory=Sessions)
    transport: Transport = field(default_factory=Transport)
    checks: Checks = field(default_factory=Checks)
    greylisting: Greylisting = field(default_factory=Greylisting)
    imap: Imap = field(default_factory=Imap)
    pop3: Pop3 = field(default_factory=Pop3)
    smtp: Smtp = field(default_factory=Smtp)
    relay: Relay = field(default_factory=Relay)
    reports: Reports = field(default_factory=Reports)
    logging: Logging = field(default_factory=Logging)
    health: Health = field(default_factory=Health)

    @property
    def directory(self) -> Path:
        """The data directory."""
        return Path(self.data)

    @property
    def store_url(self) -> str:
        """The URL of the database."""
        return self.store.url or f"sqlite:///{self.directory / 'store.db'}"

    @property
    def report_author(self) -> str:
        """The address of the author of reports to other servers."""
        return self.reports.sender or f"postmaster@{self.transport.hostname}"

    @property
    def security_file(self) -> Path:
        """The core's log of failed logins."""
        return Path(self.logging.security_file) if self.logging.security_file else self.directory / "security.log"

    @property
    def contents_directory(self) -> Path:
        """The directory of large contents."""
        return Path(self.store.contents) if self.store.contents else self.directory / "contents"

    @property
    def backups_directory(self) -> Path:
        """The directory of backups before a migration and of those requested in an administrator's session."""
        return Path(self.store.backups) if self.store.backups else self.directory / "backups"
