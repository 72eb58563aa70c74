"""One reader: a thread with a connection, which runs hops (batches of reads), each hop in one snapshot."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection

from restante.errors import StoreBusy
from restante_server.db.backend import Backend, Verdict
from restante_server.db.clock import Clock, use
from restante_server.db.errors import DatabaseError
from restante_server.db.hooks import Observer
from restante_server.db.turns import Party

log = logging.getLogger(__name__)

HOP_SECONDS = 0.01  # after so long a hop begins no further read; the rest is queued again

Reading = Callable[[Connection], Any]
Outcomes = list[Any] | Exception
"""Results or exceptions of the functions, in order; or the reason why none completed."""


class Job:
    """Functions that share one snapshot. `on_outcomes` gets their outcomes, once, on the event loop."""

    __slots__ = (
        "alarm",
        "came",
        "deadline",
        "few",
        "functions",
        "make",
        "on_outcomes",
        "outcomes",
        "party",
        "shared",
        "thread",
        "unwanted",
    )

    def __init__(
        self,
        functions: Sequence[Reading],
        on_outcomes: Callable[[Outcomes], object],
        party: Party,
        deadline: float | None,
        shared: bool,
    ) -> None:
        self.functions = functions
        self.on_outcomes: Callable[[Outcomes], object] | None = on_outcomes
        self.party = party
        self.deadline = deadline
        self.shared = shared  # it may share its snapshot and its hop with other jobs
        self.few = False  # it reads few rows, by index: see `loop_reader`
        self.make: Callable[[], Reading] | None = None  # makes the function just before the job is queued
        self.alarm: asyncio.TimerHandle | None = None
        self.came = time.perf_counter()
        self.unwanted = False  # cancelled or past its deadline: no caller waits for it
        self.thread: Reader | None = None
        self.outcomes: Outcomes = []


class _Lost(Exception):
    """The connection was lost during a read; repeating the read on a new one is safe."""


class Reader:
    """A reader thread. Call `interrupt` on any thread; the reader calls `take`, `put_back` and `done` on its thread."""

    def __init__(
        self,
        number: int,
        backend: Backend,
        wake: queue.SimpleQueue[bool],
        take: Callable[[], list[Job]],
        put_back: Callable[[list[Job]], object],
        done: Callable[[list[Job]], object],
        observer: Observer,
        clock: Clock | None,
    ) -> None:
        """Start the thread. `wake` gives True when `take` may have a hop again, False to end the thread."""
        self._backend, self._observer, self._clock = backend, observer, clock
        self._wake, self._take, self._put_back, self._done = wake, take, put_back, done
        self._connection: Connection | None = None
        self._job: Job | None = None
        self._guard = threading.Lock()  # held during an interrupt, so that it never stops the next job
        self._thread = threading.Thread(target=self._work, name=f"restante-read-{number}", daemon=True)
        self._thread.start()

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)

    def interrupt(self, job: Job) -> None:
        with self._guard:
            if self._job is job and self._connection is not None:
                try:
                    self._backend.interrupt(self._connection)
                except Exception as error:  # noqa: BLE001 - the statement's timeout then ends it
                    log.warning("a read could not be interrupted: %s: %s", type(error).__name__, error)

    def _work(self) -> None:
        going = True
        while going:
            while hop := self._take():
                self._run(hop)
            going = self._wake.get()
        self._disconnect()

    def _run(self, hop: list[Job]) -> None:
        began = time.perf_counter()
        for job in hop:
            job.thread = self
        try:
            served = self._serve(hop)
        except Exception as error:  # noqa: BLE001 - the callers get it, and the thread continues
            served = len(hop)
            for job in hop:
                job.outcomes = error
        if served < len(hop):
            self._put_back(hop[served:])
            del hop[served:]
        functions = sum(len(job.functions) for job in hop)
        self._observer.read(functions, began - hop[0].came, time.perf_counter() - began)
        self._done(hop)

    def _serve(self, hop: list[Job]) -> int:
        """Run as many jobs as fit into HOP_SECONDS, at least one; returns the number of finished jobs."""
        for trial in (1, 2):
            try:
                tx = self._connection = self._connection or self._connect()
                try:
                    return self._snapshot(tx, hop)
                finally:
                    self._turn_to(None)
            except Exception as error:
                self._disconnect()
                if trial == 2 or self._judge(error) is not Verdict.LOST:
                    raise self._answer(error) from error
        raise AssertionError("unreachable")

    def _snapshot(self, tx: Connection, hop: list[Job]) -> int:
        transaction = self._backend.begin(tx)
        until = time.perf_counter() + HOP_SECONDS
        served = 0
        for job in hop:
            if served and time.perf_counter() > until:
                break
            self._turn_to(job)
            outcomes: list[Any] = []
            job.outcomes = outcomes
            for function in job.functions:
                if job.unwanted:
                    break
                try:
                    outcomes.append(function(tx))
                except BaseException as error:  # the outcome of this function
                    if self._judge(error) is Verdict.LOST:
                        raise _Lost from error
                    outcomes.append(self._answer(error))
                    if not self._backend.usable(tx):  # PostgreSQL: a failed statement ends the snapshot for all
                        transaction.rollback()
                        transaction = self._backend.begin(tx)
            served += 1
        transaction.rollback()
        return served

    def _turn_to(self, job: Job | None) -> None:
        with self._guard:
            self._job = job

    def _connect(self) -> Connection:
        connection = self._backend.reader()
        if self._clock is not None:
            use(connection, self._clock)
        return connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.invalidate()
                connection.close()
            except Exception:  # errors on closing a broken connection do not matter
                log.debug("closing a broken connection failed", exc_info=True)

    def _judge(self, error: BaseException | None) -> Verdict:
        while error is not None:
            verdict = self._backend.judge(error, reading=True)
            if verdict is not Verdict.OWN:
                return verdict
            error = error.__cause__
        return Verdict.OWN

    def _answer(self, error: BaseException) -> Exception:
        busy = self._judge(error) is not Verdict.OWN
        # A future cannot carry StopIteration, and SystemExit would end the process on the event loop.
        if not busy and isinstance(error, Exception) and not isinstance(error, StopIteration):
            return error
        answer = StoreBusy() if busy else DatabaseError(f"the read raised {type(error).__name__}")
        answer.__cause__ = error
        return answer
