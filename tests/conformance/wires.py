"""Relays between a runner and the server: one that can be held and cut, and one to the gateways' socket.

Both relay octets. The first passes TLS through unchanged. The second ends TLS with the demo's certificate, because the
socket has no TLS; a runner can so call as a gateway without support for Unix sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
Open = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]

CHUNK_OCTETS = 64 << 10


class Wire:
    """A listener on a free port of 127.0.0.1 that relays each connection to one from `opened`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, opened: Open, tls: ssl.SSLContext | None = None) -> None:
        self._loop, self._opened, self._tls = loop, opened, tls
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._allowance: int | None = None  # octets that the server may still send; None: any number
        self.port = 0

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def hold(self, after_octets: int = 0) -> None:
        """Hold back the server's octets after the next `after_octets`."""
        self._allowance = after_octets
        if not after_octets:
            self._flowing.clear()

    async def cut(self) -> None:
        """Break every connection and discard held octets. New connections work."""
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        self._allowance = None
        self._flowing.set()

    async def close(self) -> None:
        """Break every connection and stop listening."""
        if self._server is not None:
            self._server.close()
        await self.cut()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._relay(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await self._opened()
        except OSError:  # the core is unreachable: the client's connection ends at once
            writer.transport.abort()
            return
        ways = [
            asyncio.create_task(self._pump(reader, there_writer, held=False)),
            asyncio.create_task(self._pump(there_reader, writer, held=True)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            writer.transport.abort()
            there_writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, held: bool) -> None:
        with contextlib.suppress(OSError):
            while octets := await reader.read(CHUNK_OCTETS):
                if held:
                    await self._passage(len(octets))
                writer.write(octets)
                await writer.drain()

    async def _passage(self, octets: int) -> None:
        """Wait until the server's next octets may pass: for ever when they are held and the connection is cut."""
        if self._allowance is not None:
            self._allowance -= octets
            if self._allowance < 0:
                self._flowing.clear()
        await self._flowing.wait()


class Wires:
    """The wires of one run, on a separate event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wires", daemon=True)
        self._thread.start()
        self._wires: list[Wire] = []

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def to_port(self, port: int) -> Wire:
        """A wire to a port of this machine."""
        return self._started(Wire(self._loop, lambda: asyncio.open_connection("127.0.0.1", port)))

    def to_socket(self, path: Callable[[], str], certificate: str, key: str) -> Wire:
        """A wire to a Unix socket, with TLS by this certificate. Each connection calls `path` for the socket's path."""
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, key)
        tls.set_alpn_protocols(["h2"])
        return self._started(Wire(self._loop, lambda: asyncio.open_unix_connection(path()), tls))

    def close(self) -> None:
        """Close all wires."""
        for wire in self._wires:
            self.run(wire.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _started(self, wire: Wire) -> Wire:
        self.run(wire.start())
        self._wires.append(wire)
        return wire


@contextlib.contextmanager
def wires() -> Iterator[Wires]:
    """Wires for the time of the context."""
    made = Wires()
    try:
        yield made
    finally:
        made.close()
