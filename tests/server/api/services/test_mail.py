"""Mailboxes, folders and messages through the dispatcher, as a gateway calls them."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from sqlalchemy import Connection, update

from restante import errors
from restante.errors import (
    FolderExists,
    FolderNotFound,
    InvalidArgument,
    InvalidPageToken,
    LeaseLost,
    MailboxNotFound,
    MaildropInUse,
    MessageNotFound,
    PermissionDenied,
    QuotaExceeded,
    RequestIdRequired,
    RequestIdReused,
    ResultTooLarge,
    UploadNotFound,
)
from restante.methods import Method
from restante.v1 import content_pb2 as c1
from restante.v1 import folder_pb2 as f1
from restante.v1 import message_pb2 as v1
from restante.v1 import methods
from restante.v1.message_pb2 import MessageSet
from restante.v1.session_pb2 import Scope
from restante.v1.types_pb2 import IdRange, MailAddress, MessageIdSet, UidSet
from restante_process.config import Config
from restante_server.api.engine.caller import Caller
from restante_server.api.services import contents as _contents  # noqa: F401 - registers its handlers
from restante_server.api.services import folders as _folders  # noqa: F401 - registers its handlers
from restante_server.api.services import mailboxes
from restante_server.api.services import messages as _messages  # noqa: F401 - registers its handlers
from restante_server.api.services.append import Append
from restante_server.db.operation import Write
from restante_server.db.schema import mailbox
from restante_server.store.check import check
from restante_server.store.staging import Contents, ContentSettings
from restante_server.upkeep.collector import Collector
from tests.server.api.people import RPCS, Bench

LETTER = b"From: bob@example.test\nSubject: Hello\nDate: Mon, 21 Sep 2026 12:00:00 +0000\n\nHow are you?\n"
STORED = LETTER.replace(b"\n", b"\r\n")


class Mail:
    """One user's session, with short methods for calls."""

    def __init__(self, bench: Bench, caller: Caller) -> None:
        self.bench, self.caller = bench, caller

    async def call(self, method: Method[Any, Any], **fields: Any) -> Any:
        if "request_id" in method.request.DESCRIPTOR.fields_by_name:
            fields.setdefault("request_id", secrets.token_bytes(16))
        return await self.bench.run(method, method.request(**fields), self.caller)

    async def stream(self, service: str, name: str, request: Any) -> list[Any]:
        call = self.bench.dispatcher.call(self.caller, time.monotonic() + 20)
        return [response async for response in RPCS.streams[service, name].run(call, request)]

    async def folder(self, *path: str) -> f1.Folder:
        found: f1.Folder = (await self.call(methods.GET_FOLDER, path=path)).folder
        return found

    async def append(self, folder_id: int, content: bytes = LETTER, **fields: Any) -> Any:
        return await self.call(methods.APPEND_MESSAGE, folder_id=folder_id, content=content, **fields)


@pytest.fixture
async def bench(bench: Bench, tmp_path: Path) -> AsyncIterator[Bench]:
    """A core with contents, whose store must pass the check at the end."""
    settings = ContentSettings(tmp_path, inline_octets=8 << 10, reserve_octets=0)
    bench.core.settings = Config(data=str(tmp_path))
    bench.core.contents = Contents(bench.core.db, settings)
    yield bench
    assert await bench.core.db.read(check) == []


@pytest.fixture
async def bob(bench: Bench) -> Mail:
    return Mail(bench, await bench.caller(await bench.login("bob@example.test", "bob-demo")))


@pytest.fixture
async def carol(bench: Bench) -> Mail:
    return Mail(bench, await bench.caller(await bench.login("carol@example.test", "carol-demo")))


def messages(folder_id: int, *uids: int) -> MessageSet:
    return MessageSet(uids=UidSet(folder_id=folder_id, ranges=[IdRange(first=uid, last=uid) for uid in uids]))


