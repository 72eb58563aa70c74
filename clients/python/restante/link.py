"""The connection of a process to the core: one Execute, Watch and Accept stream each, and the other streaming RPCs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message

from restante import streams
from restante.accept import AcceptStream
from restante.carrier import Carrier, GrpcCarrier, Metadata, OpenServerStream, ServerStream, Stream
from restante.carrier import Response as Streamed
from restante.execute import Followed, Multiplexer
from restante.failover import PACE, Failover, Health, Move, Pace, ask_health
from restante.methods import Method, Request, Response
from restante.target import Target
from restante.v1 import (
    batch_pb2,
    batch_pb2_grpc,
    content_pb2,
    content_pb2_grpc,
    folder_pb2,
    folder_pb2_grpc,
    job_pb2,
    job_pb2_grpc,
    message_pb2,
    message_pb2_grpc,
    sync_pb2,
    sync_pb2_grpc,
    transport_pb2,
    transport_pb2_grpc,
)
from restante.watch import WatchStream

LAST_WORDS_SECONDS = 0.02
OpenCarrier = Callable[[Target, Stream], Carrier | None]
"""Opens another transport for an Execute stream than gRPC. None: this core has no other."""
RETIRED_SECONDS = 600.0  # for an old connection to finish its calls
LEFT_SECONDS = 30.0  # the same for a connection to a core that is not ready any more


def _no_session() -> bytes:
    return b""


class CoreLink:
    """All access of a gateway or a client process to the core.

    Use `await CoreLink.connect(target)`. It waits for nothing: the first call opens a stream, and the link reconnects
    to an unreachable core by itself.
    """

    def __init__(
        self,
        target: Target | Sequence[Target],
        *,
        patience_seconds: float = 5.0,
        pace: Pace = PACE,
        open_carrier: OpenCarrier | None = None,
        open_server_stream: OpenServerStream | None = None,
    ) -> None:
        """An operation waits `patience_seconds` for an unreachable core. Without `open_carrier` it goes by gRPC, and
        so do reads of folders and messages without `open_server_stream`.

        The link uses one of several targets at a time, beginning with the first. When that core cannot be reached,
        drains or is not ready, the link moves to a ready one: it sends unanswered operations again there, in order,
        and resumes each subscription after its last notice. Every server stream raises Draining and may be opened
        again. A session token is good at every core of a store.

        A process that has one session and no process identity sets `session` to a function that returns its token.
        """
        targets = (target,) if isinstance(target, Target) else tuple(target)
        self.target = targets[0]  # the present core
        self._channel = self.target.open_channel()
        self._retired: dict[asyncio.Task[None], grpc.aio.Channel] = {}
        self._watched_on = self._accepted_on = self._channel
        self.session: Callable[[], bytes] = _no_session
        self._open_carrier, self._open_server_stream = open_carrier, open_server_stream
        self._server_streams: set[ServerStream[Any]] = set()  # those that gRPC does not carry
        self._operations = Multiplexer(self._open_execute, patience_seconds=patience_seconds)
        self.watch = WatchStream(self._open_watch, lambda: bool(self.session()))
        self.accept = AcceptStream(self._open_accept)
        self._pace = pace
        self._failover: Failover | None = None
        if len(targets) > 1 or self.target.is_name:
            self._failover = Failover(self, targets, pace)
            self._failover.start()

    @classmethod
    async def connect(
        cls,
        target: Target | Sequence[Target],
        *,
        patience_seconds: float = 5.0,
        pace: Pace = PACE,
        open_carrier: OpenCarrier | None = None,
        open_server_stream: OpenServerStream | None = None,
    ) -> CoreLink:
        """A link on the running event loop."""
        return cls(
            target,
            patience_seconds=patience_seconds,
            pace=pace,
            open_carrier=open_carrier,
            open_server_stream=open_server_stream,
        )

    async def close(self) -> None:
        """End all streams and connections."""
        if self._failover is not None:
            await self._failover.close()
        await self._operations.close()
        await self.watch.close()
        await self.accept.close()
        _end(set(self._server_streams))
        retired = dict(self._retired)
        for closing in retired:
            closing.cancel()
        await asyncio.gather(*retired, return_exceptions=True)
        for channel in (*retired.values(), self._channel):
            await channel.close()
        # gRPC still reports cancelled calls to this event loop, which may end right after this.
        await asyncio.sleep(LAST_WORDS_SECONDS)

    @property
    def channel(self) -> grpc.aio.Channel:
        """The present connection."""
        return self._channel

    def on_move(self, listener: Callable[[Move], None]) -> None:
        """Call `listener` after each move of the link from one core to another."""
        if self._failover is not None:
            self._failover.on_move.append(listener)

    async def why_not_serving(self) -> str:
        """The reason why no core is usable now, by grpc.health.v1; empty when one is.

        Does not wait for an unreachable core, and at most some seconds for one that does not answer.
        """
        if self._failover is not None:
            return await self._failover.examine()
        seconds = self._pace.answer_seconds
        health = await ask_health(self._channel, seconds)
        return "" if health is Health.READY else f"the core at {self.target.address} {health.describe(seconds)}"

    def move(self, target: Target, channel: grpc.aio.Channel, *, abandon: bool) -> None:
        """Use another core from now on. `abandon`: do not wait for the old core's answers."""
        old, self._channel, self.target = self._channel, channel, target
        grace_seconds = 0.0 if abandon else LEFT_SECONDS
        self._operations.replace(grace_seconds)
        self.accept.replace()
        asyncio.get_running_loop().call_later(grace_seconds, _end, set(self._server_streams))
        self._retire(old, grace_seconds)
        self.watch.reopen()

    async def execute(
        self,
        method: Method[Request, Response],
        request: Request,
        *,
        session: bytes = b"",
        client_address: str = "",
        timeout: float = 30.0,
        independent: bool = False,
        followed: Followed | None = None,
    ) -> Response:
        """Run one operation on the shared Execute stream. See Multiplexer.execute."""
        return await self._operations.execute(
            method,
            request,
            session=session,
            client_address=client_address,
            timeout=timeout,
            independent=independent,
            followed=followed,
        )

    async def execute_alone(
        self,
        method: Method[Request, Response],
        request: Request,
        *,
        session: bytes = b"",
        client_address: str = "",
        timeout: float = 30.0,
    ) -> Response:
        """One RPC as a call of its own, for a response that is too large for an operation (RESULT_TOO_LARGE)."""
        self._look_for_a_core()
        call = self._channel.unary_unary(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.response.FromString,
        )
        metadata = self._metadata(session, client_address)
        with streams.translated():
            response: Response = await call(request, metadata=metadata, timeout=max(0.0, timeout))
        return response

    async def execute_once(
        self,
        operations: Sequence[batch_pb2.Operation],
        *,
        session: bytes = b"",
        client_address: str = "",
        timeout: float = 30.0,
    ) -> list[batch_pb2.OperationResult]:
        """BatchService.ExecuteOnce: the results of one batch, in the order of its operations."""
        self._look_for_a_core()
        stub = batch_pb2_grpc.BatchServiceStub(self._channel)
        request = batch_pb2.ExecuteOnceRequest(operations=operations)
        metadata = self._metadata(session, client_address)
        with streams.translated():
            answer = await stub.ExecuteOnce(request, metadata=metadata, timeout=max(0.0, timeout))
        return list(answer.results)

    def open_folder(
        self, request: folder_pb2.OpenFolderRequest, *, session: bytes = b"", client_address: str = ""
    ) -> AsyncIterator[folder_pb2.OpenFolderResponse]:
        """FolderService.OpenFolder: a snapshot in pieces."""
        call = folder_pb2_grpc.FolderServiceStub(self._channel).OpenFolder
        metadata = self._metadata(session, client_address)
        return self._streamed("FolderService/OpenFolder", call, metadata, request, folder_pb2.OpenFolderResponse)

    def stream_messages(
        self, request: message_pb2.StreamMessagesRequest, *, session: bytes = b"", client_address: str = ""
    ) -> AsyncIterator[message_pb2.StreamMessagesResponse]:
        """MessageService.StreamMessages: batches. The next one is read only when the caller asks for it."""
        call = message_pb2_grpc.MessageServiceStub(self._channel).StreamMessages
        metadata = self._metadata(session, client_address)
        return self._streamed(
            "MessageService/StreamMessages", call, metadata, request, message_pb2.StreamMessagesResponse
        )

    def read_content(
        self, request: content_pb2.ReadContentRequest, *, session: bytes = b"", client_address: str = ""
    ) -> AsyncIterator[content_pb2.ReadContentResponse]:
        """ContentService.ReadContent: octets of one message."""
        call = content_pb2_grpc.ContentServiceStub(self._channel).ReadContent
        metadata = self._metadata(session, client_address)
        return self._streamed("ContentService/ReadContent", call, metadata, request, content_pb2.ReadContentResponse)

    async def upload(
        self,
        kind: content_pb2.UploadKind.ValueType,
        chunks: AsyncIterable[bytes],
        *,
        session: bytes = b"",
        client_address: str = "",
    ) -> content_pb2.UploadContentResponse:
        """ContentService.UploadContent: chunks of any size."""
        stub = content_pb2_grpc.ContentServiceStub(self._channel)
        metadata = self._metadata(session, client_address)
        return await streams.upload(stub.UploadContent(streams.pieces(kind, chunks), metadata=metadata))

    def sync_mailbox(
        self, request: sync_pb2.SyncMailboxRequest, *, session: bytes = b"", client_address: str = ""
    ) -> AsyncIterator[sync_pb2.SyncMailboxResponse]:
        """SyncService.SyncMailbox: snapshot, then tail."""
        stub = sync_pb2_grpc.SyncServiceStub(self._channel)
        return streams.responses(stub.SyncMailbox(request, metadata=self._metadata(session, client_address)))

    def lease_outbound(
        self, request: transport_pb2.LeaseOutboundRequest
    ) -> AsyncIterator[transport_pb2.LeaseOutboundResponse]:
        """TransportService.LeaseOutbound: work for the relay."""
        stub = transport_pb2_grpc.TransportServiceStub(self._channel)
        return streams.responses(stub.LeaseOutbound(request, metadata=self._metadata()))

    def read_outbound(
        self, request: transport_pb2.ReadOutboundRequest
    ) -> AsyncIterator[transport_pb2.ReadOutboundResponse]:
        """TransportService.ReadOutbound: octets of a leased message."""
        stub = transport_pb2_grpc.TransportServiceStub(self._channel)
        return streams.responses(stub.ReadOutbound(request, metadata=self._metadata()))

    def watch_job(
        self, request: job_pb2.WatchJobRequest, *, session: bytes = b""
    ) -> AsyncIterator[job_pb2.WatchJobResponse]:
        """JobService.WatchJob: a job after each change, with its new findings."""
        stub = job_pb2_grpc.JobServiceStub(self._channel)
        return streams.responses(stub.WatchJob(request, metadata=self._metadata(session)))

    def _streamed(
        self, rpc: str, call: Callable[..., Any], metadata: Metadata, request: Message, response: type[Streamed]
    ) -> AsyncIterator[Streamed]:
        """The responses of a server stream, by another transport if the core has one, else by gRPC's `call`."""
        if self._open_server_stream is not None:
            stream = self._open_server_stream(self.target, rpc, metadata, request, response)
            if stream is not None:
                return self._responses(stream)
        return streams.responses(call(request, metadata=metadata))

    async def _responses(self, stream: ServerStream[Streamed]) -> AsyncIterator[Streamed]:
        self._server_streams.add(stream)
        try:
            while (response := await stream.read()) is not None:
                yield response
        finally:
            self._server_streams.discard(stream)
            stream.close()

    def _metadata(self, session: bytes = b"", client_address: str = "") -> tuple[tuple[str, str], ...]:
        return streams.call_metadata(self.target.metadata, session, client_address)

    def _renew(self) -> grpc.aio.Channel:
        """A fresh connection for the stream after one that drained; the old connection finishes its calls."""
        old, self._channel = self._channel, self.target.open_channel()
        self._retire(old, RETIRED_SECONDS)
        return self._channel

    def _retire(self, channel: grpc.aio.Channel, grace_seconds: float) -> None:
        closing = asyncio.create_task(channel.close(grace_seconds), name="retired connection")
        self._retired[closing] = channel
        closing.add_done_callback(lambda done: self._retired.pop(done, None))

    def _open_execute(self, fresh: bool, stream: Stream) -> Carrier:
        self._look_for_a_core()
        other = self._open_carrier(self.target, stream) if self._open_carrier is not None else None
        if other is not None:
            return other
        return GrpcCarrier(self._renew() if fresh else self._channel, self._metadata(), stream)

    def _open_watch(self) -> Any:
        self._look_for_a_core()
        # Another stream may have found a fresh connection already.
        fresh = self.watch.drained and self._watched_on is self._channel
        self._watched_on = self._renew() if fresh else self._channel
        return sync_pb2_grpc.SyncServiceStub(self._watched_on).Watch(metadata=self._metadata(self.session()))

    def _open_accept(self) -> Any:
        self._look_for_a_core()
        fresh = self.accept.drained and self._accepted_on is self._channel
        self._accepted_on = self._renew() if fresh else self._channel
        return transport_pb2_grpc.TransportServiceStub(self._accepted_on).Accept(metadata=self._metadata())

    def _look_for_a_core(self) -> None:
        """Check the core before opening a stream: the last one may have broken or drained."""
        if self._failover is not None:
            self._failover.suspect()


def _end(server_streams: set[ServerStream[Any]]) -> None:
    for stream in server_streams:
        stream.close()
