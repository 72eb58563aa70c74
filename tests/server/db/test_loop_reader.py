"""Reads of few rows on the event loop's own thread."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from restante_server.db.engine import Database
from restante_server.db.reads import MAX_ON_LOOP
from restante_server.db.turns import Party
from tests.harness.faults import DatabaseFaults
from tests.server.db.conftest import Add, words
from tests.server.db.test_reads import endless

BUSY, QUIET = Party("busy"), Party("quiet")


async def few(db: Database, function: Any, party: Party = QUIET, deadline: float | None = None) -> Any:
    future = asyncio.get_running_loop().create_future()
    db.begin_few(function, future.set_result, deadline=deadline, party=party)
    outcomes = await future
    if isinstance(outcomes, Exception):
        raise outcomes
    return outcomes[0]


def thread(_tx: Connection) -> int:
    return threading.get_ident()


def is_on_loop(db: Database, thread_id: int) -> bool:
    """Whether a read ran where it should: on the event loop's thread, except on PostgreSQL."""
    return (thread_id == threading.get_ident()) == (db.dialect == "sqlite")


async def test_reads_of_one_turn_run_on_the_loop_in_one_snapshot_that_ends_with_the_turn(db: Database) -> None:
    assert is_on_loop(db, await few(db, thread))
    for word in "ab":
        await db.write(Add(1, word))
        seen = await asyncio.gather(*(few(db, words) for _ in range(3)))
        assert [set(found) for found in seen] == [set("ab"[: "ab".index(word) + 1])] * 3


async def test_no_open_transaction_delays_a_read(db: Database, faults: DatabaseFaults) -> None:
    assert await few(db, words) == []
    with faults.lanes_stopped():
        writing = asyncio.ensure_future(db.write(Add(1, "a")))
        await asyncio.to_thread(faults.reached.wait, 10)
        assert await few(db, words) == []
    await writing
    assert await few(db, words) == ["a"]


async def test_an_error_is_the_outcome_of_its_read_alone(db: Database) -> None:
    def broken(tx: Connection) -> None:
        tx.execute(text("SELECT nothing FROM nowhere"))

    def stop(_tx: Connection) -> None:
        raise StopIteration

    outcomes = await asyncio.gather(*(few(db, read) for read in (words, broken, stop, words)), return_exceptions=True)
    assert [outcomes[0], outcomes[3]] == [[], []]
    assert isinstance(outcomes[1], DBAPIError) and not isinstance(outcomes[2], StopIteration)


async def test_a_long_read_goes_to_a_thread_and_the_loop_goes_on(db: Database) -> None:
    threads: list[int] = []

    def long(tx: Connection) -> Any:
        threads.append(threading.get_ident())
        return endless(tx)

    future = asyncio.get_running_loop().create_future()
    stop = db.begin_few(long, future.set_result, deadline=None, party=QUIET)
    while not threads or threads[-1] == threading.get_ident():
        await asyncio.sleep(0.001)
    assert len(threads) == (2 if db.dialect == "sqlite" else 1)
    assert is_on_loop(db, await few(db, thread))
    stop()  # its thread is free for others again
    assert isinstance((await future)[0], Exception)


async def test_reads_beyond_the_bound_of_a_turn_wait_for_threads_in_turns_by_party(db: Database) -> None:
    busy = [asyncio.ensure_future(few(db, thread, BUSY)) for _ in range(2 * MAX_ON_LOOP)]
    quiet = asyncio.ensure_future(few(db, thread))
    on_loop = [is_on_loop(db, found) for found in await asyncio.gather(*busy, quiet)]
    assert on_loop[-1], "the quiet party waits for one read of the busy one"
    if db.dialect == "sqlite":
        assert on_loop.count(True) == MAX_ON_LOOP
