"""Name servers whose answers are wrong, endless or slow: each question ends in time, rightly answered or failed.

An answer that does not fit its question is ignored, since anybody may send one.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import cast

import dns.flags
import dns.message
import dns.name
import dns.rdatatype
import dns.rrset
import pytest

from restante_gateways.net.dns_answers import DnsAnswers
from restante_gateways.net.dns_cache import LONGEST_SECONDS, MAX_ANSWER_OCTETS
from restante_gateways.net.resolver import LookupFailed, Resolver
from restante_mail.authentication.dns import DnsFailure
from tests.harness.dns_server import DnsServer, dns_server

LOOKUP_SECONDS = 0.6
NAME, TEXT = "example.net", b"the right answer"

Datagrams = Callable[[dns.message.Message], Iterator[bytes]]
Drip = Callable[[dns.message.Message], bytes]


def right(asked: dns.message.Message, text: bytes = TEXT) -> dns.message.Message:
    response = dns.message.make_response(asked, recursion_available=True)
    quoted = '"' + text.decode() + '"'
    response.answer.append(dns.rrset.from_text(asked.question[0].name, 60, "IN", asked.question[0].rdtype, quoted))
    return response


def wrong_id(asked: dns.message.Message) -> Iterator[bytes]:
    forged = right(asked, b"forged")
    for number in range(1, 20):
        forged.id = (asked.id + number) % 65_536
        yield forged.to_wire()
    yield right(asked).to_wire()


def wrong_question(asked: dns.message.Message) -> Iterator[bytes]:
    other = dns.message.make_query("other.example", asked.question[0].rdtype, id=asked.id)
    yield right(other, b"forged").to_wire()
    yield right(asked).to_wire()


def garbage(asked: dns.message.Message) -> Iterator[bytes]:
    yield b""
    yield b"\0" * 3
    yield struct.pack("!H", asked.id) + b"\xff" * 500
    yield right(asked).to_wire()[:-3]
    yield right(asked).to_wire()


def endless_forgeries(asked: dns.message.Message) -> Iterator[bytes]:
    forged = right(asked, b"forged")
    forged.id = (asked.id + 1) % 65_536
    while True:
        yield forged.to_wire()


def trailing_octets(asked: dns.message.Message) -> Iterator[bytes]:
    yield right(asked).to_wire() + b"more"


def pointer_to_itself(asked: dns.message.Message) -> Iterator[bytes]:
    header = struct.pack("!HHHHHH", asked.id, 0x8180, 1, 1, 0, 0)
    question = asked.question[0].name.to_wire() or b""
    question += struct.pack("!HH", asked.question[0].rdtype, 1)
    at = len(header) + len(question)
    yield header + question + struct.pack("!H", 0xC000 | at) + struct.pack("!HHIH", 16, 1, 60, 1) + b"\0"


def truncated(asked: dns.message.Message) -> Iterator[bytes]:
    response = dns.message.make_response(asked)
    response.flags |= dns.flags.TC
    yield response.to_wire()


class _Liar(asyncio.DatagramProtocol):
    def __init__(self, answers: Datagrams) -> None:
        self._answers = answers
        self._tasks: list[asyncio.Task[None]] = []
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        for task in self._tasks:
            task.cancel()

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self._tasks.append(asyncio.create_task(self._send(dns.message.from_wire(data), address)))

    async def _send(self, asked: dns.message.Message, address: tuple[str, int]) -> None:
        assert self._transport is not None
        for octets in self._answers(asked):
            self._transport.sendto(octets, address)
            await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def liar(answers: Datagrams, drip: Drip | None = None, pause: float = 0.05) -> AsyncIterator[str]:
    """The address of a name server that answers so; by TCP it sends an octet at a time, with pauses."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            asked = dns.message.from_wire(await reader.readexactly(length))
            assert drip is not None
            for octet in drip(asked):
                writer.write(bytes((octet,)))
                await writer.drain()
                await asyncio.sleep(pause)
        writer.transport.abort()

    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    transport, _ = await loop.create_datagram_endpoint(lambda: _Liar(answers), ("127.0.0.1", port))
    try:
        yield f"127.0.0.1:{port}"
    finally:
        transport.close()
        server.close()


async def by_relay(address: str) -> list[bytes]:
    return await Resolver([address], [], lookup_seconds=LOOKUP_SECONDS).txt(NAME)


