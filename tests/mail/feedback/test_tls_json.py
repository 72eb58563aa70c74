"""TLS reports: what we write is read back, what others write is understood, hostile input is refused in time."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_mail.authentication.tls_report import Failure, PolicySessions, TlsReport, report_json
from restante_mail.authentication.tls_result import PolicyKind, TlsPolicy, TlsResult
from restante_mail.feedback import tls_json
from restante_mail.feedback.errors import BadReport
from restante_mail.feedback.tls_json import TlsDocument, TlsFailures, TlsPolicyCounts

# After RFC 8460 B, whose mx-host is a text.
EXAMPLE: dict[str, Any] = {
    "organization-name": "Company-X",
    "date-range": {"start-datetime": "2016-04-01T00:00:00Z", "end-datetime": "2016-04-01T23:59:59Z"},
    "contact-info": "sts-reporting@company-x.example",
    "report-id": "5065427c-23d3-47ca-b6e0-946ea0e8c4be",
    "policies": [
        {
            "policy": {
                "policy-type": "sts",
                "policy-string": ["version: STSv1", "mode: testing"],
                "policy-domain": "Company-Y.example",
                "mx-host": "*.mail.company-y.example",
            },
            "summary": {"total-successful-session-count": 5326, "total-failure-session-count": 303},
            "failure-details": [
                {
                    "result-type": "certificate-expired",
                    "sending-mta-ip": "2001:db8:abcd:0012::1",
                    "receiving-mx-hostname": "mx1.mail.company-y.example",
                    "failed-session-count": 100,
                },
                {
                    "result-type": "of-tomorrow",
                    "receiving-ip": "203.0.113.58",
                    "failed-session-count": 3,
                    "failure-reason-code": "X509\x07",
                    "additional-information": "https://reports.company-x.example/",
                },
            ],
        }
    ],
}
READ = TlsDocument(
    "Company-X",
    "sts-reporting@company-x.example",
    "5065427c-23d3-47ca-b6e0-946ea0e8c4be",
    1_459_468_800,
    1_459_555_199,
    (
        TlsPolicyCounts(
            "sts",
            "company-y.example",
            ("version: STSv1", "mode: testing"),
            ("*.mail.company-y.example",),
            5326,
            303,
            (
                TlsFailures("certificate-expired", 100, "2001:db8:abcd:0012::1", "mx1.mail.company-y.example"),
                TlsFailures("of-tomorrow", 3, "", "", "203.0.113.58", "X509 https://reports.company-x.example/"),
            ),
        ),
    ),
)


def changed(*path: str | int, to: Any) -> bytes:
    """The example with one value replaced."""
    whole = json.loads(json.dumps(EXAMPLE))
    place = whole
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to
    return json.dumps(whole).encode()


def test_the_example_of_the_rfc_is_read() -> None:
    octets = json.dumps(EXAMPLE).encode()
    assert tls_json.read(octets) == READ
    assert tls_json.read(b"\xef\xbb\xbf" + octets) == READ


texts = st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), min_size=1, max_size=20)
failures = st.builds(Failure, st.sampled_from(TlsResult), st.integers(1, 10**9), texts, texts, texts, texts)
policies = st.builds(
    PolicySessions,
    st.builds(TlsPolicy, st.just("example.org"), st.sampled_from(PolicyKind), st.tuples(texts), st.tuples(texts)),
    st.integers(0, 10**9),
    st.lists(failures, max_size=3).map(tuple),
)


@given(texts, texts, st.lists(policies, min_size=1, max_size=3).map(tuple))
def test_our_own_reports_are_read_back(organization: str, report_id: str, sessions: tuple[PolicySessions, ...]) -> None:
    start = datetime(2026, 11, 29, tzinfo=UTC)
    found = tls_json.read(report_json(TlsReport(organization, "a@example.org", report_id, start, sessions)))
    assert (found.organization, found.report_id, found.begin) == (organization, report_id, int(start.timestamp()))
    assert found.end == found.begin + 86_399
    for given_, policy in zip(sessions, found.policies, strict=True):
        assert (policy.kind, policy.lines) == (given_.policy.kind.value, given_.policy.lines)
        assert policy.successful_count == given_.successful_count
        assert [one.result for one in policy.failures] == [one.result.value for one in given_.failures]
        assert [one.reason for one in policy.failures] == [one.reason for one in given_.failures]


@pytest.mark.parametrize(
    ("octets", "problem"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[]", "the report is no object"),
        (b"{" * 30, "nested more than 16 deep"),
        (b"[" * 300_000, "nested more than 16 deep"),
        (b'{"a":' * 100_000, "nested more than 16 deep"),
        (b'"' + b'\\"' * 1_000_000, "not JSON"),
        (b"[" + b"0," * 1_000_000 + b"0]", "values"),
        (b"[" + b"{}," * 300_000 + b"0]", "values"),
        (b"x" * ((4 << 20) + 1), "octets"),
        (b'{"a": ' + b"9" * 5_000 + b"}", "more than 15 digits"),
        (b'{"a": 1e999}', "no whole number"),
        (b'{"a": NaN}', "NaN is no JSON"),
        (changed("policies", to=[]), "0 policies"),
        (changed("policies", to=EXAMPLE["policies"] * 101), "101 policies"),
        (changed("policies", to="x"), "policies is no list"),
        (changed("policies", 0, to=7), "a policy is no object"),
        (changed("policies", 0, "policy", "policy-domain", to="a b"), "policy-domain has an invalid domain"),
        (changed("policies", 0, "policy", "policy-domain", to=None), "policy-domain"),
        (changed("policies", 0, "policy", "policy-type", to=[1]), "policy-type is no text"),
        (changed("policies", 0, "summary", to=None), "summary is no object"),
        (changed("policies", 0, "summary", "total-failure-session-count", to=-1), "total-failure-session-count"),
        (changed("policies", 0, "summary", "total-failure-session-count", to=True), "total-failure-session-count"),
        (changed("policies", 0, "summary", "total-failure-session-count", to="3"), "total-failure-session-count"),
        (changed("policies", 0, "failure-details", 0, to="x"), "failure-details is no object"),
        (changed("date-range", "start-datetime", to="yesterday"), "start-datetime is no date"),
        (changed("date-range", "start-datetime", to="9999-12-31T23:59:59-23:59"), "start-datetime"),
        (changed("date-range", "start-datetime", to="2016-05-01T00:00:00Z"), "ends before it begins"),
        (changed("date-range", "end-datetime", to="2700-05-01T00:00:00Z"), "end-datetime lies outside"),
        (changed("report-id", to="\x00"), "report-id is missing"),
    ],
)
def test_a_hostile_report_is_refused_with_the_reason_in_time(octets: bytes, problem: str) -> None:
    began = time.monotonic()
    with pytest.raises(BadReport, match=problem):
        tls_json.read(octets)
    assert time.monotonic() - began < 2


def test_too_many_failures_are_refused() -> None:
    whole = json.loads(json.dumps(EXAMPLE))
    whole["policies"][0]["failure-details"] = [{"result-type": "x", "failed-session-count": 1}] * 20_001
    with pytest.raises(BadReport, match="20000 failure-details"):
        tls_json.read(json.dumps(whole).encode())


def test_texts_are_clean_and_short() -> None:
    found = tls_json.read(changed("organization-name", to="a\r\nb\ud800" + "x" * 5_000))
    assert found.organization.startswith("abx") and len(found.organization) <= 1_000


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
paths = st.sampled_from(
    [
        ("organization-name",),
        ("date-range",),
        ("date-range", "end-datetime"),
        ("policies",),
        ("policies", 0),
        ("policies", 0, "policy"),
        ("policies", 0, "policy", "policy-domain"),
        ("policies", 0, "policy", "mx-host"),
        ("policies", 0, "summary"),
        ("policies", 0, "failure-details"),
        ("policies", 0, "failure-details", 0),
        ("policies", 0, "failure-details", 1, "failed-session-count"),
    ]
)


@given(paths, json_values)
def test_any_value_in_any_place_is_read_or_refused(path: tuple[str | int, ...], value: Any) -> None:
    try:
        found = tls_json.read(changed(*path, to=value))
    except BadReport:
        return
    assert found.policies and found.report_id


@given(st.binary(max_size=200) | st.text(st.sampled_from('{}[]",:\\0e.-nul '), max_size=60).map(str.encode))
def test_any_octets_are_refused(octets: bytes) -> None:
    with pytest.raises(BadReport):
        tls_json.read(octets)
