"""TLS that fails half way: the connection ends, and neither memory nor a task or thread of it stays (RFC 3207 4)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import ssl
import threading
from collections.abc import Awaitable, Callable

import pytest

from restante_gateways.net.bounds import ConnectionBounds
from restante_gateways.net.connection import Connection
from tests.gateways.smtp.conftest import Client, Gateway, MakeGateway
from tests.harness.faulty_link import until

BOUNDS = ConnectionBounds(handshake_timeout_seconds=0.3, linger_seconds=0.1)
ROUNDS = 20  # at once
Way = Callable[[Client], Awaitable[None]]


def client_hello() -> bytes:
    """The first flight of a real client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


async def nothing(client: Client) -> None:
    """Send no octet of the handshake."""


async def closed_at_once(client: Client) -> None:
    client.writer.close()


async def reset(client: Client) -> None:
    client.writer.transport.abort()


async def half_a_hello(client: Client) -> None:
    await client.send(client_hello()[:100])


async def half_a_hello_then_end(client: Client) -> None:
    await client.send(client_hello()[:100])
    client.writer.write_eof()


async def hello_then_silence(client: Client) -> None:
    await client.send(client_hello())


async def hello_then_reset(client: Client) -> None:
    await client.send(client_hello())
    await client.reader.read(1)
    client.writer.transport.abort()


async def noise_after_hello(client: Client) -> None:
    await client.send(client_hello())
    await client.reader.read(1)
    await client.send(os.urandom(5_000))


async def commands_in_clear(client: Client) -> None:
    await client.send(b"EHLO c\r\nMAIL FROM:<dora@example.net>\r\n")


async def a_record_without_end(client: Client) -> None:
    await client.send(b"\x16\x03\x01\x3f\xff" + b"x" * 100)


async def endless_noise(client: Client) -> None:
    with contextlib.suppress(ConnectionError):
        for _ in range(50):
            await client.send(b"\x16\x03\x01\x40\x00" + b"y" * 16_384)


WAYS = [
    nothing,
    closed_at_once,
    reset,
    half_a_hello,
    half_a_hello_then_end,
    hello_then_silence,
    hello_then_reset,
    noise_after_hello,
    commands_in_clear,
    a_record_without_end,
    endless_noise,
]


async def begin(gateway: Gateway, listener: str) -> Client:
    """A client at the beginning of a handshake."""
    if listener == "submissions":
        return Client(*await asyncio.open_connection("127.0.0.1", gateway.port(listener)))
    client = Client(*await asyncio.open_connection("127.0.0.1", gateway.port(listener)))
    await client.send(b"EHLO c.example.net\r\nSTARTTLS\r\n")
    assert await client.codes(3) == [220, 250, 220]
    return client


async def fail(gateway: Gateway, listener: str, way: Way) -> None:
    """Fail a handshake, and wait until the server has closed."""
    client = await begin(gateway, listener)
    await way(client)
    if not client.writer.is_closing():
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(5):
                while await client.reader.read(65_536):
                    pass  # an alert, perhaps
    client.writer.transport.abort()


def connections() -> int:
    """The connections of the process that the garbage collector still knows."""
    gc.collect()
    return sum(isinstance(each, Connection) for each in gc.get_objects())


@pytest.mark.parametrize("listener", ["mx", "submissions"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_a_failed_handshake_ends_and_leaves_nothing(make_gateway: MakeGateway, way: Way, listener: str) -> None:
    async with make_gateway(bounds=BOUNDS) as gateway:
        before, threads, tasks = connections(), threading.active_count(), len(asyncio.all_tasks())
        await asyncio.gather(*(fail(gateway, listener, way) for _ in range(ROUNDS)))
        await until(lambda: gateway.runtime.limiter.connections == 0)
        await until(lambda: len(asyncio.all_tasks()) <= tasks)
        assert threading.active_count() <= threads
        await until(lambda: connections() <= before)
        after = await begin(gateway, listener)  # the listener serves the next client
        await after.writer.start_tls(gateway.tls, server_hostname="localhost")
        await after.send(b"EHLO c.example.net\r\n")
        if listener == "submissions":
            assert (await after.reply()).startswith("220")
        assert (await after.reply()).startswith("250-mx.example.test")
        await after.close()
