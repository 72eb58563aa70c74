"""Copying and moving."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection

from restante.errors import FolderNotFound, QuotaExceeded
from restante_mail.idset import EMPTY, IdSet
from restante_server.directory.rights import Place
from restante_server.store import changes, flags, folders, mailboxes
from restante_server.store.changes import Removal
from restante_server.store.flags import FlagChange
from restante_server.store.folders import Tally
from restante_server.store.found import find
from restante_server.store.selection import Listed
from restante_server.upkeep.collector import mark_unheld
from tests.server.store.material import NOW, SIMPLE, Box, copy_to, erase, ids, listings, move_to, previews, uids

SIZE = len(SIMPLE) + 17


async def test_copies_keep_flags_and_get_ascending_uids(box: Box) -> None:  # RFC 3501 6.4.7, RFC 4315 3
    await box.fill(box.archive, 2)
    await box.fill(box.inbox, 5, flags=1, keywords=("x",), received_offset_minutes=120)
    done = await box.write(copy_to, uids(box.inbox, 1, (3, 4), 9), box.archive)
    assert (done.source.uids, done.target_uids) == ([1, 3, 4], IdSet.of([3, 4, 5]))
    found = await box.read_in(box.archive, changes.folder_changes, 0)
    assert found.uids == [1, 2, 3, 4, 5]
    assert found.flags == [0, 0, 1, 1, 1]
    assert found.keywords == ["", "", " x ", " x ", " x "]
    assert set(found.change_numbers[2:]) == {done.change_number}
    assert len(set(found.message_ids)) == 5
    assert done.uid_validity == (await box.read_in(box.archive, folders.get)).uid_validity
    assert (await box.read_in(box.inbox, folders.get)).message_count == 5


async def test_copies_within_a_folder_and_by_id(box: Box) -> None:
    placed = await box.fill(box.inbox, 3)
    within = await box.write(copy_to, uids(box.inbox, (1, 3)), box.inbox)
    assert within.target_uids == IdSet.of([4, 5, 6])
    by_id = await box.write(copy_to, ids(placed[0].message_id, placed[2].message_id), box.archive)
    assert (by_id.source.uids, by_id.target_uids) == ([1, 3], IdSet.of([1, 2]))


async def test_copies_share_the_listing_of_their_content_until_it_is_collected(box: Box) -> None:
    def collect(tx: Connection, _place: Place) -> None:
        mark_unheld(tx)

    await box.fill(box.inbox, 1)
    await box.fill(box.inbox, 1)
    await box.write(copy_to, uids(box.inbox, (1, 2)), box.archive)
    assert (await box.read(previews), len(await box.read(listings))) == (["At noon?"] * 4, 2)
    await box.write(erase, uids(box.inbox, 1))
    await box.write(erase, uids(box.archive, 2))
    await box.write(collect)
    assert (await box.read(previews), len(await box.read(listings))) == (["At noon?"] * 2, 2)
    await box.write(erase, uids(box.archive, 1))
    await box.write(collect)
    assert (await box.read(previews), len(await box.read(listings))) == (["At noon?"], 1)


async def test_a_copy_beyond_the_quota_copies_nothing(box: Box) -> None:  # RFC 3501 6.4.7
    await box.fill(box.inbox, 3)
    await box.write(mailboxes.set_quota, 4 * SIZE)
    with pytest.raises(QuotaExceeded):
        await box.write(copy_to, uids(box.inbox, (1, 3)), box.archive)
    assert (await box.read_in(box.archive, folders.get)).message_count == 0
    await box.write(copy_to, uids(box.inbox, 1), box.archive)


async def test_moves_keep_ids_and_leave_tombstones(box: Box) -> None:
    placed = await box.fill(box.inbox, 6)
    since = placed[0].change_number
    done = await box.write(move_to, uids(box.inbox, 2, (4, 5)), box.archive, NOW)
    assert (done.source.uids, done.target_uids) == ([2, 4, 5], IdSet.of([1, 2, 3]))
    there = await box.read_in(box.archive, changes.folder_changes, 0)
    assert there.message_ids == [placed[1].message_id, placed[3].message_id, placed[4].message_id]
    here = await box.read_in(box.inbox, changes.folder_changes, since)
    assert (here.uids, here.vanished) == ([], IdSet.of([2, 4, 5]))
    (tombstone,) = await box.read(changes.removals, since)
    assert (tombstone.kind, tombstone.folder_id, tombstone.target_folder_id) == (Removal.MOVED, box.inbox, box.archive)
    assert tombstone.message_ids == IdSet.of(there.message_ids)


@pytest.mark.parametrize("runs", [[(1, 4)], [1, 3]])
async def test_a_move_within_a_folder_gives_new_uids(box: Box, runs: list[int | tuple[int, int]]) -> None:
    await box.fill(box.inbox, 4)
    done = await box.write(move_to, uids(box.inbox, *runs), box.inbox, NOW)
    found = await box.read_in(box.inbox, changes.folder_changes, 0)
    assert done.target_uids.first == 5
    assert len(found.uids) == 4
    assert set(done.target_uids) <= set(found.uids)


async def test_moves_by_id_come_from_several_folders(box: Box) -> None:
    first = (await box.fill(box.inbox, 1))[0]
    await box.fill(box.inbox, 1)
    second = (await box.fill(box.trash, 1))[0]
    done = await box.write(move_to, ids(first.message_id, second.message_id), box.archive, NOW)
    assert done.target_uids == IdSet.of([1, 2])
    assert (await box.read_in(box.trash, folders.get)).message_count == 0


async def test_nothing_there_is_nothing_done(box: Box) -> None:
    before = await box.read(mailboxes.change_number)
    for done in (
        await box.write(copy_to, uids(box.inbox, 1, 5), box.archive),
        await box.write(move_to, uids(box.inbox, (1, 5)), box.archive, NOW),
    ):
        assert (done.source, done.target_uids, done.change_number) == (Listed(), EMPTY, None)
    assert await box.read(mailboxes.change_number) == before
    with pytest.raises(FolderNotFound):
        await box.write(copy_to, uids(box.inbox, 1), 999)
    with pytest.raises(FolderNotFound):
        await box.write(move_to, uids(999, 1), box.inbox, NOW)


async def test_messages_that_changed_since_are_neither_copied_nor_moved(box: Box) -> None:
    await box.fill(box.inbox, 5)
    since = (await box.read(mailboxes.get)).change_number
    await box.write(flags.change_flags, uids(box.inbox, 2, 5), FlagChange.ADD, 1)

    some = uids(box.inbox, (1, 3), 5)
    copied = await box.write(copy_to, some, box.archive, if_change_number=since)
    assert (copied.source.uids, copied.left.uids, copied.target_uids) == ([1, 3], [2, 5], IdSet.of([1, 2]))
    moved = await box.write(move_to, some, box.archive, NOW, if_change_number=since)
    assert (moved.source.uids, moved.left.uids, moved.target_uids) == ([1, 3], [2, 5], IdSet.of([3, 4]))
    assert moved.left.message_ids == [2, 5]
    assert (await box.read_in(box.inbox, changes.folder_changes, 0)).uids == [2, 4, 5]
    none = await box.write(move_to, uids(box.inbox, 2, 5), box.archive, NOW, 2, if_change_number=since)
    assert (none.source, none.left.uids, none.change_number) == (Listed(), [2, 5], None)


async def test_messages_of_many_folders_are_found_folder_by_folder(box: Box) -> None:
    order = [box.inbox, box.archive, box.inbox, box.trash, box.archive]
    placed = [(await box.fill(folder_id, 1, flags=1))[0] for folder_id in order]
    found = await box.read(find, ids(*(one.message_id for one in placed)))
    assert found.listed == Listed([one.message_id for one in placed], [1, 1, 2, 1, 2])
    assert found.tally == Tally(5, 0, 0, 5 * SIZE)
    expected = {
        folder_id: [one.message_id for one, at in zip(placed, order, strict=True) if at == folder_id]
        for folder_id in order
    }
    assert {folder_id: list(some.message_ids) for folder_id, some in found.folders.items()} == expected
    assert {folder_id: some.tally.messages for folder_id, some in found.folders.items()} == {
        box.inbox: 2,
        box.archive: 2,
        box.trash: 1,
    }
