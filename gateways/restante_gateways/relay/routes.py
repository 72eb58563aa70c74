"""The addresses to try for a destination, limited to those that this installation may connect to."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from restante_gateways.net.resolver import Host, LookupFailed, LoopsBack, MailServer, NoSuchDomain, Resolver
from restante_gateways.relay.configured import LocalEnd, Login, Routes, Sources
from restante_gateways.relay.tls.destination import Destination, Forbidden, Policies
from restante_gateways.relay.tls.rules import OPPORTUNISTIC, TlsRule
from restante_gateways.relay.tls.sessions import Sessions
from restante_process.addresses import Address, Network, parse_address

EVERYWHERE = Sources()  # the system chooses the local address
MAX_HOPS = 12  # addresses tried in one attempt
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052
_COMPATIBLE = ipaddress.ip_network("::/96")  # RFC 4291 2.5.5.1


class NotAllowed(Exception):
    """The relay may not connect to any address of the destination."""


class NoServer(Exception):
    """The servers in the destination's MX records have no address."""


class NoFamily(Exception):
    """The servers have only addresses of a family for which this relay has no address (relay.sources)."""


class BadLiteral(Exception):
    """The destination is an address literal without a valid address."""


@dataclass(frozen=True, slots=True)
class Hop:
    """One server to try."""

    host: str  # its name, for TLS and reports
    address: str
    port: int
    rule: TlsRule = OPPORTUNISTIC
    implicit: bool = False  # TLS from the first octet
    login: Login | None = None
    end: LocalEnd = LocalEnd()
    configured: bool = False  # by a route, and not found by the DNS

    def __str__(self) -> str:
        return f"{self.host} [{self.address}]" if not self.host.startswith("[") else self.host


@dataclass(frozen=True, slots=True)
class Ourselves:
    """The hosts and ports of this installation's own MX listeners."""

    listeners: tuple[tuple[str, int], ...] = ()

    def __contains__(self, hop: Hop) -> bool:
        """Whether a connection to this address would reach this installation."""
        for host, port in self.listeners:
            if port == hop.port and (_is_of_this_machine(hop.address) if host in ("", "*") else _same(host, hop)):
                return True
        return False


class Allowed:
    """The addresses to which the relay may connect without a configured route."""

    def __init__(self, private: Sequence[str]) -> None:
        """`private` are the private networks among them. Raises ValueError for a malformed one."""
        self._private: list[Network] = [ipaddress.ip_network(text) for text in private]

    def __call__(self, address: Address) -> bool:
        """Whether the relay may connect to this address."""
        return is_public(address) or any(address in network for network in self._private)


