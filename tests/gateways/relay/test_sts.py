"""MTA-STS policies: fetched from real web servers, hostile ones included, and kept."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from restante_gateways.net.resolver import Resolver
from restante_gateways.relay.routes import is_public
from restante_gateways.relay.tls.fetch import Fetcher, FetchFailed
from restante_gateways.relay.tls.https import Bounds, Https
from restante_gateways.relay.tls.policies import ABSENT_SECONDS, AGAIN_SECONDS, StsPolicies
from restante_gateways.relay.tls.security import verified_context
from restante_gateways.relay.tls.sessions import Sessions
from restante_mail.authentication.mta_sts import MAX_POLICY_OCTETS, Mode, StsPolicy, parse_policy
from restante_mail.authentication.tls_result import TlsResult
from tests.harness.certificates import Authority
from tests.harness.dns_server import DnsServer, dns_server
from tests.harness.outbound_queue import OutboundQueue
from tests.harness.policy_server import PolicyServer, chunked, policy_server, response

TEXT = b"version: STSv1\r\nmode: enforce\r\nmx: mx.example.net\r\nmax_age: 1000\r\n"
POLICY = parse_policy(TEXT)
NAME = "mta-sts.example.net"
ZONE = f"{NAME} A 127.0.0.1\n"
RECORD = '_mta-sts.example.net TXT "v=STSv1; id={};"\n'
FETCH, INVALID, WEBPKI = (
    TlsResult.STS_POLICY_FETCH_ERROR,
    TlsResult.STS_POLICY_INVALID,
    TlsResult.STS_WEBPKI_INVALID,
)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def zone() -> AsyncIterator[DnsServer]:
    async with dns_server(ZONE + RECORD.format(1)) as server:
        yield server


@pytest.fixture
async def web(authority: Authority) -> AsyncIterator[PolicyServer]:
    async with policy_server(authority.issue(NAME, with_root=False).server()) as server:
        server.answer = response(TEXT)
        yield server


def fetcher(zone: DnsServer, port: int, authority: Authority, *, private: bool = True) -> Fetcher:
    bounds = Bounds(seconds=0.7, connect_seconds=0.3)
    resolver = Resolver([zone.address], [], lookup_seconds=1.0)
    allowed = (lambda address: True) if private else is_public
    return Fetcher(Https(resolver, allowed, verified_context(str(authority.pem)), bounds), port)


async def test_a_policy_is_fetched(zone: DnsServer, web: PolicyServer, authority: Authority) -> None:  # RFC 8461 3.3
    for answer in (
        response(TEXT, kind="Text/Plain; charset=utf-8"),
        [*chunked(TEXT[:10], TEXT[10:]), b"0\r\n\r\n"],
        [b"HTTP/1.1 103 Early Hints\r\n\r\n", *response(TEXT)],
        [b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n", TEXT],
    ):
        web.answer = answer
        assert await fetcher(zone, web.port, authority).fetch("example.net") == POLICY
    request = web.requests[0]
    assert request.startswith(b"GET /.well-known/mta-sts.txt HTTP/1.1\r\n")
    assert f"host: {NAME}".encode() in request.lower()


@pytest.mark.parametrize(
    ("answer", "result", "reason"),
    [
        (response(b"", status="301 Moved", headers=("Location: https://mta-sts.example.net/x",)), FETCH, "status 301"),
        (response(b"", status="304 Not Modified"), FETCH, "status 304"),
        (response(b"gone", status="404 Not Found"), FETCH, "status 404"),
        (response(TEXT, kind="text/html"), FETCH, "text/plain"),
        (response(TEXT, kind="text/plainer"), FETCH, "text/plain"),
        (response(TEXT, kind=""), FETCH, "text/plain"),
        (response(b"x" * (MAX_POLICY_OCTETS + 1)), FETCH, "octets"),
        (chunked(*[b"x" * 8_000] * 50), FETCH, "octets"),
        ([b"".join(chunked(*[b"x"] * 40_000))], FETCH, "too long"),
        ([b"HTTP/1.1 200 OK\r\n", *[b"X-Header: y\r\n"] * 20_000], FETCH, "not HTTP"),
        ([b"HTTP/1.1 103 Early\r\n\r\n" * 10_000], FETCH, "too long"),
        ([b"220 mail.example ESMTP\r\n"], FETCH, "not HTTP"),
        ([response(TEXT)[0], TEXT[:20]], FETCH, "closed|not HTTP"),
        ([], FETCH, "closed|not HTTP"),
        (response(b"<html>"), INVALID, "malformed"),
        (response(TEXT.replace(b"enforce", b"strict")), INVALID, "mode"),
    ],
)
async def test_a_hostile_answer_is_a_failure(
    zone: DnsServer, web: PolicyServer, authority: Authority, answer: list[bytes], result: TlsResult, reason: str
) -> None:
    web.answer = answer
    with pytest.raises(FetchFailed, match=reason) as caught:
        await fetcher(zone, web.port, authority).fetch("example.net")
    assert caught.value.result is result


@pytest.mark.parametrize("pause_seconds", [0.0, 0.1])
async def test_a_slow_answer_ends_in_time(
    zone: DnsServer, web: PolicyServer, authority: Authority, pause_seconds: float
) -> None:
    web.answer, web.hangs, web.pause_seconds = [bytes([octet]) for octet in response(TEXT)[0]], True, pause_seconds
    if not pause_seconds:
        web.answer = []
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(FetchFailed, match=r"no whole answer of .* within"):
        await fetcher(zone, web.port, authority).fetch("example.net")
    assert loop.time() - began < 2


@pytest.mark.parametrize(
    ("names", "days", "trusted"), [(("example.net",), 90, True), ((NAME,), -1, True), ((NAME,), 90, False)]
)
async def test_the_certificate_of_the_web_server_is_verified(
    zone: DnsServer, authority: Authority, tmp_path: Path, names: tuple[str, ...], days: int, trusted: bool
) -> None:
    (tmp_path / "other").mkdir()
    issued = (authority if trusted else Authority(tmp_path / "other")).issue(*names, days=days)
    async with policy_server(issued.server()) as web:
        with pytest.raises(FetchFailed) as caught:
            await fetcher(zone, web.port, authority).fetch("example.net")
        assert caught.value.result is WEBPKI and not web.requests


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1"])
async def test_private_addresses_are_refused(
    zone: DnsServer, web: PolicyServer, authority: Authority, address: str
) -> None:
    zone.load(f"{NAME} A {address}")
    with pytest.raises(FetchFailed, match="private"):
        await fetcher(zone, web.port, authority, private=False).fetch("example.net")
    assert not web.requests


async def test_no_web_server(zone: DnsServer, web: PolicyServer, authority: Authority) -> None:
    for domain in ("nowhere.example", "x" * 63 + ".example", "a" * 250 + ".example"):
        with pytest.raises(FetchFailed, match="no address"):
            await fetcher(zone, web.port, authority).fetch(domain)
    zone.servfail.add(NAME)
    with pytest.raises(FetchFailed, match="could not resolve"):
        await fetcher(zone, web.port, authority).fetch("example.net")
    zone.servfail.clear()
    with pytest.raises(FetchFailed, match="connect"):
        await fetcher(zone, 1, authority).fetch("example.net")
    async with dns_server() as plain:  # a port that does not speak TLS
        with pytest.raises(FetchFailed):
            await fetcher(zone, plain.port, authority).fetch("example.net")


class Clock:
    """A clock that a test advances."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Fresh:
    """The records of a zone, asked for anew each time."""

    def __init__(self, zone: DnsServer) -> None:
        self._zone = zone

    async def txt(self, name: str) -> list[bytes]:
        return await Resolver([self._zone.address], [], lookup_seconds=1.0).txt(name)


