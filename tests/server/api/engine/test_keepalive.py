"""A quiet stream stays open while its client pings (RFC 9113 6.7), as every SDK does once a minute."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from restante_server.api.engine.grpc_options import KEEPALIVE, Keepalive
from restante_server.api.engine.observe import CallObserver
from restante_server.api.engine.rpc import Listener
from restante_server.api.engine.server import ApiServer
from tests.server.api import http2
from tests.server.api.served import Served, served

PING_SECONDS = 0.15  # a minute, scaled down
PINGS = 10


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as made:
        yield made


async def quiet_stream(core: Served, socket: Path, keepalive: Keepalive) -> list[bytes]:
    """The debug data of the server's GOAWAYs to a client that has a quiet Watch and pings; empty without one."""
    observer = CallObserver(CollectorRegistry(), quiet=True)
    server = ApiServer(core.core, core.process.server.registry, core.dispatcher, observer, keepalive)
    await server.start([Listener(f"unix:{socket}")])
    try:
        reader, writer = await asyncio.open_unix_connection(socket)
        reading = asyncio.ensure_future(http2.frames_until_closed(reader))
        writer.write(http2.begin_call("/restante.v1.SyncService/Watch", core.identity("imap")))
        pings = 0
        while pings < PINGS and not reading.done():
            writer.write(http2.frame(http2.PING, payload=pings.to_bytes(8, "big")))
            pings += 1
            await asyncio.wait([reading], timeout=PING_SECONDS)
        if not reading.done():
            writer.write_eof()
        frames = await asyncio.wait_for(reading, 10)
        writer.close()
    finally:
        await server.stop(0)
    answered = sum(1 for kind, flags, _ in frames if (kind, flags) == (http2.PING, http2.ACK))
    assert answered >= min(pings, 3)
    return [payload[8:] for kind, _, payload in frames if kind == http2.GOAWAY and b"pings" in payload]


async def test_a_quiet_stream_outlives_the_pings_of_its_client(core: Served, tmp_path: Path) -> None:
    patient = Keepalive(least_seconds=PING_SECONDS / 3)  # as 20 seconds are to the minute
    assert await quiet_stream(core, tmp_path / "patient.sock", patient) == []


async def test_a_client_that_pings_without_measure_is_sent_away(core: Served, tmp_path: Path) -> None:
    strict = Keepalive(least_seconds=60.0)
    assert await quiet_stream(core, tmp_path / "strict.sock", strict) == [b"too_many_pings"]


def test_a_ping_a_minute_is_within_measure() -> None:
    assert KEEPALIVE.least_seconds * 2 < 60