class Router:
    """Finds the servers of a destination."""

    def __init__(
        self,
        resolver: Resolver,
        routes: Routes,
        allow_private: Sequence[str],
        port: int,
        ourselves: Ourselves = Ourselves(),
        sources: Sources = EVERYWHERE,
        *,
        policies: Policies | None = None,
    ) -> None:
        """`policies` are those of destinations that are found by DNS; without them TLS is opportunistic.

        Raises ValueError for a malformed network.
        """
        self._resolver, self._port, self._ourselves = resolver, port, ourselves
        self._routes, self._sources = routes, sources
        self._policies = policies or Policies(resolver, Sessions())
        self.allowed = Allowed(allow_private)

    async def hops(self, destination: str, sender: str = "", *, tls_optional: bool = False) -> AsyncIterator[Hop]:
        """The servers to try for mail of a sending domain, in order, at most 12. A failed lookup is raised after the
        servers found. With `tls_optional` the policies of the destination are ignored.

        Raises LookupFailed, NoSuchDomain, TakesNoMail, LoopsBack, NotAllowed, NoServer, NoFamily, Forbidden,
        BadLiteral.
        """
        end = self._sources.find(sender)
        tried, passed_over = 0, False
        async for hop in self._all(destination, sender, tls_optional):
            if end.address(hop.address) is None:
                passed_over = True
                continue
            yield replace(hop, end=end)
            tried += 1
            if tried == MAX_HOPS:
                return
        if passed_over and not tried:
            raise NoFamily(destination)

    async def _all(self, destination: str, sender: str, tls_optional: bool) -> AsyncIterator[Hop]:
        route = self._routes.find(destination, sender)
        if route is not None:
            addresses = await self._addresses(route.host)
            if not addresses:
                raise LookupFailed(f"the host {route.host} of the configured route has no address in the DNS")
            for address in addresses:
                yield Hop(route.host, address, route.port, route.rule, route.implicit, route.login, configured=True)
        elif destination.startswith("["):
            yield self._literal(destination)
        else:
            async for hop in self._by_dns(destination, tls_optional):
                yield hop

    def _literal(self, destination: str) -> Hop:
        """The hop of an address literal (RFC 5321 4.1.3). Raises BadLiteral, NotAllowed, LoopsBack."""
        inner = destination[1:-1]
        try:
            if inner[:5].lower() == "ipv6:":
                address: Address = ipaddress.IPv6Address(inner[5:])
            else:
                address = ipaddress.IPv4Address(inner)
        except ValueError:
            raise BadLiteral(destination) from None
        hop = Hop(destination, str(parse_address(str(address))), self._port)
        if not self.allowed(parse_address(hop.address)):
            raise NotAllowed(destination)
        if hop in self._ourselves:
            raise LoopsBack(destination)
        return hop

    async def _by_dns(self, destination: str, tls_optional: bool) -> AsyncIterator[Hop]:
        yielded = refused = False
        problem: LookupFailed | Forbidden | None = None
        servers = await self._resolver.servers(destination)
        policies = None if tls_optional else await self._policies.of(destination)
        for _, group in groupby(servers, key=lambda server: server.preference):
            hops: list[Hop] = []
            for server in group:
                try:
                    hops += await self._of_server(server, policies)
                except (LookupFailed, Forbidden) as error:
                    problem = error
            if any(hop in self._ourselves for hop in hops):  # servers of this preference would send it back
                if yielded or problem is not None:
                    break
                raise LoopsBack(destination)
            for hop in hops:
                if self.allowed(parse_address(hop.address)):
                    yielded = True
                    yield hop
                else:
                    refused = True
        if problem is not None:
            raise problem
        if not yielded:
            if refused:
                raise NotAllowed(destination)
            implicit = [server.host for server in servers] == [destination]
            raise NoSuchDomain(destination) if implicit else NoServer(destination)

    async def _of_server(self, server: MailServer, policies: Destination | None) -> list[Hop]:
        """The addresses of an MX host, with the rule for it. Raises LookupFailed, Forbidden."""
        try:
            host = Host((str(parse_address(server.host)),), server.host)
        except ValueError:
            host = await self._resolver.host(server.host)
        if not host.addresses:
            return []
        rule = OPPORTUNISTIC if policies is None else await policies.rule(server, host)
        return [Hop(server.host, address, self._port, rule) for address in host.addresses]

    async def _addresses(self, host: str) -> list[str]:
        try:
            return [str(parse_address(host))]
        except ValueError:
            return await self._resolver.addresses(host)


def is_public(address: Address) -> bool:
    """Whether an address is public; an IPv4 address embedded in an IPv6 one is judged itself."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = _embedded(address)
        if inner is not None:
            return is_public(inner)
        if address.is_site_local:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address.ipv4_mapped is not None or address.sixtofour is not None:
        return address.ipv4_mapped or address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64 or address in _COMPATIBLE:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def _same(host: str, hop: Hop) -> bool:
    try:
        return parse_address(host) == parse_address(hop.address)
    except ValueError:
        return host.lower() == hop.host


def _is_of_this_machine(address: str) -> bool:
    """Whether the address belongs to this machine: only such an address can be bound."""
    parsed = parse_address(address)
    family = socket.AF_INET if parsed.version == 4 else socket.AF_INET6
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((address, 0))
        return True
    return False
