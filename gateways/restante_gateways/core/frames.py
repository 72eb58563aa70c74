"""Execute and server streams in frames, to a core on this machine (docs/design.md "Frames").

`restante_process.frames` has the form. A core without the socket of frames, which is older or on another machine, is
spoken to by gRPC.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import grpc
import structlog
from google.protobuf.message import DecodeError, Message
from google.rpc import status_pb2

from restante import errors
from restante.carrier import Carrier, Metadata, Response, ServerStream, Stream
from restante.target import MAX_MESSAGE_OCTETS, Target
from restante.v1.batch_pb2 import ExecuteResponse
from restante_gateways.core.frame_streams import CONNECT_SECONDS, FrameStream
from restante_process.frames import RPC, SOCKET_NAME, FrameReader, Kind, MalformedFrame, frame, hello

log = structlog.get_logger("core")

MOST_STREAMS = 256
"""Server streams in frames, of which each needs a descriptor at both ends. Further ones share gRPC's connection."""
SCHEME = "unix:"


class Frames:
    """Opens streams of frames."""

    def __init__(self) -> None:
        self._dead: set[tuple[Path, int]] = set()  # sockets, with their inodes, that a core has left behind
        self._streams: set[FrameStream[Any]] = set()  # with a connection
        self._said: set[str] = set()  # addresses whose use of gRPC is in the log

    def __call__(self, target: Target, stream: Stream) -> Carrier | None:
        """Begin to carry an Execute stream to a core; None if it has to go by gRPC."""
        found = self._find(target)
        return None if found is None else FrameCarrier(found[0], target, stream, lambda: self._dead.add(found))

    def call(
        self, target: Target, rpc: str, metadata: Metadata, request: Message, response: type[Response]
    ) -> ServerStream[Response] | None:
        """A call of an RPC whose response streams, such as "MessageService/StreamMessages"; None: it has to go by
        gRPC."""
        found = self._find(target) if len(self._streams) < MOST_STREAMS else None
        if found is None:
            return None

        async def refused() -> None:
            if await _answers(target):
                self._dead.add(found)

        return FrameStream(found[0], {**dict(metadata), RPC: rpc}, request, response, refused, self._streams)

    def _find(self, target: Target) -> tuple[Path, int] | None:
        """The socket of a core, with its inode; None if the core has none that answers."""
        if not target.address.startswith(SCHEME):
            self._tell(target, "the core is on another machine")
            return None
        core = Path(target.address.removeprefix(SCHEME))
        socket = core.with_name(SOCKET_NAME)
        try:
            found = socket, socket.stat().st_ino
        except OSError as error:
            if core.exists():  # otherwise the core is away, and will have both sockets again
                self._tell(target, f"{socket}: {error.strerror}")
            return None
        if found in self._dead:
            self._tell(target, f"{socket}: no core answers there")
            return None
        return found

    def _tell(self, target: Target, why: str) -> None:
        if target.address not in self._said:
            self._said.add(target.address)
            log.info("operations go by gRPC instead of frames", core=target.address, why=why)


class FrameCarrier(asyncio.Protocol):
    """Carries one Execute stream. Requests that wait in a turn of the event loop are written together."""

    def __init__(self, socket: Path, target: Target, stream: Stream, dead: Callable[[], None]) -> None:
        """Calls `dead` if no process answers at the socket although the core answers at its own."""
        self._stream, self._target, self._dead = stream, target, dead
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader(MAX_MESSAGE_OCTETS)
        self._transport: asyncio.Transport | None = None
        self._cause: errors.RestanteError = errors.Draining("The connection was lost.")
        self._writable = self._ended = self._sending = False
        self._connecting = self._loop.create_task(self._connect(socket), name="Execute")

    def wake(self) -> None:
        """Send what waits at the end of this turn of the loop."""
        if not self._sending:
            self._sending = True
            self._loop.call_soon(self._send)

    async def close(self) -> None:
        """Close the connection."""
        self._ended = True
        self._connecting.cancel()
        if self._transport is not None:
            self._transport.abort()
        await asyncio.gather(self._connecting, return_exceptions=True)

    # --- the transport's calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        made = self._transport = cast(asyncio.Transport, transport)  # uvloop's class is not derived from it
        self._writable = True
        made.write(hello(dict(self._target.metadata)))
        self.wake()

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (found := self._reader.next_frame()) is not None:
                self._receive(*found)
        except (MalformedFrame, DecodeError) as error:
            self._cause = errors.UnknownReason(str(error), grpc.StatusCode.INTERNAL)
            if self._transport is not None:
                self._transport.abort()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._stream.lost(self._cause)

    # --- frames ---

    async def _connect(self, socket: Path) -> None:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._loop.create_unix_connection(lambda: self, str(socket))
        except OSError as error:  # also TimeoutError
            self._ended = True
            if isinstance(error, ConnectionRefusedError) and await _answers(self._target):
                self._dead()
            why = error.strerror or "no answer in time"
            self._stream.lost(errors.UnknownReason(f"{socket}: {why}", grpc.StatusCode.UNAVAILABLE))

    def _send(self) -> None:
        self._sending = False
        transport = self._transport
        if transport is None or self._ended:
            return
        while self._writable and (request := self._stream.next_request()) is not None:
            transport.write(frame(Kind.MESSAGE, request))
        if self._stream.is_finished:
            self._ended = True
            transport.write(frame(Kind.END))

    def _receive(self, kind: Kind, content: bytes) -> None:
        if kind is Kind.MESSAGE:
            self._stream.received(ExecuteResponse.FromString(content))
        elif kind is Kind.STATUS:
            self._cause = errors.from_status(status_pb2.Status.FromString(content))
        elif kind is Kind.END:
            self._cause = errors.Draining("The server ended the stream.")
        else:
            raise MalformedFrame(f"a server may not send {kind.name}")


async def _answers(target: Target) -> bool:
    """Whether the core accepts connections at its own socket."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_unix_connection(target.address.removeprefix(SCHEME))
    except OSError:
        return False
    writer.transport.abort()
    return True
