"""The database as the rest of the core sees it: `open_database`, then `write` and `read`."""

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
from restante_server.db.group import Bounds, Locks
from restante_server.db.handover import Handover
from restante_server.db.hooks import FaultHooks, Observer
from restante_server.db.operation import Operation, Write
from restante_server.db.pipeline import Pipeline, QueueLimits
from restante_server.db.postgresql import PostgresBackend, PostgresSettings
from restante_server.db.reads import ReadPool
from restante_server.db.sqlite import SqliteBackend, SqliteSettings

CLOSE_SECONDS = 30.0  # for the longest write that may be under way

Ts = TypeVarTuple("Ts")
R = TypeVar("R")
K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Settings:
    """How a database is used. Each has a default that suits one server."""

    readers: int = 4  # threads that read
    max_waiting_reads: int = 16_384  # beyond that: StoreBusy
    bounds: Bounds = field(default_factory=Bounds)
    queue: QueueLimits = field(default_factory=QueueLimits)
    sqlite: SqliteSettings = field(default_factory=SqliteSettings)
    postgres: PostgresSettings = field(default_factory=PostgresSettings)


@dataclass(frozen=True, slots=True)
class _Started:
    pipeline: Pipeline
    reads: ReadPool
    probe: ReadPool  # one thread of its own, so that it answers however many reads wait
    loop: asyncio.AbstractEventLoop


class Database:
    """Writes in groups, reads in snapshots. It belongs to the event loop of its first use, until `close`."""

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
        """Whether no other process writes to the store: a core that opens SQLite holds the lock of its directory."""
        return self._backend.name == "sqlite"

    @property
    def features(self) -> Features:
        return self._backend.features

    @property
    def engine(self) -> Engine:
        """For schema work before the first use (migrations, `MetaData.create_all`), never for mail."""
        return self._backend.writer_engine

    @property
    def file(self) -> Path | None:
        """The file of SQLite; None on PostgreSQL."""
        return self._backend.file

    @property
    def unused_octets(self) -> int:
        """Unused octets in SQLite's file, as of a second ago; 0 on PostgreSQL."""
        return self._backend.unused_octets

    async def give_back(self, keep_octets: int, most_octets: int) -> bool:
        """One short write that gives back what SQLite's file does not use; False when that is at most `keep_octets`."""
        return await self.write(
            Write(lambda tx: self._backend.give_back(tx, keep_octets, most_octets), octets=most_octets)
        )

    @property
    def queued_operations(self) -> int:
        """Writes inside the pipeline, running ones included; for metrics."""
        return self._started.pipeline.operations if self._started else 0

    @property
    def queued_octets(self) -> int:
        return self._started.pipeline.octets if self._started else 0

    @property
    def waiting_writers(self) -> int:
        """Writers that wait for room in the queue."""
        return self._started.pipeline.waiting if self._started else 0

    @property
    def waiting_reads(self) -> int:
        """Reads that wait for a thread or run."""
        return self._started.reads.waiting if self._started else 0

    async def write(self, operation: Operation[R], *, deadline: float | None = None) -> R:
        """See Pipeline.write: the result, once durable."""
        return await self._start().pipeline.write(operation, deadline)

    async def read(self, function: Callable[[Connection, *Ts], R], /, *args: *Ts, deadline: float | None = None) -> R:
        """Returns `function(tx, *args)`, run in one snapshot on a worker thread.

        What it returns must be complete: a cursor dies with the snapshot. Raises what it raised, or a DatabaseError.
        `deadline` is a moment of `time.monotonic()`: then, as on cancellation, the statement is interrupted.
        """
        (outcome,) = await self._start().reads.run([lambda tx: function(tx, *args)], deadline)
        if isinstance(outcome, Exception):
            raise outcome
        result: R = outcome
        return result

    async def read_many(
        self, functions: Sequence[Callable[[Connection], R]], *, deadline: float | None = None
    ) -> list[R | Exception]:
        """Runs several functions in one snapshot and one thread hop: the result or the exception of each, in order.

        On PostgreSQL a statement that fails ends the snapshot: the functions behind it share a newer one.
        """
        return await self._start().reads.run(functions, deadline)

    async def read_short(self, function: Callable[[Connection], R], *, deadline: float | None = None) -> R:
        """`read` for what takes a moment: it shares a snapshot and a thread hop with others of its turn of the loop.

        Its deadline is kept to the second.
        """
        (outcome,) = await self._start().reads.run((function,), deadline, shared=True)
        if isinstance(outcome, Exception):
            raise outcome
        result: R = outcome
        return result

    def begin_read(
        self, make: Callable[[], Callable[[Connection], R]], *, deadline: float | None = None
    ) -> asyncio.Future[R]:
        """`read_short` for many who do not wait one by one: `make` says what to read when the turn of the loop ends."""
        return self._start().reads.begin(make, deadline)

    async def read_stream(
        self,
        page: Callable[[Connection, K | None], tuple[R, K | None]],
        *,
        after: K | None = None,
        deadline: float | None = None,
    ) -> AsyncIterator[R]:
        """A stream as a series of short reads: no snapshot is open while the receiver takes its time.

        `page(tx, key)` returns one page behind `key` and the key to go on from, None at the end. Pages come from
        different snapshots: what changes behind the key meanwhile is seen.
        """
        while True:
            content, after = await self.read(page, after, deadline=deadline)
            yield content
            if after is None:
                return

    async def problem(self, seconds: float) -> str:
        """The reason why the database cannot be used now, found within `seconds`; empty when it can.

        A look that has not come back is not repeated: the next call waits for it again.
        """
        if self._look is None:
            self._look = asyncio.ensure_future(self._start().probe.run([_look], None))
        done, _ = await asyncio.wait([self._look], timeout=seconds)
        if not done:
            return f"it did not answer within {seconds:.0f} s"
        look, self._look = self._look, None
        try:
            (outcome,) = look.result()
        except StoreBusy:
            return "it cannot be reached"
        return f"the look at it failed: {type(outcome).__name__}" if isinstance(outcome, Exception) else outcome

    async def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Finishes what was begun, takes nothing new, closes every connection. A second call does nothing.

        A database that does not answer is waited for at most so long.
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
    """The reason why the database behind this connection cannot be used."""
    if tx.dialect.name == "postgresql" and tx.exec_driver_sql("SELECT pg_is_in_recovery()").scalar_one():
        return "it is a standby, which takes no writes"
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
    """Opens `sqlite:///path` or `postgresql://...`; blocks for a few milliseconds while it looks at what is there.

    `locks` are needed on PostgreSQL. `clock` replaces the database's own, in tests. Raises UnsupportedDatabase, and
    SQLAlchemy's OperationalError when there is nothing to connect to. Makes no tables: that is `migrate`'s.
    """
    settings, observer = settings or Settings(), observer or Observer()
    return Database(open_backend(url, settings, observer), settings, locks or Locks(), faults, observer, clock)


def open_backend(url: str | URL, settings: Settings | None = None, observer: Observer | None = None) -> Backend:
    """The database alone, for tools that work on it by themselves (migration, copy of a store). See `open_database`."""
    url, settings = make_url(url), settings or Settings()
    match url.get_backend_name():
        case "sqlite":
            return SqliteBackend(url, settings.sqlite, (observer or Observer()).checkpoint)
        case "postgresql":
            return PostgresBackend(url, settings.postgres)
        case other:
            raise UnsupportedDatabase(f"{other} is not a database Restante speaks to: sqlite or postgresql")
