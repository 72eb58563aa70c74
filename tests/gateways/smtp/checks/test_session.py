"""The checks of whole conversations, over a DNS server with zones of many domains."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from restante_gateways.smtp.checks.client import DnsList
from restante_gateways.smtp.checks.settings import CheckSettings
from restante_mail.authentication.arc.seal import seal
from restante_mail.authentication.dkim.sign import sign
from restante_mail.authentication.dkim.signing_keys import generate_key, public_record
from restante_mail.authentication.results import Checks, Identity, Policy, Result
from restante_process.addresses import parse_networks
from tests.gateways.smtp.conftest import Client, Gateway, MakeGateway
from tests.harness.dns_server import DnsServer, dns_server

CLIENT = "192.0.2.1"
KEY = generate_key("example.com", "ed", "ed25519-sha256")
ZONE = f"""
1.2.0.192.in-addr.arpa      PTR  mx.example.com.
mx.example.com              A    {CLIENT}
mx.example.com              TXT  "v=spf1 a -all"
example.com                 TXT  "v=spf1 include:spf.example.com -all"
spf.example.com             TXT  "v=spf1 mx:example.com ?all"
example.com                 MX   10 mx.example.com.
_dmarc.example.com          TXT  "v=DMARC1; p=reject; rua=mailto:r@example.com,mailto:v@victim.example"
ed._domainkey.example.com   TXT  "{public_record(KEY)}"
bank.example                TXT  "v=spf1 ip4:198.51.100.0/24 -all exp=why.bank.example"
why.bank.example            TXT  "%{{i}} is not a server of %{{d}}"
_dmarc.bank.example         TXT  "v=DMARC1; p=quarantine"
1.2.0.192.bad.example       A    127.0.0.2
1.2.0.192.refusing.example  A    127.255.255.254
1.2.0.192.lying.example     A    203.0.113.1
8.b.d.0.1.0.0.2.bad.example A    127.0.0.3
"""
LISTS = (
    DnsList("bad.example", 3.0),
    DnsList("good.example", -1.0),
    DnsList("refusing.example"),
    DnsList("lying.example"),
)
MESSAGE = b"From: Ann <ann@example.com>\r\nTo: alice@example.test\r\nSubject: hello\r\n\r\nHi.\r\n"


def settings(
    server: DnsServer,
    *,
    seconds: float = 5.0,
    exempt: tuple[str, ...] = (),
    dns_lists: bool = True,
    failure_domains: tuple[str, ...] = (),
) -> CheckSettings:
    return CheckSettings(
        "mx.example.test",
        dns_lists=LISTS if dns_lists else (),
        nameservers=(server.address,),
        seconds=seconds,
        exempt=parse_networks(exempt),
        failure_domains=frozenset(failure_domains),
    )


@contextlib.asynccontextmanager
async def checking(
    make_gateway: MakeGateway, zone: str = ZONE, seconds: float = 5.0, failure_domains: tuple[str, ...] = ()
) -> AsyncIterator[tuple[Gateway, DnsServer]]:
    async with (
        dns_server(zone) as server,
        make_gateway(
            checks=settings(server, seconds=seconds, failure_domains=failure_domains), max_message_octets=10 << 20
        ) as gateway,
    ):
        yield gateway, server


async def connect(gateway: Gateway, address: str = CLIENT, helo: str = "mx.example.com") -> Client:
    """A client with this address."""
    client = await gateway.connect("proxied", greet=False)
    family = "TCP6" if ":" in address else "TCP4"
    await client.send(f"PROXY {family} {address} {address} 40000 25\r\n".encode())
    assert (await client.reply()).startswith("220 ")
    assert (await client.ask(f"EHLO {helo}")).startswith("250")
    return client


async def send(gateway: Gateway, client: Client, content: bytes, sender: str = "ann@example.com") -> Checks | None:
    """The results for a message that the client sends."""
    assert (await client.ask(f"MAIL FROM:<{sender}>")).startswith("250")
    assert (await client.ask("RCPT TO:<alice@example.test>")).startswith("250")
    assert (await client.ask("DATA")).startswith("354")
    await client.send(content + b".\r\n")
    assert (await client.reply(30.0)).startswith("250")
    return gateway.core.accepted[-1].checks


async def test_an_authentic_message_passes_all_checks(make_gateway: MakeGateway) -> None:
    content = sign(MESSAGE, [KEY], datetime.now(UTC)) + MESSAGE
    content = seal(content, KEY, datetime.now(UTC), Result.NONE, "list.example.com; spf=pass") + content
    async with checking(make_gateway) as (gateway, _):
        found = await send(gateway, await connect(gateway), content)
        registry = gateway.runtime.metrics.registry
    for check in ("spf-helo", "spf-mailfrom", "dkim", "arc", "dmarc", "reverse-dns"):
        labels = {"check": check, "result": "pass"}
        assert registry.get_sample_value("restante_smtp_check_results_total", labels) == 1.0
    assert registry.get_sample_value("restante_smtp_check_wait_seconds_count") == 1.0
    assert found is not None
    assert found.arc is not None
    assert (found.arc.result, found.arc.sealers) == (Result.PASS, ("example.com",))
    assert [(one.result, one.identity, one.domain) for one in found.spf] == [
        (Result.PASS, Identity.HELO, "mx.example.com"),
        (Result.PASS, Identity.MAILFROM, "example.com"),
    ]
    assert [(one.result, one.domain, one.selector) for one in found.dkim] == [(Result.PASS, "example.com", "ed")]
    assert found.dmarc is not None
    assert (found.dmarc.result, found.dmarc.spf_aligned, found.dmarc.dkim_aligned) == (Result.PASS, True, True)
    assert found.dmarc.report_to == ("r@example.com",)
    assert found.reverse_dns is not None
    assert (found.reverse_dns.result, found.reverse_dns.name) == (Result.PASS, "mx.example.com")
    assert [(one.zone, one.listed, one.weight, bool(one.problem)) for one in found.dns_lists] == [
        ("bad.example", True, 3.0, False),
        ("good.example", False, 0.0, False),
        ("refusing.example", False, 0.0, True),
        ("lying.example", False, 0.0, True),
    ]


async def test_a_forged_message_fails(make_gateway: MakeGateway) -> None:
    content = sign(MESSAGE, [KEY], datetime.now(UTC)) + MESSAGE.replace(b"ann@example.com", b"ceo@bank.example")
    async with checking(make_gateway) as (gateway, _):
        found = await send(gateway, await connect(gateway, "203.0.113.9", "h.example"), content, "ceo@bank.example")
    assert found is not None
    assert [one.result for one in found.spf] == [Result.NONE, Result.FAIL]
    assert found.spf[1].explanation == "203.0.113.9 is not a server of bank.example"
    assert [one.result for one in found.dkim] == [Result.FAIL]
    assert found.dmarc is not None
    assert (found.dmarc.result, found.dmarc.policy) == (Result.FAIL, Policy.QUARANTINE)
    assert found.reverse_dns is not None
    assert found.reverse_dns.result is Result.PERMERROR


async def test_an_ipv6_client_and_a_null_path(make_gateway: MakeGateway) -> None:
    async with checking(make_gateway) as (gateway, server):
        found = await send(gateway, await connect(gateway, "2001:db8::1"), MESSAGE, "")
        assert ("1." + "0." * 23 + "8.b.d.0.1.0.0.2.bad.example", "A") in server.asked
    assert found is not None
    assert [(one.result, one.identity) for one in found.spf] == [(Result.FAIL, Identity.HELO)]


async def test_a_large_message_is_hashed_on_threads(make_gateway: MakeGateway) -> None:
    content = MESSAGE + b"0123456789 abcdefghijklmnopqrstuvwxyz\r\n" * 40_000
    content = sign(content, [KEY], datetime.now(UTC)) + content
    async with checking(make_gateway) as (gateway, _):
        client = await connect(gateway)
        for _ in range(2):
            found = await send(gateway, client, content)
            assert found is not None
            assert [one.result for one in found.dkim] == [Result.PASS]


async def test_name_servers_that_do_not_answer_delay_nothing_but_the_end(make_gateway: MakeGateway) -> None:
    content = sign(MESSAGE, [KEY], datetime.now(UTC)) + MESSAGE
    content = seal(content, KEY, datetime.now(UTC), Result.NONE, "list.example.com; spf=pass") + content
    async with checking(make_gateway, seconds=0.5) as (gateway, server):
        server.delay_seconds = 60.0
        clock = asyncio.get_running_loop().time
        started = clock()
        client = await connect(gateway)
        assert clock() - started < 0.4  # the greeting and EHLO wait for no check
        found = await send(gateway, client, content)
        assert clock() - started < 3.0
    assert found is not None
    assert [one.result for one in found.spf] == [Result.TEMPERROR, Result.TEMPERROR]
    assert [one.result for one in found.dkim] == [Result.TEMPERROR]
    assert found.arc is not None
    assert found.arc.result is Result.TEMPERROR
    assert found.dmarc is not None
    assert found.dmarc.result is Result.TEMPERROR
    assert found.reverse_dns is not None
    assert found.reverse_dns.result is Result.TEMPERROR
    assert all(one.problem and not one.listed for one in found.dns_lists)


async def test_a_hostile_zone_costs_bounded_questions(make_gateway: MakeGateway) -> None:
    includes = " ".join(f'"include:i{number}.evil.example "' for number in range(30))
    zone = [f'evil.example TXT "v=spf1 " {includes}']
    zone += [f'i{number}.evil.example TXT "v=spf1 mx:m.evil.example -all"' for number in range(30)]
    zone += [f"m.evil.example MX {number} h{number}.evil.example." for number in range(60)]
    zone += ['_dmarc.evil.example TXT "v=DMARC1; p=none' + ";x=1" * 50 + '"']
    names = ",".join(f"a@{'x.' * 40}d{number}.evil.example" for number in range(4))
    async with checking(make_gateway, "\n".join(zone)) as (gateway, server):
        found = await send(gateway, await connect(gateway), f"From: {names}\r\n\r\n".encode(), "a@evil.example")
        assert len(server.asked) < 100
    assert found is not None
    assert [one.result for one in found.spf] == [Result.NONE, Result.PERMERROR]


async def test_a_thousand_signatures_and_a_chain_of_a_hundred_are_answered_beside_other_mail(
    make_gateway: MakeGateway,
) -> None:
    now, sets = datetime.now(UTC), b""
    signed = sign(MESSAGE, [KEY], now) * 1_000
    for number in range(100, 0, -1):
        one = seal(MESSAGE, KEY, now, Result.NONE, "list.example.com; spf=pass")
        sets += one.replace(b"i=1;", b"i=%d;" % number).replace(b"cv=none", b"cv=pass" if number > 1 else b"cv=none")
    clock = asyncio.get_running_loop().time
    async with checking(make_gateway) as (gateway, server):
        hostile, usual = await connect(gateway), await connect(gateway)
        task = asyncio.create_task(send(gateway, hostile, sets + signed + MESSAGE))
        while not task.done():
            began = clock()
            assert (await usual.ask("NOOP")).startswith("250")
            assert clock() - began < 0.5  # on a busy machine; usually 10 ms
        found = await task
        assert len(server.asked) < 20
    assert found is not None and found.arc is not None
    assert [one.result for one in found.dkim] == [Result.PASS] * 10 + [Result.POLICY]
    assert found.arc.result is Result.FAIL


async def test_clients_that_are_exempt_and_users_are_not_checked(make_gateway: MakeGateway) -> None:
    async with (
        dns_server(ZONE) as server,
        make_gateway(checks=settings(server, exempt=("127.0.0.0/8", "10.0.0.0/8"))) as gateway,
    ):
        client = await gateway.connect("mx")
        await client.ask("EHLO mx.example.com")
        assert await send(gateway, client, MESSAGE) is None
        assert await send(gateway, await connect(gateway, "10.1.2.3"), MESSAGE) is None
        assert await send(gateway, await gateway.logged_in(), MESSAGE, "alice@example.test") is None
        assert server.asked == []


async def test_checks_end_with_their_connection(make_gateway: MakeGateway) -> None:
    async with checking(make_gateway, seconds=60.0) as (gateway, server):
        server.delay_seconds = 60.0
        before = asyncio.all_tasks()
        client = await connect(gateway)
        for _ in range(3):
            await client.ask("MAIL FROM:<ann@example.com>")
            await client.ask("RSET")
        await client.close()
        await asyncio.sleep(0.2)
        left = {task.get_coro().__qualname__ for task in asyncio.all_tasks() - before}  # type: ignore[union-attr]
        assert not {name for name in left if "Checks" in name or name == "_ask"}


@pytest.mark.parametrize("off", ["spf", "dkim", "arc", "dmarc", "reverse_dns"])
async def test_a_check_that_is_off_is_not_made(make_gateway: MakeGateway, off: str) -> None:
    content = sign(MESSAGE, [KEY], datetime.now(UTC)) + MESSAGE
    async with dns_server(ZONE) as server:
        every = CheckSettings("mx.example.test", nameservers=(server.address,), dmarc=off == "reverse_dns")
        changes: dict[str, Any] = {off: False}
        checks = dataclasses.replace(every, **changes)
        async with make_gateway(checks=checks) as gateway:
            found = await send(gateway, await connect(gateway), content)
    assert found is not None
    assert not getattr(found, off)
    assert found.spf or found.dkim


async def test_keys_and_policies_are_looked_up_while_the_body_comes(make_gateway: MakeGateway) -> None:
    content = sign(MESSAGE, [KEY], datetime.now(UTC)) + MESSAGE
    wanted = {("ed._domainkey.example.com", "TXT"), ("_dmarc.example.com", "TXT"), ("example.com", "TXT")}
    async with checking(make_gateway) as (gateway, server):
        client = await connect(gateway)
        for line in ("MAIL FROM:<ann@example.com>", "RCPT TO:<alice@example.test>", "DATA"):
            await client.ask(line)
        await client.send(content[:-4])
        await asyncio.sleep(0.2)
        assert wanted <= set(server.asked)
        await client.send(content[-4:] + b".\r\n")
        assert (await client.reply()).startswith("250")
        assert all(server.asked.count(each) == 1 for each in wanted)


FAILURES = """
_dmarc.bank.example  TXT  "v=DMARC1; p=none; fo=1:d; ruf=mailto:f@bank.example,mailto:f@desk.example"
bank.example         TXT  "v=spf1 ip4:198.51.100.0/24 -all"
bank.example._report._dmarc.desk.example  TXT  "v=DMARC1"
_dmarc.sole.example  TXT  "v=DMARC1; p=none; ruf=mailto:f@victim.example"
_dmarc.example       TXT  "v=DMARC1; p=none; psd=y; ruf=mailto:f@nic.example"
"""


async def failures_to(
    make_gateway: MakeGateway, author: str, failure_domains: tuple[str, ...], client: str = CLIENT
) -> tuple[Checks, DnsServer]:
    content = MESSAGE.replace(b"ann@example.com", author.encode())
    async with checking(make_gateway, FAILURES, failure_domains=failure_domains) as (gateway, server):
        found = await send(gateway, await connect(gateway, client), content, author)
    assert found is not None
    return found, server


@pytest.mark.parametrize("domains", [("*",), ("bank.example",)])
async def test_addresses_that_want_failure_reports_are_found(
    make_gateway: MakeGateway, domains: tuple[str, ...]
) -> None:
    found, _ = await failures_to(make_gateway, "ceo@bank.example", domains)
    assert found.dmarc is not None and found.dmarc.failures_to == ("f@bank.example", "f@desk.example")
    assert [one.record for one in found.spf] == ["", "v=spf1 ip4:198.51.100.0/24 -all"]


async def test_half_a_failure_is_reported_where_the_domain_says_so(make_gateway: MakeGateway) -> None:
    found, _ = await failures_to(make_gateway, "ceo@bank.example", ("*",), "198.51.100.7")
    assert found.dmarc is not None and found.dmarc.result is Result.PASS
    assert found.dmarc.failures_to == ("f@bank.example", "f@desk.example")


@pytest.mark.parametrize(
    ("author", "domains"),
    [
        ("ceo@bank.example", ()),  # off
        ("ceo@bank.example", ("other.example",)),
        ("ceo@sole.example", ("*",)),  # without consent
        ("ceo@none.example", ("*",)),  # RFC 9991 2: the record of a public suffix
    ],
)
async def test_nobody_else_gets_failure_reports(
    make_gateway: MakeGateway, author: str, domains: tuple[str, ...]
) -> None:
    found, server = await failures_to(make_gateway, author, domains)
    assert found.dmarc is not None and found.dmarc.failures_to == ()
    if not domains:
        assert not any("_report" in name for name, _ in server.asked)
