"""Copying and moving between two mailboxes, with a place in each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import Connection, select

from restante.errors import MailboxNotFound, QuotaExceeded
from restante_mail.idset import IdSet
from restante_process.config import Store
from restante_server.db import schema
from restante_server.db.engine import Database, open_database
from restante_server.db.group import Locks
from restante_server.db.operation import Write
from restante_server.directory import rights
from restante_server.directory.rights import Place
from restante_server.store import changes, erasure, flags, folders, mailboxes, messages, transfer, transfer_between
from restante_server.store.changes import CHANGED, Removal, Touched
from restante_server.store.check import check
from restante_server.store.flags import FlagChange
from restante_server.store.selection import Selection
from restante_server.store.transfer import Transferred
from restante_server.upkeep import sweeps
from restante_server.upkeep.collector import Collector
from tests.server.store.material import NOW, OWNER, SIMPLE, Box, ids, listings, previews, uids

R = TypeVar("R")
SIZE = len(SIMPLE) + 17
Moment = tuple[int, int, str, int, int, int]


def write_both(
    database: Database, source: Box, target: Box, folder_id: int, function: Callable[[Connection, Place, Place], R]
) -> asyncio.Task[R]:
    """Run a function of a place in each mailbox; the second is in the folder."""

    def run(tx: Connection) -> R:
        return function(tx, source.place(tx), target.place(tx, folder_id))

    return asyncio.ensure_future(database.write(Write(run, mailboxes=frozenset({source.id, target.id}))))


async def copy(source: Box, selection: Selection, target: Box, folder_id: int) -> Transferred:
    return await write_both(
        source.database, source, target, folder_id, lambda tx, here, there: transfer.copy(tx, here, selection, there)
    )


async def move(
    source: Box, selection: Selection, target: Box, folder_id: int, if_change_number: int | None = None
) -> Transferred:
    def run(tx: Connection, here: Place, there: Place) -> Transferred:
        return transfer_between.move(tx, here, selection, there, NOW, if_change_number=if_change_number)

    return await write_both(source.database, source, target, folder_id, run)


async def remove_mailbox(box: Box, directory: Path) -> None:
    """Remove the mailbox for good, and the contents that no other mailbox has."""
    await box.write(mailboxes.assign, None)
    await sweeps.tidy(box.database, Store(), NOW)
    while await Collector(box.database, directory).collect(NOW):
        pass


async def facts(box: Box, folder_id: int) -> list[Moment]:
    """(uid, flags, keywords, received_at, received_offset_minutes, content_id) of a folder's messages."""
    m = schema.message.c

    def run(tx: Connection, place: Place) -> list[Moment]:
        mine = (m.mailbox_id == place.mailbox_id, m.folder_id == folder_id)
        columns = (m.uid, m.flags, m.keywords, m.received_at, m.received_offset_minutes, m.content_id)
        return [tuple(row) for row in tx.execute(select(*columns).where(*mine).order_by(m.uid))]

    return await box.read(run)


@pytest.fixture
def told(box: Box) -> list[dict[int, Touched]]:
    """The change events of commits."""
    heard: list[dict[int, Touched]] = []
    box.database.listeners.on_event(CHANGED, heard.append)
    return heard


async def test_a_copy_takes_everything_of_a_message_but_its_ids(
    box: Box, other: Box, told: list[dict[int, Touched]]
) -> None:
    await other.fill(other.inbox, 4)
    await other.fill(other.inbox, 1, keywords=("work",))  # the spelling of the other mailbox
    placed = await box.fill(box.inbox, 3, flags=9, keywords=("Work", "$Label1"), received_offset_minutes=120)
    before = await box.read(mailboxes.get)
    told.clear()
    done = await copy(box, uids(box.inbox, 1, 3, 8), other, other.archive)
    assert done.source.message_ids == [placed[0].message_id, placed[2].message_id]
    assert (done.target_uids, done.target_ids) == (IdSet.of([1, 2]), IdSet.of([6, 7]))
    assert (done.change_number, done.source_change_number) == (await other.read(mailboxes.change_number), None)
    assert done.uid_validity == (await other.read_in(other.archive, folders.get)).uid_validity
    here, there = await facts(box, box.inbox), await facts(other, other.archive)
    assert [row[1] for row in there] == [9, 9]
    assert {row[2] for row in there} == {" $Label1 work "}
    assert [row[3:] for row in there] == [here[0][3:], here[2][3:]], "received time and content"
    assert await box.read(mailboxes.get) == before, "the mailbox of the messages is as it was"
    assert (await other.read(mailboxes.get)).used_octets == 7 * SIZE
    (event,) = told
    assert event.keys() == {other.id}
    assert event[other.id].folders == {other.archive: done.change_number}


