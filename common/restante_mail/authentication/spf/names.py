"""Domain names of SPF checks: of identities, and of terms after their macros are expanded (RFC 7208 4.3). *Pure.*"""

from __future__ import annotations

import idna

__all__ = ["checkable_domain", "is_name"]

MAX_NAME_OCTETS = 253  # without the final dot
MAX_LABEL_OCTETS = 63


def checkable_domain(name: str) -> str | None:
    """The domain of an identity in lower case and A-labels, without its final dot.

    None for what is not checked (RFC 7208 4.3): an address literal, one label, or no domain name.
    """
    name = name.removesuffix(".")
    if not name.isascii():
        if len(name) > MAX_NAME_OCTETS:
            return None
        try:
            name = idna.encode(name, uts46=True, std3_rules=False, transitional=False).decode("ascii")
        except idna.IDNAError:
            return None
    lowered = name.lower()
    if "." not in lowered or lowered.startswith("[") or " " in lowered or not is_name(lowered):
        return None
    return lowered


def is_name(name: str) -> bool:
    """Whether the DNS can be asked for the name: ASCII labels of 1 to 63 octets, 253 octets in all."""
    bare = name.removesuffix(".")
    if not bare or len(bare) > MAX_NAME_OCTETS or not bare.isascii():
        return False
    return all(0 < len(label) <= MAX_LABEL_OCTETS for label in bare.split("."))
