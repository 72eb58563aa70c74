"""Encoding of values: strings, dates, flags (RFC 3501 9). *Pure.*"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable

from restante_gateways.imap.grammar import utf7
from restante_mail.header.dates import MONTH_NAMES

_MONTHS = tuple(name.encode() for name in MONTH_NAMES)
_ASTRING = re.compile(rb"[!#$&'+,\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]+\Z")
_QUOTABLE = re.compile(rb"[\x01-\x09\x0b\x0c\x0e-\x7f]*\Z")
_MAX_QUOTED = 1024  # octets; longer strings become literals, which need no scan
_DAY_SECONDS = 86_400
_EPOCH_DAY = datetime.date(1970, 1, 1).toordinal()
_MAX_DAYS = 4_096  # cached encoded days
_TWO_DIGITS = [b"%02d" % number for number in range(60)]
_MINUTES = [b"%02d:%02d:" % divmod(minute, 60) for minute in range(1_440)]
_MAX_ZONES = 256  # cached encoded zones
_days: dict[int, bytes] = {}
_zones: dict[int, bytes] = {}


def string(octets: bytes) -> bytes:
    """A quoted string if possible, else a literal. Quoted strings have no CR, LF, NUL or 8-bit octet (RFC 3501 4.3)."""
    if len(octets) <= _MAX_QUOTED and _QUOTABLE.match(octets):
        return b'"' + octets.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    return literal(octets)


def literal(octets: bytes) -> bytes:
    """The literal `{n}` CRLF octets."""
    return b"{%d}\r\n%b" % (len(octets), octets)


def astring(octets: bytes) -> bytes:
    """An atom if possible, else a string."""
    if _ASTRING.match(octets) and octets.upper() != b"NIL":
        return octets
    return string(octets)


def mailbox_name(name: str) -> bytes:
    """A folder's full name in modified UTF-7, quoted if necessary."""
    return astring(utf7.encode(name))


def flag_list(flags: Iterable[str]) -> bytes:
    """A parenthesised list of flags and keywords."""
    return b"(" + " ".join(flags).encode("ascii") + b")"


def date_time(seconds: int, offset_minutes: int) -> bytes:
    """A time in its zone as `" 1-Jan-2024 09:05:00 +0100"`, quotes included (RFC 3501 2.3.3).

    `seconds` count from 1970 UTC, `offset_minutes` east of UTC. The day has two characters (RFC 3501 9).
    """
    day, second = divmod(seconds + offset_minutes * 60, _DAY_SECONDS)
    minute, second = divmod(second, 60)
    date = _days.get(day) or _date(day)
    zone = _zones.get(offset_minutes) or _zone(offset_minutes)
    return b"".join((date, _MINUTES[minute], _TWO_DIGITS[second], zone))


def _date(day: int) -> bytes:
    if len(_days) > _MAX_DAYS:
        _days.clear()
    at = datetime.date.fromordinal(_EPOCH_DAY + day)
    date = _days[day] = b'"%2d-%b-%04d ' % (at.day, _MONTHS[at.month - 1], at.year)
    return date


def _zone(offset_minutes: int) -> bytes:
    sign, minutes = (b"-", -offset_minutes) if offset_minutes < 0 else (b"+", offset_minutes)
    zone = b' %b%02d%02d"' % (sign, minutes // 60, minutes % 60)
    if len(_zones) < _MAX_ZONES:
        _zones[offset_minutes] = zone
    return zone
