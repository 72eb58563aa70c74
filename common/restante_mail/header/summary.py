"""The facts of a header: typed (`Summary`) and as an encoded ENVELOPE (RFC 3501 7.4.2, RFC 9051 7.5.2). *Pure.*"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from restante_mail.header.address_list import GroupStart, ListItem, Mailbox, Tokens, parse_address_list
from restante_mail.header.addresses import Address, addresses
from restante_mail.header.dates import MailDate, parse_date
from restante_mail.header.fields import message_ids, raw_fields, wanted
from restante_mail.header.words import decode_text
from restante_mail.limits import DEFAULT_LIMITS, Limits

__all__ = ["Header", "Summary", "envelope", "nstring", "read_header", "summary"]

_WANTED = wanted("subject from sender reply-to to cc bcc date message-id in-reply-to references list-id")
_LISTS = ("from", "sender", "reply-to", "to", "cc", "bcc")
_REPEATED = ("to", "cc", "bcc")
_LIST_ID = re.compile(r"<\s*+([^<>\s]{1,255})\s*+>")
_LITERAL = re.compile(r"[^\x01-\x09\x0b\x0c\x0e-\x7e]")
_MUST_ESCAPE = re.compile(r'(["\\])')
_LONGEST_QUOTED = 1_000  # octets; some clients limit the length of lines


@dataclass(frozen=True, slots=True)
class Summary:
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


@dataclass(frozen=True, slots=True)
class Header:
    """The fields of one header for ENVELOPE and Summary, parsed once for both."""

    raw: dict[str, str]  # unfolded, one character for each octet
    lists: dict[str, list[ListItem]]  # by field name; empty lists are left out


def read_header(block: bytes, limits: Limits = DEFAULT_LIMITS, tokens: Tokens | None = None) -> Header:
    """Parse a header block. The first of repeated fields counts, except that several To, Cc or Bcc are joined: RFC 5322
    3.6 allows one of each, but mail with several is common. All headers of a content share `tokens`; without it this
    header has the number of a whole content."""
    tokens = tokens or Tokens(limits.address_tokens)
    if len(block) > limits.header_octets:
        block = block[: limits.header_octets]
        block = block[: block.rfind(b"\n") + 1]
    raw: dict[str, str] = {}
    lists: dict[str, list[ListItem]] = {}
    for name, values in raw_fields(block, _WANTED, limits.field_octets).items():
        value = values[0]
        if len(values) > 1:
            filled = [value for value in values if value]
            value = ", ".join(filled) if name in _REPEATED else filled[0] if filled else ""
        raw[name] = value
    left = limits.addresses
    for name in _LISTS:
        value = raw.get(name, "")
        if value and left > 0:
            items = parse_address_list(value, left, tokens)
            left -= len(items)
            if items:
                lists[name] = items
    return Header(raw, lists)


def summary(header: Header) -> Summary:
    """The typed facts of a header."""
    raw, lists = header.raw, header.lists
    who = {name: addresses(lists[name]) if name in lists else () for name in _LISTS}
    date = sent(header)
    ids = message_ids(raw.get("message-id", ""))
    subject = raw.get("subject", "")
    return Summary(
        subject=decode_text(subject)
        if "=?" in subject or not subject.isprintable() or not subject.isascii()
        else subject,
        from_=who["from"],
        sender=who["sender"],
        reply_to=who["reply-to"],
        to=who["to"],
        cc=who["cc"],
        bcc=who["bcc"],
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


def sent(header: Header) -> MailDate | None:
    """The parsed Date field, or None."""
    raw = header.raw.get("date")
    return parse_date(raw) if raw else None


def envelope(header: Header) -> bytes:
    """`(date subject from sender reply-to to cc bcc in-reply-to message-id)` with raw values. Absent or empty sender
    and reply-to become the From list, and an empty list is NIL (RFC 3501 7.4.2)."""
    raw, lists = header.raw, header.lists
    author = _address_list(lists.get("from"))
    parts = (
        nstring(raw.get("date")),
        nstring(raw.get("subject")),
        author,
        _address_list(lists["sender"]) if "sender" in lists else author,
        _address_list(lists["reply-to"]) if "reply-to" in lists else author,
        _address_list(lists.get("to")),
        _address_list(lists.get("cc")),
        _address_list(lists.get("bcc")),
        nstring(raw.get("in-reply-to")),
        nstring(raw.get("message-id")),
    )
    return ("(" + " ".join(parts) + ")").encode("latin-1")


def _address_list(items: list[ListItem] | None) -> str:
    if not items:
        return "NIL"
    return "(" + "".join(map(_address, items)) + ")"


def _address(item: ListItem) -> str:
    """One address, or a group mark: `(NIL NIL "name" NIL)` before, `(NIL NIL NIL NIL)` after. RFC 3501 7.4.2."""
    if isinstance(item, Mailbox):
        name, route, local, domain = item
        # A NIL host marks a group, so a missing domain is the empty string.
        return f"({nstring(name or None)} {nstring(route or None)} {nstring(local)} {nstring(domain)})"
    if isinstance(item, GroupStart):
        return f"(NIL NIL {nstring(item.name)} NIL)"
    return "(NIL NIL NIL NIL)"


def nstring(raw: str | None) -> str:
    """NIL, a quoted string or, for 8-bit, control and long values, a literal (RFC 3501 4.3).

    The result has one character for each octet. A quoted string never has CR, LF or NUL, and a literal no NUL.
    """
    if raw is None:
        return "NIL"
    if len(raw) > _LONGEST_QUOTED or not raw.isprintable() or not raw.isascii():
        if "\0" in raw:
            raw = raw.replace("\0", "")
        if len(raw) > _LONGEST_QUOTED or _LITERAL.search(raw):
            return f"{{{len(raw)}}}\r\n{raw}"
    if '"' in raw or "\\" in raw:
        raw = _MUST_ESCAPE.sub(r"\\\1", raw)
    return f'"{raw}"'
