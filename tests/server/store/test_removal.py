"""Deleting, expunging, recovering and purging."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import Connection, func, select

from restante.errors import FolderHasChildren, FolderIsSpecial, FolderNotFound, MessageNotFound, QuotaExceeded
from restante_mail.idset import IdSet
from restante_process.config import Store
from restante_server.db.clock import now_microseconds
from restante_server.db.schema import content_garbage, message
from restante_server.directory import rights
from restante_server.directory.rights import Place
from restante_server.store import changes, erasure, flags, folders, mailboxes, messages, removal, rows
from restante_server.store.changes import Removal
from restante_server.store.flags import FlagChange
from restante_server.store.removal import Mode, Recovered
from restante_server.store.selection import Listed, Selection
from restante_server.upkeep import sweeps
from tests.server.store.material import NOW, SIMPLE, Box, ids, uids

DELETED = 8
SIZE = len(SIMPLE) + 17


async def test_expunge_takes_only_flagged_messages_in_the_set(box: Box) -> None:  # RFC 4315 2.1
    await box.fill(box.inbox, 2, flags=DELETED)
    await box.fill(box.inbox, 2)
    await box.fill(box.inbox, 1, flags=DELETED)
    wanted = Selection(box.inbox, IdSet.from_runs([(2, 3), (5, 9)]), only_deleted=True)
    done = await box.write(removal.remove, wanted, Mode.SOFT, NOW)
    assert done.messages.uids == [2, 5]
    facts = await box.read_in(box.inbox, folders.get)
    assert (facts.message_count, facts.deleted_count, facts.uid_next) == (3, 1, 6)
    box_facts = await box.read(mailboxes.get)
    assert (box_facts.recoverable_count, box_facts.recoverable_octets) == (2, 2 * SIZE)
    again = await box.write(removal.remove, wanted, Mode.SOFT, NOW)
    assert (again.messages, again.change_number) == (Listed(), None)


async def test_uids_are_never_given_twice(box: Box) -> None:  # RFC 3501 2.3.1.1
    await box.fill(box.inbox, 3)
    await box.write(removal.remove, uids(box.inbox, (1, 3)), Mode.HARD, NOW)
    assert [placed.uid for placed in await box.fill(box.inbox, 1)] == [4]


def recover_into(tx: Connection, place: Place, message_ids: IdSet, folder_id: int) -> Recovered:
    return removal.recover(tx, place, message_ids, NOW, target=rights.within(tx, place, folder_id))


def rows_and_garbage(tx: Connection, place: Place) -> tuple[int, int]:
    rows = select(func.count()).select_from(message).where(message.c.mailbox_id == place.mailbox_id)
    noticed = select(func.count()).select_from(content_garbage)
    return tx.execute(rows).scalar_one(), tx.execute(noticed).scalar_one()


@pytest.mark.parametrize("runs", [[(1, 3)], [1, 3]])
async def test_hard_deletion_leaves_the_content_to_the_collector_when_the_lease_has_lapsed(
    box: Box, other: Box, runs: list[int | tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = sum(run[1] - run[0] + 1 if isinstance(run, tuple) else 1 for run in runs)
    left = 3 - gone
    for mine in (box, other):
        await mine.fill(mine.inbox, 3)
        done = await mine.write(removal.remove, uids(mine.inbox, *runs), Mode.HARD, NOW)
        (tombstone,) = await mine.read(changes.removals, 2)
        assert tombstone.kind is Removal.HARD
        facts = await mine.read(mailboxes.get)
        assert len(done.messages.uids) == gone
        assert (facts.message_count, facts.used_octets) == (left, left * SIZE)
        assert (facts.recoverable_count, facts.recoverable_octets) == (0, 0)
        assert await mine.read(rows_and_garbage) == (3, 0)
    assert await sweeps.erase_removed(box.database, NOW) == 0
    _lapse(monkeypatch)
    assert await sweeps.erase_removed(box.database, NOW) == 2 * gone
    for mine in (box, other):
        assert await mine.read(rows_and_garbage) == (left, 2)


def _lapse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an hour pass."""
    later = erasure.LEASE_MICROSECONDS
    monkeypatch.setattr(erasure, "now_microseconds", lambda tx: now_microseconds(tx) + later)


