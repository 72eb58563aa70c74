"""The client's watch, sync, reads and uploads resume after a break, and start again after a reset."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from restante import errors
from restante.calls import Calls
from restante.client import Client
from restante.session import UserSession
from restante.v1 import (
    batch_pb2_grpc,
    content_pb2,
    folder_pb2,
    sync_pb2,
    sync_pb2_grpc,
)
from restante.v1.batch_pb2 import Operation, OperationResult
from restante.v1.content_pb2 import UploadKind
from restante.v1.folder_pb2 import Folder, GetFolderResponse, OpenFolderResponse
from restante.v1.mailbox_pb2 import GetMailboxResponse, Mailbox
from restante.v1.message_pb2 import (
    MessageRows,
    SectionCells,
    SectionRest,
    StreamMessagesRequest,
    StreamMessagesResponse,
)
from restante.v1.session_pb2 import RenewSessionResponse, Session
from restante.v1.sync_pb2 import Checkpoint, MailboxChanged, ResetReason, SyncMailboxResponse
from restante.v1.types_pb2 import FolderChanges
from tests.clients.python.conftest import Batches, Servers, answer
from tests.clients.python.test_watch import Changes, until

OCTETS = bytes(range(256)) * 40


class Core(Changes):
    """One folder at change number 10, a content, and a Sync, each with breaks set by the test."""

    def __init__(self) -> None:
        super().__init__()
        self.change_number = 10
        self.opened = 0
        self.reads: list[int] = []
        self.asked: list[list[int]] = []
        self.break_read_after = 3_000
        self.cursors: list[bytes] = []
        self.sync_steps: list[list[SyncMailboxResponse | None]] = []
        self.uploads: list[bytes] = []
        self.break_uploads = 0
        self.refuse: errors.RestanteError | None = None
        self.renewed = RenewSessionResponse()

    async def reply(self, operation: Operation) -> OperationResult | None:
        if operation.HasField("get_mailbox"):
            mailbox = Mailbox(mailbox_id=1, epoch=4, change_number=self.change_number)
            return answer(operation, get_mailbox=GetMailboxResponse(mailbox=mailbox))
        if operation.HasField("renew_session"):
            return answer(operation, renew_session=self.renewed)
        folder = Folder(folder_id=5, change_number=self.change_number)
        return answer(operation, get_folder=GetFolderResponse(folder=folder))

    async def open_folder(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        self.opened += 1
        folder = Folder(folder_id=5, change_number=self.change_number)
        yield OpenFolderResponse(folder=folder, rows=FolderChanges(uids=[1, 2], message_ids=[11, 12]))
        if self.opened == 2:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        yield OpenFolderResponse(rows=FolderChanges(uids=[3], message_ids=[13]))

    async def read_content(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        start = request.section.offset_octets
        self.reads.append(start)
        wanted = OCTETS[start:]
        for position in range(0, len(wanted), 1_000):
            if position >= self.break_read_after:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
            yield content_pb2.ReadContentResponse(
                total_octets=len(wanted) if not position else 0, octets=wanted[position : position + 1_000]
            )

    async def stream_messages(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        """Three messages, one a batch, the second in pieces; breaks within the second and after the third."""
        left = list(request.messages.ids.message_ids)
        self.asked.append(left)
        for message_id in left:
            octets = OCTETS if message_id == 12 else b"short"
            cells = SectionCells(octets=[octets[:4_000]], total_octets=[len(octets)])
            yield StreamMessagesResponse(rows=MessageRows(message_ids=[message_id], sections=[cells]))
            for start in range(4_000, len(octets), 4_000):
                if len(self.asked) == 1:
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
                rest = SectionRest(section_index=0, offset_octets=start, octets=octets[start : start + 4_000])
                yield StreamMessagesResponse(rest=rest)
        if left:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    async def upload_content(self, requests: AsyncIterator[Any], context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        octets = b""
        async for request in requests:
            octets += request.octets
        if self.break_uploads:
            self.break_uploads -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        self.uploads.append(octets)
        return content_pb2.UploadContentResponse(upload_id=b"upload", size_octets=len(octets))

    async def SyncMailbox(
        self, request: sync_pb2.SyncMailboxRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[SyncMailboxResponse]:
        self.cursors.append(request.cursor)
        for step in self.sync_steps.pop(0):
            if step is None:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
            yield step

    def add_to(self, server: grpc.aio.Server) -> None:
        batch_pb2_grpc.add_BatchServiceServicer_to_server(Batches(self.reply), server)
        sync_pb2_grpc.add_SyncServiceServicer_to_server(self, server)
        self._add(server, "FolderService", "OpenFolder", self.open_folder, folder_pb2.OpenFolderRequest)
        self._add(server, "MessageService", "StreamMessages", self.stream_messages, StreamMessagesRequest)
        self._add(server, "ContentService", "ReadContent", self.read_content, content_pb2.ReadContentRequest)
        upload = grpc.stream_unary_rpc_method_handler(
            self.upload_content,
            content_pb2.UploadContentRequest.FromString,
            content_pb2.UploadContentResponse.SerializeToString,
        )
        handlers = grpc.method_handlers_generic_handler("restante.v1.ContentService", {"UploadContent": upload})
        server.add_generic_rpc_handlers((handlers,))

    def _add(self, server: grpc.aio.Server, service: str, name: str, serve: Any, request: Any) -> None:
        handler: Any = grpc.unary_stream_rpc_method_handler(
            serve, request.FromString, lambda response: response.SerializeToString()
        )
        handlers = grpc.method_handlers_generic_handler(f"restante.v1.{service}", {name: handler})
        server.add_generic_rpc_handlers((handlers,))


@pytest.fixture
async def core(servers: Servers) -> Core:
    made = Core()
    await servers.start(made.add_to)
    return made


@pytest.fixture
async def client(servers: Servers, core: Core) -> Client:
    link = await servers.link()
    session = UserSession(link, Session(session_token=b"token", account_id=1, mailbox_id=1))
    return Client(Calls(link, session, timeout_seconds=5.0))


def subscription(core: Core) -> int:
    return core.requests[-1][-1].subscribe.subscription_id


async def test_a_watch_resumes_after_its_last_notice(core: Core, client: Client) -> None:
    async with aclosing(client.changes.watch(5)) as events:  # type: ignore[type-var]
        following = asyncio.ensure_future(anext(events))
        await until(lambda: core.requests and core.requests[-1])
        assert core.requests[0][0].subscribe.since_change_number == 10
        core.tell(subscription_id=subscription(core), folder=FolderChanges(change_number=11))
        assert (await following).changes.change_number == 11
        core.end()
        following = asyncio.ensure_future(anext(events))
        await until(lambda: len(core.requests) == 2 and core.requests[1])
        assert core.requests[1][0].subscribe.since_change_number == 11
        core.tell(subscription_id=subscription(core), folder=FolderChanges(change_number=12))
        event = await following
        assert (event.changes.change_number, event.fresh) == (12, False)
    assert core.opened == 0


@pytest.mark.parametrize("over", [errors.SessionExpired, errors.SessionRevoked])  # the second: a new password
async def test_a_watch_outlives_the_tokens_of_its_session(
    core: Core, client: Client, over: type[errors.RestanteError]
) -> None:
    renewed = Session(session_token=b"renewed", account_id=1, mailbox_id=1)
    core.renewed = RenewSessionResponse(session=renewed)
    async with aclosing(client.changes.watch(5)) as events:  # type: ignore[type-var]
        following = asyncio.ensure_future(anext(events))
        await until(lambda: core.requests and core.requests[-1])
        core.tell(subscription_id=subscription(core), folder=FolderChanges(change_number=11))
        await following
        following = asyncio.ensure_future(anext(events))
        core.tell(subscription_id=subscription(core), rejected=errors.to_status(over()))
        await until(lambda: len(core.requests[-1]) > 1)
        again = core.requests[-1][-1].subscribe
        assert (again.session_token, again.since_change_number) == (b"renewed", 11)
        core.tell(subscription_id=again.subscription_id, folder=FolderChanges(change_number=12))
        event = await following
        assert (event.changes.change_number, event.fresh) == (12, False)
        following = asyncio.ensure_future(anext(events))
        for _ in range(2):  # a server that refuses every token as expired
            known = subscription(core)
            core.tell(subscription_id=known, rejected=errors.to_status(errors.SessionExpired()))
            await until(lambda: following.done() or subscription(core) != known)  # noqa: B023 - awaited at once
        with pytest.raises(errors.SessionExpired):
            await following
    assert core.opened == 0


async def test_after_a_reset_the_folder_is_read_anew_as_a_whole(core: Core, client: Client) -> None:
    async with aclosing(client.changes.watch(5, snapshot=True)) as events:  # type: ignore[type-var]
        first, second = await anext(events), await anext(events)
        assert (first.fresh, second.fresh) == (True, False)
        following = asyncio.ensure_future(anext(events))
        await until(lambda: core.requests and core.requests[-1])
        core.change_number = 50
        core.tell(subscription_id=subscription(core), reset_reason=ResetReason.RESET_REASON_HISTORY_GONE)
        again = await following  # the client restarted the second read after a break, invisibly
        assert again.fresh
        assert [*again.changes.uids, *(await anext(events)).changes.uids] == [1, 2, 3]
        following = asyncio.ensure_future(anext(events))
        await until(lambda: len(core.requests[-1]) > 1)
        assert core.requests[-1][-1].subscribe.since_change_number == 50
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    assert core.opened == 3


async def test_a_reader_that_is_too_slow_reads_anew(core: Core, client: Client) -> None:
    client.changes.max_notices = 5
    async with aclosing(client.changes.watch(5)) as events:  # type: ignore[type-var]
        following = asyncio.ensure_future(anext(events))
        await until(lambda: core.requests and core.requests[-1])
        for number in range(11, 40):
            core.tell(subscription_id=subscription(core), folder=FolderChanges(change_number=number))
        assert (await following).changes.change_number == 11
        await asyncio.sleep(0.2)
        assert (await anext(events)).fresh


async def test_a_folder_that_is_gone_ends_the_watch(core: Core, client: Client) -> None:
    watching = client.changes.watch(5)
    following = asyncio.ensure_future(anext(watching))
    await until(lambda: core.requests and core.requests[-1])
    core.tell(subscription_id=subscription(core), rejected=errors.to_status(errors.FolderNotFound()))
    with pytest.raises(errors.FolderNotFound):
        await following


async def test_a_session_that_ends_ends_the_watch(core: Core, client: Client) -> None:
    following = asyncio.ensure_future(anext(client.changes.watch(5)))
    await until(lambda: core.requests and core.requests[-1])
    client.session._keeper.end(errors.SessionRevoked())
    with pytest.raises(errors.SessionRevoked):
        await asyncio.wait_for(following, 5)


async def test_a_watched_mailbox_tells_what_may_have_been_missed(core: Core, client: Client) -> None:
    async with aclosing(client.changes.watch_mailbox()) as events:  # type: ignore[type-var]
        following = asyncio.ensure_future(anext(events))
        await until(lambda: core.requests and core.requests[-1])
        core.tell(subscription_id=subscription(core), mailbox=MailboxChanged(change_number=11, folder_ids=[5]))
        event = await following
        assert (event.change_number, event.folder_ids, event.fresh) == (11, [5], False)
        core.change_number = 60
        following = asyncio.ensure_future(anext(events))
        core.tell(subscription_id=subscription(core), reset_reason=ResetReason.RESET_REASON_EPOCH_CHANGED)
        event = await following
        assert (event.change_number, event.fresh) == (60, True)


def checkpoint(cursor: bytes) -> SyncMailboxResponse:
    return SyncMailboxResponse(checkpoint=Checkpoint(cursor=cursor))


async def test_a_sync_resumes_from_its_last_checkpoint(core: Core, client: Client) -> None:
    deleted = SyncMailboxResponse(deleted_folder_id=3)
    core.sync_steps = [[checkpoint(b"one"), deleted, None], [deleted, checkpoint(b"two"), None], [checkpoint(b"three")]]
    steps = [step async for step in client.changes.sync(cursor=b"zero", follow=False)]
    assert core.cursors == [b"zero", b"one", b"two"]
    assert [step.checkpoint.cursor for step in steps if step.HasField("checkpoint")] == [b"one", b"two", b"three"]


async def test_a_sync_begins_again_after_a_reset(core: Core, client: Client) -> None:
    reset = SyncMailboxResponse(reset_reason=ResetReason.RESET_REASON_HISTORY_GONE)
    core.sync_steps = [[reset], [checkpoint(b"new")]]
    steps = [step async for step in client.changes.sync(cursor=b"old", follow=False)]
    assert core.cursors == [b"old", b""]
    assert [step.WhichOneof("change") for step in steps] == ["reset_reason", "checkpoint"]


async def test_octets_are_read_on_from_where_they_broke_off(core: Core, client: Client) -> None:
    seen: list[tuple[int, int]] = []
    pieces = [
        piece async for piece in client.contents.stream(7, on_progress=lambda done, total: seen.append((done, total)))
    ]
    assert b"".join(pieces) == OCTETS
    assert core.reads == [0, 3_000, 6_000, 9_000]
    assert seen[-1] == (len(OCTETS), len(OCTETS))


async def test_messages_come_whole_and_once_whatever_breaks(core: Core, client: Client) -> None:
    batches = [batch async for batch in client.messages.stream([11, 12, 13])]
    assert [list(batch.message_ids) for batch in batches] == [[11], [12], [13]]
    assert [batch.sections[0].octets[0] for batch in batches] == [b"short", OCTETS, b"short"]
    assert core.asked == [[11, 12, 13], [12, 13]]


async def test_an_upload_is_begun_anew_after_a_break(core: Core, client: Client, tmp_path: Path) -> None:
    file = tmp_path / "content"
    file.write_bytes(OCTETS * 100)
    core.break_uploads = 2
    seen: list[int] = []
    made = await client.contents.upload(
        UploadKind.UPLOAD_KIND_ATTACHMENT, file, on_progress=lambda done, total: seen.append(done)
    )
    assert made.size_octets == len(OCTETS) * 100
    assert core.uploads == [OCTETS * 100]
    assert seen[-1] == len(OCTETS) * 100


async def test_an_upload_of_a_missing_file_is_refused(client: Client, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await client.contents.upload(UploadKind.UPLOAD_KIND_ATTACHMENT, tmp_path / "nothing")


async def test_a_stream_that_cannot_be_opened_gives_up_after_the_patience(servers: Servers) -> None:
    link = await servers.link(patience_seconds=0.2)
    client = Client(Calls(link, UserSession(link, Session(session_token=b"token")), timeout_seconds=0.5))
    with pytest.raises(errors.RestanteError):
        await client.contents.read(7)
