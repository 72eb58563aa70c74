"""Where mail for a domain goes: MX, then addresses (RFC 5321 5.1, RFC 7505)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import dns.asyncresolver
import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver
from dns.rdtypes.ANY.MX import MX

from restante_gateways.net.addresses import parse_address

LOOKUP_SECONDS = 20.0
MAX_HOSTS = 20  # of one domain; a longer list is cut
MAX_ADDRESSES = 10  # of one host


class LookupFailed(Exception):
    """The DNS does not say now; asking later may help."""


class NoSuchDomain(Exception):
    """The domain does not exist, or has neither MX nor address."""


class TakesNoMail(Exception):
    """The domain says that it takes no mail: null MX (RFC 7505)."""


class LoopsBack(Exception):
    """The best server of the domain is this one (RFC 5321 5.1)."""


@dataclass(frozen=True, slots=True)
class Nameserver:
    """One server to ask."""

    address: str
    port: int = 53

    @classmethod
    def parse(cls, text: str) -> Nameserver:
        """ADDRESS, ADDRESS:PORT or [IPV6]:PORT. Raises ValueError."""
        if text.startswith("["):
            address, _, port = text[1:].partition("]")
            return cls(str(parse_address(address)), int(port[1:]) if port else 53)
        if text.count(":") == 1:
            address, _, port = text.partition(":")
            return cls(str(parse_address(address)), int(port))
        return cls(str(parse_address(text)))


class Resolver:
    """Asks the DNS. Answers are cached for as long as they say."""

    def __init__(self, nameservers: Sequence[str], own_names: Sequence[str]) -> None:
        """`nameservers` as `Nameserver.parse` takes them, none: the system's. `own_names`: this server's in an MX."""
        self._resolver = dns.asyncresolver.Resolver(configure=not nameservers)
        if nameservers:
            servers = [Nameserver.parse(text) for text in nameservers]
            self._resolver.nameservers = [server.address for server in servers]
            self._resolver.nameserver_ports = {server.address: server.port for server in servers}
        self._resolver.lifetime = LOOKUP_SECONDS
        self._resolver.cache = dns.resolver.LRUCache(10_000)
        self._own = {name.rstrip(".").lower() for name in own_names}

    async def hosts(self, domain: str) -> list[str]:
        """Host names in the order to try, equal preferences shuffled; the domain itself when it has no MX.

        `domain` is in A-labels. Raises LookupFailed, NoSuchDomain, TakesNoMail, LoopsBack.
        """
        found = await self._mx(domain)
        if not found:
            return [domain]
        if any(host == "" for _, host in found):
            if len(found) == 1:
                raise TakesNoMail(domain)
            found = [entry for entry in found if entry[1]]  # a null MX beside others means nothing
        own = min((preference for preference, host in found if host in self._own), default=None)
        if own is not None:  # servers as good as we are, or worse, would send it back
            found = [(preference, host) for preference, host in found if preference < own]
            if not found:
                raise LoopsBack(domain)
        random.shuffle(found)
        return [host for _, host in sorted(found, key=lambda entry: entry[0])[:MAX_HOSTS]]

    async def addresses(self, host: str) -> list[str]:
        """IPv6 and IPv4 addresses of a host, IPv6 first. Raises LookupFailed; none is an answer."""
        found: list[str] = []
        problem: LookupFailed | None = None
        for kind in (dns.rdatatype.AAAA, dns.rdatatype.A):
            try:
                answer = await self._resolver.resolve(host, kind, search=False)
            except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
                continue
            except dns.exception.DNSException as error:
                problem = LookupFailed(f"{host}: {_said(error)}")
                continue
            found += [record.to_text() for record in answer]
        if not found and problem is not None:
            raise problem
        return found[:MAX_ADDRESSES]

    async def _mx(self, domain: str) -> list[tuple[int, str]]:
        try:
            answer = await self._resolver.resolve(domain, dns.rdatatype.MX, search=False)
        except dns.resolver.NXDOMAIN:
            raise NoSuchDomain(domain) from None
        except dns.resolver.NoAnswer:
            return []
        except dns.exception.DNSException as error:
            raise LookupFailed(f"{domain}: {_said(error)}") from None
        records = [record for record in answer if isinstance(record, MX)]
        return [(record.preference, _text(record.exchange)) for record in records]


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower() if name != dns.name.root else ""


def _said(error: dns.exception.DNSException) -> str:
    return "no answer in time" if isinstance(error, dns.exception.Timeout) else "the name servers failed"
