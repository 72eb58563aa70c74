"""Date fields: RFC 5322 3.3, the obsolete forms of 4.3, and common malformed ones. *Pure.*"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

from restante_mail.header.comments import without_comments

__all__ = ["MONTH_NAMES", "MailDate", "named_zone_minutes", "parse_date"]

MONTH_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")  # RFC 5322 3.3


class MailDate(NamedTuple):
    """An aware time in the zone of the field, and that zone in minutes east of UTC."""

    at: datetime
    zone_minutes: int


_MONTHS = {name.lower(): number for number, name in enumerate(MONTH_NAMES, 1)}
# RFC 5322 4.3. RFC 822 defined the military letters with the wrong sign, so they count as -0000.
_ZONES = {"ut": 0, "utc": 0, "gmt": 0, "z": 0, "est": -300, "edt": -240, "cst": -360, "cdt": -300}
_ZONES |= {"mst": -420, "mdt": -360, "pst": -480, "pdt": -420}
# Zones in real mail that no RFC defines.
_ZONES |= {"cet": 60, "cest": 120, "met": 60, "mest": 120, "eet": 120, "eest": 180, "bst": 60, "west": 60, "jst": 540}

# An offset of one to four digits, optionally after the zone it is relative to, as in "GMT+0200".
_OFFSET = r"(?:(?:GMT|UTC?|Z)\s*+)?([+-])\s*+([0-9]{1,2}?)(?::?([0-9]{2}))?(?![0-9])"
_DATE = re.compile(
    r"\s*+(?:[A-Za-z]{3,9}\s*+[,.]?\s*+)?+([0-9]{1,2})[\s-]*+([A-Za-z]{3})[A-Za-z]{0,6}+[\s,-]*+([0-9]{2,4})[\s,]++"
    r"([0-9]{1,2})\s*+[:.]\s*+([0-9]{2})(?:\s*+[:.]\s*+([0-9]{2})(?:[.,][0-9]{1,9})?+)?+\s*+"
    rf"(?:{_OFFSET}|([A-Za-z]{{1,5}}))?+",
    re.IGNORECASE,
)
_ASCTIME = re.compile(
    r"\s*+(?:[A-Za-z]{3,9}\s*+,?\s*+)?+([A-Za-z]{3})[A-Za-z]{0,6}+\s++([0-9]{1,2}),?\s++"
    r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?+\s++(?:([A-Za-z]{1,5})\s++)?+([0-9]{4})(?:\s++([+-])([0-9]{2})([0-9]{2}))?+"
)
# The form of a JavaScript date: Tue Sep 01 2026 10:00:00 GMT+0200 (CEST).
_SCRIPT = re.compile(
    r"\s*+(?:[A-Za-z]{3,9}\s*+,?\s*+)?+([A-Za-z]{3})[A-Za-z]{0,6}+\s++([0-9]{1,2}),?\s++([0-9]{4}),?\s++"
    rf"([0-9]{{1,2}}):([0-9]{{2}})(?::([0-9]{{2}}))?+\s++(?:{_OFFSET}|([A-Za-z]{{1,5}}))",
    re.IGNORECASE,
)
_FIXED: dict[int, timezone] = {}


def parse_date(raw: str) -> MailDate | None:
    """The time in a Date field, or None. Years are 1900 to 9998, so that the time is valid in every zone."""
    text = raw[:200] if len(raw) <= 200 else without_comments(raw[:4096])[:200]
    if "(" in text:
        text = without_comments(text)
    match = _DATE.match(text)
    if match is not None:
        day, month, year, hour, minute, second, sign, zone_hours, zone_minutes, zone_name = match.groups()
    elif (match := _ASCTIME.match(text)) is not None:
        month, day, hour, minute, second, zone_name, year, sign, zone_hours, zone_minutes = match.groups()
    elif (match := _SCRIPT.match(text)) is not None:
        month, day, year, hour, minute, second, sign, zone_hours, zone_minutes, zone_name = match.groups()
    else:
        return None
    number = _MONTHS.get(month.lower())
    if number is None:
        return None
    zone = _zone(sign, zone_hours, zone_minutes, zone_name)
    full_year = int(year)
    if len(year) == 2:  # RFC 5322 4.3
        full_year += 2000 if full_year < 50 else 1900
    elif len(year) == 3:
        full_year += 1900
    if not 1900 <= full_year <= 9998:
        return None
    try:
        # datetime has no leap seconds, so 60 becomes 59.
        at = datetime(
            full_year, number, int(day), int(hour), int(minute), min(int(second or 0), 59), tzinfo=_fixed(zone)
        )
    except ValueError:  # 31 February, 25 o'clock
        return None
    return MailDate(at, zone)


def _fixed(minutes: int) -> timezone:
    found = _FIXED.get(minutes)
    if found is None:
        found = _FIXED[minutes] = timezone(timedelta(minutes=minutes))  # at most 2,879 of them
    return found


def _zone(sign: str | None, hours: str | None, minutes: str | None, name: str | None) -> int:
    if sign and hours:
        zone = int(hours) * 60 + int(minutes or 0)
        if zone >= 1440 or int(minutes or 0) > 59:
            return 0
        return -zone if sign == "-" else zone
    return named_zone_minutes(name) if name else 0


def named_zone_minutes(name: str) -> int:
    """The minutes east of UTC of a zone name, in any letter case; 0 for an unknown name (RFC 5322 4.3)."""
    return _ZONES.get(name.lower(), 0)
