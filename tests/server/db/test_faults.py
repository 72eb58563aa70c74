"""Faults of the database: deadlock, lost connection, full disk, lock. The writers get errors, and recovery follows."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Connection, make_url, select, update

from restante.errors import StoreBusy, StoreFull
from restante_process.config import Config
from restante_server.db import lanes
from restante_server.db.effects import IN_DOUBT, invalidate
from restante_server.db.engine import Database, Settings, open_backend, open_database
from restante_server.db.errors import CommitFailed
from restante_server.db.operation import Write
from restante_server.db.postgresql import PostgresSettings
from restante_server.opening import database_settings
from tests.harness.faults import DatabaseFaults, Fault, fill_disk, free_disk, raising, write_lock
from tests.server.db.conftest import QUICK, Add, Figures, Opener, box, next_number, words

only_sqlite = pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
only_postgres = pytest.mark.parametrize(
    "dialect", [pytest.param("postgresql", marks=pytest.mark.postgres)], indirect=True
)


@only_postgres
@pytest.mark.parametrize("error", [psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected])
async def test_a_deadlock_or_serialization_error_replays_the_group_unseen(
    error: type[Exception], db: Database, faults: DatabaseFaults, figures: Figures
) -> None:
    faults.at_begin = [raising(error()), None, raising(error())]
    faults.at_commit = [raising(error())]
    assert await db.write(Add(1, "a")) == 1
    assert figures.groups == [(0, 1, 3)]
    assert await db.read(words) == ["a"]


@only_postgres
async def test_after_five_replays_the_group_is_given_up(db: Database, faults: DatabaseFaults, figures: Figures) -> None:
    faults.at_begin = [raising(psycopg.errors.DeadlockDetected())] * 6
    with pytest.raises(StoreBusy):
        await db.write(Add(1, "a"))
    assert figures.groups == [(0, 1, 5)]
    assert await db.write(Add(1, "a")) == 1


@dataclass(frozen=True)
class Cross:
    """Increase two counters in this order. Its first run waits between them for the other operation's first counter."""

    first: int
    second: int
    meeting: threading.Barrier
    runs: list[int]
    rows: int = 2
    octets: int = 0

    @property
    def mailboxes(self) -> frozenset[int]:
        return frozenset({self.first})  # declares less than it writes, so that the locks cannot prevent the deadlock

    def run(self, tx: Connection) -> None:
        next_number(tx, self.first)
        self.runs.append(self.first)
        if self.runs.count(self.first) == 1:
            self.meeting.wait(10)
        next_number(tx, self.second)


@only_postgres
async def test_a_real_deadlock_is_survived_by_both_writers(
    open_small: Opener, figures: Figures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "PATIENCE_SECONDS", 0.0)  # they use two lanes
    db, meeting, runs = open_small(), threading.Barrier(2), list[int]()
    await asyncio.gather(db.write(Cross(1, 2, meeting, runs)), db.write(Cross(2, 1, meeting, runs)))
    # One is the victim. Its second run may overtake the waiting one, and cause a second deadlock.
    assert sum(replays for _, _, replays in figures.groups) >= 1

    def counters(tx: Connection) -> list[int]:
        return list(tx.execute(select(box.c.counter).where(box.c.box_id < 3)).scalars())

    assert await db.read(counters) == [2, 2]


@only_postgres
async def test_a_connection_lost_before_the_commit_is_replaced_and_the_group_replayed(
    db: Database, faults: DatabaseFaults, empty_database_url: str, figures: Figures
) -> None:
    await db.write(Add(1, "a"))
    faults.at_begin = [_end_this_connection(empty_database_url)]
    assert await db.write(Add(1, "b")) == 2
    assert figures.groups[-1] == (0, 1, 1)


