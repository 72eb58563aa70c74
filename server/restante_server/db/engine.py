"""The database for the rest of the core: `open_database` makes a Database, with `write` and `read`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

from sqlalchemy import URL, Connection, Engine, make_url

from restante.errors import Draining, StoreBusy
from restante_server.db.backend import Backend, Features
from restante_server.db.clock import Clock
from restante_server.db.effects import Listeners
from restante_server.db.errors import UnsupportedDatabase
from restante_server.db.group import Bounds, Item, Locks
from restante_server.db.handover import Handover
from restante_server.db.hooks import FaultHooks, Observer
from restante_server.db.operation import Operation, Write
from restante_server.db.pipeline import Pipeline, QueueLimits
from restante_server.db.postgresql import PostgresBackend, PostgresSettings
from restante_server.db.reads import ReadPool
from restante_server.db.sqlite import SqliteBackend, SqliteSettings
from restante_server.db.turns import Party

CLOSE_SECONDS = 30.0  # time for the longest running write to finish

Ts = TypeVarTuple("Ts")
R = TypeVar("R")
K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a database. The defaults suit a single server."""

    readers: int = 4  # reader threads
    max_waiting_reads: int = 16_384  # more raise StoreBusy
    bounds: Bounds = field(default_factory=Bounds)
    queue: QueueLimits = field(default_factory=QueueLimits)
    sqlite: SqliteSettings = field(default_factory=SqliteSettings)
    postgres: PostgresSettings = field(default_factory=PostgresSettings)


@dataclass(frozen=True, slots=True)
class _Started:
    pipeline: Pipeline
    reads: ReadPool
    probe: ReadPool  # one separate thread, so that it answers however many reads wait
    loop: asyncio.AbstractEventLoop


