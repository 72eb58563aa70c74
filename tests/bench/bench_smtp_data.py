"""The cost of receiving for the SMTP gateway: the data scanner alone, and whole messages into a recording core.

python -m tests.bench.bench_smtp_data [--messages 2000]      prints one JSON object
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time

from restante_gateways.net.runtime import Port, Runtime, RuntimeSettings
from restante_gateways.smtp.content import ContentScanner
from restante_gateways.smtp.data import DotFrame
from restante_gateways.smtp.gateway import SmtpListener, SmtpSettings, listen
from restante_gateways.smtp.settings import Role, SessionSettings
from restante_mail.header.trace import HopCounter
from tests.gateways.smtp.recording import RecordingCore

CHUNK_OCTETS = 65_536
LIMIT_OCTETS = 1 << 40
TEXT_LINE = b"Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod temp\r\n"
CONTENTS = {
    "text": TEXT_LINE * 800,
    "base64": (b"QUJD" * 19 + b"\r\n") * 800,
    "long lines": (b"z" * 998 + b"\r\n") * 64,
    "dots": b"..stuffed\r\n" * 6000,
    "short lines": b"x\r\n" * 20_000,
}
COMMANDS = b"MAIL FROM:<dora@example.net>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n"
MESSAGE = b"From: dora@example.net\r\nTo: alice@example.test\r\nSubject: bench\r\n\r\n" + TEXT_LINE * 25 + b".\r\n"


def scanner_rate(content: bytes, chunk_octets: int, octets: int) -> float:
    """Octets a second, including the hop counter."""
    frame, scanner, hops, done = DotFrame(), ContentScanner(LIMIT_OCTETS, 1 << 20), HopCounter(), 0
    chunks = [content[start : start + chunk_octets] for start in range(0, len(content), chunk_octets)]
    began = time.perf_counter()
    while done < octets:
        for chunk in chunks:
            hops.feed(scanner.feed(frame.feed(chunk)))
            done += len(chunk)
    return done / (time.perf_counter() - began)


async def send(port: int, count: int) -> None:
    """Send messages one after the other on one connection, pipelined up to DATA."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await reader.readline()
    writer.write(b"EHLO c\r\n")
    while (await reader.readline())[3:4] == b"-":
        pass
    for _ in range(count):
        writer.write(COMMANDS)
        for _ in range(3):
            await reader.readline()
        writer.write(MESSAGE)
        assert (await reader.readline()).startswith(b"250")
    writer.close()


async def session_cost(count: int, connections: int) -> dict[str, float]:
    """Rate and CPU of both ends together, in one process."""
    runtime = Runtime(RuntimeSettings("smtp"))
    core = RecordingCore()
    core.keep_contents = False
    settings = SmtpSettings(
        {"mx": SmtpListener(Port(tls="none"), Role.MX)}, SessionSettings(Role.MX, "mx.example.test")
    )
    listen(settings, core, runtime)
    port = runtime.addresses()["mx"][0].port
    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(send(port, count // connections) for _ in range(connections)))
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    await runtime.drain()
    return {"messages_per_second": round(count / seconds), "both_ends_cpu_milliseconds": round(cpu / count * 1000, 3)}


async def connection_cost(count: int) -> float:
    """CPU milliseconds of a connection that is greeted and closed, both ends."""
    runtime = Runtime(RuntimeSettings("smtp"))
    settings = SmtpSettings(
        {"mx": SmtpListener(Port(tls="none"), Role.MX)}, SessionSettings(Role.MX, "mx.example.test")
    )
    listen(settings, RecordingCore(), runtime)
    port = runtime.addresses()["mx"][0].port
    cpu = time.process_time()
    for _ in range(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await reader.readline()
        writer.close()
    cpu = time.process_time() - cpu
    await runtime.drain()
    return round(cpu / count * 1000, 3)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=2000)
    count = parser.parse_args().messages
    rates = {name: round(scanner_rate(content, CHUNK_OCTETS, 100 << 20) / 1e6) for name, content in CONTENTS.items()}
    print(
        json.dumps(
            {
                "scanner_megabytes_per_second": rates,
                "scanner_small_chunks_megabytes_per_second": round(
                    scanner_rate(CONTENTS["text"], 1460, 20 << 20) / 1e6
                ),
                "message_octets": len(MESSAGE),
                "sessions": asyncio.run(session_cost(count, 10)),
                "connection_cpu_milliseconds": asyncio.run(connection_cost(500)),
            }
        )
    )


if __name__ == "__main__":
    main()
