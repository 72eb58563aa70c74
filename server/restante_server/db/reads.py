"""Snapshot reads on worker threads: many functions may share one snapshot, and none ever waits for the writer."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection

from restante.errors import DeadlineExceeded, Draining, StoreBusy
from restante_server.db.backend import Backend, Verdict
from restante_server.db.clock import Clock, use
from restante_server.db.errors import DatabaseError
from restante_server.db.handover import Handover
from restante_server.db.hooks import Observer

log = logging.getLogger(__name__)

_CLOSE_SECONDS = 10.0  # for a statement that cannot be interrupted because its server does not answer
_INSIST_SECONDS = 0.05  # an interrupt that fell between two statements is repeated

Reading = Callable[[Connection], Any]


Outcomes = list[Any] | Exception
"""What each function returned or raised, in order; or why none of them was run to its end."""


class Job:
    """Some functions that share one snapshot, and who is told of their outcomes, on the loop and once."""

    __slots__ = ("alarm", "came", "functions", "tell", "thread", "unwanted")

    def __init__(self, functions: Sequence[Reading], tell: Callable[[Outcomes], object]) -> None:
        self.functions = functions
        self.tell: Callable[[Outcomes], object] | None = tell
        self.alarm: asyncio.TimerHandle | None = None
        self.came = time.perf_counter()
        self.unwanted = False  # cancelled or past its deadline: nobody waits for it
        self.thread: _ReaderThread | None = None


class ReadPool:
    """A bounded number of reader threads, each with a connection of its own, started when first needed."""

    def __init__(
        self,
        backend: Backend,
        handover: Handover,
        threads: int,
        max_waiting: int,
        observer: Observer,
        clock: Clock | None,
    ) -> None:
        self._backend, self._handover, self._observer, self._clock = backend, handover, observer, clock
        self._most, self._max_waiting = threads, max_waiting
        self._threads: list[_ReaderThread] = []
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._running: set[Job] = set()
        self._closing = False

    @property
    def waiting(self) -> int:
        """Jobs that wait for a thread or run."""
        return len(self._running)

    async def run(self, functions: Sequence[Reading], deadline: float | None = None) -> list[Any]:
        """The outcome of each function, its result or its exception, in order.

        Raises DeadlineExceeded, StoreBusy, Draining for all of them together. `deadline` is a moment of
        `time.monotonic()`; when it comes, or the caller is cancelled, the running statement is interrupted.
        """
        future: asyncio.Future[list[Any]] = self._handover.loop.create_future()
        job = self.start(functions, partial(_settle, future), deadline)
        try:
            return await future
        except asyncio.CancelledError:
            self._stop(job)
            raise

    def start(
        self, functions: Sequence[Reading], tell: Callable[[Outcomes], object], deadline: float | None = None
    ) -> Job:
        """The same without waiting: `tell` is called with what `run` would return or raise."""
        job = Job(functions, tell)
        if self._closing:
            raise Draining
        if len(self._running) >= self._max_waiting + self._most:
            raise StoreBusy("too many reads are waiting")
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise DeadlineExceeded("the deadline passed before the read could start")
            job.alarm = self._handover.loop.call_later(left, self._expire, job)
        self._running.add(job)
        if len(self._threads) < self._most and len(self._running) > len(self._threads):
            self._threads.append(_ReaderThread(len(self._threads), self))
        self._jobs.put(job)
        return job

    async def close(self) -> None:
        """Takes no new reads, finishes those it has, ends the threads; one that hangs is left to the process's end."""
        if not self._closing:
            self._closing = True
            for _ in self._threads:
                self._jobs.put(None)
            until = time.monotonic() + _CLOSE_SECONDS
            for thread in self._threads:
                await asyncio.to_thread(thread.join, max(0.0, until - time.monotonic()))

    def _expire(self, job: Job) -> None:
        if job.tell is not None:
            self._answer(job, DeadlineExceeded("the deadline passed before the read was done"))
            self._stop(job)

    def _stop(self, job: Job) -> None:
        """Interrupts a job, again and again until its thread has let go of it."""
        job.unwanted = True
        if job in self._running and job.thread is not None:
            loop = self._handover.loop
            asked = loop.run_in_executor(None, job.thread.interrupt, job)  # a round trip on PostgreSQL
            asked.add_done_callback(lambda _asked: loop.call_later(_INSIST_SECONDS, self._stop, job))

    def _finished(self, job: Job, outcomes: Outcomes) -> None:
        self._running.discard(job)
        self._answer(job, outcomes)

    def _answer(self, job: Job, outcomes: Outcomes) -> None:
        if job.alarm is not None:
            job.alarm.cancel()
        tell, job.tell = job.tell, None
        if tell is not None:
            tell(outcomes)


