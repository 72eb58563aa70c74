"""Rights are decided in each transaction: a right lost after a request was queued is not used any more."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from restante import errors
from restante.v1 import methods
from restante.v1.folder_pb2 import ListFoldersRequest
from restante.v1.mailbox_pb2 import GetMailboxRequest
from restante.v1.message_pb2 import (
    FLAG_OPERATION_ADD,
    MESSAGE_COLUMN_FLAGS,
    SECTION_KIND_WHOLE,
    AppendMessageRequest,
    BatchGetMessagesRequest,
    CopyMessagesRequest,
    MessageSet,
    Section,
    StreamMessagesRequest,
    UpdateMessagesRequest,
)
from restante.v1.session_pb2 import Scope
from restante.v1.submission_pb2 import SubmitMessageRequest
from restante.v1.sync_pb2 import SyncMailboxRequest
from restante.v1.types_pb2 import Flag, IdRange, UidSet
from restante_server.api.engine.call import Call
from restante_server.api.engine.caller import Caller
from restante_server.api.engine.registry import Registry
from restante_server.api.services.catalogue import SERVICES
from restante_server.api.services.messages import stream_messages
from restante_server.api.services.sync import sync_mailbox
from restante_server.db.operation import Write
from restante_server.directory import rights
from restante_server.store import mailboxes
from tests.server.api.served import Served, request_id, served
from tests.server.api.services.test_watch import Watcher, append, reason

INBOX = 1
RPCS = Registry(SERVICES)
EVERYTHING = MessageSet(uids=UidSet(folder_id=INBOX, ranges=[IdRange(first=1, last=99)]))
LARGE = b"Subject: large\r\n\r\n" + b"x" * 150_000 + b"\r\n"  # two of them do not fit one batch


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as made:
        yield made


class Bob:
    """Bob's session, and the right in his mailbox."""

    def __init__(self, core: Served, session: Any, caller: Caller) -> None:
        self._core, self.caller = core, caller
        self.token, self.mailbox_id, self.account_id = session.session_token, session.mailbox_id, session.account_id

    @classmethod
    async def login(cls, core: Served) -> Bob:
        session = await core.session("bob")
        return cls(core, session, await core.core.authenticator.session(session.session_token, Caller()))

    def call(self) -> Call:
        return self._core.dispatcher.call(self.caller, float("inf"))

    async def run(self, method: Any, request: Any) -> Any:
        """Make a call through the dispatcher, without a connection."""
        return await self._core.dispatcher.run(RPCS.unary[method.field], self.caller, request, time.monotonic() + 20)

    async def lose(self) -> None:
        """Give the mailbox to nobody. The session and what is remembered of it stay as they are."""
        await self._core.core.db.write(self._assignment(None))

    async def regain(self) -> None:
        await self._core.core.db.write(self._assignment(self.account_id))

    def _assignment(self, owner: int | None) -> Write[None]:
        def assign(tx: Connection) -> None:
            mailboxes.assign(tx, rights.system(self.mailbox_id), owner)

        return Write(assign, mailboxes=frozenset({self.mailbox_id}))


@contextmanager
def writes_held(core: Served) -> Iterator[threading.Event]:
    """Keep the write lane busy until the event is set: what comes meanwhile waits in the queue."""
    begun, may_end = threading.Event(), threading.Event()

    def wait(_tx: Connection) -> None:
        begun.set()
        assert may_end.wait(20)

    holding = asyncio.ensure_future(core.core.db.write(Write(wait)))
    try:
        yield may_end
    finally:
        may_end.set()
        holding.add_done_callback(lambda done: done.exception())


async def test_a_write_that_was_queued_before_the_right_was_lost_is_refused_in_its_transaction(core: Served) -> None:
    bob = await Bob.login(core)
    await append(core, bob.token)
    update = UpdateMessagesRequest(messages=EVERYTHING, operation=FLAG_OPERATION_ADD, flags=Flag.FLAG_FLAGGED)
    copy = CopyMessagesRequest(messages=EVERYTHING, target_folder_id=2, request_id=request_id())
    with writes_held(core) as may_go_on:
        losing = asyncio.ensure_future(bob.lose())
        await asyncio.sleep(0)
        writes = [asyncio.ensure_future(bob.run(methods.UPDATE_MESSAGES, update)) for _ in range(2)]
        writes.append(asyncio.ensure_future(bob.run(methods.COPY_MESSAGES, copy)))
        await asyncio.sleep(0.05)
        assert not any(write.done() for write in writes), "the check before the queue has admitted them"
        may_go_on.set()
        await losing
        for write in writes:
            with pytest.raises(errors.MailboxNotFound):
                await write
    await bob.regain()
    rows = (
        await bob.run(
            methods.BATCH_GET_MESSAGES, BatchGetMessagesRequest(messages=EVERYTHING, columns=[MESSAGE_COLUMN_FLAGS])
        )
    ).rows
    assert list(rows.flags) == [0]


