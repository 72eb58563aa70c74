"""Small gRPC servers in this process, with answers set by a test."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from restante import errors
from restante.link import CoreLink, OpenCarrier
from restante.target import Target
from restante.v1 import batch_pb2_grpc
from restante.v1.batch_pb2 import (
    ExecuteOnceRequest,
    ExecuteOnceResponse,
    ExecuteRequest,
    ExecuteResponse,
    Operation,
    OperationResult,
)
from restante_process.frames import SOCKET_NAME, FrameReader, Kind, frame, parse_hello

Answer = Callable[[Operation], Awaitable[OperationResult | None]]


def answer(operation: Operation, **response: Any) -> OperationResult:
    """A result: `answer(operation, get_folder=GetFolderResponse(...))`."""
    return OperationResult(operation_id=operation.operation_id, **response)


def refusal(operation: Operation, error: errors.RestanteError) -> OperationResult:
    """A result with an error."""
    return OperationResult(operation_id=operation.operation_id, status=errors.to_status(error))


class Batches(batch_pb2_grpc.BatchServiceServicer):
    """Execute with answers by a test: `reply` returns the result of each operation, or None for no answer."""

    def __init__(self, reply: Answer) -> None:
        self.reply = reply
        self.requests: list[ExecuteRequest] = []
        self.streams = 0
        self.peers: list[str] = []
        self.metadata: list[dict[str, str]] = []
        self.cancelled: list[int] = []
        self._break: list[asyncio.Event] = []
        self._outgoing: list[asyncio.Queue[ExecuteResponse | None]] = []

    @property
    def operations(self) -> list[Operation]:
        """All received operations, in order."""
        return [operation for request in self.requests for operation in request.operations]

    def drain(self) -> None:
        """Announce the draining on every stream."""
        for outgoing in self._outgoing:
            outgoing.put_nowait(ExecuteResponse(draining=True))

    def break_streams(self) -> None:
        """End every stream without answering."""
        for broken in self._break:
            broken.set()

    async def Execute(
        self,
        request_iterator: AsyncIterator[ExecuteRequest],
        context: grpc.aio.ServicerContext[ExecuteRequest, ExecuteResponse],
    ) -> AsyncIterator[ExecuteResponse]:
        self.streams += 1
        self.peers.append(context.peer())
        self.metadata.append({key: str(value) for key, value in context.invocation_metadata() or ()})
        outgoing: asyncio.Queue[ExecuteResponse | None] = asyncio.Queue()
        broken = asyncio.Event()
        self._break.append(broken)
        self._outgoing.append(outgoing)
        working: set[asyncio.Task[None]] = set()

        async def one(operation: Operation) -> None:
            result = await self.reply(operation)
            if result is not None:
                outgoing.put_nowait(ExecuteResponse(results=[result]))

        async def take() -> None:
            async for request in request_iterator:
                self.requests.append(request)
                self.cancelled.extend(request.cancel_operation_ids)
                for operation in request.operations:
                    task = asyncio.create_task(one(operation))
                    working.add(task)
                    task.add_done_callback(working.discard)
            await asyncio.gather(*working)
            outgoing.put_nowait(None)

        async def watch_break() -> None:
            await broken.wait()
            outgoing.put_nowait(None)

        tasks = [asyncio.create_task(take()), asyncio.create_task(watch_break())]
        try:
            while (response := await outgoing.get()) is not None:
                yield response
            if broken.is_set():
                await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        finally:
            self._break.remove(broken)
            self._outgoing.remove(outgoing)
            for task in (*tasks, *working):
                task.cancel()

    async def ExecuteOnce(
        self, request: ExecuteOnceRequest, context: grpc.aio.ServicerContext[ExecuteOnceRequest, ExecuteOnceResponse]
    ) -> ExecuteOnceResponse:
        results = [await self.reply(operation) for operation in request.operations]
        return ExecuteOnceResponse(results=[result for result in results if result is not None])


class FrameBatches:
    """Serves the Execute of a servicer in frames."""

    def __init__(self, servicer: Batches) -> None:
        self._servicer = servicer
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server

    async def start(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, path)

    def stop(self) -> None:
        """Leave the socket's file behind, as a core that died."""
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        frames = FrameReader(4 << 20)

        async def next_frame() -> tuple[Kind, bytes]:
            while (found := frames.next_frame()) is None:
                octets = await reader.read(1 << 16)
                if not octets:
                    return Kind.END, b""
                frames.feed(octets)
            return found

        async def requests() -> AsyncIterator[ExecuteRequest]:
            while (found := await next_frame())[0] is Kind.MESSAGE:
                yield ExecuteRequest.FromString(found[1])

        kind, content = await next_frame()
        assert kind is Kind.HELLO
        try:
            async for response in self._servicer.Execute(requests(), FrameContext(parse_hello(content))):  # type: ignore[arg-type]
                writer.write(frame(Kind.MESSAGE, response.SerializeToString()))
            writer.write(frame(Kind.END))
        except errors.RestanteError as error:
            writer.write(frame(Kind.STATUS, errors.to_status(error).SerializeToString()))
        self._writers.discard(writer)
        writer.close()