def _settle(future: asyncio.Future[list[Any]], outcomes: Outcomes) -> None:
    if future.done():
        return
    if isinstance(outcomes, Exception):
        future.set_exception(outcomes)
    else:
        future.set_result(outcomes)


class _Lost(Exception):
    """The connection went away under a read; reading again on a fresh one is safe."""


class _ReaderThread:
    """One thread with one connection. `interrupt` may be called from any thread."""

    def __init__(self, number: int, pool: ReadPool) -> None:
        self._pool = pool
        self._backend = pool._backend
        self._connection: Connection | None = None
        self._job: Job | None = None
        self._guard = threading.Lock()  # held while a job is interrupted, so that it never hits the next one
        self._thread = threading.Thread(target=self._work, name=f"restante-read-{number}", daemon=True)
        self._thread.start()

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)

    def interrupt(self, job: Job) -> None:
        with self._guard:
            if self._job is job and self._connection is not None:
                try:
                    self._backend.interrupt(self._connection)
                except Exception:  # then the statement's own timeout ends it
                    log.warning("a read could not be interrupted", exc_info=True)

    def _work(self) -> None:
        pool = self._pool
        while (job := pool._jobs.get()) is not None:
            began = time.perf_counter()
            outcomes: Outcomes = []
            if not job.unwanted:
                job.thread = self
                try:
                    outcomes = self._serve(job)
                except Exception as error:  # noqa: BLE001 - it is the readers' answer, and the thread must live on
                    outcomes = error
                pool._observer.read(len(job.functions), began - job.came, time.perf_counter() - began)
            pool._handover.post(partial(pool._finished, job, outcomes))
        self._disconnect()

    def _serve(self, job: Job) -> list[Any]:
        for trial in (1, 2):
            try:
                tx = self._connection = self._connection or self._connect()
                with self._guard:
                    self._job = job
                try:
                    return self._snapshot(tx, job)
                finally:
                    with self._guard:
                        self._job = None
            except Exception as error:
                self._disconnect()
                if trial == 2 or self._judge(error) is not Verdict.LOST:
                    raise self._answer(error) from error
        raise AssertionError("unreachable")

    def _snapshot(self, tx: Connection, job: Job) -> list[Any]:
        outcomes: list[Any] = []
        transaction = tx.begin()
        for function in job.functions:
            if job.unwanted:
                break
            try:
                outcomes.append(function(tx))
            except BaseException as error:  # it is this function's outcome
                if self._judge(error) is Verdict.LOST:
                    raise _Lost from error
                outcomes.append(self._answer(error))
                if not self._backend.usable(tx):  # PostgreSQL: a failed statement ends the snapshot for all
                    transaction.rollback()
                    transaction = tx.begin()
        transaction.rollback()
        return outcomes

    def _connect(self) -> Connection:
        connection = self._backend.reader()
        if self._pool._clock is not None:
            use(connection, self._pool._clock)
        return connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.invalidate()
                connection.close()
            except Exception:  # whatever a broken connection says on closing changes nothing
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
        # On the loop, StopIteration cannot be carried by a future, and SystemExit would end the process.
        if not busy and isinstance(error, Exception) and not isinstance(error, StopIteration):
            return error
        answer = StoreBusy() if busy else DatabaseError(f"the read raised {type(error).__name__}")
        answer.__cause__ = error
        return answer
