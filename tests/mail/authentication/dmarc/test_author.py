"""The author's domains of header blocks, well-formed and not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_mail.authentication.dmarc.author import MAX_MAILBOXES, author


@pytest.mark.parametrize(
    ("header", "domains", "problem"),
    [
        ("From: Ann <ann@Example.COM>\r\n", ["example.com"], ""),
        ("FROM : ann@example.com (Ann)\r\n", ["example.com"], ""),
        ('From: "ceo@bank.example" <ann@example.com>\r\n', ["example.com"], ""),
        ("From: ann@example.com, bob@example.com\r\n", ["example.com"], ""),
        ("From: ann@example.com,\r\n bob@example.net\r\n", ["example.com", "example.net"], ""),
        ("From: Team: ann@example.com, bob@example.net;\r\n", ["example.com", "example.net"], ""),
        ("From: ann@b\u00fccher.example\r\n", ["xn--bcher-kva.example"], ""),
        ("From: <@relay.example:ann@example.com>\r\n", ["example.com"], ""),
        ("From: ann@example.com.\r\n", ["example.com"], ""),
        ("From: ann@example.com\r\nFrom: bob@example.net\r\n", ["example.com", "example.net"], ""),
        ("To: ann@example.com\r\n", [], "there is no From field"),
        ("", [], "there is no From field"),
        ("From:\r\n", [], "From has no mailbox"),
        ("From: nobody:;\r\n", [], "From has no mailbox"),
        ("From: Ann\r\n", [], "a mailbox in From has no domain"),
        ("From: ann@[192.0.2.1]\r\n", [], "a mailbox in From has an invalid domain"),
        ("From: ann@exa$mple.com\r\n", [], "a mailbox in From has an invalid domain"),
        ("From: ann@a..b, bob@example.com\r\n", ["example.com"], "a mailbox in From has an invalid domain"),
        ("From: " + "a@b.example, " * 200 + "\r\n", ["b.example"], f"From has more than {MAX_MAILBOXES} mailboxes"),
        ("From: " + "(" * 50_000 + "\r\n", [], "From has no mailbox"),
    ],
)
def test_the_domains_of_from(header: str, domains: list[str], problem: str) -> None:
    found = author(header.encode())
    assert list(found.domains) == domains
    assert found.problem == problem


def test_octets_that_are_no_utf_8_are_a_problem() -> None:
    assert author(b"From: ann@\xff.example\r\n").problem == "a mailbox in From has a domain that is not UTF-8"


@given(st.text(alphabet='a@.<>,;:"()[] \\\r\n\u00e4', max_size=60))
def test_any_from_has_domains_or_a_problem(text: str) -> None:
    found = author(b"From: " + text.encode() + b"\r\n")
    assert found.domains or found.problem
