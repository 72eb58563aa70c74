"""A gateway process: listeners by name, readiness, draining on SIGTERM, certificates on SIGHUP."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
from typing import Any, cast

import pytest
import structlog

from restante_gateways.net.bounds import ConnectionBounds, Draining
from restante_gateways.net.connection import Connection
from restante_gateways.net.runtime import Port, Runtime, RuntimeSettings, ports
from restante_process.config_file import load
from tests.harness.certificates import MakePair


async def session(connection: Connection) -> None:
    connection.write(b"%s %d\r\n" % (connection.peer.listener.encode(), connection.peer.starttls))
    try:
        while await connection.read():
            pass
    except Draining:
        connection.write(b"bye\r\n")


async def get(port: int, path: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer


async def test_a_process_listens_shows_itself_and_drains_on_sigterm(
    make_pair: MakePair, capfd: pytest.CaptureFixture[str]
) -> None:
    pair = make_pair("server", "mail.example.test", days=10)
    settings = RuntimeSettings("pop3", certificates=(pair,), metrics_port=0, drain_seconds=2.0)
    ports = {"pop3": Port(tls="starttls"), "pop3s": Port(tls="implicit"), "plain": Port(tls="none")}
    try:
        async with Runtime.open(settings) as runtime:
            runtime.listen(ports, session, refusals={}, bounds=ConnectionBounds())
            where = runtime.addresses()
            assert list(where) == ["pop3", "pop3s", "plain"]
            assert b" 503 " in await get(runtime.metrics_port, b"/readyz")
            runtime.started()
            assert b"core: no answer yet" in await get(runtime.metrics_port, b"/readyz")
            runtime.readiness.set("core", "")
            assert b" 200 " in await get(runtime.metrics_port, b"/readyz")
            reader, _ = await asyncio.open_connection(*where["pop3"][0])
            assert await reader.readline() == b"pop3 1\r\n"
            plain, plain_writer = await asyncio.open_connection(*where["plain"][0])
            assert await plain.readline() == b"plain 0\r\n"
            plain_writer.close()
            client = ssl.create_default_context(cafile=str(pair.certificate))
            secure, secure_writer = await asyncio.open_connection(
                *where["pop3s"][0], ssl=client, server_hostname="mail.example.test"
            )
            assert await secure.readline() == b"pop3s 0\r\n"
            secure_writer.close()
            await asyncio.sleep(0)
            page = await get(runtime.metrics_port, b"/metrics")
            assert b'restante_certificate_expiry_timestamp_seconds{name="mail.example.test"} 1.' in page
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.sleep(0.05)
            assert not runtime.draining.is_set()
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(runtime.draining.wait(), 5)
            assert b" 503 " in await get(runtime.metrics_port, b"/readyz")
        assert await reader.read() == b"bye\r\n"
    finally:
        structlog.reset_defaults()
    logged = capfd.readouterr().err
    assert "certificate loaded" in logged
    assert "the certificate of mail.example.test expires on" in logged


async def test_a_port_that_is_taken_is_named_with_its_listener() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        runtime = Runtime(RuntimeSettings("imap"))
        with pytest.raises(OSError, match=f"listener imap: cannot listen on 127.0.0.1:{port}: another program"):
            runtime.listen(
                {"imap": Port(port=port, tls="none")}, cast(Any, None), refusals={}, bounds=ConnectionBounds()
            )


async def test_tls_without_a_certificate_is_an_error_that_names_the_listener() -> None:
    runtime = Runtime(RuntimeSettings("pop3"))
    with pytest.raises(ValueError, match="pop3s"):
        runtime.listen({"pop3s": Port(tls="implicit")}, session, refusals={}, bounds=ConnectionBounds())


def test_listeners_come_from_the_configuration() -> None:
    listeners = {"pop3": {"host": "127.0.0.1", "port": 2110, "tls": "none", "proxy_from": ["10.0.0.0/8"]}}
    config = load(None, {}, {"pop3.listeners": listeners})
    assert ports(config.pop3.listeners) == {"pop3": Port("127.0.0.1", 2110, "none", ("10.0.0.0/8",))}
