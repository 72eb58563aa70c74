"""Snapshot reads: their view, their cancellation, and their independence of writers."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from sqlalchemy import Connection, insert, text
from sqlalchemy.exc import DBAPIError

from restante.errors import DeadlineExceeded, StoreBusy
from restante_server.db.engine import Database
from restante_server.db.operation import Write
from tests.harness.faults import DatabaseFaults
from tests.server.db.conftest import Add, Figures, Opener, entry, numbers, words

ENDLESS = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
    "postgresql": "SELECT pg_sleep(60)",
}


def endless(tx: Connection) -> object:
    return tx.execute(text(ENDLESS[tx.dialect.name])).scalar()


async def test_a_read_is_one_snapshot(db: Database) -> None:
    await db.write(Add(1, "a"))
    seen, go_on = threading.Event(), threading.Event()

    def twice(tx: Connection) -> tuple[list[str], list[str]]:
        before = words(tx)
        seen.set()
        assert go_on.wait(10)
        return before, words(tx)

    reading = asyncio.ensure_future(db.read(twice))
    await asyncio.to_thread(seen.wait, 10)
    await db.write(Add(1, "b"))  # does not wait for the reader either
    go_on.set()
    assert await reading == (["a"], ["a"])
    assert await db.read(words) == ["a", "b"]


async def test_a_read_never_waits_for_the_writer(db: Database, faults: DatabaseFaults) -> None:
    with faults.lanes_stopped():
        writing = asyncio.ensure_future(db.write(Add(1, "a")))
        await asyncio.to_thread(faults.reached.wait, 10)
        assert await db.read(words) == []
    await writing


async def test_a_read_cannot_write(db: Database) -> None:
    with pytest.raises(DBAPIError):
        await db.read(lambda tx: tx.execute(insert(entry).values(box_id=1, number=1)))
    assert await db.read(words) == []


async def test_arguments_are_passed_and_errors_come_back_as_raised(db: Database) -> None:
    await db.write(Add(1))
    assert await db.read(numbers, 1) == [1]
    own = LookupError("own")

    def fails(_tx: Connection) -> None:
        raise own

    with pytest.raises(LookupError) as raised:
        await db.read(fails)
    assert raised.value is own


async def test_many_functions_share_one_snapshot_and_each_has_its_own_outcome(db: Database, figures: Figures) -> None:
    await db.write(Add(1, "a"))

    def bad_sql(tx: Connection) -> list[str]:
        tx.execute(text("SELECT nothing FROM nowhere"))
        return []

    def bad_value(_tx: Connection) -> list[str]:
        raise ValueError

    outcomes = await db.read_many([words, bad_value, words, bad_sql, words])
    assert [outcomes[0], outcomes[2], outcomes[4]] == [["a"]] * 3
    assert isinstance(outcomes[1], ValueError)
    assert isinstance(outcomes[3], DBAPIError)
    assert figures.reads == [5]


async def test_at_its_deadline_a_read_is_interrupted_in_its_statement(db: Database) -> None:
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        await db.read(endless, deadline=began + 0.2)
    assert time.monotonic() - began < 5
    await until_no_read_is_left(db)
    assert await db.read(words) == []


async def test_a_deadline_that_has_passed_reads_nothing(db: Database) -> None:
    with pytest.raises(DeadlineExceeded):
        await db.read(words, deadline=time.monotonic() - 1)


async def test_a_cancelled_reader_stops_its_statement_and_frees_its_thread(open_small: Opener) -> None:
    db = open_small(readers=1)
    reading = asyncio.ensure_future(db.read(endless))
    behind = asyncio.ensure_future(db.read(endless))  # cancelled while it waits: never begun
    await asyncio.sleep(0.2)
    behind.cancel()
    reading.cancel()
    await asyncio.wait([reading, behind])
    assert await asyncio.wait_for(db.read(words), 10) == []
    await until_no_read_is_left(db)


async def test_an_interrupt_between_statements_is_repeated_until_it_hits(db: Database) -> None:
    def pauses(tx: Connection) -> object:
        time.sleep(0.3)  # the deadline falls here, where there is no statement to interrupt
        return endless(tx)

    with pytest.raises(DeadlineExceeded):
        await db.read(pauses, deadline=time.monotonic() + 0.1)
    await until_no_read_is_left(db)


async def until_no_read_is_left(db: Database) -> None:
    async with asyncio.timeout(10):
        while db.waiting_reads:
            await asyncio.sleep(0.01)


async def test_more_reads_than_may_wait_are_refused(open_small: Opener) -> None:
    db = open_small(readers=1, max_waiting_reads=2)
    go_on = threading.Event()
    reads = [asyncio.ensure_future(db.read(lambda _tx: go_on.wait(10))) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(StoreBusy):
        await db.read(words)
    go_on.set()
    assert await asyncio.gather(*reads) == [True, True, True]
    assert await db.read(words) == []


async def test_a_stream_is_a_series_of_short_reads(db: Database) -> None:
    for number in range(10):
        await db.write(Add(1, f"w{number}"))

    def page(tx: Connection, after: int | None) -> tuple[list[int], int | None]:
        found = [number for number in numbers(tx, 1) if number > (after or 0)][:4]
        return found, found[-1] if len(found) == 4 else None

    pages: list[list[int]] = []
    async for found in db.read_stream(page):
        pages.append(found)
        assert db.waiting_reads == 0  # no snapshot is open while we hold a page
        if len(pages) == 1:
            await db.write(Add(1, "late"))
    assert pages == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11]]


async def test_close_waits_for_reads_under_way(open_small: Opener) -> None:
    db, began, go_on = open_small(), threading.Event(), threading.Event()

    def slow(tx: Connection) -> list[str]:
        began.set()
        assert go_on.wait(10)
        return words(tx)

    reading = asyncio.ensure_future(db.read(slow))
    await asyncio.to_thread(began.wait, 10)
    closing = asyncio.ensure_future(db.close())
    await asyncio.sleep(0.05)
    assert not closing.done()
    go_on.set()
    assert await reading == []
    await closing


async def test_reads_and_writes_of_one_caller_see_each_other_in_turn(db: Database) -> None:
    for number in range(1, 30):
        assert await db.write(Write(lambda tx: Add(1).run(tx), mailboxes=frozenset({1}))) == number
        assert len(await db.read(numbers, 1)) == number
