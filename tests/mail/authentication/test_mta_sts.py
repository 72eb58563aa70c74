"""MTA-STS records and policies (RFC 8461)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_mail.authentication.mta_sts import (
    MAX_MAX_AGE_SECONDS,
    MAX_PATTERNS,
    MAX_POLICY_OCTETS,
    BadPolicy,
    Mode,
    StsPolicy,
    parse_policy,
    record_id,
)

POLICY = b"version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\nmax_age: 604800\r\n"


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([b"v=STSv1; id=20160831085700Z;"], "20160831085700Z"),  # RFC 8461 A.1
        ([b"v=STSv1;id=1"], "1"),
        ([b"v=STSv1 ; x=y; id=abc ; z=1"], "abc"),
        ([b"v=STSv1; id=one; id=two"], "one"),
        ([b"v=spf1 -all", b"v=STSv1; id=1"], "1"),
        ([b"v=STSv1; id=1", b"v=STSv1; id=1"], None),  # not exactly one
        ([], None),
        ([b"v=STSv1;"], None),
        ([b"v=STSv2; id=1"], None),
        ([b"v=STSv1x; id=1"], None),
        ([b"id=1; v=STSv1"], None),
        ([b"v=STSv1; id="], None),
        ([b"v=STSv1; id=" + b"a" * 33], None),
        ([b"v=STSv1; id=a-b"], None),
        ([b"v=STSv1; id=\xc3\xa4"], None),
        ([b"v=STSv1; " + b"x=y; " * 2_000 + b"id=1"], None),
    ],
)
def test_a_record_has_one_id(records: list[bytes], expected: str | None) -> None:  # RFC 8461 3.1
    assert record_id(records) == expected


def test_a_policy_is_read() -> None:
    expected = StsPolicy(Mode.ENFORCE, ("mail.example.com", "*.example.net"), 604_800)
    assert parse_policy(POLICY) == expected
    assert parse_policy(POLICY.replace(b"\r\n", b"\n").rstrip()) == expected
    assert parse_policy("\n".join(expected.lines()).encode()) == expected


@pytest.mark.parametrize(
    ("octets", "age"),
    [
        (b"version: STSv1\nmode: none\nmax_age: 0\n", 1),
        (b"version: STSv1\nmode: none\nmax_age: 9999999999\n", MAX_MAX_AGE_SECONDS),
        (b"max_age:86400\nmode:none\nversion:STSv1\nfuture: field of a later version\n", 86_400),
        (b"version: STSv1\nmode: none\nmode: enforce\nmax_age: 5\nmax_age: 6\n", 5),  # the first counts: RFC 8461 3.2
    ],
)
def test_max_age_is_bounded_and_unknown_fields_do_not_matter(octets: bytes, age: int) -> None:
    assert parse_policy(octets) == StsPolicy(Mode.NONE, (), age)


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"", "version"),
        (POLICY.replace(b"STSv1", b"STSv2"), "version"),
        (POLICY.replace(b"enforce", b"Enforce"), "mode"),
        (POLICY.replace(b"mode: enforce\r\n", b""), "mode"),
        (POLICY.replace(b"604800", b"-1"), "max_age"),
        (POLICY.replace(b"604800", b"99999999999"), "max_age"),
        (POLICY.replace(b"604800", "٣".encode()), "max_age"),
        (b"version: STSv1\nmode: testing\nmax_age: 1\n", "no mx"),
        (POLICY + b"mx: a..b\n", "host name"),
        (POLICY + b"mx: *.*.example\n", "host name"),
        (POLICY + b"mx: *\n", "host name"),
        (POLICY + b"mx: mx*.example.net\n", "host name"),
        (POLICY + b"mx: \n", "host name"),
        (POLICY + b"mx\n", "KEY"),
        (POLICY + b"mx: a" + b"a" * 2_000, "KEY"),
        (POLICY + b"\xff: x", "UTF-8"),
        (POLICY + b"<html>\n", "KEY"),
        (POLICY + b"mx: a.example\n" * MAX_PATTERNS, "mx lines"),
        (POLICY + b"x" * MAX_POLICY_OCTETS, "octets"),
    ],
)
def test_what_is_no_policy_says_why(octets: bytes, reason: str) -> None:
    with pytest.raises(BadPolicy, match=reason):
        parse_policy(octets)


@pytest.mark.parametrize(
    ("pattern", "host", "matches"),
    [
        ("mail.example.com", "Mail.Example.com.", True),
        ("mail.example.com", "mail.example.net", False),
        ("*.example.net", "mx.example.net", True),
        ("*.example.net", "a.mx.example.net", False),  # one label: RFC 8461 4.1
        ("*.example.net", "example.net", False),
        ("*.example.net", ".example.net", False),
    ],
)
def test_patterns_match_whole_labels(pattern: str, host: str, matches: bool) -> None:
    assert StsPolicy(Mode.ENFORCE, (pattern,), 1).matches(host) is matches


@given(st.binary(max_size=300) | st.lists(st.sampled_from(POLICY.split(b"\r\n"))).map(b"\n".join))
def test_any_octets_are_a_policy_or_a_reason(octets: bytes) -> None:
    try:
        policy = parse_policy(octets)
    except BadPolicy:
        return
    assert parse_policy("\r\n".join(policy.lines()).encode()) == policy


@given(st.lists(st.binary(max_size=60), max_size=3))
def test_any_records_have_an_id_or_none(records: list[bytes]) -> None:
    found = record_id(records)
    assert found is None or 1 <= len(found) <= 32