async def test_copies_of_one_content_share_its_listing_in_each_mailbox(box: Box, other: Box) -> None:
    await box.fill(box.inbox, 2)  # with one content
    await copy(box, uids(box.inbox, (1, 2)), other, other.inbox)
    await copy(box, uids(box.inbox, (1, 2)), other, other.archive)  # the mailbox has the listing by now
    await move(box, uids(box.inbox, (1, 2)), other, other.trash)
    assert (
        len({row[5] for folder in (other.inbox, other.archive, other.trash) for row in await facts(other, folder)}) == 1
    )


async def test_a_copy_lists_whole_after_the_mailbox_of_its_source_is_gone(box: Box, other: Box, tmp_path: Path) -> None:
    await box.fill(box.inbox, 1)
    await box.fill(box.inbox, 1)
    await copy(box, uids(box.inbox, (1, 2)), other, other.archive)
    await move(other, uids(other.archive, 1), box, box.inbox)
    await other.write(erasure.end_leases, IdSet(((1, 99),)), NOW)
    await copy(other, uids(other.archive, 2), other, other.inbox)
    assert [mailbox_id for mailbox_id, _ in await box.read(listings)] == [box.id] * 2, "of the first messages"
    await remove_mailbox(box, tmp_path)
    assert await other.read(previews) == ["At noon?"] * 2
    ((mailbox_id, content_id),) = await other.read(listings)
    assert (mailbox_id, {row[5] for row in await facts(other, other.inbox)}) == (box.id, {content_id})


async def test_messages_named_by_id_are_copied_from_all_folders(box: Box, other: Box) -> None:
    first = (await box.fill(box.inbox, 1))[0].message_id
    second = (await box.fill(box.trash, 1, flags=1))[0].message_id
    done = await copy(box, ids(first, second), other, other.inbox)
    assert (done.source.message_ids, done.target_uids) == ([first, second], IdSet.of([1, 2]))
    assert [row[1] for row in await facts(other, other.inbox)] == [0, 1]


async def test_a_move_leaves_tombstones_and_tells_both_mailboxes(
    box: Box, other: Box, told: list[dict[int, Touched]]
) -> None:
    placed = await box.fill(box.inbox, 3, keywords=("x",))
    told.clear()
    done = await move(box, uids(box.inbox, 1, 2), other, other.inbox)
    assert done.source_change_number == await box.read(mailboxes.change_number)
    assert done.change_number == await other.read(mailboxes.change_number)
    (tombstone,) = await box.read(changes.removals, placed[0].change_number)
    assert (tombstone.kind, tombstone.folder_id, tombstone.target_folder_id) == (Removal.HARD, box.inbox, 0)
    assert (tombstone.uids, tombstone.message_ids) == (IdSet.of([1, 2]), IdSet.of(done.source.message_ids))
    (event,) = told
    assert {mailbox_id: set(touched.folders) for mailbox_id, touched in event.items()} == {
        box.id: {box.inbox},
        other.id: {other.inbox},
    }
    here, there = await box.read(mailboxes.get), await other.read(mailboxes.get)
    assert (here.used_octets, here.message_count, here.recoverable_count) == (SIZE, 1, 0)
    assert (there.used_octets, there.message_count) == (2 * SIZE, 2)
    assert [row[2] for row in await facts(other, other.inbox)] == [" x ", " x "]


async def test_a_moved_message_holds_its_content_after_the_mailbox_it_left_forgets_it(
    box: Box, other: Box, tmp_path: Path
) -> None:
    (placed,) = await box.fill(box.inbox, 1)
    done = await move(box, ids(placed.message_id), other, other.inbox)
    content = await box.read(messages.content_of, placed.message_id, removed=True)
    collector = Collector(box.database, tmp_path)
    assert await collector.collect(NOW) == 0
    await box.write(erasure.end_leases, IdSet.of([placed.message_id]), NOW)
    assert await collector.collect(NOW) == 0, "the other mailbox holds it"
    (moved,) = list(done.target_ids)
    assert await other.read(messages.content_of, moved) == content


