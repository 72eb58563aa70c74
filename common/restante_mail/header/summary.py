"""The facts of a header: typed (`Summary`) and as an encoded ENVELOPE (RFC 3501 7.4.2, RFC 9051 7.5.2). *Pure.*"""

from __future__ import annotations

import re
from datetime import datetime
from typing import NamedTuple

from restante_mail.header.address_field import AddressField, address_field
from restante_mail.header.address_list import Tokens
from restante_mail.header.addresses import Address
from restante_mail.header.dates import parse_date
from restante_mail.header.fields import message_ids, raw_fields, wanted
from restante_mail.header.nstring import nstring
from restante_mail.header.words import decode_text
from restante_mail.limits import DEFAULT_LIMITS, Limits

__all__ = ["Header", "Summary", "envelope", "read_header", "summary"]

_WANTED = wanted("subject from sender reply-to to cc bcc date message-id in-reply-to references list-id")
_LISTS = ("from", "sender", "reply-to", "to", "cc", "bcc")
_REPEATED = ("to", "cc", "bcc")
_LIST_ID = re.compile(r"<\s*+([^<>\s]{1,255})\s*+>")


class Summary(NamedTuple):
    """The facts of a header as decoded text. Message ids have no angle brackets. Absent fields are empty."""

    subject: str
    from_: tuple[Address, ...]
    sender: tuple[Address, ...]
    reply_to: tuple[Address, ...]
    to: tuple[Address, ...]
    cc: tuple[Address, ...]
    bcc: tuple[Address, ...]
    sent_at: datetime | None  # the Date field, aware, in its own zone
    sent_offset_minutes: int  # that zone, east of UTC; 0 without a date
    message_id: str
    in_reply_to: tuple[str, ...]
    references: tuple[str, ...]
    list_id: str  # the id of the mailing list, without angle brackets (RFC 2919)


class Header(NamedTuple):
    """The fields of one header for ENVELOPE and Summary, parsed once for both."""

    raw: dict[str, str]  # unfolded, one character for each octet
    people: dict[str, AddressField]  # by field name; empty lists are left out


def read_header(block: bytes, limits: Limits = DEFAULT_LIMITS, tokens: Tokens | None = None) -> Header:
    """Parse a header block. The first of repeated fields counts, except that several To, Cc or Bcc are joined: RFC 5322
    3.6 allows one of each, but mail with several is common. All headers of a content share `tokens`; without it this
    header has the number of a whole content."""
    if len(block) > limits.header_octets:
        block = block[: limits.header_octets]
        block = block[: block.rfind(b"\n") + 1]
    raw: dict[str, str] = {}
    for name, values in raw_fields(block, _WANTED, limits.field_octets).items():
        value = values[0]
        if len(values) > 1:
            filled = [value for value in values if value]
            value = ", ".join(filled) if name in _REPEATED else filled[0] if filled else ""
        raw[name] = value
    people: dict[str, AddressField] = {}
    tokens, left = tokens or Tokens(limits.address_tokens), limits.addresses
    for name in _LISTS:
        value = raw.get(name, "")
        if value and left > 0:
            found = address_field(value, left, tokens)
            left -= found.items
            if found.items:
                people[name] = found
    return Header(raw, people)


def summary(header: Header) -> Summary:
    """The typed facts of a header."""
    raw, people = header
    date = parse_date(raw["date"]) if raw.get("date") else None
    ids = message_ids(raw["message-id"]) if "message-id" in raw else ()
    subject = raw.get("subject", "")
    if "=?" in subject or not subject.isprintable() or not subject.isascii():
        subject = decode_text(subject)
    from_, sender, reply_to, to, cc, bcc = [people[name].addresses if name in people else () for name in _LISTS]
    return Summary(
        subject,
        from_,
        sender,
        reply_to,
        to,
        cc,
        bcc,
        sent_at=date.at if date else None,
        sent_offset_minutes=date.zone_minutes if date else 0,
        message_id=ids[0] if ids else "",
        in_reply_to=message_ids(raw["in-reply-to"]) if "in-reply-to" in raw else (),
        references=message_ids(raw["references"]) if "references" in raw else (),
        list_id=_list_id(raw["list-id"]) if "list-id" in raw else "",
    )


def _list_id(raw: str) -> str:
    """The id of a List-Id field: its last angle brackets, which follow the list's name (RFC 2919 3), or its last word
    when it has no brackets, as some programs write it."""
    found = _LIST_ID.findall(raw)
    words = raw.split()
    return decode_text(found[-1] if found else words[-1].strip("<>") if words else "")


def envelope(header: Header) -> bytes:
    """`(date subject from sender reply-to to cc bcc in-reply-to message-id)` with raw values. Absent or empty sender
    and reply-to become the From list, and an empty list is NIL (RFC 3501 7.4.2)."""
    raw, people = header
    who = {name: people[name].encoded if name in people else "NIL" for name in _LISTS}
    author = who["from"]
    parts = (
        nstring(raw.get("date")),
        nstring(raw.get("subject")),
        author,
        who["sender"] if "sender" in people else author,
        who["reply-to"] if "reply-to" in people else author,
        who["to"],
        who["cc"],
        who["bcc"],
        nstring(raw.get("in-reply-to")),
        nstring(raw.get("message-id")),
    )
    return f"({' '.join(parts)})".encode("latin-1")
