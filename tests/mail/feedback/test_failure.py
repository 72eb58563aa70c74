"""DMARC failure reports: when a domain wants one, what it says, and what it hides."""

from __future__ import annotations

import email
from dataclasses import replace
from datetime import UTC, datetime
from email import policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_mail.authentication.dmarc.record import parse_record
from restante_mail.authentication.results import Checks, DkimResult, DmarcResult, Identity, Result, SpfResult
from restante_mail.feedback import failure, failure_fields, failure_message
from restante_mail.feedback.errors import BadReport
from restante_mail.feedback.failure import FailureReport
from restante_mail.feedback.failure_message import Letter
from restante_mail.feedback.redaction import MAX_HEADER_OCTETS, shown_header
from restante_mail.mime.facts import scan

NOW = datetime(2029, 1, 1, 10, tzinfo=UTC)
REPORT = FailureReport(
    policy_domain="example.org",
    source_address="192.0.2.1",
    reverse_path="dave@mail.example.org",
    authentication_results='mx.example.test; dmarc=fail reason="a b" header.from=example.org; spf=fail smtp.helo=x',
    failed=("dkim", "spf"),
    delivery="spam",
    arrived_at=NOW,
    incidents=3,
    dkim_domain="example.org",
    dkim_identity="@example.org",
    dkim_selector="s1",
    spf_domain="mail.example.org",
    spf_record='v=spf1 exp="x\\y" -all',
    user_agent="Restante",
    header=b"From: Dave <dave@example.org>\r\nSubject: Lunch\r\n",
)
LETTER = Letter("postmaster@example.test", "f@example.org", "<1@mx.example.test>", "b" * 40, NOW)

FAILED, PASSED = DmarcResult(Result.FAIL), DmarcResult(Result.PASS, spf_aligned=True, dkim_aligned=True)
HALF = replace(PASSED, dkim_aligned=False)
BAD_SIGNATURE = (DkimResult(Result.PASS, "example.org"), DkimResult(Result.FAIL, "example.net"))
SPF_FAIL = (SpfResult(Result.PASS, Identity.HELO, "h"), SpfResult(Result.SOFTFAIL, Identity.MAILFROM, "m"))
HELO_FAIL = (SpfResult(Result.FAIL, Identity.HELO, "h"), SpfResult(Result.PASS, Identity.MAILFROM, "m"))


@pytest.mark.parametrize(
    ("options", "checks", "wanted"),
    [
        ("0", Checks(dmarc=FAILED), True),
        ("0", Checks(dmarc=HALF), False),
        ("0", Checks(dmarc=PASSED), False),
        ("1", Checks(dmarc=HALF), True),
        ("1", Checks(dmarc=PASSED), False),
        ("d", Checks(dmarc=PASSED, dkim=BAD_SIGNATURE), True),
        ("d", Checks(dmarc=FAILED), False),
        ("d", Checks(dmarc=PASSED, dkim=(DkimResult(Result.TEMPERROR),)), False),
        ("s", Checks(dmarc=PASSED, spf=SPF_FAIL), True),
        ("s", Checks(dmarc=PASSED, spf=HELO_FAIL), False),
        ("s", Checks(dmarc=PASSED, spf=HELO_FAIL[:1]), True),
        ("ds", Checks(dmarc=HALF), False),
        ("01ds", Checks(dmarc=DmarcResult(Result.TEMPERROR), dkim=BAD_SIGNATURE), False),
        ("0", Checks(), False),
    ],
)
def test_the_options_decide(options: str, checks: Checks, wanted: bool) -> None:  # RFC 9989 4.7
    assert failure.is_wanted(options, checks) is wanted


@pytest.mark.parametrize(
    ("record", "wanted"),
    [
        (b"v=DMARC1; p=none; ruf=mailto:f@example.org", True),
        (b"v=DMARC1; p=none; fo=1", False),
        (b"v=DMARC1; p=none; ruf=mailto:f@example.org; psd=y", False),
        (b"v=DMARC1; p=none; ruf=mailto:f@example.org; psd=n", True),
    ],
)
def test_public_suffixes_get_no_reports(record: bytes, wanted: bool) -> None:  # RFC 9991 2
    assert failure.wants_reports(parse_record(record)) is wanted


@pytest.mark.parametrize(
    ("header", "reverse_path", "automatic"),
    [
        (b"From: a@example.org\r\n", "a@example.org", False),
        (b"From: a@example.org\r\n", "", True),
        (b"Auto-Submitted: auto-generated (report)\r\n", "a@example.org", True),
        (b"auto-submitted: No\r\n", "a@example.org", False),
        (b'Content-Type: Multipart/Report; report-type="feedback-report"\r\n', "a@example.org", True),
        (b"Content-Type: multipart/mixed\r\n", "a@example.org", False),
    ],
)
def test_reports_are_not_reported(header: bytes, reverse_path: str, automatic: bool) -> None:  # RFC 9991 5.1
    assert failure.is_automatic(header, reverse_path) is automatic


