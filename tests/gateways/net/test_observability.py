"""Logs without secrets, and the endpoint for metrics, liveness and readiness."""

from __future__ import annotations

import asyncio
import io
import json

import pytest
import structlog
from prometheus_client import CollectorRegistry

from restante_gateways.net import logging
from restante_gateways.net.addresses import Endpoint, Peer
from restante_gateways.net.logging import FLUSH_OCTETS, CommandLog
from restante_gateways.net.metrics import GatewayMetrics, MetricsServer

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
        "timestamp": "2023-11-14T22:13:20.250Z", "level": "info", "event": "command", "gateway": "pop3",
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
        b"2023-11-14T22:13:20.250Z event=command gateway=pop3 listener=pop3 session=7f client=192.0.2.1 "
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


def test_formats_and_levels_are_checked() -> None:
    with pytest.raises(ValueError, match="xml"):
        logging.configure(form="xml")
    with pytest.raises(ValueError, match="loud"):
        logging.configure(level="loud")


@pytest.mark.parametrize("form", ["json", "console"])
def test_both_formats_write_to_standard_error(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        logging.configure(form=form)
        structlog.get_logger("x").info("certificate loaded", names=("a", "b"))
        structlog.get_logger("x").debug("not shown")
        err = capsys.readouterr().err
    finally:
        structlog.reset_defaults()
    assert err.count("\n") == 1
    assert "certificate loaded" in err
    if form == "json":
        assert json.loads(err)["names"] == ["a", "b"]


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_logged_traceback_shows_no_values(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(password: str) -> None:
        raise KeyError(len(password))

    try:
        logging.configure(form=form)
        try:
            fail("alice" + "-demo")
        except KeyError as error:
            structlog.get_logger("x").error("session failed", exc_info=error)
        err = capsys.readouterr().err
    finally:
        structlog.reset_defaults()
    assert "KeyError" in err
    assert "alice-demo" not in err


async def get(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        return await reader.read()
    except ConnectionResetError:  # closed with our octets unread
        return b""
    finally:
        writer.close()


async def test_metrics_liveness_and_readiness() -> None:
    metrics = GatewayMetrics("pop3", CollectorRegistry())
    metrics.connection_opened("pop3s")
    metrics.command("RETR", "ok", 0.003)
    metrics.certificates({"mail.example.test": 12.5})
    ready = [False]
    server = MetricsServer(metrics.registry, lambda: ready[0])
    await server.start("127.0.0.1", 0)
    try:
        page = await get(server.port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert page.startswith(b"HTTP/1.1 200 OK\r\n")
        for sample in (
            b'restante_gateway_connections{gateway="pop3",listener="pop3s"} 1.0',
            b'restante_gateway_command_seconds_count{command="RETR",gateway="pop3",outcome="ok"} 1.0',
            b'restante_gateway_certificate_expiry_days{name="mail.example.test"} 12.5',
        ):
            assert sample in page
        head, _, body = page.partition(b"\r\n\r\n")
        assert b"Content-Length: %d\r\n" % len(body) in head
        assert b" 200 OK" in await get(server.port, b"GET /healthz HTTP/1.0\r\n\r\n")
        assert b" 503 " in await get(server.port, b"GET /readyz?full HTTP/1.1\r\n\r\n")
        ready[0] = True
        assert b" 200 OK" in await get(server.port, b"GET /readyz HTTP/1.1\r\n\r\n")
        assert (await get(server.port, b"HEAD /healthz HTTP/1.1\r\n\r\n")).endswith(b"\r\n\r\n")
        assert b" 404 " in await get(server.port, b"GET / HTTP/1.1\r\n\r\n")
        assert b" 405 " in await get(server.port, b"POST /metrics HTTP/1.1\r\n\r\n")
        assert b" 400 " in await get(server.port, b"SSH-2.0-x\r\n\r\n")
        assert await get(server.port, b"x" * 20_000) == b""
    finally:
        await server.stop()
