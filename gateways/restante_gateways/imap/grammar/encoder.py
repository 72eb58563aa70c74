"""Values to octets: strings, dates, flags (RFC 3501 9). *Pure.*"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone

from restante_gateways.imap.grammar import utf7
from restante_mail.header.dates import MONTH_NAMES

MONTHS = tuple(name.encode() for name in MONTH_NAMES)
_ASTRING = re.compile(rb"[!#$&'+,\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]+\Z")
_QUOTABLE = re.compile(rb"[\x01-\x09\x0b\x0c\x0e-\x7f]*\Z")
_MAX_QUOTED = 1024  # octets: longer strings go as literals, which cost no scanning


def string(octets: bytes) -> bytes:
    """A quoted string where the grammar allows one, else a literal (RFC 3501 4.3: no CR, LF, NUL or 8-bit quoted)."""
    if len(octets) <= _MAX_QUOTED and _QUOTABLE.match(octets):
        return b'"' + octets.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    return literal(octets)


def literal(octets: bytes) -> bytes:
    """The literal `{n}` CRLF octets."""
    return b"{%d}\r\n%b" % (len(octets), octets)


def nstring(octets: bytes | None) -> bytes:
    """A string, or NIL for None."""
    return b"NIL" if octets is None else string(octets)


def astring(octets: bytes) -> bytes:
    """An atom where that is enough, else a string."""
    if _ASTRING.match(octets) and octets.upper() != b"NIL":
        return octets
    return string(octets)


def mailbox_name(name: str) -> bytes:
    """A folder's full name in modified UTF-7, quoted where it must be."""
    return astring(utf7.encode(name))


def flag_list(flags: Iterable[str]) -> bytes:
    """A parenthesised list of flags and keywords."""
    return b"(" + " ".join(flags).encode("ascii") + b")"


def date_time(at: datetime, offset_minutes: int) -> bytes:
    """`" 1-Jan-2024 09:05:00 +0100"`, quotes included: the day is two characters (RFC 3501 9).

    `at` is any aware time; `offset_minutes` is the zone that it is written in.
    """
    local = at.astimezone(timezone(timedelta(minutes=offset_minutes)))
    sign, minutes = (b"-", -offset_minutes) if offset_minutes < 0 else (b"+", offset_minutes)
    return b'"%2d-%b-%04d %02d:%02d:%02d %b%02d%02d"' % (
        local.day,
        MONTHS[local.month - 1],
        local.year,
        local.hour,
        local.minute,
        local.second,
        sign,
        minutes // 60,
        minutes % 60,
    )


def number_list(numbers: Iterable[int]) -> bytes:
    """`(1 2 3)`, or NIL for nothing."""
    joined = b" ".join(b"%d" % number for number in numbers)
    return b"(" + joined + b")" if joined else b"NIL"