def test_an_aligned_signature_is_named_first() -> None:
    signatures = (DkimResult(Result.FAIL, "other.test"), DkimResult(Result.PERMERROR, "mail.example.org"))
    checks = Checks(dkim=signatures, dmarc=replace(FAILED, organizational_domain="example.org"))
    assert failure.failed_signature(checks) == signatures[1]
    assert failure.failed_signature(Checks(dkim=BAD_SIGNATURE[:1], dmarc=FAILED)) is None


def test_the_message_has_three_parts_of_7_bits() -> None:  # RFC 5965 2, RFC 6591 2
    octets = failure_message.build(REPORT, LETTER)
    assert octets.isascii() and max(map(len, octets.split(b"\r\n"))) <= 998
    message = email.message_from_bytes(octets, policy=policy.default)
    assert not message.defects and message["Auto-Submitted"] == "auto-generated"
    assert (message.get_content_type(), message.get_param("report-type")) == ("multipart/report", "feedback-report")
    kinds = [part.get_content_type() for part in message.iter_parts()]
    assert kinds == ["text/plain", "message/feedback-report", "text/rfc822-headers"]
    assert "3 similar messages" in str(next(iter(message.iter_parts())).get_content())


def test_the_fields_are_those_of_the_rfcs() -> None:  # RFC 6591 3.1, 3.2; RFC 9991 4
    lines = failure_fields.write(REPORT).decode().replace("\r\n ", " ").splitlines()
    assert lines == [
        "Feedback-Type: auth-failure",
        "User-Agent: Restante",
        "Version: 1",
        "Auth-Failure: dmarc",
        f"Authentication-Results: {REPORT.authentication_results}",
        "Identity-Alignment: dkim,spf",
        "Delivery-Result: spam",
        "Original-Mail-From: <dave@mail.example.org>",
        "Arrival-Date: Mon, 01 Jan 2029 10:00:00 +0000",
        "Source-IP: 192.0.2.1",
        "Reported-Domain: example.org",
        "Incidents: 3",
        "DKIM-Domain: example.org",
        "DKIM-Identity: @example.org",
        "DKIM-Selector: s1",
        'SPF-DNS: txt : mail.example.org : "v=spf1 exp=\\"x\\\\y\\" -all"',
    ]


@pytest.mark.parametrize(
    "report",
    [
        REPORT,
        replace(REPORT, failed=(), failure="signature", reverse_path="", incidents=1),
        replace(REPORT, source_address="2001:db8::1", reverse_path=None, arrived_at=None, delivery="", header=b""),
        replace(
            REPORT,
            header=b"Subject: --" + b"b" * 40 + b"\r\n\tx\r\n",
            authentication_results="",
            spf_domain="",
            spf_record="",
        ),
    ],
)
def test_a_report_is_read_as_it_was_built(report: FailureReport) -> None:
    octets = failure_message.build(report, LETTER)
    tree = scan(octets).tree
    assert failure_message.is_report(tree)
    assert failure_message.find(octets, tree) == report


EXAMPLE = b"""\
From: DMARC Filter <DMARC@gen.example>\r
Subject: FW: This is the original subject\r
Mime-Version: 1.0\r
Content-Type: multipart/report; report-type=feedback-report;\r
  boundary="=_mime_boundary_"\r
\r
--=_mime_boundary_\r
Content-Type: text/plain; charset=utf-8\r
\r
This is an authentication failure report.\r
--=_mime_boundary_\r
Content-Type: message/feedback-report\r
Content-Transfer-Encoding: 7bit\r
\r
Feedback-Type: auth-failure\r
Version: 1\r
User-Agent: DMARC-Filter/1.2.3 (a comment)\r
Auth-Failure: DMARC (all)\r
Authentication-Results: gen.example;\r
  dmarc=fail header.from=consumer.example\r
Identity-Alignment: dkim\r
DKIM-Domain: consumer.example\r
DKIM-Selector: epsilon\r
Original-Envelope-Id: 65E1A3F0A0\r
Original-Mail-From: author=gen.example@forwarder.example\r
Source-IP: [192.0.2.2]\r
Source-Port: 12345\r
Incidents: many\r
Reported-Domain: Consumer.Example\r
\r
--=_mime_boundary_\r
Content-Type: message/rfc822; charset=utf-8\r
\r
From: Message Author <author@consumer.example>\r
To: users@forwarder.example\r
\r
[ Message body was here ]\r
--=_mime_boundary_--\r
"""