async def by_checks(address: str) -> list[bytes]:
    answers = DnsAnswers([address], lookup_seconds=LOOKUP_SECONDS)
    return list(await answers.until(asyncio.get_running_loop().time() + 30).txt(NAME))


ASK = pytest.mark.parametrize("ask", [by_relay, by_checks])
Ask = Callable[[str], Awaitable[list[bytes]]]


@ASK
@pytest.mark.parametrize("lie", [wrong_id, wrong_question, garbage])
async def test_answers_that_do_not_fit_are_ignored(ask: Ask, lie: Datagrams) -> None:
    async with liar(lie) as address:
        assert await ask(address) == [TEXT]


@ASK
@pytest.mark.parametrize("lie", [endless_forgeries, trailing_octets, pointer_to_itself])
async def test_a_question_without_a_right_answer_fails_in_time(ask: Ask, lie: Datagrams) -> None:
    began = time.monotonic()
    async with liar(lie) as address:
        with pytest.raises((LookupFailed, DnsFailure)):
            await ask(address)
    assert time.monotonic() - began < LOOKUP_SECONDS + 2


@ASK
@pytest.mark.parametrize(
    "drip",
    [
        lambda asked: struct.pack("!H", 60_000) + b"x" * 60_000,
        lambda asked: struct.pack("!H", len(right(asked).to_wire())) + right(asked).to_wire(),
        lambda asked: b"\0",
        lambda asked: b"",
    ],
    ids=["long", "right but slow", "half a length", "nothing"],
)
async def test_an_answer_that_drips_fails_in_time(ask: Ask, drip: Drip) -> None:
    began = time.monotonic()
    async with liar(truncated, drip) as address:
        with pytest.raises((LookupFailed, DnsFailure)):
            await ask(address)
    assert time.monotonic() - began < LOOKUP_SECONDS + 2


@ASK
async def test_an_answer_of_the_largest_size_is_taken(ask: Ask) -> None:
    strings = " ".join(f'"{"x" * 250}"' for _ in range(240))
    async with dns_server(f"{NAME} TXT {strings}") as server:
        assert await ask(server.address) == [b"x" * 60_000]


async def test_aliases_in_a_circle_fail() -> None:
    async with dns_server("a.example CNAME b.example.\nb.example CNAME a.example.") as server:
        resolver = Resolver([server.address], [], lookup_seconds=LOOKUP_SECONDS)
        with pytest.raises(LookupFailed):
            await resolver.addresses("a.example")
        with pytest.raises(LookupFailed):
            await resolver.servers("a.example")


async def test_the_relay_keeps_no_large_answer_and_none_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.harness.dns_server.TTL_SECONDS", 2**31 - 1)
    many = "\n".join(f"large.example TXT {'x' * 200}{number}" for number in range(MAX_ANSWER_OCTETS // 200))
    zone = f"small.example TXT x\n{many}"
    async with dns_server(zone) as server:
        resolver = Resolver([server.address], [], lookup_seconds=5.0)
        for _ in range(3):
            assert await resolver.txt("small.example") == [b"x"]
            await resolver.txt("large.example")
        over = [name for name, _ in server.asked]
        assert over.count("small.example") == 1 and over.count("large.example") >= 3
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + LONGEST_SECONDS + 1)
        await resolver.txt("small.example")
        assert [name for name, _ in server.asked].count("small.example") == 2


async def test_questions_that_wait_are_bounded() -> None:
    """A client that names many domains of a silent name server fills no memory, and known answers still come."""
    server = DnsServer(f"{NAME} TXT known", silent={f"{number}.silent.example" for number in range(50)})
    async with dns_server(server=server) as running:
        answers = DnsAnswers([running.address], lookup_seconds=LOOKUP_SECONDS, most_waiting=20)
        questions = answers.until(asyncio.get_running_loop().time() + 30)
        assert list(await questions.txt(NAME)) == [b"known"]
        asked = [questions.txt(f"{number}.silent.example") for number in range(50)]
        began = time.monotonic()
        ends = asyncio.gather(*asked, return_exceptions=True)
        await asyncio.sleep(0)
        assert list(await questions.txt(NAME)) == [b"known"]
        assert all(isinstance(end, DnsFailure) for end in await ends)
        assert time.monotonic() - began < LOOKUP_SECONDS + 2
        assert len({name for name, _ in running.asked if "silent" in name}) == 20