async def test_a_message_that_changed_meanwhile_stays_in_its_mailbox(box: Box, other: Box) -> None:
    placed = await box.fill(box.inbox, 3)
    since = await box.read(mailboxes.change_number)
    changed = uids(box.inbox, 2)
    await box.write(flags.change_flags, changed, FlagChange.ADD, 1)
    done = await move(box, uids(box.inbox, (1, 3)), other, other.inbox, since)
    assert done.source == ([placed[0].message_id, placed[2].message_id], [1, 3])
    assert done.left == ([placed[1].message_id], [2])
    assert done.target_uids == IdSet.of([1, 2])
    assert len(await facts(box, box.inbox)) == 1
    assert done.source_change_number == await box.read(mailboxes.change_number)
    before = [await one.read(mailboxes.change_number) for one in (box, other)]
    done = await move(box, changed, other, other.inbox, since)
    assert (done.source, done.change_number, done.source_change_number) == (((), ()), None, None)
    assert done.left == ([placed[1].message_id], [2])
    assert [await one.read(mailboxes.change_number) for one in (box, other)] == before


async def test_the_quota_of_the_target_counts(box: Box, other: Box) -> None:
    await box.fill(box.inbox, 2)
    await box.write(mailboxes.set_quota, 1)  # has no say
    await other.write(mailboxes.set_quota, SIZE)
    before = [await one.read(mailboxes.get) for one in (box, other)]
    for transfers in (copy, move):
        with pytest.raises(QuotaExceeded):
            await transfers(box, uids(box.inbox, (1, 2)), other, other.inbox)
    assert [await one.read(mailboxes.get) for one in (box, other)] == before
    await move(box, uids(box.inbox, 2), other, other.inbox)


async def test_nothing_there_changes_neither_mailbox(box: Box, other: Box) -> None:
    before = [await one.read(mailboxes.change_number) for one in (box, other)]
    for transfers in (copy, move):
        done = await transfers(box, uids(box.inbox, 5), other, other.inbox)
        assert (len(done.source.message_ids), done.change_number, done.source_change_number) == (0, None, None)
    assert [await one.read(mailboxes.change_number) for one in (box, other)] == before


async def test_a_place_needs_a_right_in_the_target(box: Box, other: Box) -> None:
    await box.fill(box.inbox, 1)
    await other.write(mailboxes.assign, OWNER + 1)
    for mailbox_id in (other.id, 999):  # a stranger's mailbox and a missing one answer alike
        with pytest.raises(MailboxNotFound):
            await box.database.read(rights.decide, OWNER, mailbox_id, other.inbox)


async def test_copies_in_both_directions_at_once_neither_deadlock_nor_lose_a_message(
    box: Box, other: Box, database_url: str, locks: Locks
) -> None:
    """Each of two cores (on PostgreSQL) copies and moves both ways, many operations at a time."""
    for one in (box, other):
        await one.fill(one.inbox, 4)
    elsewhere = open_database(database_url, locks=locks) if not box.database.alone else box.database
    whole = (1, 1 << 31)

    def copy_whole(database: Database, source: Box, target: Box) -> asyncio.Task[Transferred]:
        selection = uids(source.inbox, whole)
        return write_both(
            database, source, target, target.archive, lambda tx, here, there: transfer.copy(tx, here, selection, there)
        )

    try:
        async with asyncio.timeout(120):
            done = await asyncio.gather(
                *(
                    copy_whole(database, source, target)
                    for _ in range(10)
                    for database in (box.database, elsewhere)
                    for source, target in ((box, other), (other, box))
                ),
                move(box, uids(box.inbox, 1), other, other.trash),
            )
    finally:
        if elsewhere is not box.database:
            await elsewhere.close()
    copies = {one.id: 0 for one in (box, other)}
    for at, transferred in enumerate(done[:-1]):
        copies[(other, box)[at % 2].id] += len(transferred.source.message_ids)
    for one in (box, other):
        found = await one.read_in(one.archive, folders.get)
        assert found.message_count == copies[one.id]
        assert found.uid_next == copies[one.id] + 1
    assert copies[box.id] == 80, "the mailbox that lost no message was copied whole each time"
    assert await box.database.read(check) == []
