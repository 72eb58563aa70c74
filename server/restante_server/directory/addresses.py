"""Addresses of the directory: the paths of `restante_mail.envelope`, their keys, and `+detail`. *Pure*.

The directory keeps the spelling of an address and compares its key (docs/design.md "Lookup").
"""

from __future__ import annotations

from restante.errors import InvalidAddress
from restante_mail.envelope.paths import MAX_PATH_OCTETS, BadPath, Path, parse_path
from restante_mail.envelope.paths import ascii_domain as parse_domain

DETAIL_SEPARATOR = "+"


def parse(text: str) -> Path:
    """Parse an address. Raises InvalidAddress with the problem.

    Refuses an empty local part (`""@example.org`), which the grammar permits but no account can have.
    """
    try:
        path = parse_path(text)
    except BadPath as bad:
        raise InvalidAddress(address=text[:MAX_PATH_OCTETS], problem=bad.problem) from bad
    if not path.local_part:
        raise InvalidAddress(address=text, problem="has an empty local part")
    return path


def key(text: str) -> str:
    """The key of an address. Raises InvalidAddress."""
    return parse(text).key


def split_key(address_key: str) -> tuple[str, str]:
    """(folded local part, ascii domain) of a key."""
    local_part, _, domain = address_key.rpartition("@")
    return local_part, domain


def without_detail(address_key: str) -> str | None:
    """The key without its `+detail`, or None when it has no detail. A leading "+" is not a separator."""
    local_part, domain = split_key(address_key)
    base, separator, _ = local_part.partition(DETAIL_SEPARATOR)
    return f"{base}@{domain}" if separator and base else None


def ascii_domain(name: str, *, literal: bool = False) -> str:
    """A domain in A-labels, lower case; with `literal`, also an address literal. Raises InvalidAddress."""
    try:
        return parse_domain(name, literal=literal)
    except BadPath as bad:
        raise InvalidAddress(address=name, problem=bad.problem) from bad
