"""The front of the API: it accepts TCP connections within limits, ends TLS, and passes octets to gRPC's Unix socket.

gRPC for Python cannot limit the connections it accepts, chooses no certificate by host name, and cannot replace one
while connections arrive: its handshakes use a certificate that another thread has just freed. A front runs an event
loop in a separate thread, so that handshakes, whose arithmetic runs without the interpreter's lock, do not delay mail.

gRPC gives a handler the name that its peer's socket is bound to. Each forwarded connection has a distinct name, by
which the handler finds the client's channel.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import shutil
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import uvloop

from restante.errors import Cancelled
from restante_process.addresses import endpoint
from restante_process.limits import ConnectionLimiter, ConnectionLimits, Refusal
from restante_process.tls import Certificates
from restante_server.api.engine.identity import Channel

T = TypeVar("T")

log = logging.getLogger(__name__)

ACCEPTED_AT_ONCE = 64  # then the loop serves the open connections
BUFFER_OCTETS = 256 << 10  # of one connection, each way, before its sender has to wait
SHUTDOWN_SECONDS = 5.0  # for the client's close_notify of TLS
REPORT_SECONDS = 60.0  # between two log lines about refusals, however many there are
OUT_OF_DESCRIPTORS_SECONDS = 1.0
PROTOCOL = "h2"  # RFC 9113 3.2


@dataclass(frozen=True, slots=True)
class FrontSettings:
    """The limits of one listener."""

    name: str
    limits: ConnectionLimits
    handshake_seconds: float = 10.0
    mutual_tls: bool = False  # clients prove themselves by a certificate


class Front:
    """One listener. Everything but `channel` belongs to the loop of its thread."""

    def __init__(self, settings: FrontSettings, listening: Sequence[socket.socket], certificates: Certificates) -> None:
        """`certificates` offers h2 by ALPN, and requires a client certificate if the settings say so."""
        self.settings = settings
        self._listening, self._certificates = tuple(listening), certificates
        self._limiter = ConnectionLimiter(settings.limits)
        self._directory = Path(tempfile.mkdtemp(prefix="restante-"))  # mode 0700: other users cannot reach gRPC
        self._channels: dict[str, Channel] = {}  # by gRPC's name of the connection
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._refused: dict[Refusal, int] = {}

    @property
    def address(self) -> str:
        """The address that gRPC must listen on."""
        return f"unix:{self._directory / 'api.sock'}"

    @property
    def port(self) -> int:
        """The TCP port, which is the same for every address."""
        port: int = self._listening[0].getsockname()[1]
        return port

    def channel(self, peer: str) -> Channel:
        """The channel of a connection, by gRPC's name of it. Raises Cancelled if the connection has ended."""
        try:
            return self._channels[peer.removeprefix("unix:")]
        except KeyError:
            raise Cancelled from None

    def start(self) -> None:
        """Begin to accept."""
        for listening in self._listening:
            self._resume(listening)

    def stop_accepting(self) -> None:
        """Refuse new connections; open ones go on."""
        for listening in self._listening:
            asyncio.get_running_loop().remove_reader(listening.fileno())
            listening.close()

    async def close(self) -> None:
        """End every connection."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        shutil.rmtree(self._directory, ignore_errors=True)

    # --- Accepting ----------------------------------------------------------------------------------------------

    def _resume(self, listening: socket.socket) -> None:
        if listening.fileno() >= 0:
            asyncio.get_running_loop().add_reader(listening.fileno(), self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                client, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return
            except OSError as error:  # no descriptor or no memory is left: the clients in the backlog wait
                log.error("%s: cannot accept connections: %s", self.settings.name, error.strerror)
                loop.remove_reader(listening.fileno())
                loop.call_later(OUT_OF_DESCRIPTORS_SECONDS, self._resume, listening)
                return
            client.setblocking(False)
            host = endpoint(address).host
            refusal = self._limiter.admit(host, loop.time())
            if refusal is not None:
                client.close()
                self._note_refusal(refusal)
                continue
            task = loop.create_task(self._serve(client, host))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _note_refusal(self, refusal: Refusal) -> None:
        if not self._refused:
            asyncio.get_running_loop().call_later(REPORT_SECONDS, self._report)
            log.warning("%s: connection refused: %s", self.settings.name, refusal.value)
        self._refused[refusal] = self._refused.get(refusal, 0) + 1

    def _report(self) -> None:
        refused, self._refused = self._refused, {}
        for refusal, count in refused.items():
            log.warning("%s: %d connections refused within a minute: %s", self.settings.name, count, refusal.value)

    # --- One connection -----------------------------------------------------------------------------------------

    async def _serve(self, client: socket.socket, host: str) -> None:
        loop = asyncio.get_running_loop()
        down = _Side()
        name = str(self._directory / str(next(self._numbers)))
        try:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.connect_accepted_socket(
                lambda: down,
                client,
                ssl=self._certificates.context,
                ssl_handshake_timeout=self.settings.handshake_seconds,
                ssl_shutdown_timeout=SHUTDOWN_SECONDS,
            )
            self._channels[name] = self._channel(down.tls, host)
            up = _Side()
            await loop.create_unix_connection(lambda: up, sock=await self._connect(name))
            down.join(up)
            await asyncio.gather(down.lost, up.lost)
        except _NotForUs as error:
            log.info("%s: connection from %s closed: %s", self.settings.name, host, error)
        except OSError as error:  # also ssl.SSLError, a timeout, and a client that has gone
            log.debug("%s: connection from %s failed: %s", self.settings.name, host, error)
        finally:
            if not down.abort():
                client.close()  # no transport has owned it
            self._channels.pop(name, None)
            self._limiter.release(host)

    def _channel(self, tls: ssl.SSLObject, host: str) -> Channel:
        if tls.selected_alpn_protocol() != PROTOCOL:
            raise _NotForUs("the client did not negotiate HTTP/2 (ALPN h2), which gRPC needs")
        common_name = ""
        if self.settings.mutual_tls:
            subject: Any = (tls.getpeercert() or {}).get("subject", ())
            names = [value for part in subject for key, value in part if key == "commonName"]
            common_name = names[0] if names else ""
        return Channel(mutual_tls=self.settings.mutual_tls, tls=True, peer_address=host, common_name=common_name)

    async def _connect(self, name: str) -> socket.socket:
        """A connection to gRPC, bound to a name."""
        made = socket.socket(socket.AF_UNIX)
        try:
            made.setblocking(False)
            made.bind(name)
            await asyncio.get_running_loop().sock_connect(made, str(self._directory / "api.sock"))
        except BaseException:
            made.close()
            raise
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)  # the socket keeps its name without the file
        return made


class _NotForUs(Exception):
    """The connection does not speak gRPC's protocol."""


