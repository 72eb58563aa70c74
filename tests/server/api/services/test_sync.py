"""SyncMailbox: after any changes and breaks of the stream, the copy becomes equal to the mailbox."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import Connection, insert, select

from restante.errors import CursorInvalid, FolderNotFound, MailboxNotFound, RestanteError
from restante.v1.message_pb2 import MessageColumn
from restante.v1.sync_pb2 import ResetReason, SyncMailboxRequest, SyncMailboxResponse
from restante_mail.idset import IdSet
from restante_server.api.engine.call import Call
from restante_server.api.engine.caller import Caller
from restante_server.api.engine.notify import Notifier
from restante_server.api.services import message_rows, sync
from restante_server.db import schema
from restante_server.directory.keys import KeyRing
from restante_server.directory.rights import Place
from restante_server.store import changes, flags, folders, mailboxes, removal
from restante_server.store import sync as store_sync
from restante_server.store.flags import FlagChange
from restante_server.store.folders import Role
from restante_server.store.removal import Mode
from restante_server.store.selection import Selection
from tests.server.store.conftest import box, other
from tests.server.store.material import NOW, Box, copy_to, ids, move_to, uids

__all__ = ["box", "other"]  # fixtures

FLAGS = MessageColumn.MESSAGE_COLUMN_FLAGS
Row = tuple[int, int, int, str]  # folder, UID, flags, keywords


def call_of(box: Box, **core: Any) -> Call:
    parts: dict[str, Any] = {
        "db": box.database,
        "contents": SimpleNamespace(directory=Path("/nonexistent")),
        "epoch": 1,
        "directory": SimpleNamespace(keys=KeyRing({1: b"k" * 32})),
        "notifier": Notifier(box.database),
        "settings": SimpleNamespace(store=SimpleNamespace(history_days=30)),
        "tasks": SimpleNamespace(on_drain=lambda told: lambda: None),
    }
    return Call(
        cast(Any, SimpleNamespace(**{**parts, **core})),
        Caller(account_id=1, mailbox_id=box.id, expires_at=1 << 62),
        NOW,
        1e18,
    )


class Copy:
    """A client's copy. It applies events as they arrive, in the simplest way."""

    def __init__(self, folder_id: int = 0) -> None:
        self.scope = folder_id
        self.folders: dict[int, tuple[int, str, int, int, int]] = {}
        self.messages: dict[int, Row] = {}
        self.cursor = b""
        self.reset: int = 0
        self.steps = 0

    def take(self, step: SyncMailboxResponse) -> None:
        self.steps += 1
        match step.WhichOneof("change"):
            case "folder":
                told = step.folder
                facts = (told.parent_folder_id, told.display_name, told.uid_validity)
                self.folders[told.folder_id] = (*facts, told.message_count, told.unread_count)
            case "deleted_folder_id":
                self.folders.pop(step.deleted_folder_id, None)  # reported again, or never in the copy
                self.messages = {key: row for key, row in self.messages.items() if row[0] != step.deleted_folder_id}
            case "messages":
                self._upsert(step)
            case "moved":
                for message_id in step.moved.message_ids:
                    if self.scope:
                        assert step.moved.from_folder_id == self.scope
                        self.messages.pop(message_id, None)
                    elif message_id in self.messages:
                        self.messages[message_id] = (step.moved.to_folder_id, *self.messages[message_id][1:])
            case "deleted":
                for message_id in step.deleted.message_ids:
                    self.messages.pop(message_id, None)
            case "checkpoint":
                assert 0 < len(step.checkpoint.cursor) <= 64
                self.cursor = step.checkpoint.cursor
            case "reset_reason":
                self.reset = step.reset_reason

    def _upsert(self, step: SyncMailboxResponse) -> None:
        rows = step.messages
        for at, message_id in enumerate(rows.message_ids):
            words = " ".join(rows.keyword_table[rows.keyword_sets[at]].keywords)
            folder_id = self.scope or rows.folder_ids[at]
            self.messages[message_id] = (folder_id, rows.uids[at], rows.flags[at], words)

    def stream(self, call: Call, *, follow: bool = False) -> AsyncIterator[SyncMailboxResponse]:
        request = SyncMailboxRequest(folder_id=self.scope, cursor=self.cursor, columns=[FLAGS], follow=follow)
        return sync.sync_mailbox(call, request)

    async def catch_up(self, call: Call, at_most: int = 1 << 30) -> bool:
        """Read events until the stream ends (True), or break the stream after `at_most` of them."""
        taken = 0
        async with aclosing(cast(Any, self.stream(call))) as steps:
            async for step in steps:
                self.take(step)
                taken += 1
                if taken >= at_most:
                    return False
        return True