@only_postgres
async def test_a_core_that_stops_in_a_write_frees_its_rows_and_begins_the_write_anew(
    open_small: Opener, figures: Figures
) -> None:
    stopped, other = open_small(postgres=PostgresSettings(write_lanes=1, write_idle_seconds=0.5)), open_small()
    written, go_on = threading.Event(), threading.Event()

    class Stopping(Add):
        def run(self, tx: Connection) -> int:
            number = super().run(tx)
            if not written.is_set():
                written.set()
                assert go_on.wait(30)
            return number

    writing = asyncio.ensure_future(stopped.write(Stopping(1, "late")))
    assert await asyncio.to_thread(written.wait, 30)
    assert await other.write(Add(1, "first")) == 1, "while the other core stands still"
    go_on.set()
    assert await writing == 2
    assert [replays for _, _, replays in figures.groups] == [0, 1]
    assert await other.read(words) == ["first", "late"]


@only_postgres
def test_only_a_core_limits_the_pauses_of_its_writes(empty_database_url: str) -> None:
    """A restore reads contents between two statements, and a migration may compute."""

    def limit(settings: Settings | None) -> str:
        backend = open_backend(empty_database_url, settings)
        try:
            with backend.writer() as tx:
                return str(tx.exec_driver_sql("SHOW idle_in_transaction_session_timeout").scalar_one())
        finally:
            backend.close()

    assert limit(None) == "0"
    assert limit(database_settings(Config())) == "5s"


@only_postgres
async def test_a_connection_lost_while_idle_is_replaced(db: Database, empty_database_url: str) -> None:
    await db.write(Add(1, "a"))
    assert await db.read(words) == ["a"]
    with psycopg.connect(_plain(empty_database_url), autocommit=True) as other:
        ended = other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ~ 'rest'")
        assert len(ended.fetchall()) >= 2
    assert await db.write(Add(1, "b")) == 2
    assert await db.read(words) == ["a", "b"]


@only_postgres
async def test_a_connection_lost_at_the_commit_is_an_unknown_outcome_and_never_replayed(
    db: Database, faults: DatabaseFaults, empty_database_url: str
) -> None:
    faults.at_commit = [_end_this_connection(empty_database_url)]
    with pytest.raises(CommitFailed):
        await db.write(Add(1, "a"))
    assert await db.read(words) == []
    assert await db.write(Add(1, "b")) == 1


async def test_an_invalidation_fires_also_when_nobody_knows_whether_the_commit_stands(
    db: Database, faults: DatabaseFaults
) -> None:
    told: list[str] = []
    db.listeners.on_invalidation("seen", lambda: told.append("seen"))

    class Noting(Add):
        def run(self, tx: Connection) -> int:
            invalidate(tx, "seen")
            return super().run(tx)

    assert await db.write(Noting(1, "a")) == 1
    assert told == ["seen"]
    faults.at_commit = [raising(OSError("the answer was lost"))]
    with pytest.raises(CommitFailed):
        await db.write(Noting(1, "b"))
    assert told == ["seen", "seen"]
    assert await db.write(Add(1, "c")) == 2
    assert told == ["seen", "seen"]


async def test_who_keeps_something_in_memory_is_told_of_every_commit_in_doubt(
    db: Database, faults: DatabaseFaults
) -> None:
    told: list[str] = []
    db.listeners.on_invalidation(IN_DOUBT, lambda: told.append(IN_DOUBT))
    assert await db.write(Add(1, "a")) == 1
    faults.after = [raising(OSError("the answer was lost"))]
    with pytest.raises(CommitFailed):
        await db.write(Add(1, "b"))
    assert told == [IN_DOUBT]


@only_postgres
async def test_a_writer_that_waits_too_long_for_a_lock_hears_that_the_store_is_busy(
    open_small: Opener, empty_database_url: str
) -> None:
    db = open_small(postgres=PostgresSettings(write_statement_seconds=0.2))
    with psycopg.connect(_plain(empty_database_url)) as other:
        other.execute("SELECT 1 FROM box WHERE box_id = 1 FOR UPDATE")
        with pytest.raises(StoreBusy):
            await db.write(Add(1))
        other.rollback()
    assert await db.write(Add(1)) == 1


