"""Server streams in frames, for gateways of this machine (docs/design.md "Frames").

A connection is one call, and ends with it. The next response is made when the client has taken the one before, but for
what the kernel and one response hold.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import status_pb2

from restante.errors import to_status
from restante_process.frames import FrameReader, Kind, MalformedFrame, frame, head
from restante_server.api.engine.faults import translate
from restante_server.api.engine.rpc import STATUS_DETAILS, Context

REQUEST_SECONDS = 10.0  # for the request


@dataclass(frozen=True, slots=True)
class FramedRpc:
    """An RPC whose response alone streams."""

    path: str
    request: type[Message]
    serve: Callable[[Any, Context], AsyncIterator[Message]]


class Refused(Exception):
    """The call ends with this google.rpc.Status, encoded."""

    def __init__(self, status: bytes) -> None:
        super().__init__(status)
        self.status = status


class _Context:
    """The Context of a call in frames."""

    def __init__(self, metadata: Mapping[str, str]) -> None:
        self._metadata = metadata

    def invocation_metadata(self) -> Any:
        return tuple(self._metadata.items())

    def peer(self) -> str:
        return "unix:"

    def time_remaining(self) -> float | None:
        return None

    async def abort(self, _code: Any, _details: str = "", trailing_metadata: Any = ()) -> Any:
        raise Refused(dict(trailing_metadata)[STATUS_DETAILS])


class StreamConnection(asyncio.Protocol):
    """The connection of one call, after the first frame, which has proven the caller and named the RPC."""

    def __init__(
        self,
        transport: asyncio.Transport,
        reader: FrameReader,
        rpc: FramedRpc,
        metadata: Mapping[str, str],
        forget: Callable[[StreamConnection], None],
    ) -> None:
        """`reader` has what has come behind the first frame: call `take`. Calls `forget` at the end."""
        self._transport, self._reader, self._rpc = transport, reader, rpc
        self._context, self._forget = _Context(metadata), forget
        self._task: asyncio.Task[None] | None = None
        self._room = asyncio.Event()
        self._room.set()
        self._limit = asyncio.get_running_loop().call_later(REQUEST_SECONDS, self.close_unproven)

    def close_unproven(self) -> None:
        """Close the connection if its request has not come."""
        if self._task is None:
            self._transport.abort()

    def abort(self) -> None:
        """End the connection now."""
        self._transport.abort()

    # --- the transport's calls ---

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        self.take()

    def eof_received(self) -> None:
        self.abort()  # the client is gone

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._limit.cancel()
        if self._task is not None:
            self._task.cancel()
        self._forget(self)

    # --- the call ---

    def take(self) -> None:
        """Begin the call if its request has come."""
        try:
            while (found := self._reader.next_frame()) is not None:
                kind, content = found
                if kind is not Kind.MESSAGE or self._task is not None:
                    raise MalformedFrame(f"a client may not send {kind.name} here")
                self._limit.cancel()
                request = self._rpc.request.FromString(content)
                self._task = asyncio.create_task(self._run(request), name=self._rpc.path)
        except (MalformedFrame, DecodeError) as error:
            problem = status_pb2.Status(code=grpc.StatusCode.INTERNAL.value[0], message=str(error))
            self._end(frame(Kind.STATUS, problem.SerializeToString()))

    async def _run(self, request: Message) -> None:
        last = frame(Kind.END)
        try:
            async with contextlib.aclosing(self._rpc.serve(request, self._context)) as responses:  # type: ignore[type-var]
                async for response in responses:
                    content = response.SerializeToString()
                    self._transport.writelines((head(Kind.MESSAGE, len(content)), content))
                    if not self._room.is_set():
                        await self._room.wait()
        except Refused as refused:
            last = frame(Kind.STATUS, refused.status)
        except Exception as error:  # noqa: BLE001 - every failure gets a status with a reason
            last = frame(Kind.STATUS, to_status(translate(error, self._rpc.path)).SerializeToString())
        self._end(last)

    def _end(self, last: bytes) -> None:
        """Write the outcome, and close the connection when the client has taken everything."""
        self._transport.write(last)
        self._transport.close()