class Cache:
    """The policies under test, with their surroundings."""

    def __init__(self, zone: DnsServer, web: PolicyServer, authority: Authority, core: OutboundQueue) -> None:
        self.zone, self.web, self.authority, self.core = zone, web, authority, core
        self.clock, self.sessions = Clock(), Sessions()
        core.clock = self.clock
        self.begin()

    def begin(self) -> None:
        """A relay that has just been started."""
        self.policies = StsPolicies(
            Fresh(self.zone),
            fetcher(self.zone, self.web.port, self.authority),
            self.core,
            self.sessions,
            clock=self.clock,
        )

    def publish(self, record_id: int | None, text: bytes = TEXT) -> None:
        """Change the record and the file."""
        self.zone.load(ZONE + (RECORD.format(record_id) if record_id is not None else ""))
        self.web.answer = response(text)

    async def of(self) -> StsPolicy | None:
        return await self.policies.of("example.net")

    def failures(self) -> Counter[TlsResult | None]:
        return Counter({kind.result: count for kind, count in self.sessions.taken().items()})


@pytest.fixture
def cache(zone: DnsServer, web: PolicyServer, authority: Authority) -> Cache:
    return Cache(zone, web, authority, OutboundQueue())


OTHER = TEXT.replace(b"mx.example.net", b"other.example.net")


