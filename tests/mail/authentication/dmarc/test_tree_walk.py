"""The DNS tree walk: the examples of RFC 9989 4.10 and appendix B.3."""

from __future__ import annotations

import pytest

from restante_mail.authentication.dmarc.tree_walk import TreeWalk, targets
from tests.harness.memory_dns import MemoryDns, memory_dns


def walk(**records: str) -> tuple[TreeWalk, MemoryDns]:
    """The walk over records by domain, in which "__" is a dot."""
    dns = memory_dns({f"_dmarc.{name.replace('__', '.')}": {"TXT": text} for name, text in records.items()})
    return TreeWalk(dns), dns


def test_a_long_name_is_asked_for_in_eight_queries() -> None:
    assert targets("a.b.c.d.e.f.g.h.i.j.mail.example.com") == [
        "a.b.c.d.e.f.g.h.i.j.mail.example.com",
        "g.h.i.j.mail.example.com",
        "h.i.j.mail.example.com",
        "i.j.mail.example.com",
        "j.mail.example.com",
        "mail.example.com",
        "example.com",
        "com",
    ]
    assert targets("mail.a.b.c.d.e.f.g.example.com")[1] == "c.d.e.f.g.example.com"
    assert len(targets("a.b.c.d.e.f.example.com")) == 8
    assert targets("example.com") == ["example.com", "com"]
    assert targets("com") == ["com"]


@pytest.mark.parametrize(
    ("records", "organizational"),
    [
        ({"mail__example__com": "v=DMARC1", "example__com": "v=DMARC1"}, "example.com"),
        ({"mail__example__com": "v=DMARC1; psd=n", "example__com": "v=DMARC1"}, "mail.example.com"),
        ({"com": "v=DMARC1; psd=y"}, "example.com"),
        ({"example__com": "v=DMARC1; psd=y"}, "mail.example.com"),
        ({"a__mail__example__com": "v=DMARC1; psd=y", "example__com": "v=DMARC1"}, "a.mail.example.com"),
        ({"mail__example__com": "v=DMARC1; p=x"}, "mail.example.com"),
        ({}, "a.mail.example.com"),
    ],
)
async def test_the_organizational_domain(records: dict[str, str], organizational: str) -> None:
    found, dns = walk(**records)
    assert await found.organizational_domain("a.mail.example.com") == organizational
    asked = len(dns.asked)
    assert await found.organizational_domain("a.mail.example.com") == organizational
    assert len(dns.asked) == asked <= 4


@pytest.mark.parametrize(
    ("domain", "records", "policy_domain"),
    [
        ("a.example.com", {"a__example__com": "v=DMARC1", "example__com": "v=DMARC1"}, "a.example.com"),
        ("a.b.example.com", {"b__example__com": "v=DMARC1", "example__com": "v=DMARC1"}, "example.com"),
        ("giant.bank.example", {"bank__example": "v=DMARC1; psd=y"}, "bank.example"),
        (
            "a.giant.bank.example",
            {"giant__bank__example": "v=DMARC1", "bank__example": "v=DMARC1; psd=y"},
            "giant.bank.example",
        ),
        ("a.b.c.d.e.f.g.h.i.j.k.example.com", {"example__com": "v=DMARC1"}, "example.com"),
        ("a.b.c.d.e.f.g.h.i.example.com", {"b__c__d__e__f__g__h__i__example__com": "v=DMARC1"}, None),
        ("example.com", {}, None),
    ],
)
async def test_the_domain_of_the_policy(domain: str, records: dict[str, str], policy_domain: str | None) -> None:
    found, dns = walk(**records)
    policy = await found.policy(domain)
    assert (policy and policy[0]) == policy_domain
    assert len(dns.asked) <= 8


async def test_a_name_that_is_too_long_is_not_asked_for() -> None:
    found, dns = walk()
    long = ".".join(["x" * 62] * 4)
    assert await found.organizational_domain(long) == long
    assert ("_dmarc." + long, "TXT") not in dns.asked
