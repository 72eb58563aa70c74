"""The log lines of finished commands, and the metrics of a gateway."""

from __future__ import annotations

import asyncio
import io
import json

from prometheus_client import CollectorRegistry, generate_latest

from restante_gateways.net.addresses import Peer
from restante_gateways.net.logging import FLUSH_OCTETS, CommandLog
from restante_gateways.net.metrics import GatewayMetrics
from restante_process.addresses import Endpoint

PEER = Peer(Endpoint("192.0.2.1", 40000), Endpoint("198.51.100.7", 110), "pop3", loopback=False)


async def test_a_finished_command_is_one_json_line() -> None:
    stream = io.BytesIO()
    commands = CommandLog("pop3", stream, wall_seconds=1_700_000_000.25)
    session = commands.session(PEER, "7f")
    session.finished("USER", "ok", 0.00125)
    session.authenticated('alice"@example.test')
    session.finished("STAT", "ok", 0.5)
    session.event("session ended", retrieved=3)
    commands.flush()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    first = {
        "timestamp": "2023-11-14T22:13:20.250Z", "level": "info", "process": "pop3", "event": "command",
        "listener": "pop3", "session": "7f", "client": "192.0.2.1", "command": "USER", "outcome": "ok",
        "milliseconds": 1.25,
    }  # fmt: skip
    assert lines[0] == first
    assert lines[1]["account"] == 'alice"@example.test'
    assert lines[2]["event"] == "session ended"
    assert lines[2]["retrieved"] == 3


async def test_on_a_console_it_is_one_line_of_words() -> None:
    stream = io.BytesIO()
    commands = CommandLog("pop3", stream, form="console", wall_seconds=1_700_000_000.25)
    session = commands.session(PEER, "7f")
    session.authenticated("alice\x1b[2J@example.test")
    session.finished("STAT", "ok", 0.5)
    commands.flush()
    assert stream.getvalue() == (
        b"2023-11-14T22:13:20.250Z process=pop3 event=command listener=pop3 session=7f client=192.0.2.1 "
        b"account=alice\\x1b[2J@example.test command=STAT outcome=ok milliseconds=500.000\n"
    )


async def test_lines_are_gathered_for_a_moment_only() -> None:
    stream = io.BytesIO()
    session = CommandLog("pop3", stream).session(PEER, "7f")
    session.finished("NOOP", "ok", 0.001)
    assert stream.getvalue() == b""
    await asyncio.sleep(0.2)
    assert stream.getvalue().count(b"\n") == 1
    for _ in range(FLUSH_OCTETS // 100):
        session.finished("NOOP", "ok", 0.001)
    assert stream.getvalue().count(b"\n") > 100


def test_the_metrics_of_a_gateway_name_the_gateway() -> None:
    metrics = GatewayMetrics("pop3", CollectorRegistry())
    metrics.connection_opened("pop3s")
    metrics.command("RETR", "ok", 0.003)
    page = generate_latest(metrics.registry).decode()
    assert 'restante_gateway_connections{gateway="pop3",listener="pop3s"} 1.0' in page
    assert 'restante_gateway_command_seconds_count{command="RETR",gateway="pop3",outcome="ok"} 1.0' in page
    assert 'restante_gateway_command_seconds_sum{command="RETR",gateway="pop3",outcome="ok"} 0.003' in page
    bucket = 'restante_gateway_command_seconds_bucket{command="RETR",gateway="pop3",le="%s",outcome="ok"} %s'
    for bound, count in ((0.0005, 0.0), (0.0025, 0.0), (0.005, 1.0), (5.0, 1.0), ("+Inf", 1.0)):
        assert bucket % (bound, count) in page
