"""A web server on loopback for MTA-STS policies and TLS reports, whose answer a test sets.

async with policy_server(context) as server:
    server.answer = response(POLICY)
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: (\d+)\r\n")


def response(
    body: bytes, *, status: str = "200 OK", kind: str = "text/plain", headers: tuple[str, ...] = ()
) -> list[bytes]:
    """A response with a content of known length."""
    kinds = [f"Content-Type: {kind}"] if kind else []
    head = "\r\n".join([f"HTTP/1.1 {status}", *kinds, f"Content-Length: {len(body)}", *headers, "", ""])
    return [head.encode(), body]


def chunked(*chunks: bytes) -> list[bytes]:
    """A response in chunks, without the last one."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
    return [head, *(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n" for chunk in chunks)]


@dataclass
class PolicyServer:
    """The answer of the server, in pieces with a pause after each, and the requests that came."""

    port: int = 0
    answer: list[bytes] = field(default_factory=list)
    pause_seconds: float = 0.0
    deaf: bool = False  # answers without reading a body
    hangs: bool = False  # keeps the connection open after the answer
    requests: list[bytes] = field(default_factory=list)  # heads
    bodies: list[bytes] = field(default_factory=list)  # of the requests that have one


@contextlib.asynccontextmanager
async def policy_server(tls: ssl.SSLContext) -> AsyncIterator[PolicyServer]:
    """A server for the time of the context."""
    server = PolicyServer()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            server.requests.append(head)
            length = _LENGTH.search(head)
            if length is not None and not server.deaf:
                server.bodies.append(await reader.readexactly(int(length[1])))
            for piece in server.answer:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(server.pause_seconds)
            if server.hangs:
                await reader.read(-1)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has gone, or the test ends
        finally:
            tasks.discard(task)
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
