"""The server side of the contract for SMTP, over real gRPC: it records calls, and fails on a test's order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message

from restante import errors
from restante.v1 import (
    batch_pb2,
    batch_pb2_grpc,
    content_pb2,
    content_pb2_grpc,
    session_pb2,
    sync_pb2,
    sync_pb2_grpc,
    transport_pb2,
    transport_pb2_grpc,
)
from tests.harness.fake_sessions import FakeSessions

Respond = Callable[[Any, batch_pb2.Operation], Awaitable[Message]]


@dataclass
class Alice:
    """The one user."""

    account_id: int = 7
    address: str = "alice@example.test"
    password: str = "alice-demo"
    version: int = 3


class ContractCore:
    """The state shared by the servicers. A test sets attributes to cause failures."""

    def __init__(self) -> None:
        self.operations: list[batch_pb2.Operation] = []
        self.accepted: dict[bytes, tuple[transport_pb2.AcceptBegin, bytes]] = {}  # by request_id
        self.begun: list[transport_pb2.AcceptBegin] = []
        self.aborted = 0
        self.submitted: dict[bytes, transport_pb2.AcceptSubmissionRequest] = {}  # by request_id
        self.uploads: dict[bytes, bytes] = {}
        self.refuse_commit: errors.RestanteError | None = None
        self.refuse_submit: errors.RestanteError | None = None
        self.refuse_upload: errors.RestanteError | None = None
        self.lose_answers = 0  # number of commits after which the stream breaks instead of answering
        self.grant = True
        self.sessions = FakeSessions({"alice@example.test": Alice()}.get)
        self.verdicts_good_milliseconds = 0
        self.watchers: list[asyncio.Queue[sync_pb2.WatchResponse]] = []

    def end_sessions(self, account_id: int, version: int) -> None:
        for watcher in self.watchers:
            ended = sync_pb2.SessionsEnded(account_id=account_id, credential_version=version)
            watcher.put_nowait(sync_pb2.WatchResponse(sessions_ended=ended))


class Batch(batch_pb2_grpc.BatchServiceServicer):
    def __init__(self, core: ContractCore) -> None:
        self.core = core

    async def Execute(
        self, requests: AsyncIterator[batch_pb2.ExecuteRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[batch_pb2.ExecuteResponse]:
        async for request in requests:
            response = batch_pb2.ExecuteResponse()
            for operation in request.operations:
                self.core.operations.append(operation)
                result = response.results.add(operation_id=operation.operation_id)
                field = operation.WhichOneof("request")
                assert field is not None
                try:
                    if operation.session_token:
                        self.core.sessions.owner(operation.session_token)
                    getattr(result, field).CopyFrom(getattr(self, field)(getattr(operation, field), operation))
                except errors.RestanteError as error:
                    result.status.CopyFrom(errors.to_status(error))
                if field == "accept_submission" and self.core.lose_answers:
                    self.core.lose_answers -= 1
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
            yield response

    def authenticate(
        self, request: session_pb2.AuthenticateRequest, operation: batch_pb2.Operation
    ) -> session_pb2.AuthenticateResponse:
        return self.core.sessions.authenticate(request)

    def renew_session(self, request: Message, operation: batch_pb2.Operation) -> session_pb2.RenewSessionResponse:
        return self.core.sessions.renew(operation.session_token)

    def verify_recipients(
        self, request: transport_pb2.VerifyRecipientsRequest, operation: batch_pb2.Operation
    ) -> transport_pb2.VerifyRecipientsResponse:
        answer = transport_pb2.VerifyRecipientsResponse()
        for path in request.forward_paths:
            known = path.endswith("@example.test") and not path.startswith("nobody")
            good = self.core.verdicts_good_milliseconds if known else 0
            status = None if known else errors.to_status(errors.RecipientNotFound(address=path))
            answer.verdicts.add(accepted=known, status=status, good_for_milliseconds=good)
        return answer

    def accept_submission(
        self, request: transport_pb2.AcceptSubmissionRequest, operation: batch_pb2.Operation
    ) -> transport_pb2.AcceptSubmissionResponse:
        if self.core.refuse_submit is not None:
            raise self.core.refuse_submit
        request_id = request.submission.request_id
        self.core.submitted.setdefault(request_id, request)
        number = list(self.core.submitted).index(request_id) + 1
        return transport_pb2.AcceptSubmissionResponse(transport_id=number)


class Transport(transport_pb2_grpc.TransportServiceServicer):
    def __init__(self, core: ContractCore) -> None:
        self.core = core

    async def Accept(
        self, requests: AsyncIterator[transport_pb2.AcceptRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[transport_pb2.AcceptResponse]:
        open_: dict[int, tuple[transport_pb2.AcceptBegin, bytearray]] = {}
        async for request in requests:
            number, step = request.acceptance_id, request.WhichOneof("step")
            if step == "start":
                open_[number] = (request.start, bytearray(request.start.content))
                self.core.begun.append(request.start)
                if not request.start.whole:
                    continue
                step = "commit"
            if step == "chunk":
                open_[number][1].extend(request.chunk)
                if self.core.grant:
                    yield transport_pb2.AcceptResponse(acceptance_id=number, granted_octets=len(request.chunk))
            elif step == "abort":
                del open_[number]
                self.core.aborted += 1
            elif step == "commit":
                begin, content = open_.pop(number)
                if self.core.refuse_commit is not None:
                    status = errors.to_status(self.core.refuse_commit)
                    yield transport_pb2.AcceptResponse(acceptance_id=number, status=status)
                    continue
                self.core.accepted.setdefault(begin.request_id, (begin, bytes(content)))
                if self.core.lose_answers:
                    self.core.lose_answers -= 1
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
                transport_id = list(self.core.accepted).index(begin.request_id) + 1
                yield transport_pb2.AcceptResponse(acceptance_id=number, accepted=True, transport_id=transport_id)


class Content(content_pb2_grpc.ContentServiceServicer):
    def __init__(self, core: ContractCore) -> None:
        self.core = core

    async def UploadContent(
        self, requests: AsyncIterator[content_pb2.UploadContentRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> content_pb2.UploadContentResponse:
        octets = bytearray()
        async for request in requests:
            octets += request.octets
        if self.core.refuse_upload is not None and len(octets) > 400_000:  # having read on, as the core does
            status = errors.to_status(self.core.refuse_upload)
            trailers = (("grpc-status-details-bin", status.SerializeToString()),)
            await context.abort(self.core.refuse_upload.code, "no", trailing_metadata=trailers)
        name = b"upload-%d" % len(self.core.uploads)
        self.core.uploads[name] = bytes(octets)
        return content_pb2.UploadContentResponse(upload_id=name, size_octets=len(octets))


class Sync(sync_pb2_grpc.SyncServiceServicer):
    def __init__(self, core: ContractCore) -> None:
        self.core = core

    async def Watch(
        self, requests: AsyncIterator[sync_pb2.WatchRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[sync_pb2.WatchResponse]:
        notices: asyncio.Queue[sync_pb2.WatchResponse] = asyncio.Queue()
        self.core.watchers.append(notices)
        while True:
            yield await notices.get()


@contextlib.asynccontextmanager
async def serving(core: ContractCore, socket: Path) -> AsyncIterator[grpc.aio.Server]:
    """Serve on a Unix socket for the time of the context."""
    server = grpc.aio.server()
    batch_pb2_grpc.add_BatchServiceServicer_to_server(Batch(core), server)  # type: ignore[abstract]
    transport_pb2_grpc.add_TransportServiceServicer_to_server(Transport(core), server)  # type: ignore[abstract]
    content_pb2_grpc.add_ContentServiceServicer_to_server(Content(core), server)  # type: ignore[abstract]
    sync_pb2_grpc.add_SyncServiceServicer_to_server(Sync(core), server)  # type: ignore[abstract]
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    try:
        yield server
    finally:
        await server.stop(0)