async def truth(box: Box, folder_id: int = 0) -> tuple[dict[int, Row], dict[int, tuple[int, str, int, int, int]]]:
    """The state that a copy must have."""

    def run(tx: Connection, place: Place) -> Any:
        m = schema.message.c
        found = tx.execute(
            select(m.message_id, m.folder_id, m.uid, m.flags, m.keywords).where(
                m.mailbox_id == place.mailbox_id,
                m.folder_id.is_not(None) if not folder_id else m.folder_id == folder_id,
            )
        )
        messages = {row[0]: (row[1], row[2], row[3], row[4].strip()) for row in found}
        tree = {
            one.folder_id: (
                one.parent_folder_id,
                one.display_name,
                one.uid_validity,
                one.message_count,
                one.unread_count,
            )
            for one in folders.tree(tx, place)
        }
        return messages, tree if not folder_id else {}

    found: tuple[dict[int, Row], dict[int, tuple[int, str, int, int, int]]] = await box.read(run)
    return found


async def assert_equal(copy: Copy, box: Box) -> None:
    messages, tree = await truth(box, copy.scope)
    assert copy.messages == messages
    assert copy.folders == tree


class Life:
    """Random changes to a mailbox."""

    def __init__(self, box: Box, rng: random.Random) -> None:
        self.box, self.rng = box, rng
        self.extra: list[int] = []
        self.count = 0

    def folder(self) -> int:
        return self.rng.choice([self.box.inbox, self.box.inbox, self.box.archive, self.box.trash, *self.extra])

    def some(self) -> Selection:
        first = self.rng.randint(1, 40)
        return uids(self.folder(), (first, first + self.rng.randint(0, 5)))

    async def change(self) -> None:
        rng, write = self.rng, self.box.write
        self.count += 1
        match rng.randint(0, 10):
            case 0 | 1 | 2:
                await self.box.fill(self.folder(), rng.randint(1, 4), flags=rng.choice([0, 1, 9]))
            case 3 | 4:
                await write(flags.change_flags, self.some(), rng.choice(list(FlagChange)), rng.randint(0, 31), ["Work"])
            case 5:
                await write(move_to, self.some(), self.folder(), NOW)
            case 6:
                await write(copy_to, self.some(), self.folder())
            case 7:
                await write(removal.remove, self.some(), rng.choice(list(Mode)), NOW)
            case 8:
                lost = await self.box.read(removal.recoverable_page, None, 20)
                if lost:
                    chosen = IdSet.of(one.message_id for one in rng.sample(lost, min(3, len(lost))))
                    await (
                        write(removal.recover, chosen, NOW) if rng.random() < 0.7 else write(removal.purge, chosen, NOW)
                    )
            case 9:
                made = await write(folders.create, [f"f{self.count}"], NOW, parent=rng.choice([0, *self.extra[:1]]))
                self.extra.append(made)
            case _:
                await self._change_folder()

    async def _change_folder(self) -> None:
        if not self.extra:
            return
        chosen = self.rng.choice(self.extra)
        try:
            if self.rng.random() < 0.5:
                await self.box.write_in(chosen, removal.delete_folder, NOW)
                self.extra.remove(chosen)
            else:
                await self.box.write_in(chosen, folders.move, [f"renamed{self.count}"], NOW)
        except RestanteError:
            pass  # it has children: nothing happened


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("seed", range(3))
async def test_a_copy_equals_the_mailbox_wherever_its_stream_breaks(
    box: Box, seed: int, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_rows, "PLAIN_ROWS_AT_ONCE", 3)
    if small:  # rounds of few messages, and reads of few removals
        monkeypatch.setattr(store_sync, "MOST_CHANGED", 4)
        monkeypatch.setattr(changes, "REMOVALS_AT_ONCE", 2)
    rng = random.Random(seed)
    call, life = call_of(box), Life(box, rng)
    copies = [Copy(), Copy(box.inbox), Copy(box.archive)]
    for _ in range(20):
        await life.change()
    for _ in range(25):
        for _ in range(rng.randint(0, 6)):
            await life.change()
        for copy in copies:
            while not await copy.catch_up(call, rng.choice([1, 2, 4, 8, 1 << 30])):
                if rng.random() < 0.3:
                    await life.change()
            if rng.random() < 0.7:
                await copy.catch_up(call)
                await assert_equal(copy, box)
    for copy in copies:
        await copy.catch_up(call)
        await assert_equal(copy, box)
        assert copy.reset == 0