async def test_a_message_is_appended_and_read_back_canonical(bob: Mail) -> None:
    inbox = await bob.folder("inbox")
    added = await bob.append(inbox.folder_id, flags=4, keywords=["work"], received_offset_minutes=-90)
    assert (added.uid, added.uid_validity, added.size_octets) == (1, inbox.uid_validity, len(STORED))
    assert added.line_ends_changed
    columns = [column for column in v1.MessageColumn.values() if column]
    got = await bob.call(
        methods.BATCH_GET_MESSAGES,
        messages=messages(inbox.folder_id, 1, 5),
        columns=columns,
        sections=[
            v1.Section(),
            v1.Section(kind=v1.SECTION_KIND_HEADER_FIELDS, fields=["subject"]),
            v1.Section(kind=v1.SECTION_KIND_TEXT, offset_octets=4, length_octets=3),
            v1.Section(part=[7]),
        ],
        min_commit=added.commit,
    )
    rows = got.rows
    assert (list(rows.uids), list(rows.flags), list(rows.size_octets)) == ([1], [4], [len(STORED)])
    assert list(rows.keyword_table[rows.keyword_sets[0]].keywords) == ["work"]
    assert list(rows.received_offset_minutes) == [-90]
    assert rows.summaries[0].subject == "Hello"
    assert list(rows.previews) == ["How are you?"]
    assert rows.envelopes[0].startswith(b'("Mon, 21 Sep 2026 12:00:00 +0000" "Hello"')
    whole, subject, text, missing = rows.sections
    assert list(whole.octets) == [STORED]
    assert list(subject.octets) == [b"Subject: Hello\r\n\r\n"]
    assert (list(text.octets), list(text.total_octets)) == ([b"are"], [3])
    assert (list(missing.octets), list(missing.total_octets)) == ([b""], [-1])


async def test_a_target_may_be_named_by_its_path(bob: Mail) -> None:
    inbox, archive = await bob.folder("Inbox"), await bob.folder("Archive")
    first = await bob.append(0, path=["inbox"])
    assert (first.folder_id, first.uid) == (inbox.folder_id, 1)
    assert (await bob.append(inbox.folder_id)).folder_id == inbox.folder_id
    copied = await bob.call(methods.COPY_MESSAGES, messages=messages(inbox.folder_id, 1), target_path=["Archive"])
    assert (copied.target_folder_id, len(copied.target_uids)) == (archive.folder_id, 1)
    moved = await bob.call(methods.MOVE_MESSAGES, messages=messages(inbox.folder_id, 2), target_path=["Archive"])
    assert (moved.target_folder_id, len(moved.target_uids)) == (archive.folder_id, 1)
    assert (await bob.folder("Archive")).message_count == 2


async def test_an_unknown_path_is_refused_without_an_id(bob: Mail) -> None:
    inbox = await bob.folder("Inbox")
    await bob.append(inbox.folder_id)
    for method in (methods.COPY_MESSAGES, methods.MOVE_MESSAGES):
        with pytest.raises(errors.FolderNotFound) as missing:
            await bob.call(method, messages=messages(inbox.folder_id, 1), target_path=["Nowhere", "Else"])
        assert "folder_id" not in missing.value.metadata
        with pytest.raises(errors.FolderNotFound) as missing:
            await bob.call(method, messages=messages(99, 1), target_path=["Inbox"])
        assert missing.value.metadata["folder_id"] == "99"
    with pytest.raises(errors.FolderNotFound):
        await bob.append(0, path=["Nowhere"])
    with pytest.raises(errors.InvalidArgument):
        await bob.append(inbox.folder_id, path=["Inbox"])


async def test_a_repeated_append_is_done_once(bob: Mail) -> None:
    inbox = await bob.folder("INBOX")
    name = secrets.token_bytes(16)
    first = await bob.append(inbox.folder_id, request_id=name)
    assert await bob.append(inbox.folder_id, request_id=name) == first
    assert (await bob.folder("Inbox")).message_count == 1
    with pytest.raises(RequestIdRequired):
        await bob.append(inbox.folder_id, request_id=b"")


async def _held(bench: Bench) -> Callable[[], Awaitable[None]]:
    """Hold the write lane up. Returns a function that lets it go on, once all the calls just made wait for it."""
    started, go_on = threading.Event(), threading.Event()

    def hold(_tx: Connection) -> None:
        started.set()
        assert go_on.wait(10)

    holding = asyncio.ensure_future(bench.core.db.write(Write(hold)))
    await asyncio.to_thread(started.wait, 10)

    async def let_go() -> None:
        await asyncio.sleep(0.05)
        go_on.set()
        await holding

    return let_go


