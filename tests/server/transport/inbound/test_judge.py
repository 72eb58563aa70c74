"""The policy for checked mail, by tables: results and settings give an action and the check that decided."""

from __future__ import annotations

import pytest

from restante_mail.authentication.results import (
    ArcResult,
    Checks,
    DkimResult,
    DmarcResult,
    DnsListResult,
    Identity,
    Policy,
    Result,
    SpfResult,
)
from restante_server.directory.check_rules import CheckSettings, DomainRules, OnFailure
from restante_server.transport.inbound.judge import Action, Claimed, find, judge, local_override

SETTINGS = CheckSettings(trusted_sealers=frozenset({"lists.example", "relay.example"}))
LOCAL = {"example.test", "example.com"}
DELIVER, JUNK, REFUSE = Action.DELIVER, Action.JUNK, Action.REFUSE
NONE, QUARANTINE, REJECT = OnFailure.NONE, OnFailure.QUARANTINE, OnFailure.REJECT


def dmarc(policy: str = "reject", result: str = "fail", domain: str = "bank.example") -> DmarcResult:
    return DmarcResult(Result(result), domain, domain, domain, Policy(policy))


def spf(result: str, domain: str = "bank.example", identity: Identity = Identity.MAILFROM) -> SpfResult:
    return SpfResult(Result(result), identity, domain)


def dkim(result: str, domain: str = "bank.example") -> DkimResult:
    return DkimResult(Result(result), domain, "s1")


def listed(weight: float, zone: str = "bad.example") -> DnsListResult:
    return DnsListResult(zone, listed=True, answers=("127.0.0.2",), weight=weight)


def arc(*sealed: tuple[str, str], result: str = "pass") -> ArcResult:
    return ArcResult(Result(result), tuple(name for name, _ in sealed), 0, tuple(text for _, text in sealed))


SEEN = "mx.lists.example; dmarc=pass (p=reject) header.from=bank.example"


def outcome(
    checks: Checks, author: str = "bank.example", reverse: str = "bank.example", rules: DomainRules | None = None
) -> tuple[Action, str]:
    claimed = Claimed(frozenset({author} if author else ()), reverse)
    verdict = judge(find(checks, claimed, LOCAL & {author, reverse}, SETTINGS), rules or DomainRules(), SETTINGS)
    assert bool(verdict.reason) == bool(verdict.check)
    assert verdict.reason.isascii()
    return verdict.action, verdict.check


@pytest.mark.parametrize(
    ("checks", "expected"),
    [
        (Checks(), (DELIVER, "")),
        (Checks(dmarc=dmarc(result="pass")), (DELIVER, "")),
        (Checks(dmarc=dmarc(result="none")), (DELIVER, "")),
        (Checks(dmarc=dmarc(result="temperror")), (DELIVER, "")),
        (Checks(dmarc=dmarc(result="permerror")), (DELIVER, "")),
        (Checks(dmarc=dmarc("none")), (DELIVER, "")),
        (Checks(dmarc=dmarc("quarantine")), (JUNK, "dmarc")),
        (Checks(dmarc=dmarc("reject")), (JUNK, "dmarc")),  # RFC 9989: p=reject alone refuses nothing
        # SPF alone never counts.
        (Checks(spf=(spf("fail"),)), (DELIVER, "")),
        (Checks(spf=(spf("fail"),), dkim=(dkim("fail"),)), (DELIVER, "")),
        # Further evidence for p=reject: SPF fails and no signature passes, or DNS lists have the client.
        (Checks(dmarc=dmarc("reject"), spf=(spf("fail"),)), (REFUSE, "dmarc")),
        (Checks(dmarc=dmarc("reject"), spf=(spf("softfail"),)), (JUNK, "dmarc")),
        (Checks(dmarc=dmarc("reject"), spf=(spf("fail", identity=Identity.HELO),)), (JUNK, "dmarc")),
        (Checks(dmarc=dmarc("reject"), spf=(spf("fail"),), dkim=(dkim("fail"),)), (REFUSE, "dmarc")),
        (Checks(dmarc=dmarc("reject"), spf=(spf("fail"),), dkim=(dkim("pass", "list.example"),)), (JUNK, "dmarc")),
        (Checks(dmarc=dmarc("reject"), spf=(spf("fail"),), dkim=(dkim("temperror"),)), (JUNK, "dmarc")),
        (Checks(dmarc=dmarc("reject"), spf=(spf("fail"),), arc=arc(("x.example", ""))), (JUNK, "dmarc")),
        (
            Checks(dmarc=dmarc("reject"), spf=(spf("fail"),), arc=arc(("x.example", ""), result="fail")),
            (REFUSE, "dmarc"),
        ),
        (Checks(dmarc=dmarc("quarantine"), spf=(spf("fail"),)), (JUNK, "dmarc")),
        (Checks(dmarc=dmarc("reject"), dns_lists=(listed(1.0),)), (REFUSE, "dmarc")),
        (Checks(dmarc=dmarc("quarantine"), dns_lists=(listed(1.0),)), (JUNK, "dmarc")),
        # DNS lists by their weights; an answer without a listing weighs nothing.
        (Checks(dns_lists=(listed(0.9),)), (DELIVER, "")),
        (Checks(dns_lists=(listed(0.5), listed(0.5, "b.example"))), (JUNK, "dnslist")),
        (Checks(dns_lists=(listed(2.0),)), (REFUSE, "dnslist")),
        (Checks(dns_lists=(listed(2.0), listed(-1.5, "good.example"))), (DELIVER, "")),
        (Checks(dns_lists=(DnsListResult("a.example", weight=5.0, problem="timed out"),)), (DELIVER, "")),
    ],
)
def test_the_defaults(checks: Checks, expected: tuple[Action, str]) -> None:
    assert outcome(checks) == expected


