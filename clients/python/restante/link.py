"""The connection of a process to the core: one Execute stream, one Watch stream, one Accept stream, and the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import Int32Value

from restante import streams
from restante.accept import AcceptStream
from restante.execute import Followed, Multiplexer
from restante.methods import Method, Request, Response
from restante.target import Target
from restante.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    batch_pb2_grpc,
    content_pb2,
    content_pb2_grpc,
    folder_pb2,
    folder_pb2_grpc,
    message_pb2,
    message_pb2_grpc,
    sync_pb2,
    sync_pb2_grpc,
    transport_pb2,
    transport_pb2_grpc,
)
from restante.watch import WatchStream

LAST_WORDS_SECONDS = 0.02
SERVING = 1  # of grpc.health.v1.HealthCheckResponse.ServingStatus
RETIRED_SECONDS = 600.0  # how long an old connection may finish what it has


def _nobody() -> bytes:
    return b""


class CoreLink:
    """Everything that a gateway or a client process needs of the core.

    Use `await CoreLink.connect(target)`; there is nothing to wait for until the first call, and a core that is away is
    found again by itself.
    """

    def __init__(self, target: Target, *, patience_seconds: float = 5.0) -> None:
        """`patience_seconds`: how long an operation waits for a core that is away.

        A process with one session, and no identity of its own, sets `session` to a function that gives its token.
        """
        self.target = target
        self._channel = target.open_channel()
        self._retired: dict[asyncio.Task[None], grpc.aio.Channel] = {}
        self._watched_on = self._accepted_on = self._channel
        self.session: Callable[[], bytes] = _nobody
        self._operations = Multiplexer(self._open_execute, patience_seconds=patience_seconds)
        self.watch = WatchStream(self._open_watch, lambda: bool(self.session()))
        self.accept = AcceptStream(self._open_accept)

    @classmethod
    async def connect(cls, target: Target, *, patience_seconds: float = 5.0) -> CoreLink:
        """A link on the running event loop."""
        return cls(target, patience_seconds=patience_seconds)

    async def close(self) -> None:
        """End all streams and connections."""
        await self._operations.close()
        await self.watch.close()
        await self.accept.close()
        retired = dict(self._retired)
        for closing in retired:
            closing.cancel()
        await asyncio.gather(*retired, return_exceptions=True)
        for channel in (*retired.values(), self._channel):
            await channel.close()
        # What gRPC still has to say of cancelled calls goes to this loop, which may end right after this.
        await asyncio.sleep(LAST_WORDS_SECONDS)

    async def why_not_serving(self, timeout: float) -> str:
        """What stands against using the core now, as it says by grpc.health.v1; empty when nothing does.

        It never waits for a core that is away, and at most `timeout` seconds for one that does not answer.
        """
        # The messages have these shapes on the wire; the package that has them by name is not worth a dependency.
        check = self._channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=Empty.SerializeToString,  # HealthCheckRequest of the whole server
            response_deserializer=Int32Value.FromString,  # HealthCheckResponse: an enum in field 1
        )
        try:
            answer = await check(Empty(), timeout=timeout)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                return f"the core at {self.target.address} did not answer within {timeout:.0f} s"
            return f"the core at {self.target.address} cannot be reached"
        if answer.value == SERVING:
            return ""
        return f"the core at {self.target.address} is not ready: its database does not answer, or it is ending"

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

    def open_folder(
        self, request: folder_pb2.OpenFolderRequest, *, session: bytes = b"", client_address: str = ""
    ) -> AsyncIterator[folder_pb2.OpenFolderResponse]:
        """FolderService.OpenFolder: a snapshot in pieces."""
        stub = folder_pb2_grpc.FolderServiceStub(self._channel)
        return streams.responses(stub.OpenFolder(request, metadata=self._metadata(session, client_address)))

    def stream_messages(
        self, request: message_pb2.StreamMessagesRequest, *, session: bytes = b"", client_address: str = ""
    ) -> AsyncIterator[message_pb2.StreamMessagesResponse]:
        """MessageService.StreamMessages: batches, read on only as they are taken."""
        stub = message_pb2_grpc.MessageServiceStub(self._channel)
        return streams.responses(stub.StreamMessages(request, metadata=self._metadata(session, client_address)))

    def read_content(
        self, request: content_pb2.ReadContentRequest, *, session: bytes = b"", client_address: str = ""
    ) -> AsyncIterator[content_pb2.ReadContentResponse]:
        """ContentService.ReadContent: octets of one message."""
        stub = content_pb2_grpc.ContentServiceStub(self._channel)
        return streams.responses(stub.ReadContent(request, metadata=self._metadata(session, client_address)))

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

    def check_store(
        self, request: admin_pb2.CheckStoreRequest, *, session: bytes = b""
    ) -> AsyncIterator[admin_pb2.CheckStoreResponse]:
        """AdminService.CheckStore: progress and findings."""
        stub = admin_pb2_grpc.AdminServiceStub(self._channel)
        return streams.responses(stub.CheckStore(request, metadata=self._metadata(session)))

    def backup_store(
        self, request: admin_pb2.BackupStoreRequest, *, session: bytes = b""
    ) -> AsyncIterator[admin_pb2.BackupStoreResponse]:
        """AdminService.BackupStore: progress."""
        stub = admin_pb2_grpc.AdminServiceStub(self._channel)
        return streams.responses(stub.BackupStore(request, metadata=self._metadata(session)))

    def _metadata(self, session: bytes = b"", client_address: str = "") -> tuple[tuple[str, str], ...]:
        return streams.call_metadata(self.target.metadata, session, client_address)

    def _renew(self) -> grpc.aio.Channel:
        """A fresh connection for a stream that follows one which drained; the old one may finish what it has."""
        old, self._channel = self._channel, self.target.open_channel()
        closing = asyncio.create_task(old.close(RETIRED_SECONDS), name="retired connection")
        self._retired[closing] = old
        closing.add_done_callback(lambda done: self._retired.pop(done, None))
        return self._channel

    def _open_execute(self, fresh: bool) -> Any:
        stub = batch_pb2_grpc.BatchServiceStub(self._renew() if fresh else self._channel)
        return stub.Execute(metadata=self._metadata())

    def _open_watch(self) -> Any:
        # Another stream may have found a fresh connection already.
        fresh = self.watch.drained and self._watched_on is self._channel
        self._watched_on = self._renew() if fresh else self._channel
        return sync_pb2_grpc.SyncServiceStub(self._watched_on).Watch(metadata=self._metadata(self.session()))

    def _open_accept(self) -> Any:
        fresh = self.accept.drained and self._accepted_on is self._channel
        self._accepted_on = self._renew() if fresh else self._channel
        return transport_pb2_grpc.TransportServiceStub(self._accepted_on).Accept(metadata=self._metadata())
