"""One Execute stream over either binding, for tests that write requests and read responses themselves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import grpc.aio
from google.rpc import status_pb2

from restante import errors
from restante.streams import translated
from restante.v1.batch_pb2 import ExecuteRequest, ExecuteResponse
from restante_process.frames import FrameReader, Kind, frame, hello

BINDINGS = ("grpc", "frames")


class ExecuteStream(Protocol):
    """A client's side. `write` and `read` raise RestanteError when the server has ended the stream with a reason."""

    async def write(self, request: ExecuteRequest) -> None:
        """Send a request, waiting while the server does not take it."""
        ...

    async def read(self) -> ExecuteResponse | None:
        """The next response, None after the last."""
        ...

    async def done_writing(self) -> None:
        """Send no further request."""
        ...

    def cancel(self) -> None:
        """Leave."""
        ...


class GrpcStream:
    """A stream by gRPC."""

    def __init__(self, call: Any) -> None:
        self._call = call

    async def write(self, request: ExecuteRequest) -> None:
        with translated():
            await self._call.write(request)

    async def read(self) -> ExecuteResponse | None:
        with translated():
            response = await self._call.read()
        if isinstance(response, ExecuteResponse):
            return response
        assert response is grpc.aio.EOF
        return None

    async def done_writing(self) -> None:
        with translated():
            await self._call.done_writing()

    def cancel(self) -> None:
        self._call.cancel()


class FrameStream:
    """A stream in frames."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._frames = FrameReader(4 << 20)

    @classmethod
    async def open(cls, socket: Path, metadata: Mapping[str, str] | None) -> FrameStream:
        """Connect, and send the first frame unless `metadata` is None."""
        made = cls(*await asyncio.open_unix_connection(str(socket)))
        if metadata is not None:
            made.writer.write(hello(metadata))
        return made

    async def write(self, request: ExecuteRequest) -> None:
        self.writer.write(frame(Kind.MESSAGE, request.SerializeToString()))
        with contextlib.suppress(ConnectionError):  # `read` raises the reason
            await self.writer.drain()

    async def read(self) -> ExecuteResponse | None:
        while (found := self._frames.next_frame()) is None:
            octets = await self.reader.read(1 << 16)
            if not octets:
                raise errors.Draining("The connection was lost.")
            self._frames.feed(octets)
        kind, content = found
        if kind is Kind.STATUS:
            raise errors.from_status(status_pb2.Status.FromString(content))
        return ExecuteResponse.FromString(content) if kind is Kind.MESSAGE else None

    async def done_writing(self) -> None:
        self.writer.write(frame(Kind.END))
        await self.writer.drain()

    def cancel(self) -> None:
        self.writer.transport.abort()
