"""The settings of each database, its clock, and the truncation of SQLite's log."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, make_url

from restante_server.db import clock
from restante_server.db.engine import Database, open_database
from restante_server.db.errors import UnsupportedDatabase
from restante_server.db.operation import Write
from restante_server.db.sqlite import SqliteSettings
from tests.server.db.conftest import Add, Figures, Opener
from tests.server.db.test_faults import only_postgres, only_sqlite

PRAGMAS = {
    "journal_mode": "wal",
    "synchronous": 2,  # FULL
    "foreign_keys": 1,
    "page_size": 8192,
    "wal_autocheckpoint": 0,
    "temp_store": 2,  # memory
    "busy_timeout": 200,
}


def pragmas(tx: Connection) -> dict[str, object]:
    return {name: tx.exec_driver_sql(f"PRAGMA {name}").scalar() for name in PRAGMAS}


@only_sqlite
async def test_sqlite_is_durable_and_checked_on_every_connection(db: Database) -> None:
    assert await db.write(Write(pragmas)) == PRAGMAS
    assert await db.read(pragmas) == PRAGMAS
    assert db.features.fts5
    assert db.features.trigram
    assert db.dialect == "sqlite"


def isolation(tx: Connection) -> tuple[object, ...]:
    names = ("transaction_isolation", "transaction_read_only", "synchronous_commit", "timezone")
    return tuple(tx.exec_driver_sql(f"SHOW {name}").scalar() for name in names)


@only_postgres
async def test_postgresql_reads_in_read_only_snapshots_and_writes_durably(db: Database) -> None:
    assert await db.write(Write(isolation)) == ("read committed", "off", "on", "UTC")
    assert await db.read(isolation) == ("repeatable read", "on", "on", "UTC")
    assert db.features.version >= (13, 0, 0)
    assert db.dialect == "postgresql"


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://localhost/mail"])
def test_other_databases_are_refused_by_name(url: str) -> None:
    with pytest.raises(UnsupportedDatabase):
        open_database(url)


async def test_the_clock_is_the_databases_and_near_ours(db: Database) -> None:
    before = datetime.now(UTC)
    told = await db.read(clock.now)
    assert told.tzinfo is UTC
    assert before - timedelta(seconds=2) < told < datetime.now(UTC) + timedelta(seconds=2)
    assert isinstance(await db.write(Write(clock.now_microseconds)), int)


async def test_a_test_may_give_reads_and_writes_another_clock(empty_database_url: str) -> None:
    noon = int(datetime(2026, 7, 1, 12, tzinfo=UTC).timestamp()) * 1_000_000
    db = open_database(empty_database_url, clock=lambda _tx: noon)
    assert await db.write(Write(clock.now_microseconds)) == noon
    assert await db.read(clock.now) == datetime(2026, 7, 1, 12, tzinfo=UTC)
    await db.close()


@only_sqlite
async def test_the_log_stays_short_under_a_writer_that_never_pauses(
    open_small: Opener, empty_database_url: str, figures: Figures
) -> None:
    limit = 1 << 20
    db = open_small(sqlite=SqliteSettings(checkpoint_octets=1 << 18, checkpoint_seconds=0.05, log_octets=limit))
    log = Path(str(make_url(empty_database_url).database) + "-wal")
    octets = 20_000

    async def write(number: int) -> None:
        for count in range(12 * limit // octets // 4):
            await db.write(Add(1 + number, f"{number} {count} " + "x" * octets, octets=octets))

    await asyncio.gather(*map(write, range(4)))
    assert sum(figures.sizes) * octets > 10 * limit
    assert log.stat().st_size < 8 * limit
    assert len(figures.checkpoints) > 5


@only_sqlite
async def test_closing_leaves_no_log_behind(open_small: Opener, empty_database_url: str) -> None:
    db = open_small()
    await db.write(Add(1, "a"))
    await db.read(pragmas)
    path = Path(str(make_url(empty_database_url).database))
    await db.close()
    assert sorted(file.name for file in path.parent.iterdir() if file.name.startswith(path.name)) == [path.name]