class Database:
    """A database that writes in groups and reads in snapshots. Use it only on the event loop of its first use."""

    def __init__(
        self,
        backend: Backend,
        settings: Settings,
        locks: Locks,
        faults: FaultHooks | None,
        observer: Observer,
        clock: Clock | None,
    ) -> None:
        self._backend, self._settings, self._locks = backend, settings, locks
        self._faults, self._observer, self._clock = faults, observer, clock
        self.listeners = Listeners()
        self._started: _Started | None = None
        self._closed = False
        self._look: asyncio.Future[list[Any]] | None = None

    @property
    def dialect(self) -> str:
        """sqlite or postgresql."""
        return self._backend.name

    @property
    def alone(self) -> bool:
        """Whether no other process can write to the store. True for SQLite, whose core holds the directory's lock."""
        return self._backend.name == "sqlite"

    @property
    def features(self) -> Features:
        return self._backend.features

    @property
    def engine(self) -> Engine:
        """The writer engine, for schema work before the first use (migrations, `MetaData.create_all`) only."""
        return self._backend.writer_engine

    @property
    def file(self) -> Path | None:
        """The SQLite file; None on PostgreSQL."""
        return self._backend.file

    @property
    def unused_octets(self) -> int:
        """Unused octets in the SQLite file, measured at most about a second ago; 0 on PostgreSQL."""
        return self._backend.unused_octets

    async def give_back(self, keep_octets: int, most_octets: int) -> bool:
        """Return unused octets of the SQLite file to the file system, in one short write of at most `most_octets`.

        Returns False when no more than `keep_octets` are unused.
        """
        return await self.write(
            Write(lambda tx: self._backend.give_back(tx, keep_octets, most_octets), octets=most_octets)
        )

    @property
    def queued_operations(self) -> int:
        """The number of writes in the pipeline, including running ones; for metrics."""
        return self._started.pipeline.operations if self._started else 0

    @property
    def queued_octets(self) -> int:
        return self._started.pipeline.octets if self._started else 0

    @property
    def waiting_writers(self) -> int:
        """The number of writers that wait for room in the pipeline."""
        return self._started.pipeline.waiting if self._started else 0

    @property
    def waiting_reads(self) -> int:
        """The number of reads that wait for a thread or run."""
        return self._started.reads.waiting if self._started else 0

    async def write(self, operation: Operation[R], *, deadline: float | None = None) -> R:
        """Run a write operation; returns its result once it is durable. See Pipeline.write."""
        return await self._start().pipeline.write(operation, deadline)

    def begin_write(
        self,
        operation: Operation[Any],
        settle: Callable[[Item], object],
        *,
        deadline: float | None,
        party: Party,
    ) -> Callable[[], None]:
        """Start a `write` without a future. See Pipeline.begin."""
        return self._start().pipeline.begin(operation, settle, deadline, party)

    async def read(self, function: Callable[[Connection, *Ts], R], /, *args: *Ts, deadline: float | None = None) -> R:
        """Run `function(tx, *args)` in one snapshot on a worker thread and return its result.

        The result must not hold a cursor, which is closed with the snapshot. Raises the function's exception, or a
        DatabaseError. `deadline` is a time of `time.monotonic()`; at the deadline, or on cancellation, the statement is
        interrupted.
        """
        (outcome,) = await self._start().reads.run([lambda tx: function(tx, *args)], deadline)
        if isinstance(outcome, Exception):
            raise outcome
        result: R = outcome
        return result

    async def read_many(
        self, functions: Sequence[Callable[[Connection], R]], *, deadline: float | None = None
    ) -> list[R | Exception]:
        """Run several functions in one snapshot and one thread hop; returns the result or exception of each, in order.

        On PostgreSQL a failed statement ends the snapshot, and the functions behind it share a newer one.
        """
        return await self._start().reads.run(functions, deadline)

    async def read_short(self, function: Callable[[Connection], R], *, deadline: float | None = None) -> R:
        """Do a short `read`, which shares a snapshot and a thread hop with others of the same turn of the event loop.

        The deadline is accurate to a second.
        """
        (outcome,) = await self._start().reads.run((function,), deadline, shared=True)
        if isinstance(outcome, Exception):
            raise outcome
        result: R = outcome
        return result

    def begin_few(
        self,
        function: Callable[[Connection], Any],
        settle: Callable[[list[Any] | Exception], object],
        *,
        deadline: float | None,
        party: Party,
    ) -> Callable[[], None]:
        """Start a `read_short` of few rows, by index, without a future. See ReadPool.begin_few."""
        return self._start().reads.begin_few(function, settle, deadline, party)

    def begin_read(
        self, make: Callable[[], Callable[[Connection], R]], *, deadline: float | None = None
    ) -> asyncio.Future[R]:
        """Start a `read_short` for several callers. `make` returns the function at the end of this turn of the loop."""
        return self._start().reads.begin(make, deadline)

    async def read_stream(
        self,
        page: Callable[[Connection, K | None], tuple[R, K | None]],
        *,
        after: K | None = None,
        deadline: float | None = None,
    ) -> AsyncIterator[R]:
        """Read a stream as a series of short reads, so that no snapshot is open while the receiver is slow.

        `page(tx, key)` returns one page behind `key` and the key to continue from, None at the end. The pages come from
        different snapshots, so a later page shows the changes made behind the key meanwhile.
        """
        while True:
            content, after = await self.read(page, after, deadline=deadline)
            yield content
            if after is None:
                return

    async def problem(self, seconds: float) -> str:
        """The reason why the database cannot be used now, found within `seconds`; empty when it can.

        A probe that has not returned is not repeated: the next call waits for the same one.
        """
        if self._look is None:
            self._look = asyncio.ensure_future(self._start().probe.run([_look], None))
        done, _ = await asyncio.wait([self._look], timeout=seconds)
        if not done:
            return f"did not answer within {seconds:.0f} s"
        look, self._look = self._look, None
        try:
            (outcome,) = look.result()
        except StoreBusy:
            return "cannot be reached"
        return f"the probe failed: {type(outcome).__name__}" if isinstance(outcome, Exception) else outcome

    async def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Finish the running work, refuse new work, and close all connections. A second call does nothing.

        Waits at most `seconds` for a database that does not answer.
        """
        if self._closed:
            return
        self._closed = True
        if self._started is not None:
            until = time.monotonic() + seconds
            await self._started.pipeline.close(seconds)
            if self._look is not None:
                self._look.cancel()
            for pool in (self._started.reads, self._started.probe):
                await pool.close(max(0.0, until - time.monotonic()))
        await asyncio.to_thread(self._backend.close)

    def _start(self) -> _Started:
        if self._started is None:
            if self._closed:
                raise Draining
            loop = asyncio.get_running_loop()
            handover = Handover(loop)
            settings = self._settings
            self._started = _Started(
                Pipeline(
                    self._backend,
                    handover,
                    settings.bounds,
                    settings.queue,
                    self._locks,
                    self._faults,
                    self._observer,
                    self._clock,
                    self.listeners,
                ),
                ReadPool(
                    self._backend, handover, settings.readers, settings.max_waiting_reads, self._observer, self._clock
                ),
                ReadPool(self._backend, handover, 1, 1, Observer(), self._clock),
                loop,
            )
        return self._started


def _look(tx: Connection) -> str:
    """The reason why the database of this connection cannot be used; empty when it can."""
    if tx.dialect.name == "postgresql" and tx.exec_driver_sql("SELECT pg_is_in_recovery()").scalar_one():
        return "is a standby server, which accepts no writes"
    tx.exec_driver_sql("SELECT 1").scalar_one()
    return ""


def open_database(
    url: str | URL,
    *,
    settings: Settings | None = None,
    locks: Locks | None = None,
    faults: FaultHooks | None = None,
    observer: Observer | None = None,
    clock: Clock | None = None,
) -> Database:
    """Open `sqlite:///path` or `postgresql://...`; blocks for a few milliseconds while it checks the database.

    PostgreSQL needs `locks`. `clock` replaces the database's clock, in tests. Raises UnsupportedDatabase, and
    SQLAlchemy's OperationalError when it cannot connect. Makes no tables; `migrate` does.
    """
    settings, observer = settings or Settings(), observer or Observer()
    return Database(open_backend(url, settings, observer), settings, locks or Locks(), faults, observer, clock)


def open_backend(url: str | URL, settings: Settings | None = None, observer: Observer | None = None) -> Backend:
    """Open only the Backend, for tools that work on the database directly (migration, copying a store). See
    `open_database`."""
    url, settings = make_url(url), settings or Settings()
    match url.get_backend_name():
        case "sqlite":
            return SqliteBackend(url, settings.sqlite, (observer or Observer()).checkpoint)
        case "postgresql":
            return PostgresBackend(url, settings.postgres)
        case other:
            raise UnsupportedDatabase(f"{other} databases are not supported; use sqlite or postgresql")
