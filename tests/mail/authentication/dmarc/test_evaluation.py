"""DMARC of messages (RFC 9989 5.3): alignment, policies, failures of the DNS, and authors with several domains."""

from __future__ import annotations

from dataclasses import replace

import pytest

from restante_mail.authentication.dmarc.author import Author
from restante_mail.authentication.dmarc.evaluation import dmarc
from restante_mail.authentication.results import DkimResult, DmarcResult, Identity, Policy, Result, SpfResult
from tests.harness.memory_dns import MemoryDns, memory_dns


def records(**texts: str) -> MemoryDns:
    """The policy records of domains, in which "__" is a dot; the domains themselves exist."""
    names = {name.replace("__", "."): text for name, text in texts.items()}
    return memory_dns({f"_dmarc.{name}": {"TXT": text} for name, text in names.items()})


def spf(domain: str, result: Result = Result.PASS, identity: Identity = Identity.MAILFROM) -> SpfResult:
    return SpfResult(result, identity, domain)


def dkim(domain: str, result: Result = Result.PASS) -> DkimResult:
    return DkimResult(result, domain)


async def check(dns: MemoryDns, *domains: str, by: tuple[SpfResult | DkimResult, ...] = ()) -> DmarcResult:
    spf_results = [one for one in by if isinstance(one, SpfResult)]
    return await dmarc(Author(domains), spf_results, [one for one in by if isinstance(one, DkimResult)], dns)


REJECT = "v=DMARC1; p=reject"


@pytest.mark.parametrize(
    ("texts", "domain", "by", "aligned"),
    [
        # The examples of RFC 9989 B.2.1 and B.3.
        ({"example__com": REJECT}, "example.com", (spf("mail.example.com"), dkim("example.com")), (True, True)),
        (
            {"example__com": REJECT, "signing__example__com": REJECT},
            "example.com",
            (spf("example.com"), dkim("signing.example.com")),
            (True, True),
        ),
        (
            {"example__com": REJECT, "signing__example__com": REJECT},
            "a.b.c.d.e.f.g.h.i.j.k.example.com",
            (spf("example.com"), dkim("signing.example.com")),
            (True, True),
        ),
        (
            {"bank__example": "v=DMARC1; psd=y", "giant__bank__example": REJECT},
            "giant.bank.example",
            (spf("mail.giant.bank.example"), dkim("mail.mega.bank.example")),
            (True, False),
        ),
        # Others.
        ({"example__com": REJECT}, "example.com", (dkim("example.net"), dkim("EXAMPLE.com")), (False, True)),
        ({"example__com": REJECT}, "example.com", (replace(dkim("example.com"), partial=True),), (False, False)),
        ({"example__com": REJECT}, "example.com", (spf("notexample.com"),), (False, False)),
        ({"example__com": REJECT, "com": REJECT}, "example.com", (spf("other.com"),), (True, False)),
        ({"example__com": REJECT + "; aspf=s"}, "example.com", (spf("a.example.com"),), (False, False)),
        ({"example__com": REJECT + "; adkim=s"}, "example.com", (dkim("a.example.com"),), (False, False)),
        ({"example__com": REJECT + "; adkim=s"}, "a.example.com", (dkim("a.example.com"),), (False, True)),
        ({"example__com": REJECT}, "example.com", (spf("example.com", Result.SOFTFAIL),), (False, False)),
        ({"example__com": REJECT}, "example.com", (spf("example.com", identity=Identity.HELO),), (True, False)),
        (
            {"example__com": REJECT},
            "example.com",
            (spf("example.com", identity=Identity.HELO), spf("example.net")),
            (False, False),
        ),
        (
            {"a__example__com": REJECT + "; psd=n", "example__com": REJECT},
            "a.example.com",
            (dkim("example.com"),),
            (False, False),
        ),
    ],
)
async def test_identifiers_are_aligned(
    texts: dict[str, str], domain: str, by: tuple[SpfResult | DkimResult, ...], aligned: tuple[bool, bool]
) -> None:
    found = await check(records(**texts), domain, by=by)
    assert (found.spf_aligned, found.dkim_aligned) == aligned
    assert found.result is (Result.PASS if any(aligned) else Result.FAIL)


@pytest.mark.parametrize(
    ("tags", "domain", "policy"),
    [
        ("p=reject", "example.com", Policy.REJECT),
        ("p=reject; sp=none", "example.com", Policy.REJECT),
        ("p=reject; sp=quarantine", "a.example.com", Policy.QUARANTINE),
        ("p=reject; np=none", "a.example.com", Policy.REJECT),
        ("p=none; sp=quarantine; np=reject", "a.example.com", Policy.QUARANTINE),
        ("p=none; sp=quarantine; np=reject", "x.example.com", Policy.REJECT),
        ("p=none; sp=quarantine", "x.example.com", Policy.QUARANTINE),
        ("p=quarantine", "x.example.com", Policy.QUARANTINE),
        ("p=reject; t=y", "example.com", Policy.QUARANTINE),
        ("p=quarantine; t=y", "example.com", Policy.NONE),
        ("p=none; sp=reject; t=y", "a.example.com", Policy.QUARANTINE),
        ("rua=mailto:a@b.example; p=x", "example.com", Policy.NONE),
    ],
)
async def test_a_failure_has_the_policy_that_applies(tags: str, domain: str, policy: Policy) -> None:
    dns = memory_dns({"_dmarc.example.com": {"TXT": f"v=DMARC1; {tags}"}, "a.example.com": {"A": "192.0.2.1"}})
    found = await check(dns, domain)
    assert (found.result, found.policy, found.policy_domain) == (Result.FAIL, policy, "example.com")
    assert (found.record, found.testing) == (f"v=DMARC1; {tags}", "t=y" in tags)


