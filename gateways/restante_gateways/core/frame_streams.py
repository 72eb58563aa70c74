"""Server streams in frames, to a core on this machine (docs/design.md "Frames")."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import status_pb2

from restante import errors
from restante.target import MAX_MESSAGE_OCTETS
from restante_process.frames import FrameBuffer, Kind, MalformedFrame, frame, hello

Response = TypeVar("Response", bound=Message)

CONNECT_SECONDS = 5.0


class FrameStream(asyncio.BufferedProtocol, Generic[Response]):
    """One call. Responses are read from the connection when they are asked for, within one FrameBuffer."""

    def __init__(
        self,
        socket: Path,
        metadata: Mapping[str, str],
        request: Message,
        response: type[Response],
        refused: Callable[[], Awaitable[None]],
        connected: set[FrameStream[Any]],
    ) -> None:
        """`metadata` names the RPC, beside what proves the caller. Awaits `refused` if no process answers.

        The stream is in `connected` while it has a connection.
        """
        self._socket, self._response, self._refused = socket, response, refused
        self._connected = connected
        self._begin = hello(metadata) + frame(Kind.MESSAGE, request.SerializeToString())
        self._loop = asyncio.get_running_loop()
        self._buffer = FrameBuffer(MAX_MESSAGE_OCTETS)
        self._transport: asyncio.Transport | None = None
        self._cause: errors.RestanteError | None = None  # why nothing more will come
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None

    async def read(self) -> Response | None:
        """The next response, None after the last. Raises RestanteError."""
        if self._transport is None and self._cause is None:
            await self._connect()
        try:
            while (found := self._buffer.next_frame()) is None:
                await self._more()
            return self._received(*found)
        except (MalformedFrame, DecodeError) as error:
            raise errors.UnknownReason(str(error), grpc.StatusCode.INTERNAL) from None

    def close(self) -> None:
        """End the call. A waiting `read` raises Draining."""
        self._end(errors.Draining("The connection was closed."))
        if self._transport is not None:
            self._transport.abort()

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._loop.create_unix_connection(lambda: self, str(self._socket))
        except OSError as error:  # also TimeoutError
            if isinstance(error, ConnectionRefusedError):
                await self._refused()
            why = error.strerror or "no answer in time"
            raise errors.UnknownReason(f"{self._socket}: {why}", grpc.StatusCode.UNAVAILABLE) from None

    async def _more(self) -> None:
        """Wait for octets. Raises the reason why none will come."""
        if self._cause is not None:
            raise self._cause
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _received(self, kind: Kind, content: memoryview) -> Response | None:
        if kind is Kind.MESSAGE:
            return self._response.FromString(content)  # type: ignore[arg-type]  # any buffer
        if kind is Kind.END:
            return None
        if kind is Kind.STATUS:
            raise errors.from_status(status_pb2.Status.FromString(bytes(content)))
        raise MalformedFrame(f"a server may not send {kind.name}")

    def _end(self, cause: errors.RestanteError) -> None:
        if self._cause is None:
            self._cause = cause
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- the transport's calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        made = self._transport = cast(asyncio.Transport, transport)  # uvloop's class is not derived from it
        if self._cause is not None:
            made.abort()
            return
        self._connected.add(self)
        made.write(self._begin)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer.room

    def buffer_updated(self, nbytes: int) -> None:
        self._buffer.received(nbytes)
        if not self._buffer.room and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connected.discard(self)
        self._end(errors.Draining("The connection was lost."))
