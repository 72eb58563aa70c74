"""The results that a server in front of this one has put into Authentication-Results."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_mail.authentication import authres
from restante_mail.authentication.bounds import NAME_OCTETS, TEXT_OCTETS, fitting
from restante_mail.authentication.reported import MOST_FIELDS, reported
from restante_mail.authentication.results import (
    ArcResult,
    Checks,
    DkimResult,
    DmarcResult,
    Identity,
    Policy,
    Result,
    ReverseDnsResult,
    SpfResult,
)
from tests.server.transport.checked import CHECKS


def dmarc(*values: str) -> tuple[str, str, str]:
    """(result, policy, author's domain)."""
    checks = reported(values)
    assert checks is not None and checks.dmarc is not None
    return checks.dmarc.result.value, checks.dmarc.policy.value, checks.dmarc.author_domain


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # opendmarc, Rspamd, Google, Restante, and a server that says nothing about the policy
        ("f.example; dmarc=fail (p=reject dis=none) header.from=Bank.example", ("fail", "reject", "bank.example")),
        ('f.example; dmarc=fail reason="No valid SPF; none" header.from=bank.example (policy=quarantine)',
         ("fail", "quarantine", "bank.example")),
        ("f.example; dmarc=fail (p=REJECT sp=NONE dis=NONE) header.from=bank.example",
         ("fail", "reject", "bank.example")),
        ("f.example; dmarc=fail header.from=bank.example policy.dmarc=none", ("fail", "none", "bank.example")),
        ("f.example; dmarc=fail header.from=bank.example", ("fail", "quarantine", "bank.example")),
        ("f.example; dmarc=pass (p=none dis=none) header.from=bank.example", ("pass", "none", "bank.example")),
        ("f.example; dmarc=pass header.from=bank.example", ("pass", "none", "bank.example")),
        ("f.example; spf=fail (p=reject) smtp.mailfrom=x.example; dmarc=fail (p=none) header.from=b.example",
         ("fail", "none", "b.example")),
        ("f.example; dmarc=pass header.from=a.example; dmarc=fail (p=reject) header.from=b.example",
         ("fail", "reject", "b.example")),
        ('f.example; dmarc=fail (sp=reject) reason="p=reject" header.from=b.example',
         ("fail", "quarantine", "b.example")),
    ],
)  # fmt: skip
def test_dmarc_with_the_policy_of_the_authors_domain(value: str, expected: tuple[str, str, str]) -> None:
    assert dmarc(value) == expected


def test_spf_dkim_arc_and_reverse_dns() -> None:
    value = (
        "f.example 1; spf=softfail (why; not) smtp.mailfrom=ann@example.org smtp.helo=x;"
        " spf=pass smtp.helo=mx.example.org; dkim=pass header.d=Example.ORG header.s=s1 header.b=abcd;"
        ' dkim=fail reason="bad \\"key\\"" header.i=@b.example;'
        " arc=pass; iprev=pass policy.iprev=192.0.2.1; x-new=pass; dkim=nonsense header.d=c.example"
    )
    assert reported([value]) == Checks(
        spf=(
            SpfResult(Result.PASS, Identity.HELO, "mx.example.org"),
            SpfResult(Result.SOFTFAIL, Identity.MAILFROM, "example.org"),
        ),
        dkim=(
            DkimResult(Result.PASS, "example.org", "s1", signature_start="abcd"),
            DkimResult(Result.FAIL, "b.example", identity="@b.example", problem='bad "key"'),
        ),
        arc=ArcResult(Result.PASS),
        reverse_dns=ReverseDnsResult(Result.PASS),
        checked_by="f.example",
    )


def test_the_uppermost_field_with_a_method_counts() -> None:
    values = [
        "a.example; dkim=fail header.d=example.org",
        "b.example; dmarc=fail (p=reject) header.from=example.org; dkim=pass header.d=example.org",
        "a.example; dmarc=pass header.from=example.org; spf=pass smtp.mailfrom=example.org",
    ]
    checks = reported(values)
    assert checks is not None and checks.dmarc is not None
    assert [one.result for one in checks.dkim] == [Result.FAIL]
    assert checks.dmarc.result is Result.FAIL
    assert [one.result for one in checks.spf] == [Result.PASS]
    assert checks.checked_by == "a.example, b.example"


@pytest.mark.parametrize(
    "value", ["", "f.example", "f.example; none", "f.example; x=pass", "f.example; dkim=softfail", "; dkim", "(", '"']
)
def test_no_result_is_none(value: str) -> None:
    assert reported([value]) is None
    assert reported([]) is None


def test_words_that_a_method_does_not_have_are_no_results() -> None:
    checks = reported(["f.example; spf=policy; spf=hardfail smtp.mail=a@b.example; dmarc=neutral; arc=policy"])
    assert checks is not None
    assert checks.spf == (SpfResult(Result.FAIL, Identity.MAILFROM, "b.example"),)
    assert (checks.dmarc, checks.arc) == (None, None)


def test_only_so_many_fields_results_and_characters_are_read() -> None:
    late = "f.example; dmarc=fail header.from=a.example"
    assert reported(["f.example; none"] * (MOST_FIELDS - 1) + [late]) is not None
    assert reported(["f.example; none"] * MOST_FIELDS + [late]) is None
    assert reported([f"f.example; {'x' * 5_000}=pass; dmarc=fail"]) is None
    checks = reported(["f.example; " + "dkim=pass header.d=a.example; " * 1_000])
    assert checks is not None
    assert len(checks.dkim) == 20
    for hostile in ("(" * 4_000, '"' * 4_000, ";" * 4_000, "dmarc=(" * 700, "dmarc=fail (" + "p " * 1_900 + ")"):
        reported([f"f.example; {hostile}"] * MOST_FIELDS)


@given(st.lists(st.text(max_size=200) | st.text('a=;"()\\. pd', max_size=60).map("f; dmarc=fail ".__add__), max_size=4))
def test_whatever_comes_the_results_are_within_the_bounds_of_the_contract(values: list[str]) -> None:
    checks = reported(values)
    if checks is not None:
        assert fitting(checks) == checks
        assert len(checks.checked_by) <= NAME_OCTETS
        assert all(len(one.problem) <= TEXT_OCTETS for one in checks.dkim)


@given(CHECKS)
def test_results_that_this_server_writes_are_read_again(checks: Checks) -> None:
    found = reported([authres.value("f.example", checks).replace("\r\n", "")])
    if checks.dmarc is None:
        assert found is None or found.dmarc is None
    else:
        assert found is not None and found.dmarc is not None
        assert found.dmarc.result is checks.dmarc.result
        if checks.dmarc.policy_domain:
            assert found.dmarc.policy is checks.dmarc.policy
    assert (found.arc.result if found is not None and found.arc is not None else None) == (
        checks.arc.result if checks.arc is not None else None
    )


def test_a_dmarc_result_compares_without_a_second_author() -> None:
    assert DmarcResult(Result.PASS, "a.example", policy=Policy.NONE) == DmarcResult(Result.PASS, "a.example")