async def test_a_slow_follower_still_receives_changes(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_rows, "PLAIN_ROWS_AT_ONCE", 2)
    monkeypatch.setattr(sync, "QUIET_SECONDS", 0.05)
    rng = random.Random(11)
    call, life, copy = call_of(box), Life(box, rng), Copy()
    await box.fill(box.inbox, 7)
    stream = aiter(copy.stream(call, follow=True))
    for _ in range(60):
        copy.take(await asyncio.wait_for(anext(stream), 5))
        if rng.random() < 0.6:
            await life.change()
            call.core.notifier.hint(box.id, await box.read(mailboxes.change_number))
    number = await box.read(mailboxes.change_number)
    while True:
        step = await asyncio.wait_for(anext(stream), 5)
        copy.take(step)
        if step.HasField("checkpoint") and step.checkpoint.change_number == number:
            break
    await assert_equal(copy, box)
    await cast(Any, stream).aclose()
    assert not call.core.notifier._watched


async def test_a_late_hint_sends_a_follower_nothing_again(box: Box) -> None:
    copy, call = Copy(), call_of(box)
    await box.fill(box.inbox, 1)
    number = await box.read(mailboxes.change_number)
    async with aclosing(cast(Any, copy.stream(call, follow=True))) as steps:
        async for step in steps:
            if step.HasField("checkpoint") and step.checkpoint.change_number == number:
                break
        call.core.notifier.hint(box.id, number)
        following = asyncio.ensure_future(anext(steps))
        assert not (await asyncio.wait([following], timeout=0.3))[0]
        await box.fill(box.inbox, 1)
        call.core.notifier.hint(box.id, number + 1)
        assert (await asyncio.wait_for(following, 5)).WhichOneof("change") != "checkpoint"


async def test_a_quiet_follower_gets_fresh_checkpoints(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "QUIET_SECONDS", 0.01)
    copy, call = Copy(box.inbox), call_of(box)
    async with aclosing(cast(Any, copy.stream(call, follow=True))) as steps:
        first = await anext(steps)
        await box.fill(box.archive, 1)  # not of this folder: no hint needed
        later = await anext(steps)
    assert first.checkpoint.change_number < later.checkpoint.change_number
    assert later.checkpoint.expires_at.seconds > 0


async def test_following_ends_with_the_core(box: Box) -> None:
    told: list[Any] = []

    def on_drain(tell: Any) -> Any:
        told.append(tell)
        return lambda: told.remove(tell)

    copy, call = Copy(), call_of(box, tasks=SimpleNamespace(on_drain=on_drain))
    stream = aiter(copy.stream(call, follow=True))
    while not copy.cursor:
        copy.take(await anext(stream))
    asyncio.get_running_loop().call_later(0.02, told[0])
    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(anext(stream), 5)
    assert not told


async def test_kinds_of_removal_are_distinguished(box: Box) -> None:
    await box.fill(box.inbox, 4)
    copy, call = Copy(), call_of(box)
    await copy.catch_up(call)
    await box.write(removal.remove, ids(1), Mode.SOFT, NOW)
    await box.write(removal.remove, ids(2), Mode.HARD, NOW)
    await box.write(move_to, ids(3), box.archive, NOW)
    steps = [step async for step in copy.stream(call)]
    gone = [(list(step.deleted.message_ids), step.deleted.recoverable) for step in steps if step.HasField("deleted")]
    assert gone == [([1], True), ([2], False)]
    moved = [step.moved for step in steps if step.HasField("moved")]
    assert [(m.from_folder_id, m.to_folder_id, list(m.message_ids)) for m in moved] == [(box.inbox, box.archive, [3])]
    assert [step.WhichOneof("change") for step in steps][-1] == "checkpoint"


async def test_a_copy_that_is_too_old_begins_anew(box: Box) -> None:
    await box.fill(box.inbox, 3)
    copy, call = Copy(), call_of(box)
    await copy.catch_up(call)
    await box.write(removal.remove, ids(1), Mode.HARD, NOW)
    await box.write(changes.forget_history, NOW + 1)
    steps = [step async for step in copy.stream(call)]
    assert [step.reset_reason for step in steps] == [ResetReason.RESET_REASON_HISTORY_GONE]
    fresh = Copy()
    await fresh.catch_up(call)
    await assert_equal(fresh, box)


async def test_a_copy_of_another_epoch_begins_anew(box: Box) -> None:
    copy = Copy()
    await copy.catch_up(call_of(box))
    await copy.catch_up(call_of(box, epoch=2))
    assert copy.reset == ResetReason.RESET_REASON_EPOCH_CHANGED


async def test_a_copy_of_a_folder_ends_with_the_folder(box: Box) -> None:
    folder_id = await box.write(folders.create, ["plans"], NOW)
    copy, call = Copy(folder_id), call_of(box)
    await copy.catch_up(call)
    await box.write_in(folder_id, removal.delete_folder, NOW)
    await copy.catch_up(call)
    assert copy.reset == ResetReason.RESET_REASON_FOLDER_GONE
    with pytest.raises(FolderNotFound):
        await Copy(folder_id).catch_up(call)


