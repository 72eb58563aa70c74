"""The changes that a commit passes to watchers without a read, equal to those of a read."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from restante.v1.folder_pb2 import ReadFolderChangesRequest
from restante.v1.message_pb2 import (
    DELETE_MODE_SOFT,
    FLAG_OPERATION_ADD,
    FLAG_OPERATION_REMOVE,
    CopyMessagesRequest,
    DeleteMessagesRequest,
    MessageSet,
    MoveMessagesRequest,
    UpdateMessagesRequest,
)
from restante.v1.types_pb2 import FolderChanges, IdRange, UidSet
from restante_mail.idset import EMPTY, IdSet
from restante_server.directory.rights import Place
from restante_server.store import changes
from restante_server.store.changes import FolderDelta
from tests.server.api.served import Served, request_id, served
from tests.server.api.services.test_watch import INBOX, NEW_MAILBOX, Watcher, append, token_of

ARCHIVE_PATH = ["Archive"]
Seen = dict[int, tuple[int, int, tuple[str, ...], int]]  # UID: message id, flags, keywords, change number


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as made:
        yield made


def apply(seen: Seen, told: FolderChanges) -> None:
    """Apply changes like a view: removals first."""
    for gone in told.vanished_uids:
        for uid in [uid for uid in seen if gone.first <= uid <= gone.last]:
            del seen[uid]
    for at, uid in enumerate(told.uids):
        keywords = told.keyword_table[told.keyword_sets[at]].keywords if told.keyword_sets else ()
        seen[uid] = (told.message_ids[at], told.flags[at], tuple(keywords), told.change_numbers[at])


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record the change numbers above which a folder's changes are read."""
    made: list[int] = []
    real = changes.folder_changes

    def counted(tx: Any, place: Place, since: int, **limits: Any) -> FolderDelta:
        made.append(since)
        return real(tx, place, since, **limits)

    monkeypatch.setattr(changes, "folder_changes", counted)
    return made


async def test_an_arriving_message_is_announced_without_a_read(core: Served, reads: list[int]) -> None:
    token = await token_of(core)
    watcher = Watcher(core, token=token)
    await watcher.subscribe(folder_id=INBOX)
    first = await append(core, token)
    assert (await watcher.read()).folder.change_number == first
    reads.clear()
    second = await append(core, token)
    told = (await watcher.read()).folder
    assert (told.since_change_number, told.change_number) == (first, second)
    assert (list(told.uids), list(told.change_numbers), told.uid_next) == ([2], [second], 3)
    assert reads == []


async def test_a_change_that_hands_nothing_over_is_read(core: Served, reads: list[int]) -> None:
    token = await token_of(core)
    watcher = Watcher(core, token=token)
    await watcher.subscribe(folder_id=INBOX)
    await append(core, token)
    await watcher.read()
    reads.clear()
    one = MessageSet(uids=UidSet(folder_id=INBOX, ranges=[IdRange(first=1, last=1)]))
    flag = UpdateMessagesRequest(messages=one, operation=FLAG_OPERATION_ADD, flags=1)
    answer = await core.call("MessageService/UpdateMessages", flag, token=token)
    told = (await watcher.read()).folder
    assert list(told.flags) == [1] and told.change_number == answer.commit.change_number
    assert len(reads) == 1


async def _change(core: Served, token: bytes, chance: random.Random, since: int) -> None:
    """Make a random change of a folder, with or without its changes in the answer."""
    low = chance.randint(1, 25)
    some = MessageSet(uids=UidSet(folder_id=INBOX, ranges=[IdRange(first=low, last=low + chance.randint(0, 4))]))
    asked: dict[str, Any] = {"changes_since": since} if chance.random() < 0.6 else {}
    kind = chance.choice(["append", "append", "flags", "flags", "flags", "delete", "copy", "move"])
    if kind == "append":
        await append(core, token)
    elif kind == "flags":
        operation = chance.choice([FLAG_OPERATION_ADD, FLAG_OPERATION_REMOVE])
        words = chance.sample(["a", "b"], chance.randint(0, 2))
        bits = chance.randint(0, 3)
        flag = UpdateMessagesRequest(messages=some, operation=operation, flags=bits, keywords=words, **asked)
        await core.call("MessageService/UpdateMessages", flag, token=token)
    elif kind == "delete":
        delete = DeleteMessagesRequest(messages=some, mode=DELETE_MODE_SOFT, **asked)
        await core.call("MessageService/DeleteMessages", delete, token=token)
    elif kind == "copy":  # into the folder itself
        copy = CopyMessagesRequest(messages=some, target_folder_id=INBOX, request_id=request_id())
        await core.call("MessageService/CopyMessages", copy, token=token)
    else:
        move = MoveMessagesRequest(messages=some, target_path=ARCHIVE_PATH, request_id=request_id(), **asked)
        await core.call("MessageService/MoveMessages", move, token=token)


@pytest.mark.parametrize("seed", range(4))
async def test_the_announced_deltas_add_up_to_the_folder(core: Served, seed: int) -> None:
    chance = random.Random(seed)
    token = await token_of(core)
    watcher = Watcher(core, token=token)
    await watcher.subscribe(folder_id=INBOX)
    seen: Seen = {}
    reached = NEW_MAILBOX
    for _ in range(30):
        together = [_change(core, token, chance, chance.choice([reached, 0])) for _ in range(chance.randint(1, 4))]
        await asyncio.gather(*together)
        if chance.random() < 0.3:
            await asyncio.sleep(0.06)  # longer than the delay of non-urgent notices
        request = ReadFolderChangesRequest(folder_id=INBOX)
        there = (await core.call("FolderService/ReadFolderChanges", request, token=token)).changes
        while reached < there.change_number:
            told = (await watcher.read()).folder
            assert told.since_change_number <= reached < told.change_number
            apply(seen, told)
            reached = told.change_number
        wanted: Seen = {}
        apply(wanted, FolderChanges.FromString(there.SerializeToString()))
        assert seen == wanted


def delta(since: int, number: int, uids: list[int], flags: int = 0, vanished: IdSet = EMPTY) -> FolderDelta:
    """A delta in which a message's id is a hundred times its UID."""
    return FolderDelta(
        folder_id=1,
        since=since,
        change_number=number,
        uids=uids,
        message_ids=[100 * uid for uid in uids],
        flags=[flags] * len(uids),
        keywords=[""] * len(uids),
        change_numbers=[number] * len(uids),
        vanished=vanished,
        uid_next=max(uids, default=0) + 1,
        recent_uid=1,
    )


def test_two_deltas_are_one() -> None:
    both = delta(3, 5, [1, 2, 4]).then(delta(4, 9, [2, 7], flags=1, vanished=IdSet.of([4])))
    assert both is not None
    assert (both.since, both.change_number, both.uid_next) == (3, 9, 8)
    assert (both.uids, both.flags, both.change_numbers) == ([1, 2, 7], [0, 1, 1], [5, 9, 9])
    assert both.message_ids == [100, 200, 700]
    assert both.vanished == IdSet.of([4])


def test_deltas_with_something_between_are_not_one() -> None:
    assert delta(3, 5, [1]).then(delta(6, 9, [2])) is None
