"""Bounds of the work on one content. *Pure.*"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DEFAULT_LIMITS", "Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one scan. Octets beyond a bound are still served as they are; they are only not interpreted."""

    depth: int = 100  # levels of multipart and message/rfc822; deeper ones are opaque octets
    parts: int = 10_000  # further ones belong to no part
    header_octets: int = 1 << 20  # of one header, from its start: fields beyond are not interpreted
    field_octets: int = 1 << 20  # of one field; a longer one is not interpreted
    content_field_octets: int = 65_536  # of one Content-* field
    structure_octets: int = 1 << 20  # of all Content-* fields together
    addresses: int = 10_000  # of one header
    address_tokens: int = 300_000  # of all address lists that are read token by token; lists beyond end there
    false_delimiters: int = 100_000  # lines that begin like a boundary without being one
    scanned_octets: int = 64 << 20  # read in search of delimiters, or 16 times the content where that is more


DEFAULT_LIMITS = Limits()
