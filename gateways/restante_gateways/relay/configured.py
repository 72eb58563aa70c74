"""The configured routes and source addresses, found by the domains of recipient and sender."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from restante_gateways.relay.tls.rules import OPPORTUNISTIC, Demand, TlsRule
from restante_mail.envelope.paths import BadPath, ascii_domain, parse_path
from restante_process.addresses import parse_address
from restante_process.config import Smarthost, Source

ALL = "*"
Value = TypeVar("Value")
SUBMISSION, SUBMISSIONS = 587, 465  # RFC 6409 3.1, RFC 8314 3.3
RULES = {
    "none": TlsRule((Demand.CLEAR,)),
    "opportunistic": OPPORTUNISTIC,
    "required": TlsRule((Demand.WEBPKI,)),
    "implicit": TlsRule((Demand.WEBPKI,)),
}


@dataclass(frozen=True, slots=True)
class Login:
    """The login of the relay at a smarthost. The secret is in a file, which is read at each login."""

    user: str
    secret_file: str
    mechanism: str  # "any" or a name


@dataclass(frozen=True, slots=True)
class Route:
    """A configured route, which replaces the DNS and may have any address. Its TLS rule replaces MTA-STS and DANE."""

    host: str
    port: int
    rule: TlsRule = OPPORTUNISTIC
    implicit: bool = False  # TLS from the first octet (RFC 8314 3)
    login: Login | None = None

    @classmethod
    def parse(cls, text: str, port: int) -> Route:
        """Parse HOST, HOST:PORT or [ADDRESS]:PORT. Raises ValueError."""
        if text.startswith("["):
            host, closed, rest = text[1:].partition("]")
            if not closed:
                raise ValueError(f"relay.routes: {text!r} has no closing bracket")
            made = cls(str(parse_address(host)), int(rest.removeprefix(":")) if rest else port)
        else:
            host, colon, number = text.rpartition(":")
            made = cls(host, int(number)) if colon and ":" not in host else cls(text, port)
        if not made.host or not 0 < made.port < 65_536:
            raise ValueError(f"relay.routes: {text!r} is neither HOST, HOST:PORT nor [ADDRESS]:PORT")
        return made

    @classmethod
    def to(cls, smarthost: Smarthost) -> Route:
        """The route to a smarthost."""
        implicit = smarthost.tls == "implicit"
        login = None
        if smarthost.user:
            login = Login(smarthost.user, smarthost.secret_file, smarthost.mechanism)
        port = smarthost.port or (SUBMISSIONS if implicit else SUBMISSION)
        return cls(smarthost.host, port, RULES[smarthost.tls], implicit, login)


class Routes:
    """The routes by domain: that of the recipient's domain, else of the sender's, else the one for all."""

    def __init__(self, routes: Mapping[str, str], smarthosts: Mapping[str, Smarthost], port: int) -> None:
        """Raises ValueError for a malformed route or domain."""
        self._recipients = {_domain("relay.routes", domain): Route.parse(text, port) for domain, text in routes.items()}
        self._senders: dict[str, Route] = {}
        for name, smarthost in smarthosts.items():
            where, route = f"relay.smarthosts.{name}", Route.to(smarthost)
            self._recipients |= _each(f"{where}.recipient_domains", smarthost.recipient_domains, route)
            self._senders |= _each(f"{where}.sender_domains", smarthost.sender_domains, route)

    def find(self, destination: str, sender: str) -> Route | None:
        """The route of a destination and a sending domain, in lower case and A-labels; None: the DNS decides."""
        return (
            self._recipients.get(destination.lower()) or self._senders.get(sender) or self._recipients.get(ALL) or None
        )


@dataclass(frozen=True, slots=True)
class LocalEnd:
    """This end of a connection. An empty address is the system's choice, unless the other family has one."""

    name: str = ""  # in EHLO; empty: the name of this server
    ipv4: str = ""
    ipv6: str = ""

    def address(self, remote: str) -> str | None:
        """The local address for a remote one: empty for any, None if that family must not be used."""
        ours, other = (self.ipv6, self.ipv4) if ":" in remote else (self.ipv4, self.ipv6)
        return ours or (None if other else "")


@dataclass(frozen=True, slots=True)
class Sources:
    """The local ends by the sending domain."""

    usual: LocalEnd = LocalEnd()
    by_domain: Mapping[str, LocalEnd] = field(default_factory=dict)

    @classmethod
    def of(cls, sources: Mapping[str, Source]) -> Sources:
        """Build from the configuration. Raises ValueError for a malformed domain."""
        found: dict[str, LocalEnd] = {}
        for name, source in sources.items():
            end = LocalEnd(source.hostname, source.ipv4, source.ipv6)
            found |= _each(f"relay.sources.{name}.sender_domains", source.sender_domains, end)
        return cls(found.pop(ALL, LocalEnd()), found)

    def find(self, sender: str) -> LocalEnd:
        """The local end for a sending domain; empty: the null reverse-path."""
        return self.by_domain.get(sender, self.usual)


def sending_domain(reverse_path: str) -> str:
    """The domain of a reverse-path in lower case and A-labels; empty for the null path and for one without domain."""
    try:
        return parse_path(reverse_path).ascii_domain if reverse_path else ""
    except BadPath:
        return ""


def _each(where: str, domains: Iterable[str], value: Value) -> dict[str, Value]:
    return {_domain(where, domain): value for domain in domains}


def _domain(where: str, text: str) -> str:
    """A domain as it is looked up. Raises ValueError."""
    if text == ALL:
        return text
    try:
        return ascii_domain(text.rstrip("."), literal=True)
    except BadPath as error:
        raise ValueError(f"{where}: {text!r} {error.problem}") from None