async def test_what_is_purged_soon_after_its_deletion_stays_for_a_while(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:  # RFC 2180 4.1.2
    numbers = [placed.message_id for placed in await box.fill(box.inbox, 4)]
    await box.write(removal.remove, ids(numbers[0]), Mode.SOFT, NOW - 2 * erasure.LEASE_MICROSECONDS)
    await box.write(removal.remove, ids(numbers[1]), Mode.SOFT, NOW)
    await box.write(removal.remove, ids(numbers[2]), Mode.SOFT, NOW)
    assert await box.write(removal.purge, IdSet.of(numbers[:2]), NOW) == 2
    assert (await box.read(rows_and_garbage)) == (3, 1), "every reader knows of the first one"
    assert (await box.read(mailboxes.get)).recoverable_count == 1
    assert [item.message_id for item in await box.read(removal.recoverable_page, None, 9)] == [numbers[2]]
    recovered = (await box.write(removal.recover, IdSet.of(numbers), NOW)).message_ids
    assert list(recovered) == [numbers[2]]
    assert await box.write(removal.purge, IdSet.of(numbers), NOW) == 0
    with pytest.raises(MessageNotFound):
        await box.read(messages.content_of, numbers[1])
    await box.read(messages.content_of, numbers[1], removed=True)
    everything = Selection(None, IdSet.of(numbers))
    found = await box.read(rows.page, everything, frozenset(), most=9)
    assert found.columns["message_id"] == numbers[2:]
    found = await box.read(rows.page, replace(everything, removed=True), frozenset(), most=9)
    assert found.columns["message_id"] == numbers[1:]
    _lapse(monkeypatch)
    await sweeps.tidy(box.database, Store(), NOW)
    found = await box.read(rows.page, replace(everything, removed=True), frozenset(), most=9)
    assert found.columns["message_id"] == numbers[2:]


async def test_deleting_goes_to_the_trash_and_from_there_to_the_recoverable(box: Box) -> None:
    first = (await box.fill(box.inbox, 2))[0]
    await box.write(removal.remove, uids(box.inbox, 1), Mode.TO_TRASH, NOW)
    trash = await box.read_in(box.trash, changes.folder_changes, 0)
    assert trash.message_ids == [first.message_id]
    # One in the Trash and one outside, in one operation under one number.
    number = (await box.write(removal.remove, ids(1, 2), Mode.TO_TRASH, NOW)).change_number
    tombstones = await box.read(changes.removals, trash.change_number)
    assert {(tombstone.folder_id, tombstone.kind, tombstone.change_number) for tombstone in tombstones} == {
        (box.trash, Removal.SOFT, number),
        (box.inbox, Removal.MOVED, number),
    }
    assert (await box.read(mailboxes.get)).recoverable_count == 1


async def test_a_mailbox_without_trash_deletes_softly(box: Box) -> None:
    await box.write_in(box.trash, removal.delete_folder, NOW)
    await box.fill(box.inbox, 1)
    await box.write(removal.remove, uids(box.inbox, 1), Mode.TO_TRASH, NOW)
    assert (await box.read(mailboxes.get)).recoverable_count == 1


async def test_recovered_messages_come_back_where_they_were_without_the_mark(box: Box) -> None:
    placed = await box.fill(box.inbox, 2, flags=DELETED)
    placed += await box.fill(box.archive, 1, flags=1)
    numbers = [message.message_id for message in placed]
    await box.write(removal.remove, ids(*numbers), Mode.SOFT, NOW)
    await box.write_in(box.archive, removal.delete_folder, NOW)
    done = await box.write(removal.recover, IdSet.of([*numbers, 77]), NOW)
    found = await box.read_in(box.inbox, changes.folder_changes, 0)
    assert (found.uids, found.flags) == ([3, 4, 5], [0, 0, 1])
    assert set(found.change_numbers) == {done.change_number}
    assert (list(done.message_ids), set(done.folder_ids)) == (numbers, {box.inbox})
    assert sorted(done.uids) == found.uids
    assert [found.message_ids[found.uids.index(uid)] for uid in done.uids] == numbers
    assert await box.write(removal.recover, IdSet.of(numbers), NOW) == Recovered()


async def test_recovery_needs_room_and_a_target(box: Box) -> None:
    await box.fill(box.inbox, 2)
    await box.write(removal.remove, ids(1, 2), Mode.SOFT, NOW)
    await box.write(mailboxes.set_quota, SIZE)
    with pytest.raises(QuotaExceeded):
        await box.write(removal.recover, IdSet.of([1, 2]), NOW)
    with pytest.raises(FolderNotFound):
        await box.write(recover_into, IdSet.of([1]), 999)
    await box.write(recover_into, IdSet.of([2]), box.archive)
    assert (await box.read_in(box.archive, folders.get)).message_count == 1


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
    with pytest.raises(FolderHasChildren):  # RFC 3501 6.3.4
        await box.write_in(parent, removal.delete_folder, NOW)
    with pytest.raises(FolderIsSpecial):
        await box.write_in(box.inbox, removal.delete_folder, NOW)
    gone, number = await box.write_in(child, removal.delete_folder, NOW)
    assert gone == 2
    with pytest.raises(FolderNotFound):
        await box.read_in(child, folders.get)
    tombstones = [tombstone for tombstone in await box.read(changes.removals, 0) if tombstone.folder_id == child]
    assert [(tombstone.kind, tombstone.change_number) for tombstone in tombstones] == [(Removal.FOLDER, number)]
    await box.write_in(parent, removal.delete_folder, NOW)
    assert (await box.read(mailboxes.get)).recoverable_count == 2


@pytest.mark.parametrize("mode", list(Mode))
async def test_messages_that_changed_since_are_not_deleted(box: Box, mode: Mode) -> None:
    await box.fill(box.inbox, 4)
    since = (await box.read(mailboxes.get)).change_number
    await box.write(flags.change_flags, uids(box.inbox, 2), FlagChange.ADD, 1)
    done = await box.write(removal.remove, uids(box.inbox, (1, 3)), mode, NOW, if_change_number=since)
    assert (done.messages.uids, done.left.uids, done.left.message_ids) == ([1, 3], [2], [2])
    by_id = await box.write(removal.remove, ids(2, 4), mode, NOW, if_change_number=since)
    assert (by_id.messages.message_ids, by_id.left.message_ids) == ([4], [2])
    again = await box.write(removal.remove, ids(2), mode, NOW, if_change_number=since)
    assert (again.messages, again.left.uids, again.change_number) == (Listed(), [2], None)
    assert (await box.read_in(box.inbox, changes.folder_changes, 0)).uids == [2]
