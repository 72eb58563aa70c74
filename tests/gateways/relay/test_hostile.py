"""Servers that answer slowly, endlessly or not to the end: an attempt ends in time, and nothing counts as relayed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.gateways.relay.conftest import HASTE, running
from tests.harness.certificates import Authority
from tests.harness.outbound_queue import OutboundQueue
from tests.harness.smtp_peer import DROP, smtp_peer

BOB = "bob@example.net"
STAGES = ("greeting", "EHLO", "MAIL", "RCPT", "DATA", "content")
USUAL = {"greeting": b"220 x\r\n", "EHLO": b"250 x\r\n", "DATA": b"354 go\r\n"}
OTHERWISE = b"250 2.0.0 ok\r\n"


def drip(usual: bytes) -> Iterator[bytes]:
    """The lines of a long reply, an octet at a time. Each octet comes within every limit of time for a reply."""
    lines = (usual[:3] + b"-" + b"slow\r\n" for _ in itertools.count())
    return (bytes((octet,)) for line in lines for octet in line)


def flood(usual: bytes) -> Iterator[bytes]:
    """A reply that does not end, as fast as it is read."""
    return itertools.repeat((usual[:3] + b"-" + b"x" * 60 + b"\r\n") * 1_000)


@contextlib.asynccontextmanager
async def hostile(stage: str, octets: Iterator[bytes], pause: float) -> AsyncIterator[int]:
    """The port of a server that is usual up to a stage, and there sends these octets."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await converse(reader, writer)
        writer.transport.abort()

    async def say(writer: asyncio.StreamWriter, at: str) -> None:
        if at != stage:
            writer.write(USUAL.get(at, OTHERWISE))
            return
        for piece in octets:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await say(writer, "greeting")
        while line := await reader.readline():
            verb = line.split()[0].decode().upper()
            await say(writer, verb)
            if verb == "DATA":
                await reader.readuntil(b"\r\n.\r\n")
                await say(writer, "content")

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()


@pytest.mark.parametrize("stage", STAGES)
async def test_a_reply_that_drips_ends_in_the_time_of_one_reply(stage: str) -> None:
    core, began = OutboundQueue(), time.monotonic()
    usual = USUAL.get(stage, OTHERWISE)
    async with hostile(stage, drip(usual), 0.02) as port, running(core, {"*": f"127.0.0.1:{port}"}):
        assert (await core.outcomes(core.put(BOB)))[0][0] == "deferred"
    assert time.monotonic() - began < HASTE.command + 3


@pytest.mark.parametrize("stage", STAGES)
async def test_a_reply_without_end_is_no_reply(stage: str) -> None:
    core = OutboundQueue()
    usual = USUAL.get(stage, OTHERWISE)
    async with hostile(stage, flood(usual), 0) as port, running(core, {"*": f"127.0.0.1:{port}"}):
        assert (await core.outcomes(core.put(BOB)))[0][0] == "deferred"


async def test_tls_that_ends_amid_a_message_defers(tmp_path: Path) -> None:
    core = OutboundQueue()
    issued = Authority(tmp_path).issue("mx.example.net")
    async with smtp_peer(tls=issued.server()) as peer, running(core, {"*": f"127.0.0.1:{peer.port}"}):
        for place in ("MAIL", "DATA", "content"):
            peer.replies = {place: DROP}
            assert (await core.outcomes(core.put(BOB, content=b"x" * 300_000 + b"\r\n")))[0] == ("deferred", "4.4.2")
        peer.replies = {}
        assert await core.outcomes(core.put(BOB)) == [("relayed", "2.0.0")]
    assert len(peer.messages) == 1 and peer.messages[0].secured


async def test_replies_ahead_of_their_commands_relay_nothing() -> None:
    """A server that says 250 for everything at once has not read the message."""
    core = OutboundQueue()
    early = OTHERWISE * 3 + b"354 go\r\n" + OTHERWISE

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 x\r\n")
        await reader.readline()
        writer.write(b"250-x\r\n250 PIPELINING\r\n")
        await reader.readline()
        writer.write(early)
        with contextlib.suppress(OSError):
            await reader.read()
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, running(core, {"*": f"127.0.0.1:{server.sockets[0].getsockname()[1]}"}):
        assert (await core.outcomes(core.put(BOB)))[0][0] == "deferred"
