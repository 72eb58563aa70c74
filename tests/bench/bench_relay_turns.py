"""The time of a message to a distant server: `python -m tests.bench.bench_relay_turns [MILLISECONDS]`.

The relay sends to a scripted server whose replies arrive later by the time given, as over a long line. It prints one
JSON object: the milliseconds of a message with 1 and with 10 recipients, with and without PIPELINING.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time

import structlog
from prometheus_client import CollectorRegistry

from restante_gateways.relay.gateway import Relay, RelaySettings
from restante_gateways.relay.metrics import RelayMetrics
from tests.harness.outbound_queue import OutboundQueue
from tests.harness.smtp_peer import EXTENSIONS, SmtpPeer, smtp_peer

MESSAGES = 20
DELAY_MILLISECONDS = 50.0


async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: SmtpPeer, seconds: float) -> None:
    """Pass octets on at once to the peer, and back after `seconds`."""
    theirs, ours = await asyncio.open_connection(peer.host, peer.port)
    loop = asyncio.get_running_loop()

    async def back() -> None:
        while octets := await theirs.read(65_536):
            loop.call_later(seconds, writer.write, octets)
        loop.call_later(seconds, writer.close)

    task = asyncio.create_task(back())
    while octets := await reader.read(65_536):
        ours.write(octets)
    ours.close()
    await task


async def measure(extensions: tuple[str, ...], recipients: int, seconds: float) -> float:
    """The milliseconds of a message on an open connection."""
    core = OutboundQueue()
    draining = asyncio.Event()
    async with smtp_peer(extensions=extensions) as peer:
        server = await asyncio.start_server(lambda r, w: forward(r, w, peer, seconds), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        settings = RelaySettings(own_name="mx.example.test", routes=(("*", f"127.0.0.1:{port}"),))
        relay = asyncio.create_task(Relay(settings, core, RelayMetrics(CollectorRegistry())).run(draining))
        names = [f"person{number}@example.net" for number in range(recipients)]
        await core.outcomes(core.put(*names))  # opens the connection
        began = time.perf_counter()
        for _ in range(MESSAGES):
            await core.outcomes(core.put(*names))
        taken = time.perf_counter() - began
        draining.set()
        await relay
        server.close()
    return round(1_000 * taken / MESSAGES, 1)


async def main(milliseconds: float) -> dict[str, object]:
    """Run all measurements."""
    without = tuple(word for word in EXTENSIONS if word != "PIPELINING")
    found: dict[str, object] = {"reply_delay_milliseconds": milliseconds}
    for recipients in (1, 10):
        for name, extensions in (("one by one", without), ("pipelined", EXTENSIONS)):
            took = await measure(extensions, recipients, milliseconds / 1_000)
            found[f"{recipients} recipients, {name}"] = took
    return found


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    print(json.dumps(asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else DELAY_MILLISECONDS)), indent=2))
