"""The DNS of the checks over a real server: all types, failures, lying answers, and the bounds of the cache."""

from __future__ import annotations

import asyncio
import contextlib
from ipaddress import ip_address

import pytest

from restante_gateways.net import dns_answers
from restante_gateways.net.dns_answers import MAX_RECORDS, DnsAnswers, Questions
from restante_mail.authentication.dns import DnsFailure
from tests.harness.dns_server import DnsServer, dns_server

ZONE = """
example.net       TXT    "v=spf1 " "-all"
example.net       TXT    "other"
example.net       MX     20 mx2.example.net.
example.net       MX     10 MX1.example.net.
mx1.example.net   A      192.0.2.1
mx1.example.net   AAAA   2001:db8::1
www.example.net   CNAME  mx1.example.net.
quiet.example     MX     0 .
1.2.0.192.in-addr.arpa  PTR  mx1.example.net.
1.2.0.192.in-addr.arpa  PTR  bad\\032name.example.net.
a.loop.example    CNAME  b.loop.example.
b.loop.example    CNAME  a.loop.example.
"""


def answers(server: DnsServer, seconds: float = 1.0) -> Questions:
    answers = DnsAnswers([server.address], lookup_seconds=seconds)
    return answers.until(asyncio.get_running_loop().time() + 60.0)


async def test_all_types_of_records() -> None:
    async with dns_server(ZONE) as server:
        dns = answers(server)
        assert sorted(await dns.txt("Example.NET.")) == [b"other", b"v=spf1 -all"]
        assert await dns.mail_servers("example.net") == ("mx1.example.net", "mx2.example.net")
        assert await dns.mail_servers("quiet.example") == ("",)
        assert await dns.addresses("www.example.net", 4) == (ip_address("192.0.2.1"),)
        assert await dns.addresses("mx1.example.net", 6) == (ip_address("2001:db8::1"),)
        assert await dns.names(ip_address("192.0.2.1")) == ("mx1.example.net",)
        assert await dns.names(ip_address("2001:db8::1")) == ()
        assert await dns.exists("example.net")
        assert not await dns.exists("nothing.example.net")


@pytest.mark.parametrize(
    "name", ["", ".", "a..b", "x" * 64 + ".example", ".".join(["abcdefgh"] * 40), "\u00e4.example"]
)
async def test_what_is_no_name_has_no_records(name: str) -> None:
    async with dns_server(ZONE) as server:
        assert await answers(server).txt(name) == ()
        assert [asked for asked in server.asked if asked[0] not in ("", ".")] == []


async def test_characters_of_a_name_have_no_meaning() -> None:
    async with dns_server("") as server:
        assert await answers(server).addresses("a\\b@c d.example", 4) == ()
        assert len(server.asked) == 1


async def test_no_answer_is_a_failure_in_time_and_is_kept() -> None:
    async with dns_server(ZONE) as server:
        server.silent.add("silent.example")
        server.servfail.add("broken.example")
        dns = answers(server, 0.3)
        started = asyncio.get_running_loop().time()
        for _ in range(3):
            with pytest.raises(DnsFailure, match="did not answer in time"):
                await dns.txt("silent.example")
            with pytest.raises(DnsFailure, match="could not answer"):
                await dns.txt("broken.example")
        assert asyncio.get_running_loop().time() - started < 3.0
        assert server.asked.count(("broken.example", "TXT")) <= 2


async def test_equal_questions_are_asked_once() -> None:
    async with dns_server(ZONE) as server:
        server.delay_seconds = 0.05
        dns = answers(server)
        waiting = [asyncio.create_task(dns.txt("example.net")) for _ in range(50)]
        await asyncio.sleep(0)
        waiting[0].cancel()  # whoever gives up does not end the question of the others
        found = await asyncio.gather(*waiting[1:])
        assert all(len(texts) == 2 for texts in found)
        assert await dns.txt("example.net") == found[0]
        assert server.asked == [("example.net", "TXT")]


async def test_a_kept_answer_ends() -> None:
    async with dns_server(ZONE) as server:
        dns = answers(server)
        await dns.txt("example.net")
        server.load('example.net TXT "new"')
        assert len(await dns.txt("example.net")) == 2
        await asyncio.sleep(1.1)  # the server's time to live is 1 s
        assert await dns.txt("example.net") == (b"new",)


async def test_long_answers_are_cut() -> None:
    zone = [f"many.example A 10.0.{number // 250}.{number % 250}" for number in range(1000)]
    zone += [f'many.example TXT "{number} {"x" * 200}"' for number in range(200)]
    async with dns_server("\n".join(zone)) as server:
        dns = answers(server)
        assert len(await dns.addresses("many.example", 4)) == MAX_RECORDS
        assert len(await dns.txt("many.example")) == MAX_RECORDS
        assert server.over_tcp == 2


async def test_a_chain_of_aliases_without_end_is_a_failure_or_empty() -> None:
    async with dns_server(ZONE) as server:
        dns = answers(server)
        with contextlib.suppress(DnsFailure):
            assert await dns.addresses("a.loop.example", 4) == ()
        assert len(server.asked) <= 3


async def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_answers, "MAX_ANSWERS", 10)
    async with dns_server(ZONE) as server:
        dns = answers(server)
        for number in range(50):
            await dns.txt(f"n{number}.example")
        await dns.txt("n49.example")
        assert len(server.asked) == 50
        await dns.txt("n0.example")
        assert len(server.asked) == 51
        monkeypatch.setattr(dns_answers, "MAX_CACHED_OCTETS", 450)
        await dns.txt("example.net")
        await dns.txt("n49.example")
        assert len(server.asked) == 53


async def test_a_question_ends_at_the_deadline_and_its_answer_is_kept() -> None:
    async with dns_server(ZONE) as server:
        server.delay_seconds = 0.3
        answers, clock = DnsAnswers([server.address]), asyncio.get_running_loop().time
        late = answers.until(clock() + 0.1)
        for _ in range(2):
            with pytest.raises(DnsFailure, match="did not answer in time"):
                await late.txt("example.net")
        assert not late.knows_txt("example.net")
        await asyncio.sleep(0.4)
        assert late.knows_txt("example.net")
        assert len(await late.txt("example.net")) == 2
        assert server.asked == [("example.net", "TXT")]