def _plain(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(False)


def _end_this_connection(url: str) -> Fault:
    def fault(tx: Connection) -> None:
        process: int = tx.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        with psycopg.connect(_plain(url), autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", (process,))

    return fault


# -- SQLite ------------------------------------------------------------------------------------------------------------


@only_sqlite
async def test_a_full_disk_refuses_what_needs_room_and_lets_the_rest_through(
    db: Database, faults: DatabaseFaults
) -> None:
    await db.write(Add(1, "a"))
    faults.at_begin = [fill_disk]
    large = "x" * 1_000_000
    outcomes = await asyncio.gather(
        db.write(Add(1, large)), db.write(Add(1, "b")), db.write(Add(1, "y" + large)), return_exceptions=True
    )
    assert isinstance(outcomes[0], StoreFull)
    assert isinstance(outcomes[2], StoreFull)
    assert [word for word in await db.read(words) if word != "b"] == ["a"]
    shrink = Write(lambda tx: tx.execute(update(box).values(counter=100)).rowcount, mailboxes=frozenset({1}))
    assert await db.write(shrink) == 8  # needs no room
    faults.at_begin = [free_disk]
    assert await db.write(Add(1, large)) == 101


@only_sqlite
async def test_a_locked_database_says_busy_within_its_time_and_recovers(db: Database, empty_database_url: str) -> None:
    path = Path(str(make_url(empty_database_url).database))
    await db.write(Add(1, "a"))
    with write_lock(path):
        with pytest.raises(StoreBusy):
            await db.write(Add(1, "b"))
        assert await db.read(words) == ["a"]  # reads never wait for a writer
    assert await db.write(Add(1, "c")) == 2


@only_sqlite
async def test_a_statement_that_ends_the_whole_transaction_harms_its_own_operation_alone(
    db: Database, faults: DatabaseFaults
) -> None:
    def rolls_back(tx: Connection) -> None:
        tx.exec_driver_sql("INSERT OR ROLLBACK INTO entry (box_id, number, word) VALUES (1, 1, 'first')")

    with faults.lanes_stopped():
        tasks = [asyncio.ensure_future(db.write(Add(1, "first")))]
        await asyncio.to_thread(faults.reached.wait, 10)
        operations: list[Any] = [Add(1, "a"), Write(rolls_back, mailboxes=frozenset({1})), Add(1, "b")]
        tasks += [asyncio.ensure_future(db.write(operation)) for operation in operations]
        await asyncio.sleep(0)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [outcomes[0], outcomes[1], outcomes[3]] == [1, 2, 3]
    assert "UNIQUE" in str(outcomes[2])
    assert await db.read(words) == ["first", "a", "b"]


@pytest.mark.faults
@pytest.mark.parametrize(("point", "stands"), [("at_commit", False), ("after", True)])
async def test_what_is_killed_before_its_commit_is_gone_and_after_it_stands(
    point: str, stands: bool, empty_database_url: str, open_small: Opener
) -> None:
    open_small()  # makes the tables
    child = subprocess.run(
        [sys.executable, "-m", "tests.server.db.killed_writer", empty_database_url, point], timeout=60, check=False
    )
    assert child.returncode == -signal.SIGKILL
    db = open_small()
    assert await db.read(words) == ["before", "killed"][: 1 + stands]
    assert await db.write(Add(1, "after")) == 2 + stands


async def test_a_database_that_cannot_be_reached_says_so_to_writers_and_readers(
    dialect: str, tmp_path: Path, empty_database_url: str
) -> None:
    if dialect == "sqlite":
        path = tmp_path / "sub" / "store.db"
        path.parent.mkdir()
        db = open_database(f"sqlite:///{path}", settings=QUICK)
        path.parent.rename(tmp_path / "moved away")
    else:
        db = open_database(empty_database_url, settings=Settings())
        name = make_url(empty_database_url).database
        maintenance = make_url(_plain(empty_database_url)).set(database="postgres").render_as_string(False)
        with psycopg.connect(maintenance, autocommit=True) as other:
            other.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(str(name))))
    with pytest.raises(StoreBusy):
        await db.write(Add(1))
    with pytest.raises(StoreBusy):
        await db.read(words)
    await db.close()
