"""The servers that take mail for a domain: MX, then addresses (RFC 5321 5.1, RFC 7505)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

import dns.asyncresolver
import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver
from dns.nameserver import Do53Nameserver
from dns.rdtypes.ANY.MX import MX

from restante_process.addresses import parse_address

MAX_HOSTS = 20  # of one domain; a longer list is cut
MAX_ADDRESSES = 6  # of one host
CACHED_ANSWERS = 10_000


# Text that is no domain name.
IMPOSSIBLE = (dns.name.LabelTooLong, dns.name.NameTooLong, dns.name.EmptyLabel, dns.name.BadEscape)


class LookupFailed(Exception):
    """The DNS has no answer now; it may have one later."""


class NoSuchDomain(Exception):
    """The domain does not exist, cannot exist, or has neither MX nor address."""


class TakesNoMail(Exception):
    """The domain says that it takes no mail: null MX (RFC 7505)."""


class LoopsBack(Exception):
    """The best server of the domain is this one (RFC 5321 5.1)."""


@dataclass(frozen=True, slots=True)
class MailServer:
    """A host that takes mail for a domain."""

    preference: int  # lower is tried first
    host: str  # lower case, no final dot


@dataclass(frozen=True, slots=True)
class Nameserver:
    """One server to ask."""

    address: str
    port: int = 53

    @classmethod
    def parse(cls, text: str) -> Nameserver:
        """ADDRESS, ADDRESS:PORT or [IPV6]:PORT. Raises ValueError."""
        if text.startswith("["):
            address, closed, port = text[1:].partition("]")
            if not closed:
                raise ValueError(f"{text!r} has no closing bracket")
            return cls(str(parse_address(address)), int(port.removeprefix(":")) if port else 53)
        if text.count(":") == 1:
            address, _, port = text.partition(":")
            return cls(str(parse_address(address)), int(port))
        return cls(str(parse_address(text)))


class Resolver:
    """Asks the DNS. Answers are cached for as long as they say."""

    def __init__(self, nameservers: Sequence[str], own_names: Sequence[str], *, lookup_seconds: float = 20.0) -> None:
        """`nameservers` as `Nameserver.parse` takes them, none: the system's. `own_names`: this server's in an MX.
        `lookup_seconds`: for one question, over all servers that are asked.

        Raises ValueError; dns.resolver.NoResolverConfiguration where the system has none.
        """
        self._resolver = dns.asyncresolver.Resolver(configure=not nameservers)
        if nameservers:
            servers = [Nameserver.parse(text) for text in nameservers]
            self._resolver.nameservers = [Do53Nameserver(server.address, server.port) for server in servers]
        self._resolver.lifetime = lookup_seconds
        self._resolver.cache = dns.resolver.LRUCache(CACHED_ANSWERS)
        self._own = {name.rstrip(".").lower() for name in own_names}

    async def servers(self, domain: str) -> list[MailServer]:
        """Servers in the order to try, equal preferences shuffled; the domain itself when it has no MX.

        This server, and servers of the same or a higher preference number, would only send it back: they are left
        out. `domain` is in A-labels. Raises LookupFailed, NoSuchDomain, TakesNoMail, LoopsBack.
        """
        found = await self._mx(domain)
        if not found:
            found = [MailServer(0, domain.lower().rstrip("."))]  # RFC 5321 5.1: the implicit MX
        if any(not server.host for server in found):
            if len(found) == 1:
                raise TakesNoMail(domain)
            found = [server for server in found if server.host]  # RFC 7505 3: beside others it means nothing
        own = min((server.preference for server in found if server.host in self._own), default=None)
        if own is not None:
            found = [server for server in found if server.preference < own]
            if not found:
                raise LoopsBack(domain)
        random.shuffle(found)
        return sorted(found, key=lambda server: server.preference)[:MAX_HOSTS]

    async def addresses(self, host: str) -> list[str]:
        """At most 6 addresses of a host, IPv6 and IPv4 by turns. Raises LookupFailed; none is an answer."""
        found: list[list[str]] = []
        problem: LookupFailed | None = None
        for kind in (dns.rdatatype.AAAA, dns.rdatatype.A):
            try:
                answer = await self._resolver.resolve(host, kind, search=False)
            except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer, *IMPOSSIBLE):
                continue
            except dns.exception.DNSException as error:
                problem = LookupFailed(f"{host}: {_said(error)}")
                continue
            found.append([record.to_text() for record in answer])
        if not found and problem is not None:
            raise problem
        # By turns, so that a network without IPv6 does not use up the attempt.
        return [address for address in chain(*zip_longest(*found)) if address is not None][:MAX_ADDRESSES]

    async def _mx(self, domain: str) -> list[MailServer]:
        try:
            answer = await self._resolver.resolve(domain, dns.rdatatype.MX, search=False)
        except (dns.resolver.NXDOMAIN, *IMPOSSIBLE):
            raise NoSuchDomain(domain) from None
        except dns.resolver.NoAnswer:
            return []
        except dns.exception.DNSException as error:
            raise LookupFailed(f"{domain}: {_said(error)}") from None
        return [MailServer(record.preference, _text(record.exchange)) for record in answer if isinstance(record, MX)]


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower() if name != dns.name.root else ""


def _said(error: dns.exception.DNSException) -> str:
    return "no answer in time" if isinstance(error, dns.exception.Timeout) else "the name servers failed"
