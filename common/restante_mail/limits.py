"""Limits of the work on one content. *Pure.*"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DEFAULT_LIMITS", "Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one scan. Octets above a limit are served unchanged, but not interpreted."""

    depth: int = 100  # levels of multipart and message/rfc822; deeper parts are opaque octets
    parts: int = 10_000  # the octets of further ones belong to no part
    header_octets: int = 1 << 20  # of one header; later fields are not interpreted
    field_octets: int = 1 << 20  # of one field; a longer one is not interpreted
    content_field_octets: int = 65_536  # of one Content-* field
    structure_octets: int = 1 << 20  # of all Content-* fields together
    addresses: int = 10_000  # of one header
    address_tokens: int = 300_000  # of all address lists read token by token; lists end at this limit
    false_delimiters: int = 100_000  # lines that begin with a boundary but are no delimiter
    scanned_octets: int = 64 << 20  # searched for delimiters, or 16 times the content if that is more


DEFAULT_LIMITS = Limits()