async def test_appends_that_wait_together_run_as_sets_and_fail_alone(
    bob: Mail, carol: Mail, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neighbours in different mailboxes share their statements; those of one mailbox keep their own change numbers."""
    sets: list[int] = []
    real = Append.run_many.__func__  # type: ignore[attr-defined]

    def counted(cls: type[Append], tx: Connection, appends: Sequence[Append]) -> Any:
        sets.append(len(appends))
        return real(cls, tx, appends)

    monkeypatch.setattr(Append, "run_many", classmethod(counted))
    inbox = [(await one.folder("Inbox")).folder_id for one in (bob, carol)]
    known = secrets.token_bytes(16)
    repeated = await bob.append(inbox[0], request_id=known)
    await carol.append(inbox[1])
    sets.clear()
    let_go = await _held(bob.bench)
    answers = asyncio.gather(
        bob.append(inbox[0]),
        carol.append(inbox[1]),
        bob.append(0, path=["Inbox"], keywords=["work"]),
        carol.append(999),
        bob.append(inbox[0], request_id=known),
        carol.append(inbox[1], LETTER + b"more"),
        bob.append(inbox[0], LETTER + b"other", request_id=known),
        return_exceptions=True,
    )
    await let_go()
    found: list[Any] = await answers
    first, other, second, missing, again, last, reused = found
    assert sets == [2, 2, 2, 1] or not bob.bench.core.db.alone  # PostgreSQL: each mailbox has a lane of its own
    assert again == repeated
    assert isinstance(missing, FolderNotFound)
    assert isinstance(reused, RequestIdReused)
    assert [one.uid for one in (repeated, first, second)] == [1, 2, 3]
    assert [one.uid for one in (other, last)] == [2, 3]
    assert (second.since_change_number, last.since_change_number) == (
        first.commit.change_number,
        other.commit.change_number,
    )
    assert second.commit.change_number == first.commit.change_number + 1


async def test_an_append_beyond_the_quota_stops_no_other_of_its_set(bob: Mail, carol: Mail) -> None:
    core, inbox = bob.bench.core, [(await one.folder("Inbox")).folder_id for one in (bob, carol)]
    full = update(mailbox).where(mailbox.c.mailbox_id == bob.caller.mailbox_id).values(quota_octets=10)
    await core.db.write(Write(lambda tx: tx.execute(full).close()))
    let_go = await _held(bob.bench)
    answers = asyncio.gather(bob.append(inbox[0]), carol.append(inbox[1]), return_exceptions=True)
    await let_go()
    found: tuple[Any, Any] = await answers
    refused, added = found
    assert isinstance(refused, QuotaExceeded)
    assert added.uid == 1


async def test_an_upload_is_used_up_by_one_append(bob: Mail) -> None:
    inbox = (await bob.folder("inbox")).folder_id
    large = LETTER + b"word " * 100_000
    first = await bob.call(methods.UPLOAD_CHUNK, kind=c1.UPLOAD_KIND_MESSAGE, octets=large[:300_000])
    done = await bob.call(
        methods.UPLOAD_CHUNK, upload_id=first.upload_id, offset_octets=300_000, octets=large[300_000:], last=True
    )
    assert done.finished
    name = secrets.token_bytes(16)
    request = {"folder_id": inbox, "upload_id": first.upload_id}
    added = await bob.call(methods.APPEND_MESSAGE, request_id=name, **request)
    assert added.line_ends_changed
    assert await bob.call(methods.APPEND_MESSAGE, request_id=name, **request) == added
    with pytest.raises(UploadNotFound):
        await bob.call(methods.APPEND_MESSAGE, **request)
    # A content too large for an operation's answer is streamed, with its cells continued in the next batch.
    asked: dict[str, Any] = {
        "messages": messages(inbox, 1),
        "sections": [v1.Section(), v1.Section(kind=v1.SECTION_KIND_TEXT)],
    }
    with pytest.raises(ResultTooLarge):
        await bob.call(methods.BATCH_GET_MESSAGES, **asked)
    batches = await bob.stream("MessageService", "StreamMessages", v1.StreamMessagesRequest(**asked))
    assert all(batch.ByteSize() < 300 << 10 for batch in batches)
    cells = [bytearray(cell.octets[0]) for cell in batches[0].rows.sections]
    totals = [cell.total_octets[0] for cell in batches[0].rows.sections]
    for batch in batches[1:]:
        assert batch.rest.offset_octets == len(cells[batch.rest.section_index])
        cells[batch.rest.section_index] += batch.rest.octets
    stored = large.replace(b"\n", b"\r\n")
    assert [bytes(cell) for cell in cells] == [stored, stored.partition(b"\r\n\r\n")[2]]
    assert totals == [len(cell) for cell in cells]


async def test_many_messages_are_streamed_in_batches_in_order(bob: Mail) -> None:
    inbox = (await bob.folder("inbox")).folder_id
    body = LETTER + b"line of text\n" * 400
    for _ in range(60):
        await bob.append(inbox, body)
    request = v1.StreamMessagesRequest(
        messages=MessageSet(uids=UidSet(folder_id=inbox, ranges=[IdRange(first=1, last=1 << 31)])),
        columns=[v1.MESSAGE_COLUMN_FLAGS],
        sections=[v1.Section()],
    )
    batches = await bob.stream("MessageService", "StreamMessages", request)
    assert len(batches) > 1
    assert all(batch.ByteSize() <= 256 << 10 for batch in batches)
    assert [uid for batch in batches for uid in batch.rows.uids] == list(range(1, 61))
    assert all(len(batch.rows.sections[0].octets) == len(batch.rows.uids) for batch in batches)
    with pytest.raises(FolderNotFound):
        await bob.stream("MessageService", "StreamMessages", v1.StreamMessagesRequest(messages=messages(999, 1)))


async def test_single_messages_in_many_runs_are_one_answer(bob: Mail) -> None:
    inbox = (await bob.folder("inbox")).folder_id
    for number in range(6):
        await bob.append(inbox, keywords=[f"k{number}"])
    wanted = messages(inbox, *range(1, 1_401, 2))
    got = await bob.call(methods.BATCH_GET_MESSAGES, messages=wanted, columns=[v1.MESSAGE_COLUMN_FLAGS])
    rows = got.rows
    assert list(rows.uids) == [1, 3, 5]
    assert [rows.keyword_table[at].keywords[0] for at in rows.keyword_sets] == ["k0", "k2", "k4"]


async def test_reading_may_mark_as_seen(bob: Mail) -> None:
    inbox = (await bob.folder("inbox")).folder_id
    await bob.append(inbox)
    asked = {"messages": messages(inbox, 1), "columns": [v1.MESSAGE_COLUMN_FLAGS]}
    assert list((await bob.call(methods.BATCH_GET_MESSAGES, **asked)).rows.flags) == [0]
    assert list((await bob.call(methods.BATCH_GET_MESSAGES, mark_seen=True, **asked)).rows.flags) == [1]
    assert (await bob.folder("inbox")).unread_count == 0


async def test_flags_copies_moves_and_deletions_return_the_changes(bob: Mail) -> None:
    inbox, archive = await bob.folder("inbox"), await bob.folder("Archive")
    for _ in range(3):
        await bob.append(inbox.folder_id)
    since = (await bob.append(inbox.folder_id)).commit.change_number
    updated = await bob.call(
        methods.UPDATE_MESSAGES,
        messages=messages(inbox.folder_id, 1, 2, 9),
        operation=1,
        flags=8,
        keywords=["x"],
        changes_since=since,
        if_change_number=since - 3,
    )
    assert [(run.first, run.last) for run in updated.modified_uids] == [(2, 2)]
    assert (updated.updated_count, list(updated.changes.uids), list(updated.changes.flags)) == (1, [1], [8])
    copied = await bob.call(
        methods.COPY_MESSAGES, messages=messages(inbox.folder_id, 1, 3), target_folder_id=archive.folder_id
    )
    assert [(run.first, run.last) for run in copied.target_uids] == [(1, 2)]
    assert copied.target_uid_validity == archive.uid_validity
    since = copied.commit.change_number
    moved = await bob.call(
        methods.MOVE_MESSAGES,
        messages=messages(inbox.folder_id, 4),
        target_folder_id=archive.folder_id,
        changes_since=since,
    )
    assert [run.first for run in moved.changes.vanished_uids] == [4]
    expunged = await bob.call(
        methods.DELETE_MESSAGES,
        messages=MessageSet(uids=UidSet(folder_id=inbox.folder_id, ranges=[IdRange(first=1, last=99)])),
        mode=v1.DELETE_MODE_SOFT,
        only_flagged_deleted=True,
    )
    assert [(run.first, run.last) for run in expunged.deleted_uids] == [(1, 1)]
    nothing = await bob.call(
        methods.COPY_MESSAGES, messages=messages(inbox.folder_id, 77), target_folder_id=archive.folder_id
    )
    assert not nothing.HasField("commit")


async def test_messages_are_copied_and_moved_only_when_all_are_there_if_asked(bob: Mail) -> None:
    inbox, archive = await bob.folder("inbox"), await bob.folder("Archive")
    for _ in range(3):
        await bob.append(inbox.folder_id)
    await bob.call(methods.DELETE_MESSAGES, messages=messages(inbox.folder_id, 2), mode=v1.DELETE_MODE_SOFT)
    wanted = {"messages": messages(inbox.folder_id, 1, 2, 3), "target_folder_id": archive.folder_id}
    for method in (methods.COPY_MESSAGES, methods.MOVE_MESSAGES):
        with pytest.raises(MessageNotFound):
            await bob.call(method, **wanted, if_message_count=3)
    assert (await bob.folder("Archive")).uid_next == archive.uid_next
    await bob.call(methods.COPY_MESSAGES, **wanted, if_message_count=2)
    await bob.call(methods.MOVE_MESSAGES, **wanted)
    assert (await bob.folder("Archive")).message_count == 4


async def test_what_left_its_folder_is_read_by_message_id_if_asked(bob: Mail, carol: Mail) -> None:
    inbox, archive = (await bob.folder("inbox")).folder_id, (await bob.folder("Archive")).folder_id
    ids = [(await bob.append(inbox, LETTER + b"%d\n" % number)).message_id for number in range(5)]
    await bob.call(methods.MOVE_MESSAGES, messages=messages(inbox, 1), target_folder_id=archive)
    await bob.call(methods.DELETE_MESSAGES, messages=messages(inbox, 2, 4), mode=v1.DELETE_MODE_SOFT)
    await bob.call(methods.PURGE_RECOVERABLE_MESSAGES, message_ids=ids[3:4])
    await bob.call(methods.DELETE_MESSAGES, messages=messages(inbox, 5), mode=v1.DELETE_MODE_HARD)
    asked: dict[str, Any] = {
        "messages": MessageSet(ids=MessageIdSet(message_ids=ids)),
        "columns": [v1.MESSAGE_COLUMN_FOLDER, v1.MESSAGE_COLUMN_SIZE, v1.MESSAGE_COLUMN_ENVELOPE],
        "sections": [v1.Section()],
    }
    usual = (await bob.call(methods.BATCH_GET_MESSAGES, **asked)).rows
    assert list(usual.message_ids) == [ids[0], ids[2]]
    rows = (await bob.call(methods.BATCH_GET_MESSAGES, **asked, include_removed=True)).rows
    streamed = await bob.stream(
        "MessageService", "StreamMessages", v1.StreamMessagesRequest(**asked, include_removed=True)
    )
    assert [response.rows for response in streamed] == [rows]
    assert (list(rows.message_ids), list(rows.uids), list(rows.folder_ids)) == (
        ids,
        [1, 0, 3, 0, 0],
        [archive, 0, inbox, 0, 0],
    )
    assert list(rows.sections[0].octets) == [STORED + b"%d\r\n" % number for number in range(5)]
    assert all(envelope.startswith(b"(") for envelope in rows.envelopes)
    for message_id in ids[3:]:
        with pytest.raises(MessageNotFound):
            await bob.stream("ContentService", "ReadContent", c1.ReadContentRequest(message_id=message_id))
    assert await bob.stream("ContentService", "ReadContent", c1.ReadContentRequest(message_id=ids[1]))
    neighbour = (await carol.call(methods.BATCH_GET_MESSAGES, **asked, include_removed=True)).rows
    assert not neighbour.message_ids
    for wrong in ({"mark_seen": True}, {"messages": messages(inbox, 1)}):
        with pytest.raises(InvalidArgument):
            await bob.call(methods.BATCH_GET_MESSAGES, **asked | wrong, include_removed=True)


async def test_deleted_messages_are_listed_recovered_and_purged(bob: Mail) -> None:
    inbox = (await bob.folder("inbox")).folder_id
    for _ in range(3):
        await bob.append(inbox)
    everything = MessageSet(uids=UidSet(folder_id=inbox, ranges=[IdRange(first=1, last=9)]))
    await bob.call(methods.DELETE_MESSAGES, messages=everything, mode=v1.DELETE_MODE_SOFT)
    page = await bob.call(methods.LIST_RECOVERABLE_MESSAGES, page_size=2)
    rest = await bob.call(methods.LIST_RECOVERABLE_MESSAGES, page_size=2, page_token=page.next_page_token)
    found = [*page.messages, *rest.messages]
    assert (len(found), rest.next_page_token, found[0].summary.subject) == (3, "", "Hello")
    one, two, three = (message.message_id for message in found)
    recovered = await bob.call(methods.RECOVER_MESSAGES, message_ids=[one])
    assert list(recovered.message_ids) == [one]
    assert (await bob.call(methods.PURGE_RECOVERABLE_MESSAGES, message_ids=[two, three, one])).purged_count == 2


async def test_a_folder_is_opened_and_followed(bob: Mail) -> None:
    inbox = (await bob.folder("inbox")).folder_id
    for number in range(3):
        await bob.append(inbox, keywords=["odd"] if number % 2 else [])
    parts = await bob.stream("FolderService", "OpenFolder", f1.OpenFolderRequest(folder_id=inbox))
    assert parts[0].folder.message_count == 3
    rows = parts[0].rows
    assert (list(rows.uids), list(rows.keyword_sets), rows.uid_next) == ([1, 2, 3], [0, 1, 0], 4)
    await bob.append(inbox)
    since = rows.change_number
    later = await bob.call(methods.READ_FOLDER_CHANGES, folder_id=inbox, since_change_number=since)
    assert list(later.changes.uids) == [4]
    claimed = await bob.call(methods.CLAIM_RECENT, folder_id=inbox)
    assert (claimed.recent_uid, claimed.uid_next) == (1, 5)


async def test_a_folder_larger_than_a_read_is_one_consistent_snapshot(
    bob: Mail, monkeypatch: pytest.MonkeyPatch
) -> None:
    from restante_server.api.services import folders

    monkeypatch.setattr(folders, "ROWS_AT_ONCE", 2)
    inbox = (await bob.folder("inbox")).folder_id
    for _ in range(5):
        await bob.append(inbox)
    call = bob.bench.dispatcher.call(bob.caller, time.monotonic() + 20)
    copy: dict[int, int] = {}
    first = True
    async for part in RPCS.streams["FolderService", "OpenFolder"].run(call, f1.OpenFolderRequest(folder_id=inbox)):
        for run in part.rows.vanished_uids:
            for uid in range(run.first, run.last + 1):
                copy.pop(uid, None)
        copy.update(zip(part.rows.uids, part.rows.flags, strict=True))
        if first:  # reported messages change before the rest is read
            await bob.call(methods.UPDATE_MESSAGES, messages=messages(inbox, 1), operation=1, flags=4)
            await bob.call(methods.DELETE_MESSAGES, messages=messages(inbox, 2), mode=v1.DELETE_MODE_SOFT)
            first = False
    assert copy == {1: 4, 3: 0, 4: 0, 5: 0}


async def test_folders_are_made_moved_listed_and_deleted(bob: Mail) -> None:
    made = (await bob.call(methods.CREATE_FOLDER, path=["Work", "2026"])).folder
    assert list(made.path) == ["Work", "2026"]
    with pytest.raises(FolderExists):
        await bob.call(methods.CREATE_FOLDER, path=["Work"])
    moved = (await bob.call(methods.MOVE_FOLDER, folder_id=made.folder_id, path=["Old"])).folder
    assert (list(moved.path), moved.change_number > made.change_number) == (["Old"], True)
    names, token = [], ""
    while True:
        page = await bob.call(methods.LIST_FOLDERS, page_size=3, page_token=token)
        names += ["/".join(folder.path) for folder in page.folders]
        token = page.next_page_token
        if not token:
            break
    assert names == ["Inbox", "Sent", "Drafts", "Trash", "Junk", "Archive", "Work", "Old"]
    assert (await bob.call(methods.DELETE_FOLDER, folder_id=made.folder_id)).deleted_count == 0
    with pytest.raises(FolderNotFound):
        await bob.folder("Old")
    with pytest.raises(InvalidArgument):
        await bob.call(methods.GET_FOLDER)
    await bob.call(methods.SET_SUBSCRIPTION, path=["no", "where"], subscribed=True)
    listed = await bob.call(methods.LIST_SUBSCRIPTIONS)
    assert ["no", "where"] in [list(entry.path) for entry in listed.subscriptions]


async def test_pages_of_folders_skip_and_repeat_none_of_those_that_stay(bob: Mail) -> None:
    for name in ("A", "B", "A/below", "C"):
        await bob.call(methods.CREATE_FOLDER, path=name.split("/"))
    gone = (await bob.folder("Junk")).folder_id
    first = await bob.call(methods.LIST_FOLDERS, page_size=7)
    await bob.call(methods.DELETE_FOLDER, folder_id=gone)  # of the first page
    second = await bob.call(methods.LIST_FOLDERS, page_size=1, page_token=first.next_page_token)
    await bob.call(methods.CREATE_FOLDER, path=["D"])
    third = await bob.call(methods.LIST_FOLDERS, page_size=9, page_token=second.next_page_token)
    names = ["/".join(folder.path) for page in (first, second, third) for folder in page.folders]
    assert names == ["Inbox", "Sent", "Drafts", "Trash", "Junk", "Archive", "A", "B", "C", "D", "A/below"]


async def test_pages_of_subscriptions_skip_and_repeat_none_of_those_that_stay(bob: Mail) -> None:
    for entry in (await bob.call(methods.LIST_SUBSCRIPTIONS)).subscriptions:
        await bob.call(methods.SET_SUBSCRIPTION, path=entry.path, subscribed=False)
    for name in ("b", "d", "f\N{ZERO WIDTH JOINER}", "h", "j"):  # the joiner is not printable
        await bob.call(methods.SET_SUBSCRIPTION, path=[name], subscribed=True)
    names, token = list[str](), ""
    for gone, new in (("b", "a"), ("h", "i"), ("j", "g")):
        page = await bob.call(methods.LIST_SUBSCRIPTIONS, page_size=2, page_token=token)
        names += [entry.path[0] for entry in page.subscriptions]
        token = page.next_page_token
        await bob.call(methods.SET_SUBSCRIPTION, path=[gone], subscribed=False)
        await bob.call(methods.SET_SUBSCRIPTION, path=[new], subscribed=True)
    assert (names, token) == (["b", "d", "f\N{ZERO WIDTH JOINER}", "h", "i", "j"], "")


async def test_the_maildrop_is_leased_and_given_back(bob: Mail) -> None:
    inbox = (await bob.folder("inbox")).folder_id
    ids = [(await bob.append(inbox)).message_id for _ in range(3)]
    drop = await bob.call(methods.ACQUIRE_MAILDROP)
    assert (list(drop.uids), list(drop.message_ids)) == ([1, 2, 3], ids)
    assert list(drop.size_octets) == [len(STORED)] * 3
    with pytest.raises(MaildropInUse):
        await bob.call(methods.ACQUIRE_MAILDROP)
    await bob.call(methods.RENEW_MAILDROP, lease=drop.lease)
    again = await bob.call(methods.ACQUIRE_MAILDROP, lease=drop.lease)  # like a client after a lost answer
    assert (again.lease, list(again.uids)) == (drop.lease, [1, 2, 3])
    with pytest.raises(MaildropInUse):
        await bob.call(methods.ACQUIRE_MAILDROP, lease=b"another's lease!")
    with pytest.raises(InvalidArgument):
        await bob.call(methods.ACQUIRE_MAILDROP, lease=b"short")
    done = {"lease": drop.lease, "deleted_uids": [IdRange(first=1, last=2)], "seen_uids": [IdRange(first=3, last=3)]}
    assert (await bob.call(methods.RELEASE_MAILDROP, **done)).deleted_count == 2
    assert (await bob.call(methods.RELEASE_MAILDROP, **done)).deleted_count == 0
    with pytest.raises(LeaseLost):
        await bob.call(methods.RENEW_MAILDROP, lease=drop.lease)
    folder = await bob.folder("inbox")
    assert (folder.message_count, folder.unread_count) == (1, 0)


async def test_marking_as_read_is_a_write_where_only_reading_may_be_cancelled(bob: Mail) -> None:
    inbox = (await bob.folder("inbox")).folder_id
    await bob.append(inbox)
    handler, dispatcher = RPCS.unary["batch_get_messages"], bob.bench.dispatcher
    ways = {
        "plain": (messages(inbox, 1), False, True),
        "named": (messages(inbox, 1), True, False),
        "evaluated": (v1.MessageSet(matching=v1.MatchingMessages(folder_id=inbox)), True, True),
    }
    for way, (named, mark_seen, may_cancel) in ways.items():
        request = v1.BatchGetMessagesRequest(messages=named, mark_seen=mark_seen)
        begun = dispatcher.begin(handler, bob.caller, request, time.monotonic() + 20)
        assert not isinstance(begun, Message)
        task = asyncio.ensure_future(begun)
        await asyncio.sleep(0)
        assert dispatcher.may_cancel(handler, request, task) is may_cancel, way
        if may_cancel and mark_seen:
            task.cancel()
        await asyncio.wait([task])
        assert (await bob.folder("inbox")).unread_count == (0 if way == "named" else 1), way
        await bob.call(methods.UPDATE_MESSAGES, messages=messages(inbox, 1), operation=2, flags=1)


async def test_a_pop3_session_marks_nothing_as_read(bob: Mail) -> None:
    inbox = (await bob.folder("inbox")).folder_id
    await bob.append(inbox)
    bob.caller = replace(bob.caller, scope=Scope.SCOPE_POP3)
    got = await bob.call(methods.BATCH_GET_MESSAGES, messages=messages(inbox, 1))
    assert list(got.rows.uids) == [1]
    with pytest.raises(PermissionDenied):
        await bob.call(methods.BATCH_GET_MESSAGES, messages=messages(inbox, 1), mark_seen=True)


async def test_a_maildrop_has_pages(bob: Mail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailboxes, "MAILDROP_AT_ONCE", 2)
    inbox = (await bob.folder("inbox")).folder_id
    for _ in range(3):
        await bob.append(inbox)
    first = await bob.call(methods.ACQUIRE_MAILDROP)
    await bob.call(methods.DELETE_MESSAGES, messages=messages(inbox, 1), mode=v1.DELETE_MODE_SOFT)
    await bob.append(inbox)
    second = await bob.call(methods.ACQUIRE_MAILDROP, lease=first.lease, page_token=first.next_page_token)
    third = await bob.call(methods.ACQUIRE_MAILDROP, lease=first.lease, page_token=second.next_page_token)
    assert [list(page.uids) for page in (first, second, third)] == [[1, 2], [3, 4], []]
    assert (second.lease, third.next_page_token) == (first.lease, "")
    with pytest.raises(MaildropInUse):
        await bob.call(methods.ACQUIRE_MAILDROP, page_token=first.next_page_token)
    with pytest.raises(InvalidPageToken):
        await bob.call(methods.ACQUIRE_MAILDROP, lease=first.lease, page_token="of another list")


async def test_a_draft_is_written_from_its_parts(bob: Mail) -> None:
    draft = v1.Draft(
        to=[MailAddress(display_name="Carol", address="carol@example.test")],
        subject="Plans",
        text="See you.",
        attachments=[v1.Attachment(file_name="a.txt", media_type="text/plain", content=b"notes")],
    )
    made = await bob.call(methods.CREATE_DRAFT, draft=draft)
    drafts = (await bob.call(methods.GET_FOLDER, role=f1.FOLDER_ROLE_DRAFTS)).folder
    columns = [v1.MESSAGE_COLUMN_FLAGS, v1.MESSAGE_COLUMN_SUMMARY, v1.MESSAGE_COLUMN_PREVIEW]
    got = await bob.call(methods.BATCH_GET_MESSAGES, messages=messages(drafts.folder_id, made.uid), columns=columns)
    assert list(got.rows.flags) == [17]
    assert got.rows.summaries[0].authors[0].address == "bob@example.test"
    assert (got.rows.summaries[0].subject, list(got.rows.attachment_counts)) == ("Plans", [1])


async def test_neighbours_with_equal_ids_are_out_of_reach(bob: Mail, carol: Mail) -> None:
    inbox = (await bob.folder("inbox")).folder_id
    assert inbox == (await carol.folder("inbox")).folder_id
    added = await bob.append(inbox)
    theirs = bob.caller.mailbox_id
    for method, fields in (
        (methods.GET_MAILBOX, {}),
        (methods.LIST_FOLDERS, {}),
        (methods.BATCH_GET_MESSAGES, {"messages": messages(inbox, 1)}),
        (methods.DELETE_MESSAGES, {"messages": messages(inbox, 1), "mode": v1.DELETE_MODE_HARD}),
        (methods.ACQUIRE_MAILDROP, {}),
    ):
        with pytest.raises(MailboxNotFound):
            await carol.call(method, mailbox_id=theirs, **fields)
    own = await carol.call(
        methods.BATCH_GET_MESSAGES, messages=MessageSet(ids=MessageIdSet(message_ids=[added.message_id]))
    )
    assert not own.rows.message_ids
    assert (await bob.call(methods.GET_MAILBOX)).mailbox.message_count == 1


# --- Contents that nothing names ------------------------------------------------------------------------------------


async def test_the_files_of_what_is_refused_or_done_before_go_soon(bench: Bench, bob: Mail, tmp_path: Path) -> None:
    """Otherwise each file would take space for an hour, outside every account's limit."""
    large = LETTER + b"x" * 70 + b"\n" + b"far more than the database keeps\n" * 1_000
    inbox = (await bob.folder("Inbox")).folder_id
    again = secrets.token_bytes(16)
    first = await bob.append(inbox, large, request_id=again)
    assert (await bob.append(inbox, large, request_id=again)).message_id == first.message_id
    with pytest.raises(FolderNotFound):
        await bob.append(999, large)

    def files() -> int:
        return sum(path.is_file() for path in tmp_path.glob("??/*"))

    async with asyncio.timeout(10):
        while files() > 1:  # the one that is named stays
            await asyncio.sleep(0.01)
    assert await Collector(bench.core.db, tmp_path).collect(time.time_ns() // 1_000) == 0
    assert files() == 1
