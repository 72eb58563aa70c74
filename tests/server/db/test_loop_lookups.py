"""Lookups: reads of one statement, which PostgreSQL answers to the event loop without a thread."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from sqlalchemy import Text, bindparam, func, select, text

from restante_server.db import loop_lookups
from restante_server.db.engine import Database
from restante_server.db.prepared import Lookup
from tests.server.conftest import BOTH
from tests.server.db.conftest import Add, entry

WORDS = select(entry.c.word).where(entry.c.box_id == bindparam("box")).order_by(entry.c.number)
SLOW = select(func.pg_backend_pid(), func.pg_sleep(bindparam("seconds")))
LENGTH = select(func.length(bindparam("word", type_=Text)))
ABSENT = select(text("nothing")).select_from(text("nowhere"))

on_postgresql = pytest.mark.parametrize("dialect", BOTH[1:], indirect=True)


def first(rows: list[Any]) -> Any:
    return rows[0][0]


def words(rows: list[Any]) -> list[str]:
    return [word for (word,) in rows]


async def ask(db: Database, statement: Any, found: Any = first, /, **parameters: Any) -> Any:
    return await db.begin_read(lambda: Lookup(statement, parameters, found))


async def is_on_loop(db: Database) -> bool:
    thread: int = await ask(db, WORDS, lambda _rows: threading.get_ident(), box=1)
    return thread == threading.get_ident()


async def connected(db: Database) -> None:
    """Wait until lookups run on the loop."""
    async with asyncio.timeout(20):
        while not await is_on_loop(db):
            await asyncio.sleep(0.02)


async def test_a_lookup_sees_every_acknowledged_write(db: Database) -> None:
    for number in range(30):
        await db.write(Add(1, f"{number}"))
        assert await ask(db, WORDS, words, box=1) == [f"{n}" for n in range(number + 1)]


@on_postgresql
async def test_lookups_run_on_the_loop_once_there_is_a_connection(db: Database) -> None:
    assert not await is_on_loop(db)
    await connected(db)
    assert all(await asyncio.gather(*(is_on_loop(db) for _ in range(50))))


@on_postgresql
async def test_an_error_is_the_outcome_of_its_lookup_alone(db: Database) -> None:
    await connected(db)

    def fails(_rows: Any) -> None:
        raise ValueError("found")

    for _trial in range(2):
        found = await asyncio.gather(
            ask(db, WORDS, words, box=1), ask(db, ABSENT), ask(db, WORDS, fails, box=1), ask(db, WORDS, words, box=1),
            return_exceptions=True,
        )  # fmt: skip
        assert (found[0], found[3]) == ([], [])
        assert 'relation "nowhere" does not exist' in str(found[1]) and str(found[2]) == "found"
    assert await is_on_loop(db)


@on_postgresql
async def test_a_statement_whose_preparation_failed_is_prepared_again(db: Database) -> None:
    await connected(db)
    later = select(text("1")).select_from(text("later"))
    with pytest.raises(Exception, match='"later" does not exist'):
        await ask(db, later)
    with db.engine.begin() as tx:
        tx.exec_driver_sql("CREATE TABLE later AS SELECT 1")
    assert await ask(db, later) == 1
    assert await is_on_loop(db)


@on_postgresql
async def test_lookups_of_a_lost_connection_are_answered_by_threads_and_there_is_another(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_lookups, "RETRY_SECONDS", 0.0)
    await connected(db)
    waiting = [asyncio.ensure_future(ask(db, SLOW, seconds=0.2))]
    await asyncio.sleep(0.05)
    waiting += [asyncio.ensure_future(ask(db, WORDS, words, box=1)) for _ in range(3)]
    await asyncio.sleep(0)
    with db.engine.begin() as tx:
        ended = tx.exec_driver_sql(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE query LIKE '%%pg_sleep(%%' AND pid <> pg_backend_pid()"
        ).scalar_one()
        assert ended == 1
    assert (await asyncio.gather(*waiting))[1:] == [[], [], []]
    await connected(db)


@on_postgresql
async def test_a_connection_that_ends_while_nobody_asks_is_replaced(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_lookups, "RETRY_SECONDS", 0.0)
    await connected(db)
    pid = await ask(db, SLOW, seconds=0.0)
    with db.engine.begin() as tx:
        tx.exec_driver_sql(f"SELECT pg_terminate_backend({pid})")
    await asyncio.sleep(0.2)
    assert await ask(db, WORDS, words, box=1) == []
    await connected(db)
    assert await ask(db, SLOW, seconds=0.0) != pid


@on_postgresql
async def test_a_connection_without_answers_is_given_up(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_lookups, "SILENT_SECONDS", 0.1)
    await connected(db)
    pid = await ask(db, SLOW, seconds=0.0)
    slow = asyncio.ensure_future(ask(db, SLOW, seconds=0.5))
    await asyncio.sleep(0.2)
    assert await ask(db, WORDS, words, box=1) == []
    assert await slow != pid


@on_postgresql
async def test_values_larger_than_the_sockets_buffer_arrive(db: Database) -> None:
    await connected(db)
    large = ["x" * (8 << 20) for _ in range(3)]
    found = asyncio.gather(*(ask(db, LENGTH, word=word) for word in large), ask(db, WORDS, words, box=1))
    assert await found == [*map(len, large), []]
    assert await is_on_loop(db)


@on_postgresql
async def test_closing_answers_the_lookups_that_were_accepted(db: Database) -> None:
    await connected(db)
    waiting = [asyncio.ensure_future(ask(db, SLOW, seconds=0.2)), asyncio.ensure_future(ask(db, WORDS, words, box=1))]
    await asyncio.sleep(0.05)
    await db.close()
    slow, found = await asyncio.gather(*waiting)
    assert slow and found == []
