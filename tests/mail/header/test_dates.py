"""Date fields, RFC 5322 3.3 and 4.3."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_mail.header.dates import parse_date

TABLE = [
    ("Tue, 1 Sep 2026 10:00:00 +0200", "2026-09-01T10:00:00+02:00"),
    ("1 Sep 2026 10:00:00 +0200", "2026-09-01T10:00:00+02:00"),
    ("1 Sep 2026 10:00 +0200", "2026-09-01T10:00:00+02:00"),
    ("Tue, 01 Sep 2026 10:00:00 -0000", "2026-09-01T10:00:00+00:00"),  # RFC 5322 4.3
    ("Tue, 01 Sep 2026 10:00:00 +0200 (CEST)", "2026-09-01T10:00:00+02:00"),
    ("Tue (day), 1 (d(a)y) Sep 2026 (x) 10 (h) : 00 : 30 +0530", "2026-09-01T10:00:30+05:30"),
    ("Fri, 21 Nov 97 09(comment):   55  :  06 -0600", "1997-11-21T09:55:06-06:00"),  # RFC 5322 A.6.3
    ("1 Jan 49 00:00 GMT", "2049-01-01T00:00:00+00:00"),
    ("1 Jan 50 00:00 GMT", "1950-01-01T00:00:00+00:00"),
    ("1 Jan 103 00:00 UT", "2003-01-01T00:00:00+00:00"),
    ("Wed, 11 Feb 98 11:51 CST", "1998-02-11T11:51:00-06:00"),
    ("1 Jan 2026 00:00:00 EDT", "2026-01-01T00:00:00-04:00"),
    ("1 Jan 2026 00:00:00 Z", "2026-01-01T00:00:00+00:00"),
    ("1 Jan 2026 00:00:00 K", "2026-01-01T00:00:00+00:00"),  # military letters say nothing: RFC 5322 4.3
    ("1 Jan 2026 00:00:00 XYZ", "2026-01-01T00:00:00+00:00"),
    ("1 Jan 2026 00:00:00", "2026-01-01T00:00:00+00:00"),
    ("1 Jan 2026 00:00:00 +9900", "2026-01-01T00:00:00+00:00"),
    ("1 Jan 2026 00:00:00 +0260", "2026-01-01T00:00:00+00:00"),
    ("1 Jan 2026 00:00:00 +02:00", "2026-01-01T00:00:00+02:00"),
    ("30 Jun 2015 23:59:60 +0000", "2015-06-30T23:59:59+00:00"),
    ("01-Sep-2026 10:00:00 +0200", "2026-09-01T10:00:00+02:00"),
    ("Tuesday, September 1 2026 10:00:00", None),
    ("Tue Sep  1 10:00:00 2026", "2026-09-01T10:00:00+00:00"),  # asctime
    ("Tue Sep  1 10:00:00 EST 2026", "2026-09-01T10:00:00-05:00"),
    ("Tue, 1 September 2026 10:00:00 +0200", "2026-09-01T10:00:00+02:00"),
    ("Tue, 1 Sep 2026 10:00:00 GMT+0200", "2026-09-01T10:00:00+02:00"),
    ("Tue, 1 Sep 2026 10:00:00 GMT-02:30", "2026-09-01T10:00:00-02:30"),
    ("Tue, 1 Sep 2026 10:00:00 UTC + 2", "2026-09-01T10:00:00+02:00"),
    ("Tue, 1 Sep 2026 10:00:00 +200", "2026-09-01T10:00:00+02:00"),
    ("Tue, 1 Sep 2026 10:00:00 GMT", "2026-09-01T10:00:00+00:00"),
    ("Tue Sep 01 2026 10:00:00 GMT+0200 (CEST)", "2026-09-01T10:00:00+02:00"),
    ("", None),
    ("yesterday", None),
    ("31 Feb 2026 10:00:00 +0000", None),
    ("1 Sep 2026 25:00:00 +0000", None),
    ("1 Sep 1899 10:00:00 +0000", None),
    ("1 Sep 9999 10:00:00 +0000", None),
    ("1 Foo 2026 10:00:00 +0000", None),
    ("(" * 10_000, None),
    ("1 Sep 2026 " + " " * 100_000 + "10:00:00 +0000", None),
]


@pytest.mark.parametrize(("raw", "iso"), TABLE, ids=[raw[:40] or "empty" for raw, _ in TABLE])
def test_dates_are_read(raw: str, iso: str | None) -> None:
    parsed = parse_date(raw)
    if iso is None:
        assert parsed is None
        return
    assert parsed is not None
    assert parsed.at == datetime.fromisoformat(iso)
    assert parsed.at.utcoffset() == datetime.fromisoformat(iso).utcoffset()


def test_the_zone_is_given_in_minutes() -> None:
    parsed = parse_date("1 Sep 2026 10:00:00 -0330")
    assert parsed is not None
    assert parsed.zone_minutes == -210


@given(st.text(alphabet="0123456789 :+-,()SepMonGMT\x80", max_size=50))
def test_nothing_raises_and_what_is_read_can_be_shown_in_utc(raw: str) -> None:
    parsed = parse_date(raw)
    if parsed is not None:
        parsed.at.astimezone(UTC)


@given(st.datetimes(datetime(1900, 1, 2), datetime(9998, 12, 30)), st.integers(-1439, 1439))  # noqa: DTZ001
def test_what_a_program_writes_is_read(at: datetime, zone: int) -> None:
    east = f"{'-' if zone < 0 else '+'}{abs(zone) // 60:02}{abs(zone) % 60:02}"
    written = f"{at:%a, %d} {at:%b} {at.year:04} {at:%H:%M:%S} {east}"
    parsed = parse_date(written)
    assert parsed is not None
    assert (parsed.at.replace(tzinfo=None), parsed.zone_minutes) == (at.replace(microsecond=0), zone)
