"""Addresses of connections and of their clients (pure)."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable
from typing import NamedTuple

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Endpoint(NamedTuple):
    """One end of a TCP connection. `host` is an address without scope id; an IPv4-mapped address is IPv4."""

    host: str
    port: int


def parse_address(host: str) -> Address:
    """The address in `host` without scope id; an IPv4-mapped address becomes IPv4. Raises ValueError."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def endpoint(socket_name: object) -> Endpoint:
    """An Endpoint from `getpeername()` or `getsockname()`; `("", 0)` for a socket without internet address."""
    if isinstance(socket_name, tuple) and len(socket_name) >= 2:
        return Endpoint(str(parse_address(str(socket_name[0]))), int(socket_name[1]))
    return Endpoint("", 0)


def is_loopback(host: str) -> bool:
    """Whether `host` is an address of 127.0.0.0/8 or ::1."""
    try:
        return parse_address(host).is_loopback
    except ValueError:
        return False


@functools.lru_cache(maxsize=4096)
def limit_key(host: str) -> str:
    """The key of one client in limits: an IPv4 address, or the /64 of an IPv6 address, since a host has a whole /64."""
    address = parse_address(host)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks from addresses or prefixes such as `10.0.0.0/8` and `::1`. Raises ValueError."""
    return tuple(ipaddress.ip_network(text) for text in texts)


def in_networks(host: str, networks: tuple[Network, ...]) -> bool:
    """Whether `host` is in one of `networks`; false for a text that is no address."""
    try:
        address = parse_address(host)
    except ValueError:
        return False
    return any(address.version == network.version and address in network for network in networks)