class _Side(asyncio.Protocol):
    """One of two joined connections. Octets received on one are sent on the other."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._other: asyncio.Transport | None = None
        self._early: list[bytes] = []  # received before `join`: a loop may read once more after pause_reading()
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def tls(self) -> ssl.SSLObject:
        assert self._transport is not None
        made: ssl.SSLObject = self._transport.get_extra_info("ssl_object")
        return made

    def join(self, other: _Side) -> None:
        """Begin to pass octets on, both ways."""
        assert self._transport is not None and other._transport is not None
        self._other, other._other = other._transport, self._transport
        if self._transport.is_closing() or other._transport.is_closing():  # lost before the join
            self.abort()
            other.abort()
            return
        for side, to in ((self, other._transport), (other, self._transport)):
            to.set_write_buffer_limits(high=BUFFER_OCTETS)
            to.writelines(side._early)
            side._early.clear()
        self._transport.resume_reading()
        other._transport.resume_reading()

    def abort(self) -> bool:
        """End the connection at once. Returns False if it was never connected."""
        if self._transport is None:
            return False
        self._transport.abort()
        return True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports are not asyncio's classes
        self._transport.pause_reading()  # until `join`

    def data_received(self, data: bytes) -> None:
        if self._other is not None:
            self._other.write(data)
        else:
            self._early.append(data)

    def eof_received(self) -> bool | None:
        if self._other is not None:
            self._other.close()
        return None

    def connection_lost(self, error: Exception | None) -> None:
        if self._other is not None:
            self._other.close()
        if not self.lost.done():
            self.lost.set_result(None)

    def pause_writing(self) -> None:
        if self._other is not None and not self._other.is_closing():
            self._other.pause_reading()

    def resume_writing(self) -> None:
        if self._other is not None and not self._other.is_closing():
            self._other.resume_reading()


class FrontThread:
    """The thread of all fronts. The core's event loop calls `start`, `stop_accepting` and `close`."""

    def __init__(self, fronts: Sequence[Front]) -> None:
        self._fronts = tuple(fronts)
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="api front", daemon=True)

    async def start(self) -> None:
        """Accept on every front."""
        self._thread.start()
        await self._there(self._each(Front.start))

    async def stop_accepting(self) -> None:
        """Accept no more."""
        await self._there(self._each(Front.stop_accepting))

    async def close(self) -> None:
        """End every connection and the thread."""
        for front in self._fronts:
            await self._there(front.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            with contextlib.suppress(RuntimeError):
                self._loop.close()

    async def _each(self, step: Callable[[Front], None]) -> None:
        for front in self._fronts:
            step(front)

    async def _there(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))
