"""The small HTTP server of every process: its pages, refusals and limits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

import pytest

from restante_process.http import Bounds, HttpServer, Page, UnusableAnswer, fetch


@asynccontextmanager
async def serving(bounds: Bounds | None = None) -> AsyncIterator[int]:
    async def page() -> Page:
        return Page(b"hello\n")

    async def broken() -> Page:
        raise KeyError("a secret")

    async def slow() -> Page:
        await asyncio.sleep(60)
        return Page(b"")

    server = HttpServer({"/": page, "/broken": broken, "/slow": slow}, bounds)
    await server.start("127.0.0.1", 0)
    try:
        yield server.port
    finally:
        await server.stop()
        await server.stop()


async def ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()


async def test_a_page_is_answered_whole_and_the_connection_ends() -> None:
    async with serving() as port:
        answer = await ask(port, b"GET /?full HTTP/1.1\r\nHost: x\r\n\r\n")
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Content-Length: 6\r\n" in head and b"Connection: close" in head
        assert body == b"hello\n"


async def test_head_is_the_same_without_the_body() -> None:  # RFC 9110 9.3.2
    async with serving() as port:
        answer = await ask(port, b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Content-Length: 6\r\n" in answer
        assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", HTTPStatus.NOT_FOUND),
        (b"POST /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", HTTPStatus.NOT_FOUND),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab", HTTPStatus.METHOD_NOT_ALLOWED),
        (b"DELETE / HTTP/1.1\r\nHost: x\r\n\r\n", HTTPStatus.METHOD_NOT_ALLOWED),
        (b"GET /broken HTTP/1.1\r\nHost: x\r\n\r\n", HTTPStatus.INTERNAL_SERVER_ERROR),
        (b"GET / HTTP/1.1\r\n\r\n", HTTPStatus.BAD_REQUEST),  # RFC 9112 3.2: no Host
        (b"SSH-2.0-x\r\n\r\n", HTTPStatus.BAD_REQUEST),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", HTTPStatus.BAD_REQUEST),
        (
            b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 50_000 + b"\r\n\r\n",
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        ),
        (b"x" * 50_000, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE),
    ],
)
async def test_what_cannot_be_answered_gets_its_status(request_text: bytes, status: HTTPStatus) -> None:
    async with serving() as port:
        answer = await ask(port, request_text)
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert b"a secret" not in answer
        assert (b"\r\nAllow: GET, HEAD\r\n" in answer) == (status is HTTPStatus.METHOD_NOT_ALLOWED)


async def test_http_1_0_is_served() -> None:
    async with serving() as port:
        assert b" 200 OK\r\n" in await ask(port, b"GET / HTTP/1.0\r\n\r\n")


@pytest.mark.parametrize("begun", [b"", b"GET / HTT", b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"])
async def test_a_connection_has_a_bounded_time(begun: bytes) -> None:
    async with serving(Bounds(seconds=0.3)) as port:
        began = time.monotonic()
        assert await ask(port, begun) == b""
        assert 0.2 < time.monotonic() - began < 3


async def test_more_connections_than_allowed_are_told_so_and_the_rest_is_served_later() -> None:
    async with serving(Bounds(connections=2, seconds=5)) as port:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        await asyncio.sleep(0.05)
        assert (await ask(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")).startswith(b"HTTP/1.1 503 ")
        for _, writer in held:
            writer.close()
        await asyncio.sleep(0.05)
        assert (await ask(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_stopping_does_not_wait_for_clients() -> None:
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0.05)
        began = time.monotonic()
    assert time.monotonic() - began < 2
    assert await reader.read() == b""
    writer.close()


async def test_fetch_gives_the_page_back() -> None:
    async with serving() as port:
        page = await fetch("127.0.0.1", port, "/", seconds=5)
        assert (page.status, page.body) == (HTTPStatus.OK, b"hello\n")
        assert (await fetch("127.0.0.1", port, "/x", seconds=5)).status == HTTPStatus.NOT_FOUND


@pytest.mark.parametrize(
    "answer", [b"220 mx.example.test ESMTP\r\n", b"", b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort"]
)
async def test_fetch_refuses_what_is_no_answer(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        with pytest.raises(UnusableAnswer):
            await fetch("127.0.0.1", server.sockets[0].getsockname()[1], "/", seconds=5)


async def test_fetch_bounds_time_and_octets() -> None:
    async with serving() as port:
        with pytest.raises(TimeoutError):
            await fetch("127.0.0.1", port, "/slow", seconds=0.2)
        with pytest.raises(UnusableAnswer):
            await fetch("127.0.0.1", port, "/", seconds=5, max_octets=3)
