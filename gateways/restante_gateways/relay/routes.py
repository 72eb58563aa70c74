"""From a destination to the addresses to try, within what this installation may talk to."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from restante_gateways.net.addresses import Address, Network, parse_address
from restante_gateways.net.resolver import LookupFailed, NoSuchDomain, Resolver


class NotAllowed(Exception):
    """Every address of the destination is one that the relay does not talk to."""


@dataclass(frozen=True, slots=True)
class Hop:
    """One server to try."""

    host: str  # its name, for TLS and reports
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Route:
    """A configured way: instead of the DNS, and to whatever address it names."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, port: int) -> Route:
        """HOST, HOST:PORT or [ADDRESS]:PORT. Raises ValueError."""
        if text.startswith("["):
            host, _, rest = text[1:].partition("]")
            return cls(host, int(rest[1:]) if rest else port)
        host, colon, number = text.rpartition(":")
        return cls(host, int(number)) if colon and ":" not in host else cls(text, port)


class Router:
    """Where mail goes."""

    def __init__(self, resolver: Resolver, routes: Mapping[str, str], allow_private: Sequence[str], port: int) -> None:
        """Raises ValueError for a network or a route that cannot be read."""
        self._resolver, self._port = resolver, port
        self._routes = {domain.lower(): Route.parse(text, port) for domain, text in routes.items()}
        self._allowed: list[Network] = [ipaddress.ip_network(text) for text in allow_private]

    async def hops(self, destination: str) -> AsyncIterator[Hop]:
        """Servers to try, in order.

        Raises LookupFailed, NoSuchDomain, TakesNoMail, LoopsBack, NotAllowed.
        """
        route = self._routes.get(destination.lower()) or self._routes.get("*")
        if route is not None:
            for address in await self._addresses(route.host):
                yield Hop(route.host, address, route.port)
            return
        if destination.startswith("["):
            literal = destination[1:-1].removeprefix("IPv6:")
            if not self.allowed(parse_address(literal)):
                raise NotAllowed(destination)
            yield Hop(destination, literal, self._port)
            return
        refused = found = False
        problem: LookupFailed | None = None
        for host in await self._resolver.hosts(destination):
            try:
                addresses = await self._addresses(host)
            except LookupFailed as error:
                problem = error
                continue
            for address in addresses:
                found = True
                if self.allowed(parse_address(address)):
                    yield Hop(host, address, self._port)
                else:
                    refused = True
        if refused:
            raise NotAllowed(destination)
        if not found:
            raise problem or NoSuchDomain(destination)

    def allowed(self, address: Address) -> bool:
        """Whether the relay may talk to an address without a route that names it."""
        return address.is_global or any(address in network for network in self._allowed)

    async def _addresses(self, host: str) -> list[str]:
        try:
            return [str(parse_address(host))]
        except ValueError:
            return await self._resolver.addresses(host)
