"""The transport of one Execute stream, and the multiplexer's side of it; other transports of server streams."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol, TypeVar

import grpc.aio
from google.protobuf.message import Message

from restante import errors, streams
from restante.target import Target
from restante.v1.batch_pb2 import ExecuteResponse

Metadata = tuple[tuple[str, str], ...]
Call = grpc.aio.StreamStreamCall[bytes, ExecuteResponse]
Response = TypeVar("Response", bound=Message)
Streamed_co = TypeVar("Streamed_co", bound=Message, covariant=True)
PATH = "/restante.v1.BatchService/Execute"


class Stream(Protocol):
    """The multiplexer's side of a stream. All calls come from the event loop."""

    @property
    def is_finished(self) -> bool:
        """Whether no request will follow, and every operation has been answered."""
        ...

    def next_request(self) -> bytes | None:
        """The next encoded ExecuteRequest; None if nothing waits. The carrier asks only when it can send."""
        ...

    def received(self, response: ExecuteResponse) -> None:
        """Take a response."""
        ...

    def lost(self, cause: errors.RestanteError) -> None:
        """Take back unanswered operations, since the stream has ended. Further calls do nothing."""
        ...


class Carrier(Protocol):
    """The transport's side of a stream: it calls `lost` at the stream's end, whatever the reason."""

    def wake(self) -> None:
        """Ask the stream for its next request, or whether it is finished, soon."""
        ...

    async def close(self) -> None:
        """End the stream without waiting for answers."""
        ...


class ServerStream(Protocol[Streamed_co]):
    """A call whose response streams, by another transport than gRPC. The first `read` begins it."""

    async def read(self) -> Streamed_co | None:
        """The next response, None after the last. Raises RestanteError."""
        ...

    def close(self) -> None:
        """End the call. A waiting `read` raises Draining."""
        ...


class OpenServerStream(Protocol):
    """Begins calls whose response streams by another transport than gRPC."""

    def __call__(
        self, target: Target, rpc: str, metadata: Metadata, request: Message, response: type[Response], /
    ) -> ServerStream[Response] | None:
        """A call of an RPC such as "MessageService/StreamMessages". None: this core has no other transport."""
        ...


class GrpcCarrier:
    """Carries a stream by a gRPC call of BatchService.Execute."""

    def __init__(self, channel: grpc.aio.Channel, metadata: Metadata, stream: Stream) -> None:
        execute: Any = channel.stream_stream(PATH, response_deserializer=ExecuteResponse.FromString)
        self._call: Call = execute(metadata=metadata)
        self._stream = stream
        self._wake = asyncio.Event()
        self._tasks = (asyncio.create_task(self._write()), asyncio.create_task(self._read()))

    def wake(self) -> None:
        """Write what waits."""
        self._wake.set()

    async def close(self) -> None:
        """Cancel the call."""
        for task in self._tasks:
            task.cancel()
        self._call.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _write(self) -> None:
        try:
            while True:
                self._wake.clear()
                request = self._stream.next_request()
                if request is not None:
                    with streams.translated():
                        await self._call.write(request)
                elif self._stream.is_finished:
                    with streams.translated():
                        await self._call.done_writing()
                    return
                else:
                    await self._wake.wait()
        except errors.RestanteError as error:
            self._stream.lost(error)

    async def _read(self) -> None:
        cause: errors.RestanteError = errors.Draining("The server ended the stream.")
        try:
            while True:
                with streams.translated():
                    response = await self._call.read()
                if not isinstance(response, ExecuteResponse):  # grpc.aio.EOF
                    break
                self._stream.received(response)
        except errors.RestanteError as error:
            cause = error
        self._stream.lost(cause)
