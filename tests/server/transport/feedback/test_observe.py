"""The row that a checked message counts in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from restante_mail.authentication.results import Checks, DkimResult, DmarcResult, Identity, Policy, Result, SpfResult
from restante_mail.feedback.aggregate import DkimAuthentication, Override, Row, SpfAuthentication
from restante_server.transport.feedback.observe import Treatment, row_of

PASSED = DmarcResult(
    Result.PASS,
    "mail.example.org",
    "example.org",
    "example.org",
    Policy.REJECT,
    "v=DMARC1; p=reject",
    dkim_aligned=True,
    report_to=("d@example.org",),
)
TESTED = (Override("policy_test_mode"),)
FAILED = replace(PASSED, result=Result.FAIL, dkim_aligned=False)
SIGNED = (
    DkimResult(Result.FAIL, "mail.example.org", "a", problem="the body has changed"),
    DkimResult(Result.PASS, "example.net", "b"),
    DkimResult(Result.PASS, "example.org", "c"),
    DkimResult(Result.PASS, "mail.example.org", "d"),
)
SPF = (
    SpfResult(Result.PASS, Identity.HELO, "mx.example.org"),
    SpfResult(Result.FAIL, Identity.MAILFROM, "example.net"),
)


def row(dmarc: DmarcResult | None, treatment: Treatment = Treatment.NONE, override: str = "") -> Row | None:
    return row_of(Checks(spf=SPF, dkim=SIGNED, dmarc=dmarc), "192.0.2.1", "example.net", treatment, override)


def test_a_row_has_what_a_report_needs() -> None:
    assert row(PASSED) == Row(
        "192.0.2.1",
        "pass",
        dkim_aligned=True,
        spf_aligned=False,
        header_from="mail.example.org",
        envelope_from="example.net",
        dkim=(
            DkimAuthentication("mail.example.org", "d", "pass"),
            DkimAuthentication("example.org", "c", "pass"),
            DkimAuthentication("example.net", "b", "pass"),
            DkimAuthentication("mail.example.org", "a", "fail", "the body has changed"),
        ),
        spf=SpfAuthentication("example.net", "fail"),
    )


def test_a_null_path_has_the_result_of_helo() -> None:  # RFC 7208 2.4
    found = row_of(Checks(spf=SPF[:1], dmarc=PASSED), "192.0.2.1", "", Treatment.NONE, "")
    assert found is not None and found.spf == SpfAuthentication("mx.example.org", "pass")


@pytest.mark.parametrize(
    ("dmarc", "treatment", "disposition", "overrides"),
    [
        (replace(PASSED, policy=Policy.NONE), Treatment.NONE, "none", ()),
        (FAILED, Treatment.REFUSED, "reject", ()),
        (FAILED, Treatment.QUARANTINED, "quarantine", (Override("local_policy", "why"),)),
        (FAILED, Treatment.NONE, "none", (Override("local_policy", "why"),)),
        (replace(FAILED, policy=Policy.NONE), Treatment.NONE, "none", ()),
        (replace(FAILED, policy=Policy.NONE, testing=True), Treatment.NONE, "none", TESTED),
        (replace(FAILED, policy=Policy.QUARANTINE, testing=True), Treatment.QUARANTINED, "quarantine", TESTED),
        (replace(FAILED, policy=Policy.QUARANTINE, testing=True), Treatment.REFUSED, "reject", ()),
        (replace(FAILED, policy=Policy.NONE, testing=True, record="v=DMARC1; p=none"), Treatment.NONE, "none", ()),
        (replace(FAILED, policy=Policy.NONE), Treatment.QUARANTINED, "quarantine", (Override("local_policy", "why"),)),
    ],
)
def test_the_disposition_says_what_was_done_and_why(
    dmarc: DmarcResult, treatment: Treatment, disposition: str, overrides: tuple[Override, ...]
) -> None:
    found = row(dmarc, treatment, "why")
    assert found is not None
    assert (found.disposition, found.overrides) == (disposition, overrides)


@pytest.mark.parametrize(
    "dmarc", [None, replace(PASSED, report_to=()), replace(FAILED, result=Result.TEMPERROR), DmarcResult(Result.NONE)]
)
def test_mail_that_no_report_counts(dmarc: DmarcResult | None) -> None:
    assert row(dmarc) is None


def test_mail_of_a_unix_socket_has_no_address_to_report() -> None:
    assert row_of(Checks(dmarc=PASSED), "", "example.net", Treatment.NONE, "") is None
