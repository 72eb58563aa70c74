"""The sweeps remove expired data in every mailbox, and only that."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, select

from restante_process.config import Store
from restante_server.db import schema
from restante_server.db.engine import open_database
from restante_server.db.group import Locks
from restante_server.db.operation import Write
from restante_server.directory.rights import Place
from restante_server.store import changes, garbage, mailboxes, removal, requests
from restante_server.store.removal import Mode
from restante_server.store.staging import Contents, ContentSettings, Form
from restante_server.upkeep import sweeps
from restante_server.upkeep.collector import Collector
from tests.server.store.material import NOW, Box, erase, listings, uids

REQUEST = requests.Request(requests.Key(0, "account:1", b"r" * 16), "Method", b"f", NOW)


async def test_old_deletions_and_removals_are_forgotten(box: Box, other: Box) -> None:
    for mine in (box, other):
        await mine.fill(mine.inbox, 4)
        await mine.write(removal.remove, uids(mine.inbox, 1, 2), Mode.SOFT, NOW)
        await mine.write(removal.remove, uids(mine.inbox, 3), Mode.SOFT, NOW + 20 * sweeps.DAY)
    await sweeps.tidy(box.database, Store(), NOW + 15 * sweeps.DAY)
    for mine in (box, other):
        assert (await mine.read(mailboxes.get)).recoverable_count == 1
        assert len(await mine.read(changes.removals, 0)) == 2
    await sweeps.tidy(box.database, Store(), NOW + 31 * sweeps.DAY)
    for mine in (box, other):
        start = await mine.read(changes.history_from)
        assert (len(await mine.read(changes.removals, start)), start > 0) == (1, True)


async def test_recoverable_mail_has_room_of_its_own_and_the_longest_gone_goes_first(box: Box, other: Box) -> None:
    placed = await box.fill(box.inbox, 4)
    for number, at in ((1, 3), (2, 1), (3, 2), (4, 4)):
        await box.write(removal.remove, uids(box.inbox, number), Mode.SOFT, NOW + at)
    await other.fill(other.inbox, 1)
    await other.write(removal.remove, uids(other.inbox, 1), Mode.SOFT, NOW)
    kept = (await box.read(mailboxes.get)).recoverable_octets // 2
    assert await sweeps.trim_deleted(box.database, kept, NOW) == 2
    left = await box.read(removal.recoverable_page, None, 9)
    assert [item.message_id for item in left] == [placed[3].message_id, placed[0].message_id]
    assert (await other.read(mailboxes.get)).recoverable_count == 1
    assert await sweeps.trim_deleted(box.database, kept, NOW) == 0


async def test_the_mailbox_of_a_deleted_account_goes_with_its_contents(box: Box, other: Box, tmp_path: Path) -> None:
    await box.fill(box.inbox, sweeps.AT_ONCE + 3, keywords=("red",))
    await box.fill(box.archive, 2)
    await box.write(removal.remove, uids(box.inbox, 1, 2), Mode.SOFT, NOW)
    await box.write(mailboxes.acquire_maildrop, b"l" * 16)
    await other.fill(other.inbox, 1)
    await box.write(mailboxes.assign, None)
    await sweeps.tidy(box.database, Store(), NOW)

    def rows(tx: Connection) -> dict[str, int]:
        tables = [table for table in schema.metadata.sorted_tables if "mailbox_id" in table.c]
        count = func.count()
        return {
            table.name: tx.execute(select(count).select_from(table).where(table.c.mailbox_id == box.id)).scalar_one()
            for table in tables
        }

    left = await box.database.read(rows)
    assert left.pop("listing") == 2, "they go with their contents"
    assert set(left.values()) == {0}
    while await Collector(box.database, tmp_path).collect(NOW):
        pass
    contents = select(func.count()).select_from(schema.content)
    assert await box.database.read(lambda tx: tx.execute(contents).scalar_one()) == 1, "that of the other mailbox"
    assert [mailbox_id for mailbox_id, _ in await box.database.read(listings)] == [other.id]


async def test_request_ids_are_forgotten_when_they_expire(box: Box) -> None:
    def remember(tx, place):  # type: ignore[no-untyped-def]
        requests.keep(tx, [(REQUEST, b"answer")], is_locked=True)

    await box.write(remember)
    await sweeps.tidy(box.database, Store(), NOW)
    assert await box.database.read(requests.find, REQUEST) == b"answer"
    await sweeps.tidy(box.database, Store(), NOW + 1)
    assert await box.database.read(requests.find, REQUEST) is None


async def test_many_expired_request_ids_go_a_bounded_number_at_a_time(box: Box) -> None:
    def remember(tx: Connection, place: Place) -> None:
        for number in range(1_300):
            key = requests.Key(0, "account:1", number.to_bytes(16))
            once = requests.Request(key, "Method", b"f", NOW + number // 2)
            requests.keep(tx, [(once, b"answer")], is_locked=True)

    await box.write(remember)
    assert await box.database.write(Write(lambda tx: requests.forget_expired(tx, NOW + 600, 500))) in (501, 502)
    await sweeps.tidy(box.database, Store(), NOW + 600)
    left = select(func.count()).where(schema.request.c.mailbox_id == 0)
    assert await box.database.read(lambda tx: tx.execute(left).scalar_one()) == 100


@pytest.mark.postgres
@pytest.mark.parametrize("dialect", ["postgresql"])  # SQLite has one writer: nothing happens while a collector looks
async def test_a_content_let_go_of_while_the_collector_looks_is_collected_later(
    box: Box, database_url: str, locks: Locks, tmp_path: Path
) -> None:
    """The content was reported before, and still in use when the collector looked: the last report must not be lost."""
    await box.fill(box.inbox, 2)  # of one content
    await box.write(erase, uids(box.inbox, 1))
    let_go, may_commit = threading.Event(), threading.Event()

    def last(tx: Connection) -> None:
        erase(tx, box.place(tx), uids(box.inbox, 2))
        let_go.set()
        assert may_commit.wait(10)

    elsewhere = open_database(database_url, locks=locks)  # another core
    removing = asyncio.create_task(elsewhere.write(Write(last, mailboxes=frozenset({box.id}))))
    try:
        await asyncio.to_thread(let_go.wait, 10)
        collector = Collector(box.database, tmp_path)
        async with asyncio.timeout(5):
            assert await collector.collect(NOW) == 0
        may_commit.set()
        await removing
        assert await collector.collect(NOW) == 1
    finally:
        may_commit.set()
        await elsewhere.close()


async def test_only_old_files_that_no_row_names_are_removed_as_orphans(box: Box, tmp_path: Path) -> None:
    directory = tmp_path / "contents"
    given = Contents(box.database, ContentSettings(directory, inline_octets=10, reserve_octets=0))
    directory.mkdir()
    staged = await given.stage(b"0123456789\r\n", Form.ANY)
    await box.database.write(Write(lambda tx: garbage.notice(tx, [staged.insert(tx, NOW)], NOW)))
    (named,) = (path for path in directory.rglob("*") if path.is_file())
    orphan, young = named.parent / "orphan", named.parent / "young"
    orphan.touch()
    assert await Collector(box.database, directory).remove_orphans(-60) == 1  # all are old
    assert (named.exists(), orphan.exists()) == (True, False)
    young.touch()
    assert await Collector(box.database, directory).remove_orphans(60) == 0
    assert young.exists()
