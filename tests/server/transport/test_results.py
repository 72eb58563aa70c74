"""The results of checks in the contract: both ways the same, and a refusal names the bad field."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restante.errors import InvalidArgument
from restante.v1 import checks_pb2 as v1
from restante_mail.authentication import bounds
from restante_mail.authentication.results import (
    ArcResult,
    Checks,
    DkimResult,
    DnsListResult,
    Identity,
    Result,
    SpfResult,
)
from restante_server.transport.results import message_of, results_of
from tests.server.transport.checked import CHECKS

PASS, FAIL = v1.CHECK_RESULT_PASS, v1.CHECK_RESULT_FAIL


@given(CHECKS)
@settings(max_examples=60)
def test_results_survive_the_contract(checks: Checks) -> None:
    sent = message_of(checks).SerializeToString()
    assert results_of(v1.MessageChecks.FromString(sent)) == checks
    assert bounds.fitting(checks) == checks


def dkim(**given: object) -> v1.MessageChecks:
    return v1.MessageChecks(dkim=[v1.DkimCheck(result=PASS), v1.DkimCheck(result=PASS, **given)])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        (v1.MessageChecks(spf=[v1.SpfCheck(identity=v1.SPF_IDENTITY_HELO)]), "checks.spf[0].result"),
        (v1.MessageChecks(spf=[v1.SpfCheck(result=PASS)]), "checks.spf[0].identity"),
        (v1.MessageChecks(spf=[v1.SpfCheck(result=PASS, identity=v1.SPF_IDENTITY_HELO)] * 3), "checks.spf"),
        (v1.MessageChecks(dkim=[v1.DkimCheck(result=PASS)] * 21), "checks.dkim"),
        (dkim(domain="a\r\nb"), "checks.dkim[1].domain"),
        (dkim(domain="a\0b"), "checks.dkim[1].domain"),
        (dkim(domain="a" * 256), "checks.dkim[1].domain"),
        (dkim(selector="ü" * 128), "checks.dkim[1].selector"),
        (dkim(algorithm="a" * 65), "checks.dkim[1].algorithm"),
        (dkim(problem="a" * 513), "checks.dkim[1].problem"),
        (dkim(key_bits=-1), "checks.dkim[1].key_bits"),
        (v1.MessageChecks(dmarc=v1.DmarcCheck(result=v1.CHECK_RESULT_SOFTFAIL)), "checks.dmarc.result"),
        (v1.MessageChecks(dmarc=v1.DmarcCheck(result=FAIL, policy=9)), "checks.dmarc.policy"),  # type: ignore[arg-type]
        (v1.MessageChecks(dmarc=v1.DmarcCheck(result=FAIL, record="a" * 4_097)), "checks.dmarc.record"),
        (v1.MessageChecks(dmarc=v1.DmarcCheck(result=FAIL, report_to=["a"] * 11)), "checks.dmarc.report_to"),
        (v1.MessageChecks(dmarc=v1.DmarcCheck(result=FAIL, report_to=["a\n"])), "checks.dmarc.report_to[0]"),
        (v1.MessageChecks(dmarc=v1.DmarcCheck(result=FAIL, failures_to=["a"] * 11)), "checks.dmarc.failures_to"),
        (v1.MessageChecks(arc=v1.ArcCheck(result=PASS, sealers=["a"] * 51)), "checks.arc.sealers"),
        (
            v1.MessageChecks(arc=v1.ArcCheck(result=PASS, authentication_results=["a" * 4_096] * 17)),
            "checks.arc.authentication_results",
        ),
        (v1.MessageChecks(reverse_dns=v1.ReverseDnsCheck(name="a")), "checks.reverse_dns.result"),
        (
            v1.MessageChecks(dns_lists=[v1.DnsListCheck(dns_zone="a", weight=float("nan"))]),
            "checks.dns_lists[0].weight",
        ),
        (v1.MessageChecks(dns_lists=[v1.DnsListCheck(answers=["a"] * 21)]), "checks.dns_lists[0].answers"),
    ],
)
def test_a_refusal_names_the_bad_field(sent: v1.MessageChecks, field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        results_of(sent)
    assert refused.value.metadata["field"] == field


ANYTHING = st.text(max_size=600)


@given(ANYTHING, ANYTHING, st.lists(ANYTHING, max_size=60))
@settings(max_examples=40)
def test_whatever_was_cut_to_the_bounds_is_taken(name: str, text: str, many: list[str]) -> None:
    wild = Checks(
        spf=tuple(SpfResult(Result.FAIL, identity, name, text, text, text) for identity in Identity),
        dkim=tuple(DkimResult(Result.FAIL, name, name, text, text, 0, text, problem=text) for _ in many),
        arc=ArcResult(Result.PASS, tuple(many), 0, tuple(each * 12 for each in many), text),
        dns_lists=tuple(DnsListResult(name, True, tuple(many), 5e9, text) for _ in many),
    )
    cut = bounds.fitting(wild)
    assert results_of(message_of(cut)) == cut


def test_the_cut_keeps_the_passing_signatures_and_the_latest_values_of_a_chain() -> None:
    failed, passed = DkimResult(Result.FAIL, "a.example"), DkimResult(Result.PASS, "b.example")
    cut = bounds.fitting(Checks(dkim=(failed,) * 25 + (passed,)))
    assert cut.dkim == (passed,) + (failed,) * 19
    values = ("x" * 4_096,) * 20 + ("y" * 4_097, "dmarc=pass")
    chain = bounds.fitting(Checks(arc=ArcResult(Result.PASS, authentication_results=values))).arc
    assert chain is not None
    assert chain.authentication_results[-2:] == ("", "dmarc=pass")
    assert [bool(value) for value in chain.authentication_results[:20]] == [False] * 5 + [True] * 15


def test_a_text_is_cut_between_characters() -> None:
    cut = bounds.fitting(Checks(dkim=(replace(DkimResult(Result.FAIL), domain="ü" * 200, problem="a\nb"),)))
    assert cut.dkim[0].domain == "ü" * 127
    assert cut.dkim[0].problem == "a?b"
