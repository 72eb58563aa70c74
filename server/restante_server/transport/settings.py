"""The settings of the transport, read from the configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from restante_mail.header.authres import comparable_id
from restante_process.addresses import parse_networks
from restante_process.config import Config
from restante_server.directory.check_rules import CheckSettings
from restante_server.transport.greylisting import policy as greylisting
from restante_server.transport.greylisting.policy import GreylistSettings
from restante_server.transport.schedule import DAY, HOUR, MINUTE, Schedule

MAX_ACCEPT_RECIPIENTS = 1_000

LEAST_TRACE_DAYS = 8  # the rows answer a repeated submission for 7 days (docs/design.md "Idempotence")


@dataclass(frozen=True, slots=True)
class TransportSettings:
    """The limits, retry times and host name of the transport."""

    contents: Path  # the directory of large contents
    hostname: str = "localhost"  # this server's name in Received, Message-ID and reports
    trusted_authserv_ids: tuple[str, ...] = ()  # of servers that deliver by LMTP
    forwarding_domain: str = ""  # of rewritten reverse-paths; "": that of the alias
    schedule: Schedule = field(default_factory=Schedule)
    max_recipients: int = 1_000
    max_scheduled: int = 1_000  # scheduled messages of one account
    max_scheduled_octets: int = 512 << 20  # sum over the scheduled messages of one account
    direct_deliveries: int = 100  # most recipients delivered in the transaction that accepts the message
    max_message_octets: int = 50 << 20
    max_hops: int = 100  # more Received fields mean a loop (RFC 5321 6.3)
    trace_microseconds: int = 30 * DAY
    failed_address_microseconds: int = 7 * DAY  # for which senders are warned of an address; 0: never
    whole_report_octets: int = 256 << 10  # a report returns only the header of a longer message
    report_header_octets: int = 32 << 10  # most octets of a returned header
    keeps_headers: bool = False  # of arriving mail until it is accepted or refused, for failure reports
    checks: CheckSettings = field(default_factory=CheckSettings)
    greylisting: GreylistSettings = field(default_factory=GreylistSettings)

    @classmethod
    def of(cls, settings: Config) -> TransportSettings:
        """Make the settings from the configuration."""
        given, grey = settings.transport, settings.greylisting
        return cls(
            contents=settings.contents_directory,
            hostname=given.hostname,
            forwarding_domain=given.forwarding_domain.lower(),
            trusted_authserv_ids=given.trusted_authserv_ids,
            schedule=Schedule(
                first_retry=int(given.first_retry_minutes * MINUTE),
                longest_retry=int(given.longest_retry_minutes * MINUTE),
                warn_after=int(given.warn_hours * HOUR),
                expire_after=int(given.expire_days * DAY),
            ),
            max_recipients=settings.limits.max_recipients,
            max_scheduled=settings.limits.account_scheduled,
            max_scheduled_octets=settings.limits.account_scheduled_octets,
            max_message_octets=settings.limits.max_message_octets,
            max_hops=settings.smtp.max_hops,
            failed_address_microseconds=int(given.failed_address_days * DAY),
            trace_microseconds=max(given.trace_days, LEAST_TRACE_DAYS) * DAY,
            keeps_headers=bool(settings.reports.failure_domains),
            checks=CheckSettings(
                settings.checks.junk_weight,
                settings.checks.refuse_weight,
                frozenset(comparable_id(name) for name in settings.checks.trusted_sealers),
            ),
            greylisting=GreylistSettings(
                wait=int(grey.wait_seconds * greylisting.SECOND),
                retry_within=int(grey.retry_hours * HOUR),
                keep=int(grey.keep_days * DAY),
                proven_after=grey.proven_after,
                exempt=parse_networks(settings.checks.exempt),
                skip_passing=frozenset(grey.skip_passing),
            ),
        )