async def test_reads_and_writes_of_a_session_without_the_right_are_refused(core: Served) -> None:
    bob = await Bob.login(core)
    await append(core, bob.token)
    calls = [
        (methods.GET_MAILBOX, GetMailboxRequest()),
        (methods.LIST_FOLDERS, ListFoldersRequest()),
        (methods.BATCH_GET_MESSAGES, BatchGetMessagesRequest(messages=EVERYTHING)),
        (
            methods.APPEND_MESSAGE,
            AppendMessageRequest(path=["Inbox"], content=b"a: b\r\n\r\n", request_id=request_id()),
        ),
    ]
    for method, request in calls:
        await bob.run(method, request)
    await bob.lose()
    for method, request in calls:  # the APPEND is a repetition: its remembered response is refused, too
        with pytest.raises(errors.MailboxNotFound):
            await bob.run(method, request)


async def test_the_remembered_answer_of_a_submission_is_refused_without_the_right(core: Served) -> None:
    bob = await Bob.login(core)
    content = b"From: bob@example.test\r\nTo: alice@example.test\r\n\r\nHello\r\n"
    submit = SubmitMessageRequest(content=content, request_id=request_id())
    submitted = (await bob.run(methods.SUBMIT_MESSAGE, submit)).submission.submission_id
    assert (await bob.run(methods.SUBMIT_MESSAGE, submit)).submission.submission_id == submitted
    await bob.lose()
    with pytest.raises(errors.MailboxNotFound):
        await bob.run(methods.SUBMIT_MESSAGE, submit)


async def test_the_next_read_of_a_stream_is_refused(core: Served) -> None:
    bob = await Bob.login(core)
    for _ in range(3):
        await append(core, bob.token, content=LARGE)
    request = StreamMessagesRequest(messages=EVERYTHING, sections=[Section(kind=SECTION_KIND_WHOLE)])
    stream = stream_messages(bob.call(), request)
    assert (await anext(stream)).rows.message_ids
    await bob.lose()
    with pytest.raises(errors.MailboxNotFound):
        [response async for response in stream]


async def test_a_follower_is_refused_at_once(core: Served) -> None:
    bob = await Bob.login(core)
    stream = sync_mailbox(bob.call(), SyncMailboxRequest(follow=True))
    while not (await anext(stream)).HasField("checkpoint"):
        pass
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await bob.lose()
    with pytest.raises(errors.MailboxNotFound):
        await asyncio.wait_for(waiting, 5)


@pytest.mark.parametrize("folder_id", [0, INBOX])
async def test_a_lost_right_ends_only_the_subscriptions_that_hung_on_it(core: Served, folder_id: int) -> None:
    bob = await Bob.login(core)
    alice = (await core.session("alice", Scope.SCOPE_IMAP, identity="imap")).session_token
    his = (await core.session("bob", Scope.SCOPE_IMAP, identity="imap")).session_token
    watcher = Watcher(core, identity="imap")
    await watcher.subscribe(1, session_token=alice, folder_id=INBOX)
    await watcher.subscribe(2, session_token=his, folder_id=folder_id)
    await bob.lose()
    while (notice := await watcher.read()).WhichOneof("notice") != "rejected":
        assert notice.subscription_id != 2 or not notice.HasField("folder")
    assert (notice.subscription_id, reason(notice)) == (2, "MAILBOX_NOT_FOUND")
    number = await append(core, (await core.session("alice")).session_token)
    while (notice := await watcher.read()).folder.change_number != number:
        assert notice.subscription_id != 2  # notices of accounts, for the gateway itself, may come meanwhile
    assert reason(await watcher.subscribe(3, session_token=his, folder_id=INBOX)) == "MAILBOX_NOT_FOUND"


async def test_a_mailbox_that_the_session_may_not_name_is_refused_before_anything_is_queued(
    core: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob = await Bob.login(core)
    strange = bob.mailbox_id + 1
    calls = [
        (methods.UPDATE_MESSAGES, UpdateMessagesRequest(mailbox_id=strange, messages=EVERYTHING)),
        (
            methods.COPY_MESSAGES,
            CopyMessagesRequest(messages=EVERYTHING, target_mailbox_id=strange, request_id=request_id()),
        ),
        (methods.GET_MAILBOX, GetMailboxRequest(mailbox_id=strange)),
        (methods.BATCH_GET_MESSAGES, BatchGetMessagesRequest(mailbox_id=strange, messages=EVERYTHING)),
    ]

    async def queued(*_: Any, **__: Any) -> None:
        pytest.fail("something was queued")

    for name in ("read", "read_short", "write"):
        monkeypatch.setattr(core.core.db, name, queued)
    for method, request in calls:
        with pytest.raises(errors.MailboxNotFound):
            await bob.run(method, request)


async def test_the_own_mailbox_may_be_named_as_the_target(core: Served) -> None:
    bob = await Bob.login(core)
    await append(core, bob.token)
    copy = CopyMessagesRequest(
        mailbox_id=bob.mailbox_id,
        target_mailbox_id=bob.mailbox_id,
        messages=EVERYTHING,
        target_folder_id=2,
        request_id=request_id(),
    )
    done = await bob.run(methods.COPY_MESSAGES, copy)
    assert len(done.target_uids) == 1
    assert await bob.run(methods.COPY_MESSAGES, copy) == done