@pytest.mark.parametrize(
    ("setting", "policy", "evidence", "expected"),
    [
        (NONE, "reject", True, DELIVER),
        (NONE, "quarantine", True, DELIVER),
        (QUARANTINE, "reject", False, JUNK),
        (QUARANTINE, "reject", True, REFUSE),
        (REJECT, "reject", False, REFUSE),
        (REJECT, "quarantine", True, JUNK),  # its domain asks for no refusal
        (REJECT, "none", True, DELIVER),
    ],
)
def test_a_domain_decides_about_failed_dmarc(setting: OnFailure, policy: str, evidence: bool, expected: Action) -> None:
    checks = Checks(dmarc=dmarc(policy), spf=(spf("fail" if evidence else "neutral"),))
    assert outcome(checks, rules=DomainRules(failed_dmarc=setting))[0] is expected


@pytest.mark.parametrize(
    ("chain", "trusted"),
    [
        (arc(("lists.example", SEEN)), True),
        (arc(("LISTS.example", SEEN)), True),
        (arc(("lists.example", SEEN), result="fail"), False),
        (arc(("unknown.example", SEEN)), False),
        (arc(("lists.example", "mx; dmarc=fail header.from=bank.example")), False),
        (arc(("lists.example", "mx; dmarc=pass header.from=other.example")), False),
        (arc(("lists.example", "mx; dmarc=pass")), False),
        (arc(("lists.example", "mx; dkim=pass header.d=mail.bank.example; dmarc=none")), True),
        (arc(("lists.example", "mx; spf=pass smtp.mailfrom=joe@bank.example")), True),
        # The sealers behind the one that saw it pass must be trusted, too; those before it need not.
        (arc(("unknown.example", "mx; dmarc=pass header.from=bank.example"), ("lists.example", "mx; arc=pass")), False),
        (arc(("unknown.example", ""), ("lists.example", SEEN)), True),
        (arc(("lists.example", SEEN), ("relay.example", "mx; dmarc=fail header.from=bank.example")), True),
        (arc(("lists.example", SEEN), ("unknown.example", "mx; dmarc=fail")), False),
    ],
)
def test_a_trusted_sealer_overrides_a_failure_of_dmarc(chain: ArcResult, trusted: bool) -> None:
    checks = Checks(dmarc=dmarc("reject"), spf=(spf("fail", "lists.example"),), arc=chain)
    claimed = Claimed(frozenset({"bank.example"}), "lists.example")
    found = find(checks, claimed, (), SETTINGS)
    verdict = judge(found, DomainRules(failed_dmarc=REJECT), SETTINGS)
    assert (verdict.action is DELIVER) == trusted
    assert verdict.check == "dmarc"
    assert ("trusted ARC sealer" in verdict.reason) == trusted
    assert bool(local_override(found)) == trusted