async def test_a_cursor_is_good_for_its_copy_alone(box: Box, other: Box) -> None:
    copy, call = Copy(box.inbox), call_of(box)
    await copy.catch_up(call)
    for stranger, scope in ((call, 0), (call, box.archive), (call_of(other), box.inbox)):
        wrong = Copy(scope)
        wrong.cursor = copy.cursor
        with pytest.raises(CursorInvalid):
            await wrong.catch_up(stranger)
    for cursor in (copy.cursor[:-1], b"x", b"\x01" * 60):
        copy.cursor = cursor
        with pytest.raises(CursorInvalid):
            await copy.catch_up(call)


async def test_another_mailbox_is_not_there(box: Box, other: Box) -> None:
    request = SyncMailboxRequest(mailbox_id=other.id)
    with pytest.raises(MailboxNotFound):
        await anext(aiter(sync.sync_mailbox(call_of(box), request)))


async def test_a_long_removal_comes_in_pieces(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "IDS_AT_ONCE", 3)
    await box.fill(box.inbox, 8)
    copy, call = Copy(), call_of(box)
    await copy.catch_up(call)
    await box.write(removal.remove, uids(box.inbox, (1, 8)), Mode.HARD, NOW)
    steps = [step async for step in copy.stream(call)]
    assert [len(step.deleted.message_ids) for step in steps if step.HasField("deleted")] == [3, 3, 2]


async def test_removals_are_read_as_the_client_takes_them(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "REMOVALS_AT_ONCE", 3)
    await box.fill(box.inbox, 10)
    copy, call = Copy(), call_of(box)
    await copy.catch_up(call)
    for uid in range(1, 9):
        await box.write(removal.remove, uids(box.inbox, uid), Mode.HARD, NOW)
    held: list[int] = []
    steps = copy.stream(call)
    read = box.database.read

    async def counted(function: Any, *rest: Any) -> Any:
        found = await read(function, *rest)
        held.append(len(found) if isinstance(found, list) else 0)
        return found

    monkeypatch.setattr(box.database, "read", counted)
    removed = [step async for step in steps if step.HasField("deleted")]
    assert (len(removed), max(held)) == (8, 3)


async def test_more_changes_than_a_round_has_come_in_rounds(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_sync, "MOST_CHANGED", 3)
    await box.fill(box.inbox, 8)
    copy, call = Copy(), call_of(box)
    await copy.catch_up(call)
    await box.write(flags.change_flags, uids(box.inbox, (1, 8)), FlagChange.ADD, 4)
    steps = [step async for step in copy.stream(call)]
    sent = [list(step.messages.uids) for step in steps if step.HasField("messages")]
    assert sent == [[1, 2, 3], [4, 5, 6], [7, 8]]
    for step in steps:
        copy.take(step)
    await assert_equal(copy, box)


async def test_parents_are_sent_before_their_children(box: Box) -> None:
    def run(tx: Connection, place: Place) -> None:
        number = changes.next_number(tx, place)
        common = {
            "mailbox_id": place.mailbox_id,
            "role": Role.NONE,
            "change_number": number,
            "uid_next": 1,
            "recent_uid": 1,
        }
        counts = {"message_count": 0, "unread_count": 0, "deleted_count": 0, "size_octets": 0, "created_at": NOW}
        for folder_id, parent in ((100, 102), (101, 100), (102, 0)):
            row = {"folder_id": folder_id, "parent_folder_id": parent, "display_name": f"n{folder_id}"}
            validity = {"uid_validity": 90_000 + folder_id}
            tx.execute(insert(schema.folder), {**common, **counts, **row, **validity})
        mailbox = schema.mailbox
        tx.execute(mailbox.update().where(mailbox.c.mailbox_id == place.mailbox_id).values(next_folder_id=103))

    await box.write(run)
    steps = [step async for step in Copy().stream(call_of(box))]
    told = [step.folder.folder_id for step in steps if step.HasField("folder")]
    assert told.index(102) < told.index(100) < told.index(101)


@pytest.mark.parametrize("folder", [False, True])
async def test_a_change_of_a_sent_row_during_a_broken_first_sync_is_sent(
    box: Box, folder: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_rows, "PLAIN_ROWS_AT_ONCE", 2)
    await box.fill(box.inbox, 9)
    copy, call = Copy(box.inbox if folder else 0), call_of(box)
    for number in range(1, 4):
        async with aclosing(cast(Any, copy.stream(call))) as steps:
            async for step in steps:
                copy.take(step)
                if step.HasField("checkpoint"):
                    break
        assert len(copy.messages) < 9
        await box.write(flags.change_flags, ids(number), FlagChange.ADD, 4, [])
        await box.write(removal.remove, ids(4 + number), Mode.HARD, NOW)
    await copy.catch_up(call)
    await assert_equal(copy, box)
