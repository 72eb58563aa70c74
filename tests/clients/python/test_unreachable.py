"""The error for an unreachable server names the address and the true cause."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from restante import Client, ServerUnreachable, SyncClient, Target
from restante_cli import authority

SECONDS = 0.5  # of patience, so that the tests need not wait for five


@asynccontextmanager
async def listening(context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mx.example.test ESMTP\r\n")
        await reader.read(1)
        writer.close()

    server = await asyncio.start_server(served, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def refused(target: str | Target) -> ServerUnreachable:
    with pytest.raises(ServerUnreachable) as caught:
        async with Client.connect(target, user="alice@example.test", password="x", timeout_seconds=SECONDS):
            raise AssertionError
    return caught.value


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


async def test_a_refused_connection_names_the_address_and_the_port() -> None:
    address = f"127.0.0.1:{closed_port()}"
    error = await refused(address)
    assert str(error) == f"Cannot reach {address}: {error.cause}"
    assert "refused" in error.cause


async def test_a_host_that_does_not_exist_is_named() -> None:
    error = await refused("mail.example.invalid:2051")
    assert error.cause == "the host name mail.example.invalid does not exist"


async def test_the_port_of_another_protocol_is_told_from_a_server_that_is_down() -> None:
    async with listening() as port:
        error = await refused(f"127.0.0.1:{port}")
    assert "check that this is the port of the API" in error.cause


async def test_the_tls_port_of_another_protocol_is_told_from_a_server_that_is_down(tmp_path: Path) -> None:
    authority.make(tmp_path, ["localhost"])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "tls/cert.pem", tmp_path / "tls/key.pem")
    async with listening(context) as port:
        error = await refused(Target(f"localhost:{port}", root_certificates=(tmp_path / "ca.pem").read_bytes()))
    assert error.cause == "the port speaks TLS but not HTTP/2; check that this is the port of the API"


async def test_a_server_that_does_not_answer_is_waited_for_in_vain_for_so_long() -> None:
    """The server's queue of connections is full, which looks like a firewall that drops packets."""
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        error = await refused(f"127.0.0.1:{full.getsockname()[1]}")
    assert error.cause == "no answer within 2 seconds; check the address, and firewalls on the way"


async def test_a_certificate_of_an_unknown_authority_is_told_from_a_wrong_name(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for directory, names in ((ours, ["localhost"]), (theirs, ["localhost"])):
        directory.mkdir()
        authority.make(directory, names)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(ours / "tls/cert.pem", ours / "tls/key.pem")
    context.set_alpn_protocols(["h2"])
    async with listening(context) as port:
        unknown = await refused(Target(f"localhost:{port}", root_certificates=(theirs / "ca.pem").read_bytes()))
        trusted = (ours / "ca.pem").read_bytes()
        misnamed = await refused(Target(f"localhost:{port}", root_certificates=trusted, server_name="mx.example.test"))
    assert unknown.cause.startswith("its certificate is not trusted (") and "issuer" in unknown.cause
    assert unknown.cause.endswith("give its certificate authority (`mail login --ca FILE`)")
    assert misnamed.cause.startswith("its certificate is not trusted (") and "mx.example.test" in misnamed.cause
    assert misnamed.cause.endswith("use a host name of the certificate")


async def test_a_socket_that_is_not_there_asks_for_the_core(tmp_path: Path) -> None:
    error = await refused(Target(f"unix:{tmp_path}/core.sock"))
    assert error.cause == "the socket does not exist; start the core"


async def test_an_address_without_a_port_is_refused_with_the_reason() -> None:
    error = await refused("localhost")
    assert error.cause == "the address is not HOST:PORT"


def test_the_blocking_client_raises_the_same() -> None:
    address = f"127.0.0.1:{closed_port()}"
    client = SyncClient.connect(address, user="alice@example.test", password="x", timeout_seconds=SECONDS)
    with pytest.raises(ServerUnreachable, match=f"Cannot reach {address}: "), client:
        raise AssertionError
