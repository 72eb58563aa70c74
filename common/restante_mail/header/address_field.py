"""Address fields as ENVELOPE encodes them and as decoded mailboxes (RFC 3501 7.4.2, RFC 5322 3.4). *Pure.*

The same few correspondents are in most mail, so the results for short fields are kept.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from restante_mail.header.address_list import GroupStart, ListItem, Mailbox, Tokens, parse_address_list
from restante_mail.header.addresses import Address, addresses
from restante_mail.header.nstring import nstring

__all__ = ["AddressField", "address_field"]

_SHORT = 256  # octets of a field whose result is kept
_MOST_KEPT = 2_048


class AddressField(NamedTuple):
    """One parsed field."""

    encoded: str  # the address list of an ENVELOPE, NIL if it is empty; one character for each octet
    addresses: tuple[Address, ...]
    items: int  # mailboxes and marks of groups


def address_field(raw: str, limit: int, tokens: Tokens) -> AddressField:
    """The first `limit` items of a field; see `parse_address_list`."""
    known = _kept(raw) if len(raw) <= _SHORT else None
    return known if known is not None and known.items <= limit else _made(parse_address_list(raw, limit, tokens))


@lru_cache(_MOST_KEPT)
def _kept(raw: str) -> AddressField | None:
    """The field, if it was read without tokens, of which each content has a limited number."""
    tokens = Tokens()
    most = tokens.left
    items = parse_address_list(raw, tokens=tokens)
    return _made(items) if tokens.left == most else None


def _made(items: list[ListItem]) -> AddressField:
    encoded = f"({''.join(map(_encoded, items))})" if items else "NIL"
    return AddressField(encoded, addresses(items), len(items))


def _encoded(item: ListItem) -> str:
    """One address, or a group mark: `(NIL NIL "name" NIL)` before, `(NIL NIL NIL NIL)` after. RFC 3501 7.4.2."""
    if isinstance(item, Mailbox):
        name, route, local, domain = item
        # A NIL host marks a group, so a missing domain is the empty string.
        return f"({nstring(name or None)} {nstring(route or None)} {nstring(local)} {nstring(domain)})"
    if isinstance(item, GroupStart):
        return f"(NIL NIL {nstring(item.name)} NIL)"
    return "(NIL NIL NIL NIL)"
