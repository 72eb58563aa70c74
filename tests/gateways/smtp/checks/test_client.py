"""Reverse DNS and DNS lists (RFC 8601 2.7.3, RFC 5782)."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from restante_gateways.smtp.checks.client import DnsList, dns_list, reverse_dns, reversed_address
from restante_mail.authentication.results import Result
from tests.harness.memory_dns import memory_dns

CLIENT = ip_address("192.0.2.1")
POINTER = "1.2.0.192.in-addr.arpa"
LISTED = "1.2.0.192.bl.example"


@pytest.mark.parametrize(
    ("names", "addresses", "failing", "result", "name"),
    [
        (["mx.example"], ["192.0.2.1"], [], Result.PASS, "mx.example"),
        (["other.example", "mx.example"], ["192.0.2.9", "192.0.2.1"], [], Result.PASS, "mx.example"),
        (["mx.example"], ["192.0.2.2"], [], Result.FAIL, ""),
        (["mx.example"], [], [], Result.FAIL, ""),
        ([], [], [], Result.PERMERROR, ""),
        (["mx.example"], ["192.0.2.1"], [POINTER], Result.TEMPERROR, ""),
        (["mx.example"], ["192.0.2.1"], ["mx.example"], Result.TEMPERROR, ""),
        (["other.example", "mx.example"], ["192.0.2.1"], ["other.example"], Result.PASS, "mx.example"),
        ([f"h{number}.example" for number in range(1000)], [], [], Result.FAIL, ""),
    ],
)
async def test_a_name_of_the_client_has_its_address(
    names: list[str], addresses: list[str], failing: list[str], result: Result, name: str
) -> None:
    dns = memory_dns({POINTER: {"PTR": names}, "mx.example": {"A": addresses}}, failing)
    found = await reverse_dns(CLIENT, dns)
    assert (found.result, found.name) == (result, name)
    assert len(dns.asked) <= 11


@pytest.mark.parametrize(
    ("answers", "listed", "problem"),
    [
        (["127.0.0.2"], True, ""),
        (["127.0.0.2", "127.0.0.10"], True, ""),
        ([], False, ""),
        (["127.255.255.254"], False, "the list refuses to answer"),
        (["127.0.0.2", "127.255.255.255"], False, "the list refuses to answer"),
        (["203.0.113.7"], False, "the answer is outside 127.0.0.0/8"),
        (["127.0.0.2", "203.0.113.7"], False, "the answer is outside 127.0.0.0/8"),
    ],
)
async def test_a_list_has_the_client(answers: list[str], listed: bool, problem: str) -> None:
    found = await dns_list(CLIENT, DnsList("bl.example", 2.5), memory_dns({LISTED: {"A": answers}}))
    assert (found.zone, found.listed, found.problem) == ("bl.example", listed, problem)
    assert found.answers == tuple(answers)
    assert found.weight == (2.5 if listed else 0.0)


async def test_a_list_that_does_not_answer_is_no_listing() -> None:
    found = await dns_list(CLIENT, DnsList("bl.example"), memory_dns({}, [LISTED]))
    assert (found.listed, found.problem) == (False, "no answer in time")


def test_addresses_are_reversed() -> None:
    assert reversed_address(ip_address("192.0.2.1")) == "1.2.0.192"
    nibbles = "1.0.b.c" + ".0" * 20 + ".8.b.d.0.1.0.0.2"  # the example of RFC 5782 2.4 has this form
    assert reversed_address(ip_address("2001:db8::cb01")) == nibbles