def test_a_report_of_another_program_is_read() -> None:  # RFC 9991 appendix, shortened
    tree = scan(EXAMPLE).tree
    assert failure_message.find(EXAMPLE, tree) == FailureReport(
        policy_domain="consumer.example",
        source_address="192.0.2.2",
        reverse_path="author=gen.example@forwarder.example",
        authentication_results="gen.example; dmarc=fail header.from=consumer.example",
        failed=("dkim",),
        dkim_domain="consumer.example",
        dkim_selector="epsilon",
        user_agent="DMARC-Filter/1.2.3 (a comment)",
        header=b"From: Message Author <author@consumer.example>\r\nTo: users@forwarder.example\r\n",
    )


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        (b"Version: 1\r\n", "no Feedback-Type"),
        (b"Feedback-Type: abuse\r\n", '"abuse", not auth-failure'),
        (b"Feedback-Type: auth-failure\r\nReported-Domain: x.test\r\n", "Auth-Failure"),
        (b"Feedback-Type: auth-failure\r\nAuth-Failure: dmarc\r\n", "Reported-Domain"),
        (b"Feedback-Type: auth-failure\r\nAuth-Failure: dmarc\r\nReported-Domain: a b\r\n", "Reported-Domain"),
        (b"X: 1\r\n" * 201, "more than 200 fields"),
        (b"X: 1\r\n" * 10_000, "more than 32768 octets"),
    ],
)
def test_unusable_reports_are_refused_with_the_reason(fields: bytes, problem: str) -> None:
    with pytest.raises(BadReport, match=problem):
        failure_fields.read(fields)


def test_a_report_without_its_machine_readable_part_is_refused() -> None:
    octets = EXAMPLE.replace(b"message/feedback-report", b"text/plain")
    with pytest.raises(BadReport, match="message/feedback-report"):
        failure_message.find(octets, scan(octets).tree)


HEADER = (
    b"Return-Path: <dave@example.org>\r\nDelivered-To: alice@example.test\r\n"
    b"Received: from a (a [192.0.2.1])\r\n\tby b with ESMTP for <list@lists.test>; Mon, 1 Jan 2029 10:00:00 +0000\r\n"
    b"Received: from b by c FOR alice@example.test id 7\r\n"
    b"X-Original-To: alice@example.test\r\nTo: alice@example.test\r\nList-Unsubscribe: <https://x.test/token>\r\n"
    b"From: Dave <dave@example.org>\r\nSubject: for Alice@Example.test, \xe4\r\nMessage-ID: <1@example.org>\r\n"
)


def test_recipients_are_hidden() -> None:  # RFC 9991 7.1
    assert shown_header(HEADER, ["alice@example.test"]) == (
        b"Received: from a (a [192.0.2.1])\r\n\tby b with ESMTP for <[hidden]>; Mon, 1 Jan 2029 10:00:00 +0000\r\n"
        b"Received: from b by c FOR [hidden] id 7\r\n"
        b"From: Dave <dave@example.org>\r\nSubject: for [hidden], ?\r\nMessage-ID: <1@example.org>\r\n"
    )


def test_a_long_header_is_cut_between_fields() -> None:
    shown = shown_header(b"Subject: x\r\n" * 10_000 + b"Subject: last\r\n", [])
    assert len(shown) <= MAX_HEADER_OCTETS and shown.endswith(b"Subject: x\r\n")
    assert shown_header(b"Subject: " + b"x" * 2_000 + b"\r\nDate: now\r\n", []) == b"Date: now\r\n"


TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40).map(lambda text: " ".join(text.split()))


@given(st.binary(max_size=2_000), st.lists(st.sampled_from(["a@b.test", "c@d.test"])))
def test_no_header_breaks_the_cut(header: bytes, recipients: list[str]) -> None:
    shown = shown_header(header, recipients)
    assert shown.isascii() and len(shown) <= MAX_HEADER_OCTETS
    assert max(map(len, shown.split(b"\r\n"))) <= 998
    assert b"\n" not in shown.replace(b"\r\n", b"") and b"\r\n\r\n" not in shown


@given(st.binary(max_size=3_000))
def test_any_octets_are_a_report_or_refused(octets: bytes) -> None:
    for given_octets in (
        octets,
        b"Feedback-Type: auth-failure\r\nAuth-Failure: dmarc\r\nReported-Domain: x\r\n" + octets,
    ):
        try:
            found = failure_fields.read(given_octets)
        except BadReport:
            continue
        again = failure_fields.read(failure_fields.write(found))
        assert failure_fields.read(failure_fields.write(again)) == again
        assert (again.policy_domain, again.incidents, again.failed) == (
            found.policy_domain,
            found.incidents,
            found.failed,
        )


@given(st.binary(max_size=2_000), st.sampled_from(["base64", "quoted-printable", "7bit", "x"]))
def test_any_parts_are_a_report_or_refused(body: bytes, encoding: str) -> None:
    octets = EXAMPLE.replace(b"7bit\r\n\r\nFeedback-Type", f"{encoding}\r\n\r\n".encode() + body + b"\r\nFeedback-Type")
    try:
        found = failure_message.find(octets, scan(octets).tree)
    except BadReport:
        return
    assert len(found.header) <= failure_message.MAX_HEADER_OCTETS + 2


@given(TEXT, TEXT, TEXT, TEXT)
def test_reports_with_any_text_are_read_as_written(path: str, identity: str, results: str, agent: str) -> None:
    report = replace(REPORT, dkim_identity=identity.replace("(", "").replace("\\", ""), authentication_results=results)
    report = replace(report, reverse_path=path.strip("<> "), user_agent=agent or "x")
    assert failure_fields.read(failure_fields.write(report), report.header) == report
