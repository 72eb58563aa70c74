"""The DNS lookups of the checks, as a protocol. *Pure.* A gateway implements it, and tests answer it from memory."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

Address = IPv4Address | IPv6Address


class DnsFailure(Exception):
    """The DNS gave no answer now, but may give one later: a time-out, SERVFAIL, or an unusable answer."""


class Dns(Protocol):
    """The questions of the checks. A name is ASCII (A-labels) with or without its final dot.

    A name that does not exist, a name without records of the type, and text that is no domain name give an empty
    answer. Each method raises DnsFailure.
    """

    async def txt(self, name: str) -> Sequence[bytes]:
        """The TXT records of a name, each with its character-strings joined."""
        ...

    async def addresses(self, name: str, version: int) -> Sequence[Address]:
        """The A (version 4) or AAAA (version 6) records of a name."""
        ...

    async def mail_servers(self, name: str) -> Sequence[str]:
        """The hosts of the MX records of a name, in the order of their preference; "" is a null MX."""
        ...

    async def names(self, address: Address) -> Sequence[str]:
        """The PTR records of an address."""
        ...

    async def exists(self, name: str) -> bool:
        """Whether the name exists in the DNS: whether a query for it does not end with NXDOMAIN (RFC 8020)."""
        ...
