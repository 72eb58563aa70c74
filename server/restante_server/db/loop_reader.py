"""Short reads on the event loop's own thread, without a hop to a reader thread. SQLite only.

Nothing makes such a read wait: a transaction that writes to the write-ahead log blocks no reader, and neither does a
checkpoint. Where SQLite would wait all the same (recovery of the log), it answers at once that it is busy, and the read
goes to a thread. A read may touch few rows, by index: it is broken off after LOOKS times LOOK_STEPS, and then goes to
a thread, too.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Sequence
from typing import Final, cast

from sqlalchemy import Connection

from restante_server.db.backend import Backend, Verdict
from restante_server.db.clock import Clock, use
from restante_server.db.errors import DatabaseError
from restante_server.db.hooks import Observer
from restante_server.db.reader import Job

log = logging.getLogger(__name__)

LOOK_STEPS: Final = 5_000  # of SQLite's machine, about 0.3 ms; a clock would count the time of other processes
LOOKS: Final = 8


class LoopReader:
    """One connection of the event loop's thread, opened when first needed. Call it on that thread only."""

    def __init__(self, backend: Backend, observer: Observer, clock: Clock | None) -> None:
        self._backend, self._observer, self._clock = backend, observer, clock
        self._connection: Connection | None = None
        self._looks = 0  # LOOK_STEPS of the read in progress

    def run(self, jobs: Sequence[Job]) -> list[Job]:
        """Run jobs in one snapshot. Returns those that have no outcome, because they belong on a thread."""
        began = time.perf_counter()
        left: list[Job] = []
        try:
            tx = self._connection = self._connection or self._connect()
            transaction = self._backend.begin(tx)
            left += [job for job in jobs if not job.unwanted and not self._is_done(job, tx)]
            transaction.rollback()
        except Exception as error:  # noqa: BLE001 - the reader threads judge the same trouble
            log.warning("short reads go to threads: %s: %s", type(error).__name__, error)
            self.close()
            return list(jobs)
        self._observer.read(len(jobs) - len(left), began - jobs[0].came, time.perf_counter() - began)
        return left

    def close(self) -> None:
        """Close the connection. The next `run` opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()

    def _is_done(self, job: Job, tx: Connection) -> bool:
        self._looks = 0
        (function,) = job.functions
        try:
            job.outcomes = [function(tx)]
        except Exception as error:  # noqa: BLE001 - the outcome of this function
            if not self._is_own(error):
                log.debug("a short read is repeated on a thread: %s", error)
                return False
            if isinstance(error, StopIteration):  # a future cannot carry it
                error = DatabaseError("the read raised StopIteration")
            job.outcomes = [error]
        return True

    def _is_own(self, error: BaseException | None) -> bool:
        while error is not None:
            if self._backend.judge(error, reading=True) is not Verdict.OWN:
                return False
            error = error.__cause__
        return True

    def _connect(self) -> Connection:
        connection = self._backend.reader()
        if self._clock is not None:
            use(connection, self._clock)
        driver = cast(sqlite3.Connection, connection.connection.dbapi_connection)
        driver.execute("PRAGMA busy_timeout=0")
        driver.set_progress_handler(self._is_late, LOOK_STEPS)
        return connection

    def _is_late(self) -> bool:
        self._looks += 1
        return self._looks > LOOKS