class FrameContext:
    """The used part of a ServicerContext."""

    def __init__(self, metadata: dict[str, str]) -> None:
        self._metadata = metadata

    def peer(self) -> str:
        return "unix:"

    def invocation_metadata(self) -> Iterable[tuple[str, str]]:
        return self._metadata.items()

    async def abort(self, code: grpc.StatusCode, detail: str) -> None:
        raise errors.UnknownReason(detail, code)


class Servers:
    """Servers on one Unix socket, also one after the other."""

    def __init__(self, socket: Path, open_carrier: OpenCarrier | None = None) -> None:
        """`open_carrier` is that of the links. With it, `batches` serves frames too."""
        self.target = Target(f"unix:{socket}")
        self._open_carrier = open_carrier
        self.by_frames = open_carrier is not None
        self._server: grpc.aio.Server | None = None
        self._frames: FrameBatches | None = None
        self._links: list[CoreLink] = []

    async def start(self, *add: Callable[[grpc.aio.Server], None]) -> None:
        """Serve; each of `add` puts a servicer on the server."""
        self._server = grpc.aio.server()
        for each in add:
            each(self._server)
        self._server.add_insecure_port(self.target.address)
        await self._server.start()

    async def batches(self, reply: Answer) -> Batches:
        """Serve BatchService alone."""
        servicer = Batches(reply)
        if self._open_carrier is not None:
            self._frames = FrameBatches(servicer)
            await self._frames.start(Path(self.target.address.removeprefix("unix:")).with_name(SOCKET_NAME))
        await self.start(lambda server: batch_pb2_grpc.add_BatchServiceServicer_to_server(servicer, server))
        return servicer

    async def serve(self, *servicers: object) -> None:
        """Serve these servicers, each by the `add_...` function of its generated base."""
        adders = []
        for servicer in servicers:
            base = next(each for each in type(servicer).__mro__ if each.__module__.startswith("restante.v1."))
            add = getattr(import_module(base.__module__), f"add_{base.__name__}_to_server")
            adders.append(partial(add, servicer))
        await self.start(*adders)

    async def stop(self) -> None:
        """Stop the server at once, as if the core had died."""
        if self._frames is not None:
            self._frames.stop()
            self._frames = None
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def link(self, *, patience_seconds: float = 5.0) -> CoreLink:
        """A link to the server, closed at the end of the test."""
        link = await CoreLink.connect(self.target, patience_seconds=patience_seconds, open_carrier=self._open_carrier)
        self._links.append(link)
        return link

    async def close(self) -> None:
        """Close all links and servers."""
        for link in self._links:
            await link.close()
        await self.stop()


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[Servers]:
    """See Servers."""
    made = Servers(tmp_path / "core.sock")
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(made.close)
        yield made