async def test_a_policy_is_fetched_once_for_an_id(cache: Cache) -> None:
    assert await asyncio.gather(*(cache.of() for _ in range(10))) == [POLICY] * 10
    assert await cache.of() == POLICY
    assert len(cache.web.requests) == 1
    cache.publish(2, OTHER)
    assert await cache.of() == parse_policy(OTHER)
    assert len(cache.web.requests) == 2


async def test_a_policy_outlives_its_record_and_its_web_server(cache: Cache) -> None:  # RFC 8461 3.1, 5.1, 10.2
    assert await cache.of() == POLICY
    cache.publish(None)
    assert await cache.of() == POLICY
    cache.zone.servfail.add("_mta-sts.example.net")
    assert await cache.of() == POLICY
    cache.zone.servfail.clear()
    cache.publish(2)
    cache.web.answer = response(b"gone", status="404 Not Found")
    assert await cache.of() == POLICY
    assert cache.failures() == Counter({TlsResult.STS_POLICY_FETCH_ERROR: 1})
    assert await cache.of() == POLICY and len(cache.web.requests) == 2  # the failed fetch is not repeated at once
    cache.clock.now += AGAIN_SECONDS
    assert await cache.of() == POLICY and len(cache.web.requests) == 3
    cache.clock.now += 1_000
    assert await cache.of() is None  # expired


async def test_a_policy_outlives_the_relay(cache: Cache) -> None:
    assert await cache.of() == POLICY
    cache.begin()
    cache.publish(None)
    assert await cache.of() == POLICY
    assert len(cache.web.requests) == 1
    cache.clock.now += 1_001
    cache.begin()
    cache.publish(None)
    assert await cache.of() is None


async def test_a_domain_without_a_policy_is_asked_rarely(cache: Cache) -> None:
    cache.publish(None)
    for _ in range(3):
        assert await cache.of() is None
    assert cache.zone.asked.count(("_mta-sts.example.net", "TXT")) == 1
    cache.publish(1)
    assert await cache.of() is None
    cache.clock.now += ABSENT_SECONDS
    assert await cache.of() == POLICY


async def test_a_first_fetch_that_fails_leaves_no_policy(cache: Cache) -> None:
    cache.web.answer = response(b"x")
    assert await cache.of() is None and await cache.of() is None
    assert cache.failures() == Counter({TlsResult.STS_POLICY_INVALID: 1})
    assert len(cache.web.requests) == 1
    cache.web.answer = response(TEXT)
    cache.clock.now += AGAIN_SECONDS
    assert await cache.of() == POLICY


async def test_mode_none_ends_a_policy(cache: Cache) -> None:  # RFC 8461 8.3
    assert await cache.of() == POLICY
    cache.publish(2, TEXT.replace(b"enforce", b"none"))
    assert await cache.of() is None
    cache.publish(3, TEXT.replace(b"enforce", b"testing"))
    found = await cache.of()
    assert found is not None and found.mode is Mode.TESTING


async def test_policies_are_refreshed_before_they_expire(cache: Cache) -> None:  # RFC 8461 3.3
    assert await cache.of() == POLICY
    await cache.policies.refresh_now()
    assert len(cache.web.requests) == 1
    cache.clock.now += 501  # half of max_age
    await cache.policies.refresh_now()
    assert len(cache.web.requests) == 2
    cache.clock.now += 501
    cache.web.answer = response(b"", status="500 Broken")
    await cache.policies.refresh_now()
    await cache.policies.refresh_now()
    assert len(cache.web.requests) == 3 and await cache.of() == POLICY
    cache.clock.now += 500
    await cache.policies.refresh_now()
    cache.publish(None)
    assert await cache.of() is None
