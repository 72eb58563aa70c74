"""The mail servers of a domain: MX records, then addresses (RFC 5321 5.1, RFC 7505)."""

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


# Errors for text that is not a domain name.
IMPOSSIBLE = (dns.name.LabelTooLong, dns.name.NameTooLong, dns.name.EmptyLabel, dns.name.BadEscape)


class LookupFailed(Exception):
    """The DNS gave no answer now, but may give one later."""


class NoSuchDomain(Exception):
    """The domain does not exist, cannot exist, or has neither MX nor address."""


class TakesNoMail(Exception):
    """The domain has a null MX: it accepts no mail (RFC 7505)."""


class LoopsBack(Exception):
    """This server is the preferred server of the domain (RFC 5321 5.1)."""


@dataclass(frozen=True, slots=True)
class MailServer:
    """A host that accepts mail for a domain."""

    preference: int  # lower is tried first
    host: str  # lower case, no final dot


@dataclass(frozen=True, slots=True)
class Nameserver:
    """One DNS server."""

    address: str
    port: int = 53

    @classmethod
    def parse(cls, text: str) -> Nameserver:
        """Parse ADDRESS, ADDRESS:PORT or [IPV6]:PORT. Raises ValueError."""
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
    """Queries the DNS. Answers are cached for their time to live."""

    def __init__(self, nameservers: Sequence[str], own_names: Sequence[str], *, lookup_seconds: float = 20.0) -> None:
        """`nameservers` are in the syntax of `Nameserver.parse`; if empty, the system's are used. `own_names` are this
        server's names in MX records. `lookup_seconds` limits one question over all servers.

        Raises ValueError, and dns.resolver.NoResolverConfiguration if the system has no name servers.
        """
        self._resolver = dns.asyncresolver.Resolver(configure=not nameservers)
        if nameservers:
            servers = [Nameserver.parse(text) for text in nameservers]
            self._resolver.nameservers = [Do53Nameserver(server.address, server.port) for server in servers]
        self._resolver.lifetime = lookup_seconds
        self._resolver.cache = dns.resolver.LRUCache(CACHED_ANSWERS)
        self._own = {name.rstrip(".").lower() for name in own_names}

    async def servers(self, domain: str) -> list[MailServer]:
        """Servers in the order to try, equal preferences shuffled; the domain itself if it has no MX.

        Leaves out this server and all of the same or a higher preference number, which would send the mail back.
        `domain` is in A-labels. Raises LookupFailed, NoSuchDomain, TakesNoMail, LoopsBack.
        """
        found = await self._mx(domain)
        if not found:
            found = [MailServer(0, domain.lower().rstrip("."))]  # RFC 5321 5.1: the implicit MX
        if any(not server.host for server in found):
            if len(found) == 1:
                raise TakesNoMail(domain)
            found = [server for server in found if server.host]  # RFC 7505 3: a null MX beside others is ignored
        own = min((server.preference for server in found if server.host in self._own), default=None)
        if own is not None:
            found = [server for server in found if server.preference < own]
            if not found:
                raise LoopsBack(domain)
        random.shuffle(found)
        return sorted(found, key=lambda server: server.preference)[:MAX_HOSTS]

    async def addresses(self, host: str) -> list[str]:
        """At most 6 addresses of a host, alternating IPv6 and IPv4; may be empty. Raises LookupFailed."""
        found: list[list[str]] = []
        problem: LookupFailed | None = None
        for kind in (dns.rdatatype.AAAA, dns.rdatatype.A):
            try:
                answer = await self._resolver.resolve(host, kind, search=False)
            except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer, *IMPOSSIBLE):
                continue
            except dns.exception.DNSException as error:
                problem = LookupFailed(f"{host}: {_problem(error)}")
                continue
            found.append([record.to_text() for record in answer])
        if not found and problem is not None:
            raise problem
        # Alternating, so that a network without IPv6 does not use up the attempt.
        return [address for address in chain(*zip_longest(*found)) if address is not None][:MAX_ADDRESSES]

    async def _mx(self, domain: str) -> list[MailServer]:
        try:
            answer = await self._resolver.resolve(domain, dns.rdatatype.MX, search=False)
        except (dns.resolver.NXDOMAIN, *IMPOSSIBLE):
            raise NoSuchDomain(domain) from None
        except dns.resolver.NoAnswer:
            return []
        except dns.exception.DNSException as error:
            raise LookupFailed(f"{domain}: {_problem(error)}") from None
        return [MailServer(record.preference, _text(record.exchange)) for record in answer if isinstance(record, MX)]


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower() if name != dns.name.root else ""


def _problem(error: dns.exception.DNSException) -> str:
    return (
        "the name servers did not answer in time"
        if isinstance(error, dns.exception.Timeout)
        else "the name servers could not resolve the name"
    )
