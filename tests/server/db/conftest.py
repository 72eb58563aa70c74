"""Databases with small test tables, independent of the mail schema."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

import pytest
from sqlalchemy import BigInteger, Column, Connection, Integer, MetaData, Table, Text, insert, select, update
from typing_extensions import override

from restante_server.db.effects import Topic, events
from restante_server.db.engine import Database, Settings, open_database
from restante_server.db.group import Locks
from restante_server.db.hooks import Observer
from restante_server.db.postgresql import PostgresSettings
from restante_server.db.rowlocks import lock_rows
from restante_server.db.sqlite import SqliteSettings
from tests.harness.faults import DatabaseFaults

metadata = MetaData()
box = Table(
    "box",
    metadata,
    Column("box_id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=False),
    Column("counter", BigInteger, nullable=False),
)
entry = Table(
    "entry",
    metadata,
    Column("entry_id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True),
    Column("box_id", BigInteger, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("word", Text, unique=True),
)
BOXES = range(1, 9)
ADDED: Topic[list[tuple[int, Any, str | None]]] = Topic("added", list)


def next_number(tx: Connection, box_id: int, count: int = 1) -> int:
    """Increase a box's counter and return its new value."""
    raised = update(box).where(box.c.box_id == box_id).values(counter=box.c.counter + count).returning(box.c.counter)
    number: int = tx.execute(raised).scalar_one()
    return number


@dataclass(frozen=True)
class Add:
    """Add an entry with the box's next number and return the number. An existing word raises IntegrityError."""

    box_id: int
    word: str | None = None
    rows: int = 2
    octets: int = 100

    @property
    def mailboxes(self) -> frozenset[int]:
        return frozenset({self.box_id})

    def run(self, tx: Connection) -> int:
        number = next_number(tx, self.box_id)
        tx.execute(insert(entry).values(box_id=self.box_id, number=number, word=self.word))
        events(tx, ADDED).append((self.box_id, number, self.word))
        return number


class AddSet(Add):
    """Add in sets: one counter, one executemany. Each word with the prefix `bad` is refused singly."""

    sizes: list[int] = []  # noqa: RUF012 - how large each set was; tests empty it

    @classmethod
    def run_many(cls, tx: Connection, operations: Sequence[AddSet]) -> list[int | Exception]:
        cls.sizes.append(len(operations))
        results: list[int | Exception] = []
        rows = []
        for operation in operations:
            if operation.word is not None and operation.word.startswith("bad"):
                results.append(ValueError(operation.word))
                continue
            results.append(next_number(tx, operation.box_id))
            rows.append({"box_id": operation.box_id, "number": results[-1], "word": operation.word})
            events(tx, ADDED).append((operation.box_id, results[-1], operation.word))
        if rows:
            tx.execute(insert(entry), rows)
        return results


def words(tx: Connection) -> list[str]:
    """All words, in the order of their entry ids."""
    return list(tx.execute(select(entry.c.word).order_by(entry.c.entry_id)).scalars())


def numbers(tx: Connection, box_id: int) -> list[int]:
    return list(tx.execute(select(entry.c.number).where(entry.c.box_id == box_id).order_by(entry.c.number)).scalars())


class Figures(Observer):
    """An observer that records the figures."""

    def __init__(self) -> None:
        self.groups: list[tuple[int, int, int]] = []  # lane, operations, replays
        self.checkpoints: list[int] = []  # pages in the log
        self.reads: list[int] = []  # functions

    @property
    def sizes(self) -> list[int]:
        return [operations for _, operations, _ in self.groups]

    @override
    def group(self, lane: int, operations: int, seconds: float, replays: int) -> None:
        self.groups.append((lane, operations, replays))

    @override
    def read(self, functions: int, waited_seconds: float, seconds: float) -> None:
        self.reads.append(functions)

    @override
    def checkpoint(self, seconds: float, pages: int) -> None:
        self.checkpoints.append(pages)


QUICK = Settings(sqlite=SqliteSettings(busy_milliseconds=200))
LOCKS = Locks(lock_rows(box.c.box_id), lock_rows(entry.c.entry_id))
Opener = Callable[..., Database]


@pytest.fixture
def figures() -> Figures:
    return Figures()


@pytest.fixture
async def open_small(empty_database_url: str, faults: DatabaseFaults, figures: Figures) -> AsyncIterator[Opener]:
    """A function that opens the test's database, with the tables above and boxes 1 to 8; each call is another core."""
    async with AsyncExitStack() as stack:

        def opener(*, locks: Locks = LOCKS, **changes: Any) -> Database:
            settings = replace(QUICK, **changes)
            opened = open_database(empty_database_url, settings=settings, locks=locks, faults=faults, observer=figures)
            with opened.engine.begin() as tx:
                metadata.create_all(tx)
                if tx.execute(select(box.c.box_id)).first() is None:
                    tx.execute(insert(box), [{"box_id": number, "counter": 0} for number in BOXES])
            stack.push_async_callback(opened.close)
            return opened

        yield opener


@pytest.fixture
def db(open_small: Opener) -> Database:
    """A database with one write lane, so that a test can predict the groups."""
    return open_small(postgres=PostgresSettings(write_lanes=1))
