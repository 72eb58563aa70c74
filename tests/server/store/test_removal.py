"""Deleting, expunging, recovering, purging."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, func, select

from restante.errors import FolderHasChildren, FolderIsSpecial, FolderNotFound, QuotaExceeded
from restante_server.db.schema import content_garbage, message
from restante_server.store import changes, folders, mailboxes, removal
from restante_server.store.changes import Removal
from restante_server.store.idset import EMPTY, IdSet
from restante_server.store.removal import Mode
from restante_server.store.selection import Selection
from tests.server.store.material import NOW, SIMPLE, Box, ids, uids

DELETED = 8
SIZE = len(SIMPLE) + 17


async def test_expunge_takes_only_flagged_messages_in_the_set(box: Box) -> None:  # behaviour 28
    await box.fill(box.inbox, 2, flags=DELETED)
    await box.fill(box.inbox, 2)
    await box.fill(box.inbox, 1, flags=DELETED)
    wanted = Selection(box.inbox, IdSet.from_runs([(2, 3), (5, 9)]), only_deleted=True)
    done = await box.write(removal.remove, wanted, Mode.SOFT, NOW)
    assert done.ids == IdSet.of([2, 5])
    facts = await box.read(folders.get, box.inbox)
    assert (facts.message_count, facts.deleted_count, facts.uid_next) == (3, 1, 6)
    box_facts = await box.read(mailboxes.get)
    assert (box_facts.recoverable_count, box_facts.recoverable_octets) == (2, 2 * SIZE)
    again = await box.write(removal.remove, wanted, Mode.SOFT, NOW)
    assert (again.ids, again.change_number) == (EMPTY, None)


async def test_uids_are_never_given_twice(box: Box) -> None:  # behaviour 29
    await box.fill(box.inbox, 3)
    await box.write(removal.remove, uids(box.inbox, (1, 3)), Mode.HARD, NOW)
    assert [placed.uid for placed in await box.fill(box.inbox, 1)] == [4]


@pytest.mark.parametrize("runs", [[(1, 3)], [1, 3]])
async def test_hard_deletion_leaves_the_content_to_the_collector(box: Box, runs: list[int | tuple[int, int]]) -> None:
    await box.fill(box.inbox, 3)
    done = await box.write(removal.remove, uids(box.inbox, *runs), Mode.HARD, NOW)

    def count(tx: Connection, mailbox_id: int) -> tuple[int, int]:
        rows = select(func.count()).select_from(message).where(message.c.mailbox_id == mailbox_id)
        noticed = select(func.count()).select_from(content_garbage)
        return tx.execute(rows).scalar_one(), tx.execute(noticed).scalar_one()

    assert await box.read(count) == (3 - len(done.ids), 1)
    (grave,) = await box.read(changes.removals, 2)
    assert grave.kind is Removal.HARD


async def test_deleting_goes_to_the_trash_and_from_there_to_the_recoverable(box: Box) -> None:
    first = (await box.fill(box.inbox, 2))[0]
    await box.write(removal.remove, uids(box.inbox, 1), Mode.TO_TRASH, NOW)
    trash = await box.read(changes.folder_changes, box.trash, 0)
    assert trash.message_ids == [first.message_id]
    # One in the Trash and one outside, in one operation under one number.
    number = (await box.write(removal.remove, ids(1, 2), Mode.TO_TRASH, NOW)).change_number
    graves = await box.read(changes.removals, trash.change_number)
    assert {(grave.folder_id, grave.kind, grave.change_number) for grave in graves} == {
        (box.trash, Removal.SOFT, number),
        (box.inbox, Removal.MOVED, number),
    }
    assert (await box.read(mailboxes.get)).recoverable_count == 1


async def test_a_mailbox_without_trash_deletes_softly(box: Box) -> None:
    await box.write(removal.delete_folder, box.trash, NOW)
    await box.fill(box.inbox, 1)
    await box.write(removal.remove, uids(box.inbox, 1), Mode.TO_TRASH, NOW)
    assert (await box.read(mailboxes.get)).recoverable_count == 1


async def test_recovered_messages_come_back_where_they_were_without_the_mark(box: Box) -> None:
    placed = await box.fill(box.inbox, 2, flags=DELETED)
    placed += await box.fill(box.archive, 1, flags=1)
    numbers = [message.message_id for message in placed]
    await box.write(removal.remove, ids(*numbers), Mode.SOFT, NOW)
    await box.write(removal.delete_folder, box.archive, NOW)
    recovered, number = await box.write(removal.recover, IdSet.of([*numbers, 77]), NOW)
    assert recovered == numbers
    found = await box.read(changes.folder_changes, box.inbox, 0)
    assert (found.uids, found.flags) == ([3, 4, 5], [0, 0, 1])
    assert set(found.change_numbers) == {number}
    assert await box.write(removal.recover, IdSet.of(numbers), NOW) == ([], None)


async def test_recovery_needs_room_and_a_target(box: Box) -> None:
    await box.fill(box.inbox, 2)
    await box.write(removal.remove, ids(1, 2), Mode.SOFT, NOW)
    await box.write(mailboxes.set_quota, SIZE)
    with pytest.raises(QuotaExceeded):
        await box.write(removal.recover, IdSet.of([1, 2]), NOW)
    with pytest.raises(FolderNotFound):
        await box.write(removal.recover, IdSet.of([1]), NOW, target=999)
    await box.write(removal.recover, IdSet.of([2]), NOW, target=box.archive)
    assert (await box.read(folders.get, box.archive)).message_count == 1


async def test_recoverable_messages_are_listed_latest_first_and_purged(box: Box) -> None:
    await box.fill(box.inbox, 5)
    for number in range(1, 6):
        await box.write(removal.remove, ids(number), Mode.SOFT, NOW + number // 2)
    first = await box.read(removal.recoverable_page, None, 3)
    assert [item.message_id for item in first] == [4, 5, 2]
    rest = await box.read(removal.recoverable_page, (first[-1].deleted_at, first[-1].message_id), 9)
    assert [item.message_id for item in rest] == [3, 1]
    assert await box.write(removal.purge, IdSet.of([1, 2, 99]), NOW) == 2
    due = await box.database.read(removal.due, NOW + 2, 10)
    assert due == {box.id: IdSet.of([3])}


async def test_a_deleted_folder_leaves_its_messages_recoverable(box: Box) -> None:
    parent = await box.write(folders.create, ["a"], NOW)
    child = await box.write(folders.create, ["a", "b"], NOW)
    await box.fill(child, 2)
    with pytest.raises(FolderHasChildren):  # behaviour 32
        await box.write(removal.delete_folder, parent, NOW)
    with pytest.raises(FolderIsSpecial):
        await box.write(removal.delete_folder, box.inbox, NOW)
    gone, number = await box.write(removal.delete_folder, child, NOW)
    assert gone == 2
    with pytest.raises(FolderNotFound):
        await box.read(folders.get, child)
    graves = [grave for grave in await box.read(changes.removals, 0) if grave.folder_id == child]
    assert [(grave.kind, grave.change_number) for grave in graves] == [(Removal.FOLDER, number)]
    await box.write(removal.delete_folder, parent, NOW)
    assert (await box.read(mailboxes.get)).recoverable_count == 2