@pytest.mark.parametrize(
    ("checks", "author", "reverse", "expected"),
    [
        # From has a local domain.
        (Checks(spf=(spf("pass", "evil.example"),)), "example.test", "evil.example", JUNK),
        (Checks(spf=(spf("none", "evil.example"),)), "example.test", "evil.example", JUNK),
        (Checks(spf=(spf("pass", "example.test"),)), "example.test", "example.test", DELIVER),
        (Checks(spf=(spf("pass", "bounces.example.test"),)), "example.test", "bounces.example.test", DELIVER),
        (Checks(spf=(spf("pass", "example.test", Identity.HELO),)), "example.test", "", JUNK),
        (Checks(dkim=(dkim("pass", "example.test"),)), "example.test", "list.example", DELIVER),
        (Checks(dkim=(dkim("pass", "notexample.test"),)), "example.test", "list.example", JUNK),
        (Checks(dkim=(dkim("pass", "test"),)), "example.test", "list.example", JUNK),
        (Checks(dkim=(dkim("fail", "example.test"),)), "example.test", "list.example", JUNK),
        (Checks(dkim=(DkimResult(Result.PASS, "example.test", partial=True),)), "example.test", "l.example", JUNK),
        (Checks(dmarc=dmarc("none", "pass", "example.test"), spf=(spf("fail"),)), "example.test", "x.example", DELIVER),
        (Checks(dmarc=dmarc("none", "fail", "example.test")), "example.test", "x.example", JUNK),
        # A sealer whose results count confirms it.
        (
            Checks(
                dkim=(dkim("fail", "example.test"),), arc=arc(("lists.example", "mx; dkim=pass header.d=example.test"))
            ),
            "example.test",
            "lists.example",
            DELIVER,
        ),
        # The reverse-path has a local domain.
        (Checks(spf=(spf("fail", "example.com"),)), "evil.example", "example.com", JUNK),
        (Checks(spf=(spf("none", "example.com"),)), "evil.example", "example.com", JUNK),
        (Checks(spf=(spf("fail", "example.com"),), dkim=(dkim("pass"),)), "bank.example", "example.com", DELIVER),
        (Checks(spf=(spf("none", "example.com"),)), "", "example.com", JUNK),
        # Nothing can be said: no check, or one that may have another result later.
        (Checks(), "example.test", "example.test", DELIVER),
        (Checks(dns_lists=(listed(0.1),)), "example.test", "example.test", DELIVER),
        (Checks(spf=(spf("temperror", "evil.example"),)), "example.test", "evil.example", DELIVER),
        (Checks(spf=(spf("pass", "e.example"),), dkim=(dkim("temperror"),)), "example.test", "e.example", DELIVER),
        # Neither is local.
        (Checks(spf=(spf("fail", "evil.example"),)), "bank.example", "evil.example", DELIVER),
        (Checks(spf=(spf("none", "evil.example"),)), "", "", DELIVER),
    ],
)
def test_mail_from_outside_that_claims_a_local_domain(
    checks: Checks, author: str, reverse: str, expected: Action
) -> None:
    assert outcome(checks, author, reverse)[0] is expected
    refused = {JUNK: REFUSE}.get(expected, expected)
    assert outcome(checks, author, reverse, DomainRules(forged_sender=REJECT))[0] is refused
    assert outcome(checks, author, reverse, DomainRules(forged_sender=NONE, failed_dmarc=NONE))[0] is DELIVER


def test_the_most_severe_verdict_decides() -> None:
    both = Checks(dmarc=dmarc("quarantine"), dns_lists=(listed(2.0),))
    assert outcome(both) == (REFUSE, "dnslist")
    forged = Checks(dmarc=dmarc("reject", domain="example.test"), spf=(spf("neutral"),))
    assert outcome(forged, "example.test", rules=DomainRules(QUARANTINE, REJECT)) == (REFUSE, "forged")


def test_thresholds_of_zero_never_act() -> None:
    settings = CheckSettings(junk_weight=0, refuse_weight=0)
    found = find(Checks(dns_lists=(listed(500),)), Claimed(frozenset(), ""), (), settings)
    assert judge(found, DomainRules(), settings).action is DELIVER


def test_a_reason_is_short_and_ascii_whatever_the_names_are() -> None:
    lists = tuple(listed(5.0, "ü" * 250 + str(number)) for number in range(50))
    checks = Checks(dmarc=dmarc("reject", domain="ä" * 250), dns_lists=lists)
    found = find(checks, Claimed(frozenset(), ""), (), SETTINGS)
    for rules in (DomainRules(), DomainRules(failed_dmarc=NONE)):
        verdict = judge(found, rules, SETTINGS)
        assert verdict.reason.isascii()
        assert len(verdict.reason) <= 512
