"""SQLite: one writer, many snapshot readers, write-ahead log with durable commits."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry

from restante_server.db.backend import Features, Verdict
from restante_server.db.checkpoint import Checkpointer
from restante_server.db.errors import UnsupportedDatabase

OLDEST = (3, 35, 0)  # RETURNING
PAGE_OCTETS = 8_192
BEGIN_READ = "BEGIN"
BEGIN_WRITE = "BEGIN IMMEDIATE"  # one that reads first and then writes must not find the database changed in between
INCREMENTAL = 2  # value of PRAGMA auto_vacuum: PRAGMA incremental_vacuum returns unused pages
LOOK_SECONDS = 1.0  # interval of measuring the unused part of the file
_AWAY = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
)
_MOVED = (sqlite3.SQLITE_READONLY_DBMOVED, sqlite3.SQLITE_READONLY_DIRECTORY, sqlite3.SQLITE_READONLY_CANTINIT)


@dataclass(frozen=True, slots=True)
class SqliteSettings:
    """The settings of SQLite; the defaults suit one store on one machine."""

    cache_octets: int = 64 << 20  # page cache of each connection
    map_octets: int = 1 << 30  # largest part of the file mapped into memory for reading
    busy_milliseconds: int = 5_000  # time that a writer waits for another process
    checkpoint_octets: int = 4 << 20  # estimated octets written to the log before a checkpoint
    checkpoint_seconds: float = 5.0  # longest interval between checkpoints while there are writes
    log_octets: int = 32 << 20  # above this the writer completes the checkpoint, so that the log restarts


class SqliteBackend:
    """See Backend. Makes a missing file, with PAGE_OCTETS; its directory must exist."""

    name = "sqlite"
    lanes = 1
    locks_rows = False
    reads_on_loop = True
    has_server = False

    def __init__(self, url: URL, settings: SqliteSettings, timed: Callable[[float, int], object] | None = None) -> None:
        if not url.database or url.database == ":memory:":
            raise UnsupportedDatabase("SQLite needs a file: sqlite:///path/to/store.db")
        self.path = Path(url.database)
        self.settings = settings
        self.features = _probe()
        self._unused_octets = 0
        self._look_at = 0.0  # a time of time.monotonic()
        self.writer_engine = _engine(url, settings, reads=False)
        self._reader_engine = _engine(url, settings, reads=True)
        with self.writer_engine.connect():  # makes the file, with its page size and log mode, before any reader comes
            pass
        self._checkpointer = Checkpointer(
            self.path, settings.checkpoint_octets, settings.checkpoint_seconds, settings.log_octets, timed
        )

    def writer(self) -> Connection:
        return self.writer_engine.connect()

    def reader(self) -> Connection:
        return self._reader_engine.connect()

    def begin(self, tx: Connection) -> SqliteTransaction:
        driver = _driver(tx)
        if tx.in_transaction():
            driver.execute(BEGIN_READ if tx.engine is self._reader_engine else BEGIN_WRITE)
        else:
            tx.begin()
        return SqliteTransaction(driver)

    def savepoint(self, tx: Connection) -> SqliteSavepoint:
        return SqliteSavepoint(_driver(tx))

    def settle(self, tx: Connection) -> None:
        pass  # each statement returns when it is done

    def usable(self, tx: Connection) -> bool:
        return _driver(tx).in_transaction

    # A failed statement is undone alone, unless SQLite rolled back the whole transaction (disk full, I/O error).
    open = usable

    def judge(self, error: BaseException, *, reading: bool = False) -> Verdict:
        cause = error.orig if isinstance(error, DBAPIError) else error
        if not isinstance(cause, sqlite3.Error):
            return Verdict.OWN
        code: int = getattr(cause, "sqlite_errorcode", 0)
        if code & 0xFF in _AWAY or code in _MOVED:  # the low octet is the primary code
            return Verdict.BUSY
        return Verdict.FULL if code & 0xFF == sqlite3.SQLITE_FULL else Verdict.OWN

    def interrupt(self, tx: Connection) -> None:
        _driver(tx).interrupt()

    def committed(self, octets: int) -> None:
        self._checkpointer.committed(octets)

    def between_groups(self, tx: Connection) -> None:
        if self._checkpointer.wants_writer:
            self._checkpointer.run_on_writer(_driver(tx))
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._unused_octets = _unused_octets(_driver(tx))

    @property
    def file(self) -> Path:
        return self.path

    @property
    def unused_octets(self) -> int:
        return self._unused_octets

    def give_back(self, tx: Connection, keep_octets: int, most_octets: int) -> bool:
        driver = _driver(tx)
        pages = min(_unused_octets(driver) - keep_octets, most_octets) // PAGE_OCTETS
        if pages <= 0 or driver.execute("PRAGMA auto_vacuum").fetchone()[0] != INCREMENTAL:
            return False
        driver.execute(f"PRAGMA incremental_vacuum({pages:d})").fetchall()  # frees pages as rows are fetched
        return True

    def close(self) -> None:
        self._checkpointer.close()


class SqliteTransaction:
    """See Transaction. It ends on the driver alone: SQLAlchemy sees one transaction for the life of the connection.

    Beginning and ending each transaction by SQLAlchemy costs 20 us, as much as five statements.
    """

    def __init__(self, driver: sqlite3.Connection) -> None:
        self._driver = driver

    def commit(self) -> None:
        self._driver.execute("COMMIT")

    def rollback(self) -> None:
        if self._driver.in_transaction:
            self._driver.execute("ROLLBACK")


class SqliteSavepoint:
    """See Savepoint."""

    def __init__(self, driver: sqlite3.Connection) -> None:
        self._execute = driver.execute
        self._set = False

    def advance(self) -> None:
        if self._set:
            self._execute("RELEASE operation")
        self._execute("SAVEPOINT operation")
        self._set = True

    def rewind(self) -> None:
        self._execute("ROLLBACK TO operation")


def _driver(tx: Connection) -> sqlite3.Connection:
    return cast(sqlite3.Connection, tx.connection.dbapi_connection)


def _unused_octets(driver: sqlite3.Connection) -> int:
    pages: int = driver.execute("PRAGMA freelist_count").fetchone()[0]
    return pages * PAGE_OCTETS


def _engine(url: URL, settings: SqliteSettings, reads: bool) -> Engine:
    # Parameters hold mail, and errors are logged.
    engine = create_engine(url, poolclass=NullPool, hide_parameters=True, connect_args={"check_same_thread": False})

    def tune(driver: sqlite3.Connection, _record: ConnectionPoolEntry) -> None:
        driver.isolation_level = None  # the driver's BEGIN would be deferred and too late
        execute = driver.execute
        execute(f"PRAGMA busy_timeout={settings.busy_milliseconds:d}")
        if not execute("PRAGMA page_count").fetchone()[0]:  # both take effect only while the file is empty
            execute(f"PRAGMA page_size={PAGE_OCTETS:d}")
            execute(f"PRAGMA auto_vacuum={INCREMENTAL:d}")  # takes the write lock; without it a file never shrinks
        execute("PRAGMA journal_mode=WAL")
        execute("PRAGMA synchronous=FULL")  # a commit survives power loss
        execute("PRAGMA foreign_keys=ON")
        execute("PRAGMA temp_store=MEMORY")
        execute("PRAGMA wal_autocheckpoint=0")  # the Checkpointer makes the checkpoints
        execute(f"PRAGMA cache_size={-(settings.cache_octets >> 10):d}")
        execute(f"PRAGMA mmap_size={settings.map_octets:d}")
        if reads:
            execute("PRAGMA query_only=ON")

    start = BEGIN_READ if reads else BEGIN_WRITE

    def begin(tx: Connection) -> None:
        _driver(tx).execute(start)

    event.listen(engine, "connect", tune)
    event.listen(engine, "begin", begin)
    return engine


def _probe() -> Features:
    version = sqlite3.sqlite_version_info
    if version < OLDEST:
        found, needed = ".".join(map(str, version)), ".".join(map(str, OLDEST))
        raise UnsupportedDatabase(f"SQLite {found} is too old; Restante needs {needed} or newer")
    with sqlite3.connect(":memory:") as trial:
        features = Features(
            version=version[:3],
            fts5=_works(trial, "CREATE VIRTUAL TABLE f USING fts5(t)"),
            trigram=_works(trial, "CREATE VIRTUAL TABLE g USING fts5(t, tokenize='trigram')"),
            contentless_delete=_works(trial, "CREATE VIRTUAL TABLE h USING fts5(t, content='', contentless_delete=1)"),
        )
        if not _works(trial, "CREATE TABLE r(a)") or not _works(trial, "INSERT INTO r VALUES (1) RETURNING a"):
            raise UnsupportedDatabase("this SQLite was built without RETURNING")
    trial.close()
    return features


def _works(driver: sqlite3.Connection, statement: str) -> bool:
    try:
        driver.execute(statement).fetchall()
    except sqlite3.Error:
        return False
    return True
