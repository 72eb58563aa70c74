"""Addresses for a destination, and refused addresses."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator

import pytest

from restante_gateways.net.resolver import LookupFailed, LoopsBack, NoSuchDomain, Resolver, TakesNoMail
from restante_gateways.relay.configured import Route, Routes
from restante_gateways.relay.routes import (
    MAX_HOPS,
    BadLiteral,
    Hop,
    NoServer,
    NotAllowed,
    Ourselves,
    Router,
    is_public,
)
from tests.harness.dns_server import DnsServer, dns_server

ZONE = """
example.net       MX    10 mx.example.net.
example.net       MX    20 inner.example.net.
mx.example.net    A     8.8.8.8
inner.example.net A     10.0.0.1
inner.example     MX    10 inner.example.net.
local.example     A     127.0.0.1
ghost.example     MX    10 gone.example.
half.example      MX    10 broken.example.
half.example      MX    20 mx.example.net.
broken.example    A     8.8.4.4
quiet.example     MX    0 .
text.example      TXT   "x"
ring.example      MX    10 mx.example.net.
ring.example      MX    20 twin.example.
ring.example      MX    20 us.example.
ring.example      MX    30 far.example.
twin.example      A     8.8.4.4
us.example        A     127.0.0.9
far.example       A     8.8.4.5
home.example      A     127.0.0.9
six.example       AAAA  2001:4860:4860::8888
six.example       A     8.8.8.8
smart.example     A     10.0.0.2
"""


NOBODY = Ourselves()


@pytest.fixture
async def server() -> AsyncIterator[DnsServer]:
    async with dns_server(ZONE) as server:
        yield server


def router(server: DnsServer, *allow: str, ours: Ourselves = NOBODY, **routes: str) -> Router:
    named = {name.replace("_", "."): where for name, where in routes.items()}
    return Router(Resolver([server.address], ["mx.example.test"]), Routes(named, {}, 25), allow, 25, ours)


async def hops(router: Router, destination: str) -> list[Hop]:
    return [hop async for hop in router.hops(destination)]


async def test_servers_that_may_not_be_talked_to_are_passed_over(server: DnsServer) -> None:
    assert await hops(router(server), "example.net") == [Hop("mx.example.net", "8.8.8.8", 25)]


@pytest.mark.parametrize(
    "destination", ["inner.example", "local.example", "[127.0.0.1]", "[IPv6:::1]", "[ipv6:fe80::1]"]
)
async def test_private_destinations_are_refused(server: DnsServer, destination: str) -> None:
    with pytest.raises(NotAllowed):
        await hops(router(server), destination)


async def test_private_destinations_are_allowed_by_network(server: DnsServer) -> None:
    allowing = router(server, "10.0.0.0/8", "127.0.0.1/32", "::1/128")
    assert [hop.address for hop in await hops(allowing, "example.net")] == ["8.8.8.8", "10.0.0.1"]
    assert await hops(allowing, "[127.0.0.1]") == [Hop("[127.0.0.1]", "127.0.0.1", 25)]
    assert await hops(allowing, "[IPv6:::1]") == [Hop("[IPv6:::1]", "::1", 25)]


async def test_a_route_goes_before_the_dns_and_names_any_address(server: DnsServer) -> None:
    routed = router(server, example_net="127.0.0.1:2525", other_example="smart.example")
    assert await hops(routed, "Example.NET") == [Hop("127.0.0.1", "127.0.0.1", 2525, configured=True)]
    assert await hops(routed, "other.example") == [Hop("smart.example", "10.0.0.2", 25, configured=True)]
    assert ("example.net", "MX") not in server.asked
    everything = Router(Resolver([server.address], []), Routes({"*": "smart.example:587"}, {}, 25), [], 25)
    assert await hops(everything, "whatever.example") == [Hop("smart.example", "10.0.0.2", 587, configured=True)]


async def test_a_route_without_address_is_tried_later(server: DnsServer) -> None:
    with pytest.raises(LookupFailed):
        await hops(router(server, example_net="gone.example"), "example.net")


@pytest.mark.parametrize(
    ("destination", "error"),
    [
        ("nowhere.example", NoSuchDomain),  # RFC 5321 5.1
        ("text.example", NoSuchDomain),
        ("quiet.example", TakesNoMail),
        ("ghost.example", NoServer),  # RFC 5321 5.1: MX records of which none is usable are an error
        ("[127.0.0]", BadLiteral),
        ("[x-tag:abc]", BadLiteral),
        ("[::1]", BadLiteral),
        ("[IPv6:127.0.0.1]", BadLiteral),
    ],
)
async def test_what_cannot_be_reached_says_why(server: DnsServer, destination: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        await hops(router(server), destination)


async def test_one_host_whose_name_fails_leaves_the_others_and_a_later_attempt(server: DnsServer) -> None:
    server.servfail.add("broken.example")
    found = router(server).hops("half.example")
    assert (await anext(found)).host == "mx.example.net"
    with pytest.raises(LookupFailed):
        await anext(found)


async def test_ourselves_by_address_ends_the_list(server: DnsServer) -> None:  # RFC 5321 5.1
    ours = Ourselves((("127.0.0.9", 25),))
    found = await hops(router(server, "127.0.0.0/8", ours=ours), "ring.example")
    assert [hop.host for hop in found] == ["mx.example.net"]
    for destination in ("home.example", "[127.0.0.9]"):
        with pytest.raises(LoopsBack):
            await hops(router(server, "127.0.0.0/8", ours=ours), destination)
    another_port = Ourselves((("127.0.0.9", 2525),))
    assert await hops(router(server, "127.0.0.0/8", ours=another_port), "home.example")


def test_a_listener_on_all_addresses_is_every_address_of_this_machine() -> None:
    everywhere = Ourselves((("", 25),))
    assert Hop("x", "127.0.0.1", 25) in everywhere
    assert Hop("x", "127.0.0.1", 26) not in everywhere
    assert Hop("x", "8.8.8.8", 25) not in everywhere
    assert Hop("x", "127.0.0.1", 25) not in Ourselves()


async def test_both_families_are_tried(server: DnsServer) -> None:
    found = await hops(router(server), "six.example")
    assert [hop.address for hop in found] == ["2001:4860:4860::8888", "8.8.8.8"]


async def test_an_attempt_tries_a_bounded_number_of_addresses(server: DnsServer) -> None:
    lines = [f"many.example MX {number} mx{number}.many.example." for number in range(20)]
    lines += [f"mx{number}.many.example A 8.8.{number}.{item}" for number in range(20) for item in range(1, 5)]
    server.load("\n".join(lines))
    assert len(await hops(router(server), "many.example")) == MAX_HOPS


@pytest.mark.parametrize(
    "address",
    "127.0.0.1 10.1.2.3 172.16.0.1 192.168.0.1 169.254.1.1 100.64.0.1 0.0.0.0 224.0.0.1 240.0.0.1 255.255.255.255 "
    "::1 :: fe80::1 fc00::1 fec0::1 ff02::1 ::ffff:127.0.0.1 ::7f00:1 64:ff9b::7f00:1 2002:7f00:1:: 2002:a00:1::1 "
    "2001:db8::1 192.0.2.1".split(),
)
def test_addresses_that_are_not_of_the_open_internet(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", "8.8.8.8 1.1.1.1 2001:4860:4860::8888 64:ff9b::808:808 ::ffff:8.8.8.8".split())
def test_addresses_of_the_open_internet(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("mx.example.net", "mx.example.net", 25),
        ("mx.example.net:2525", "mx.example.net", 2525),
        ("127.0.0.1:2525", "127.0.0.1", 2525),
        ("::1", "::1", 25),
        ("[::1]:2525", "::1", 2525),
        ("[::1]", "::1", 25),
    ],
)
def test_routes_are_hosts_with_or_without_port(text: str, host: str, port: int) -> None:
    assert Route.parse(text, 25) == Route(host, port)


@pytest.mark.parametrize("text", ["", ":25", "host:x", "host:0", "host:70000", "[::1", "[host]:25"])
def test_what_is_no_route_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        Route.parse(text, 25)


def test_hops_are_named_for_people() -> None:
    assert str(Hop("mx.example.net", "192.0.2.1", 25)) == "mx.example.net [192.0.2.1]"
    assert str(Hop("[192.0.2.1]", "192.0.2.1", 25)) == "[192.0.2.1]"
