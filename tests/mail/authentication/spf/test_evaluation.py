"""check_host (RFC 7208 4): the examples of its appendix A, identities, limits and hostile answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from ipaddress import ip_address

import pytest

from restante_mail.authentication.results import Identity, Result, SpfResult
from restante_mail.authentication.spf.evaluation import MAX_EXPLANATION_OCTETS, Client, check_helo, check_mail_from
from tests.harness.memory_dns import MemoryDns, memory_dns

NOW = datetime(2026, 1, 2, tzinfo=UTC)

Records = dict[str, dict[str, str | list[str]]]

APPENDIX_A: Records = {
    "example.com": {"A": ["192.0.2.10", "192.0.2.11"], "MX": ["mail-a.example.com", "mail-b.example.com"]},
    "amy.example.com": {"A": "192.0.2.65"},
    "bob.example.com": {"A": "192.0.2.66"},
    "mail-a.example.com": {"A": "192.0.2.129"},
    "mail-b.example.com": {"A": "192.0.2.130"},
    "www.example.com": {"CNAME": "example.com"},
    "example.org": {"MX": "mail-c.example.org"},
    "mail-c.example.org": {"A": "192.0.2.140"},
    "10.2.0.192.in-addr.arpa": {"PTR": "example.com"},
    "65.2.0.192.in-addr.arpa": {"PTR": "amy.example.com"},
    "140.2.0.192.in-addr.arpa": {"PTR": "mail-c.example.org"},
    "4.0.0.10.in-addr.arpa": {"PTR": "bob.example.com"},
}


def client(address: str, helo: str = "mx.example.net") -> Client:
    return Client(ip_address(address), helo, "receiver.example", NOW)


async def ask(dns: MemoryDns, address: str, sender: str) -> SpfResult:
    local_part, _, domain = sender.rpartition("@")
    return await check_mail_from(client(address), local_part, domain, dns)


async def result(records: Mapping[str, Mapping[str, str | Sequence[str]]], address: str, sender: str) -> SpfResult:
    return await ask(memory_dns(records), address, sender)


@pytest.mark.parametrize(
    ("record", "passing", "failing"),
    [
        ("v=spf1 +all", ["192.0.2.10", "10.0.0.4"], []),
        ("v=spf1 a -all", ["192.0.2.10", "192.0.2.11"], ["192.0.2.65"]),
        ("v=spf1 a:example.org -all", [], ["192.0.2.10", "192.0.2.140"]),
        ("v=spf1 mx -all", ["192.0.2.129", "192.0.2.130"], ["192.0.2.10"]),
        ("v=spf1 mx:example.org -all", ["192.0.2.140"], ["192.0.2.129"]),
        ("v=spf1 mx mx:example.org -all", ["192.0.2.129", "192.0.2.130", "192.0.2.140"], ["192.0.2.10"]),
        ("v=spf1 mx/30 mx:example.org/30 -all", ["192.0.2.131", "192.0.2.143"], ["192.0.2.132", "192.0.2.144"]),
        ("v=spf1 ptr -all", ["192.0.2.65"], ["192.0.2.140", "10.0.0.4"]),
        ("v=spf1 ip4:192.0.2.128/28 -all", ["192.0.2.129"], ["192.0.2.65"]),
    ],
)
async def test_the_simple_examples_of_appendix_a(record: str, passing: list[str], failing: list[str]) -> None:
    zone = APPENDIX_A | {"example.com": APPENDIX_A["example.com"] | {"TXT": record}}
    for address in passing:
        assert (await result(zone, address, "a@example.com")).result is Result.PASS, address
    for address in failing:
        found = await result(zone, address, "a@example.com")
        assert (found.result, found.mechanism) == (Result.FAIL, "-all"), address


async def test_the_multiple_domain_example_of_appendix_a() -> None:
    zone = {
        "example.org": {"TXT": "v=spf1 include:example.com include:example.net -all"},
        "la.example.org": {"TXT": "v=spf1 redirect=example.org"},
        "example.com": {"TXT": "v=spf1 ip4:192.0.2.10 -all"},
        "example.net": {"TXT": "v=spf1 ip4:192.0.2.20 -all"},
    }
    passed = await result(zone, "192.0.2.20", "a@la.example.org")
    assert (passed.result, passed.mechanism, passed.domain) == (Result.PASS, "include:example.net", "la.example.org")
    assert (await result(zone, "192.0.2.30", "a@la.example.org")).result is Result.FAIL


async def test_the_user_example_of_appendix_a() -> None:
    zone = {
        "example.com": {"TXT": "v=spf1 mx include:mobile-users._spf.%{d} include:remote-users._spf.%{d} -all"},
        "mobile-users._spf.example.com": {"TXT": "v=spf1 exists:%{l1r+}.%{d}"},
        "mary.mobile-users._spf.example.com": {"A": "127.0.0.2"},
        "remote-users._spf.example.com": {"TXT": "v=spf1 exists:%{ir}.%{l1r+}.%{d}"},
        "4.3.2.192.joel.remote-users._spf.example.com": {"A": "127.0.0.2"},
    }
    assert (await result(zone, "198.51.100.1", "mary+list@example.com")).result is Result.PASS
    assert (await result(zone, "192.2.3.4", "joel@example.com")).result is Result.PASS
    assert (await result(zone, "192.2.3.5", "joel@example.com")).result is Result.PERMERROR  # the third empty answer
    zone["example.com"] = {"TXT": "v=spf1 include:remote-users._spf.%{d} -all"}
    assert (await result(zone, "192.2.3.5", "joel@example.com")).result is Result.FAIL


# --- Identities -------------------------------------------------------------------------------------------------------


async def test_the_name_in_helo_is_checked_by_itself() -> None:
    dns = memory_dns(
        {"mx.example.net": {"TXT": "v=spf1 exists:%{l}.%{h} -all"}, "postmaster.mx.example.net": {"A": "127.0.0.2"}}
    )
    found = await check_helo(client("192.0.2.1", "MX.example.NET."), dns)
    assert (found.result, found.identity, found.domain) == (Result.PASS, Identity.HELO, "mx.example.net")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "localhost",
        "[192.0.2.1]",
        "a..example",
        "x" * 64 + ".example",
        "a b.example",
        "." * 300,
        "xn--\u0661.\u00df\u0301\u200d.example",
        "\ud800.example",
    ],
)
async def test_what_is_no_domain_is_not_checked(name: str) -> None:
    dns = memory_dns({})
    for found in (
        await check_helo(client("192.0.2.1", name), dns),
        await check_mail_from(client("192.0.2.1"), "a", name, dns),
    ):
        assert found.result is Result.NONE
        assert found.problem
    assert dns.asked == []


async def test_domains_are_checked_in_a_labels() -> None:
    records = {
        "xn--bcher-kva.example": {"TXT": "v=spf1 exists:%{o}.%{d} -all"},
        "xn--bcher-kva.example.xn--bcher-kva.example": {"A": "127.0.0.2"},
    }
    found = await result(records, "192.0.2.1", "a@B\u00fccher.example")
    assert (found.result, found.domain) == (Result.PASS, "xn--bcher-kva.example")


async def test_a_local_part_beyond_ascii_matches_no_term_that_names_it() -> None:
    dns = memory_dns({"example.com": {"TXT": "v=spf1 exists:%{l}.x.%{d} exists:%{s}.y.example ip4:192.0.2.1 -all"}})
    found = await ask(dns, "192.0.2.1", "j\u00f6rg@example.com")
    assert (found.result, found.mechanism) == (Result.PASS, "ip4:192.0.2.1")
    assert dns.asked == [("example.com", "TXT")]


async def test_a_mapped_address_is_an_ipv4_address() -> None:
    records = {"example.com": {"TXT": "v=spf1 ip4:192.0.2.1 -all"}}
    assert (await result(records, "::ffff:192.0.2.1", "a@example.com")).result is Result.PASS


# --- Limits (RFC 7208 4.6.4) ------------------------------------------------------------------------------------------


async def test_a_check_asks_a_bounded_number_of_questions() -> None:
    names = [f"mx{number}.example.com" for number in range(10)]
    records: Records = {
        "example.com": {"TXT": "v=spf1 " + "mx " * 11 + "-all", "MX": names},
        **{name: {"A": "192.0.2.9"} for name in names},
    }
    dns = memory_dns(records)
    found = await ask(dns, "192.0.2.1", "a@example.com")
    assert (found.result, found.problem) == (Result.PERMERROR, "example.com: more than 10 terms ask the DNS")
    assert len(dns.asked) == 1 + 10 * 11


async def test_an_include_of_itself_ends() -> None:
    dns = memory_dns({"example.com": {"TXT": "v=spf1 include:example.com"}})
    assert (await ask(dns, "192.0.2.1", "a@example.com")).result is Result.PERMERROR
    assert len(dns.asked) == 11


async def test_a_redirect_to_itself_ends() -> None:
    dns = memory_dns({"example.com": {"TXT": "v=spf1 redirect=example.com"}})
    assert (await ask(dns, "192.0.2.1", "a@example.com")).result is Result.PERMERROR
    assert len(dns.asked) == 11


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ("a:x.example a:y.example ?all", "neutral"),
        ("a:x.example mx:y.example exists:z.example ?all", "permerror"),
        ("exists:%{l}..x.example a:b..c.d mx:q..r ?all", "permerror"),
    ],
)
async def test_two_empty_answers_are_allowed(terms: str, expected: str) -> None:
    assert (
        await result({"example.com": {"TXT": f"v=spf1 {terms}"}}, "192.0.2.1", "a@example.com")
    ).result.value == expected


async def test_ten_names_of_the_client_count() -> None:
    names = [f"h{number}.example.com" for number in range(11)]
    zone: Records = {name: {"A": "198.51.100.1"} for name in names[:10]}
    zone[names[10]] = {"A": "192.0.2.1"}
    zone |= {"example.com": {"TXT": "v=spf1 ptr -all"}, "1.2.0.192.in-addr.arpa": {"PTR": names}}
    dns = memory_dns(zone)
    assert (await ask(dns, "192.0.2.1", "a@example.com")).result is Result.FAIL
    assert len(dns.asked) == 12


async def test_a_null_mx_asks_for_no_address() -> None:
    dns = memory_dns({"example.com": {"TXT": "v=spf1 mx -all", "MX": ""}})
    assert (await ask(dns, "192.0.2.1", "a@example.com")).result is Result.FAIL
    assert dns.asked == [("example.com", "TXT"), ("example.com", "MX")]


# --- Failures of the DNS ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("terms", "failing", "expected"),
    [
        ("a:x.example -all", "x.example", "temperror"),
        ("mx:x.example -all", "x.example", "temperror"),
        ("exists:x.example -all", "x.example", "temperror"),
        ("include:x.example -all", "x.example", "temperror"),
        ("redirect=x.example", "x.example", "temperror"),
        ("ptr -all", "1.2.0.192.in-addr.arpa", "permerror"),
        ("exp=x.example -all", "x.example", "fail"),
        ("include:y.example -all", "", "permerror"),
        ("redirect=y.example", "", "permerror"),
        ("ip4:192.0.2.1 a:x.example -all", "x.example", "pass"),
    ],
)
async def test_an_error_is_named_with_its_term(terms: str, failing: str, expected: str) -> None:
    dns = memory_dns({"example.com": {"TXT": f"v=spf1 {terms}"}}, [failing] if failing else [])
    if terms.startswith("ptr"):  # a name server that fails for the client's address is not the sender's mistake
        expected = "fail"
    found = await ask(dns, "192.0.2.1", "a@example.com")
    assert found.result.value == expected
    assert bool(found.problem) is (expected in ("temperror", "permerror"))


# --- Explanations (RFC 7208 6.2) --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "explanation"),
    [
        (
            ["%{i} may not send for %{o} at %{r}, %{t}"],
            "192.0.2.1 may not send for example.com at receiver.example, 1767312000",
        ),
        (["one", "two"], ""),
        ([], ""),
        (["%{q}"], ""),
        (["tab\tline\r\nend"], ""),
        (["\u00e4"], ""),
        (["long " * 1000], ("long " * 1000)[:MAX_EXPLANATION_OCTETS]),
        (["%{p}"], "unknown"),
    ],
)
async def test_a_fail_is_explained(texts: list[str], explanation: str) -> None:
    records: Records = {"example.com": {"TXT": "v=spf1 -all exp=why.%{d}"}, "why.example.com": {"TXT": texts}}
    assert (await result(records, "192.0.2.1", "a@example.com")).explanation == explanation


async def test_only_a_fail_is_explained() -> None:
    dns = memory_dns({"example.com": {"TXT": "v=spf1 ~all exp=why.%{d}"}, "why.example.com": {"TXT": "text"}})
    assert (await ask(dns, "192.0.2.1", "a@example.com")).explanation == ""
    assert dns.asked == [("example.com", "TXT")]