async def test_a_pass_of_the_author_s_own_domain_costs_one_query() -> None:
    dns = records(example__com=REJECT)
    found = await check(dns, "example.com", by=(dkim("example.com"),))
    assert (found.result, found.organizational_domain) == (Result.PASS, "example.com")
    assert len(dns.asked) == 1


async def test_foreign_signers_cost_no_query() -> None:
    dns = records(example__com=REJECT)
    by = tuple(dkim(f"s{number}.example.net") for number in range(1000))
    assert (await check(dns, "example.com", by=by)).result is Result.FAIL
    assert {name for name, _ in dns.asked} == {"_dmarc.example.com", "_dmarc.com"}


async def test_without_a_record_there_is_no_result() -> None:
    found = await check(records(), "example.com", by=(dkim("example.com"),))
    assert (found.result, found.problem) == (Result.NONE, "no DMARC policy is published")
    invalid = await check(records(example__com="v=DMARC1; p=x"), "example.com")
    assert (invalid.result, invalid.problem) == (Result.NONE, '"p=x" is no policy, and there is no valid rua=')


@pytest.mark.parametrize(
    ("domain", "by", "failing", "result"),
    [
        ("example.com", (dkim("example.com"),), "_dmarc.example.com", Result.TEMPERROR),
        ("a.example.com", (), "_dmarc.com", Result.TEMPERROR),
        ("example.com", (dkim("example.com"),), "_dmarc.com", Result.PASS),
        ("example.com", (dkim("a.example.com"),), "_dmarc.com", Result.TEMPERROR),
        ("example.com", (dkim("a.example.com"), spf("example.com")), "_dmarc.com", Result.PASS),
        ("example.com", (dkim("example.com", Result.TEMPERROR),), "", Result.TEMPERROR),
        ("example.com", (dkim("example.net", Result.TEMPERROR),), "", Result.FAIL),
        ("example.com", (spf("a.example.com", Result.TEMPERROR),), "", Result.TEMPERROR),
        ("b.example.com", (), "b.example.com", Result.TEMPERROR),
    ],
)
async def test_without_all_answers_a_message_does_not_fail(
    domain: str, by: tuple[SpfResult | DkimResult, ...], failing: str, result: Result
) -> None:
    dns = memory_dns({"_dmarc.example.com": {"TXT": REJECT + "; np=reject"}}, [failing] if failing else [])
    found = await check(dns, domain, by=by)
    assert found.result is result
    assert bool(found.problem) is (result is Result.TEMPERROR)
    assert (found.policy is Policy.NONE) is (result is Result.TEMPERROR)


async def test_a_second_domain_hides_no_failure() -> None:
    dns = records(example__com=REJECT, example__net="v=DMARC1; p=none")
    found = await check(dns, "example.net", "example.org", "example.com", by=(dkim("example.net"),))
    assert (found.result, found.author_domain, found.policy) == (Result.FAIL, "example.com", Policy.REJECT)
    both = await check(dns, "example.net", "example.com", by=(dkim("example.net"), dkim("example.com")))
    assert both.result is Result.PASS


async def test_an_author_who_cannot_be_told_is_an_error() -> None:
    dns = records()
    found = await dmarc(Author(("example.com",), "a mailbox in From has no domain"), [], [], dns)
    assert (found.result, found.author_domain, found.problem) == (
        Result.PERMERROR,
        "example.com",
        "a mailbox in From has no domain",
    )
    nobody = await dmarc(Author(problem="there is no From field"), [], [], dns)
    assert (nobody.result, nobody.author_domain) == (Result.PERMERROR, "")
    dns.asked.clear()
    many = await check(dns, *(f"{letter}.example" for letter in "abcde"))
    assert (many.result, many.problem) == (Result.PERMERROR, "From has mailboxes of more than 4 domains")
    assert {name for name, _ in dns.asked} == {"_dmarc.example", *(f"_dmarc.{letter}.example" for letter in "abde")}


@pytest.mark.parametrize(
    "found",
    [
        Author(("example.com",), "a mailbox in From has an invalid domain"),
        Author(("a.example", "b.example", "c.example", "d.example", "example.com")),
        Author(("example.com", "a.example", "b.example", "c.example", "d.example")),
    ],
    ids=["beside a bad mailbox", "the last of many", "the first of many"],
)
async def test_no_other_mailbox_hides_a_failure(found: Author) -> None:
    result = await dmarc(found, [], [dkim("a.example")], records(example__com=REJECT))
    assert (result.result, result.author_domain, result.policy) == (Result.FAIL, "example.com", Policy.REJECT)
