"""The addresses for a mail domain, from a real DNS server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from restante_gateways.net import resolver as module
from restante_gateways.net.resolver import LookupFailed, LoopsBack, Nameserver, NoSuchDomain, Resolver, TakesNoMail
from tests.harness.dns_server import DnsServer, dns_server

ZONE = """
example.net         MX     20 backup.example.net.
example.net         MX     10 mx1.example.net.
example.net         MX     10 MX2.Example.Net.
mx1.example.net     A      192.0.2.1
mx1.example.net     A      192.0.2.2
mx1.example.net     AAAA   2001:db8::1
backup.example.net  CNAME  far.example.org.
far.example.org     CNAME  farther.example.org.
farther.example.org A      192.0.2.9
plain.example       A      192.0.2.7
alias.example       CNAME  example.net.
quiet.example       MX     0 .
odd.example         MX     0 .
odd.example         MX     5 mx1.example.net.
text.example        TXT    "nothing here"
ours.example        MX     10 better.example.
ours.example        MX     20 mx.example.test.
ours.example        MX     20 as-good.example.
ours.example        MX     30 worse.example.
loop.example        MX     10 mx.example.test.
loop.example        MX     20 worse.example.
"""


@pytest.fixture
async def server() -> AsyncIterator[DnsServer]:
    async with dns_server(ZONE) as server:
        yield server


@pytest.fixture
def resolver(server: DnsServer) -> Resolver:
    return Resolver([server.address], ["MX.example.test."], lookup_seconds=1.0)


async def hosts(resolver: Resolver, domain: str) -> list[tuple[int, str]]:
    return [(found.preference, found.host) for found in await resolver.servers(domain)]


async def test_mx_are_tried_by_preference_equal_ones_shuffled(resolver: Resolver) -> None:  # RFC 5321 5.1
    orders = set()
    for _ in range(60):
        found = await hosts(resolver, "example.net")
        assert found[2] == (20, "backup.example.net") and {preference for preference, _ in found[:2]} == {10}
        orders.add(found[0][1])
    assert orders == {"mx1.example.net", "mx2.example.net"}


async def test_answers_are_cached(resolver: Resolver, server: DnsServer) -> None:
    await hosts(resolver, "example.net")
    await hosts(resolver, "EXAMPLE.net")
    assert server.asked.count(("example.net", "MX")) == 1


async def test_a_domain_without_mx_is_its_own_server(resolver: Resolver) -> None:  # RFC 5321 5.1
    assert await hosts(resolver, "plain.example") == [(0, "plain.example")]
    assert await resolver.addresses("plain.example") == ["192.0.2.7"]


async def test_cnames_are_followed(resolver: Resolver) -> None:  # RFC 5321 5.1
    assert len(await hosts(resolver, "alias.example")) == 3
    assert await resolver.addresses("backup.example.net") == ["192.0.2.9"]


async def test_a_null_mx_takes_no_mail(resolver: Resolver) -> None:  # RFC 7505 3
    with pytest.raises(TakesNoMail):
        await resolver.servers("quiet.example")
    assert await hosts(resolver, "odd.example") == [(5, "mx1.example.net")]


@pytest.mark.parametrize("name", ["nowhere.example", "x" * 64 + ".example", "a..b", ".".join(["label"] * 60)])
async def test_what_does_not_exist_never_will(resolver: Resolver, name: str) -> None:  # RFC 5321 5.1
    with pytest.raises(NoSuchDomain):
        await resolver.servers(name)


async def test_a_name_without_addresses_has_none(resolver: Resolver) -> None:
    assert await resolver.addresses("text.example") == []
    assert await resolver.addresses("nowhere.example") == []
    assert await resolver.addresses("a..b") == []


async def test_a_server_that_fails_or_is_silent_is_asked_later(resolver: Resolver, server: DnsServer) -> None:
    # RFC 5321 5.1
    server.servfail |= {"example.net", "mx1.example.net"}
    server.silent.add("plain.example")
    for name in ("example.net", "plain.example"):
        with pytest.raises(LookupFailed):
            await resolver.servers(name)
    with pytest.raises(LookupFailed):
        await resolver.addresses("mx1.example.net")
    server.servfail.clear()
    assert len(await resolver.servers("example.net")) == 3  # a failure is not remembered


async def test_a_slow_answer_is_waited_for(resolver: Resolver, server: DnsServer) -> None:
    server.delay_seconds = 0.2
    assert len(await resolver.servers("example.net")) == 3


async def test_ipv6_and_ipv4_go_by_turns(resolver: Resolver) -> None:
    assert await resolver.addresses("mx1.example.net") in (
        ["2001:db8::1", "192.0.2.1", "192.0.2.2"],
        ["2001:db8::1", "192.0.2.2", "192.0.2.1"],
    )


async def test_this_server_and_what_is_no_better_are_left_out(resolver: Resolver) -> None:  # RFC 5321 5.1
    assert await hosts(resolver, "ours.example") == [(10, "better.example")]
    for name in ("loop.example", "mx.example.test"):
        with pytest.raises((LoopsBack, NoSuchDomain)):
            await resolver.servers(name)
    with pytest.raises(LoopsBack):
        await resolver.servers("loop.example")


async def test_an_implicit_mx_that_is_this_server_loops(server: DnsServer) -> None:  # RFC 5321 5.1
    with pytest.raises(LoopsBack):
        await Resolver([server.address], ["plain.example"]).servers("plain.example")


async def test_long_answers_come_over_tcp_and_are_cut(resolver: Resolver, server: DnsServer) -> None:
    server.load("\n".join(f"many.example MX {number} a-long-host-name-{number}.many.example." for number in range(100)))
    found = await hosts(resolver, "many.example")
    assert server.over_tcp == 1
    assert found == [(number, f"a-long-host-name-{number}.many.example") for number in range(module.MAX_HOSTS)]


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [
        ("192.0.2.1", "192.0.2.1", 53),
        ("192.0.2.1:5353", "192.0.2.1", 5353),
        ("2001:db8::1", "2001:db8::1", 53),
        ("[2001:db8::1]", "2001:db8::1", 53),
        ("[2001:db8::1]:5353", "2001:db8::1", 5353),
    ],
)
def test_name_servers_are_addresses_with_or_without_port(text: str, address: str, port: int) -> None:
    assert Nameserver.parse(text) == Nameserver(address, port)


@pytest.mark.parametrize("text", ["", "ns.example", "192.0.2.1:", "[2001:db8::1", "192.0.2.1:x", "[x]:53"])
def test_what_is_no_name_server_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        Resolver([text], [])
