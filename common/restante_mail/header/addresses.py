"""Decoded addresses of a header field, with the names of their groups (RFC 5322 3.4, RFC 2047). *Pure.*"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from restante_mail.header.address_list import GroupEnd, GroupStart, ListItem, spelled
from restante_mail.header.words import decode_text

__all__ = ["Address", "addresses", "shown"]

_DOT_ATOM = re.compile(r"[^\x00-\x20\"(),.:;<>@\[\\\]\x7f]+(?:\.[^\x00-\x20\"(),.:;<>@\[\\\]\x7f]+)*")


class Address(NamedTuple):
    """One decoded mailbox: `name` as text, `address` as local@domain, quoted if necessary.

    `group` is the decoded name of its group, or empty. An empty group is one Address without an address.
    """

    name: str
    address: str
    group: str = ""


def addresses(items: list[ListItem]) -> tuple[Address, ...]:
    """The decoded mailboxes of a parsed list, each with its group."""
    found: list[Address] = []
    group, empty = "", False
    for item in items:
        if isinstance(item, GroupStart):
            group, empty = _text(item.name), True
        elif isinstance(item, GroupEnd):
            if empty and group:
                found.append(Address("", "", group))
            group, empty = "", False
        elif item.local or item.domain:
            empty = False
            address = f"{item.local}@{item.domain}"
            if not item.domain or not address.isascii() or _DOT_ATOM.fullmatch(item.local) is None:
                address = decode_text(spelled(item.local, item.domain))
            found.append(Address(_text(item.name), address, group))
    return tuple(found)


def shown(listed: Iterable[Address]) -> str:
    """Names and addresses as in the field, groups included, so that a search finds text copied from it."""
    pieces: list[str] = []
    group = ""
    for one in listed:
        text = f"{one.name} <{one.address}>" if one.name else one.address
        if one.group != group:
            if group and pieces:
                pieces[-1] += ";"
            text = f"{one.group}: {text}" if one.group else text
            group = one.group
        pieces.append(text)
    return ", ".join(pieces) + (";" if group else "")


def _text(name: str) -> str:
    return decode_text(name) if name and ("=?" in name or not name.isascii() or not name.isprintable()) else name
