"""Snapshot reads on worker threads. Short reads share a snapshot, and no read ever waits for the writer.

Reads of few rows run on the event loop's thread instead, where the database permits it (`loop_reader.py`): all of one
turn of the loop together, at its end, up to MAX_ON_LOOP. Where it has a server, a read that is one statement needs no
thread either (`loop_lookups.py`).

The parties take turns (`turns.py`): a free reader takes one read of each party in turn until its hop is full.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from restante.errors import DeadlineExceeded, Draining, RestanteError, StoreBusy
from restante_server.db import turns
from restante_server.db.backend import Backend
from restante_server.db.clock import Clock
from restante_server.db.handover import Handover
from restante_server.db.hooks import Observer
from restante_server.db.loop_lookups import LoopLookups
from restante_server.db.loop_reader import LoopReader
from restante_server.db.prepared import Lookup
from restante_server.db.reader import Job, Outcomes, Reader, Reading

MAX_HOP = 64  # reads that share one snapshot and one thread hop
MAX_ON_LOOP = 32  # reads of one turn of the event loop on its own thread, about 2 ms
INSIST_SECONDS = 0.05  # an interrupt is repeated at this interval, since one between two statements has no effect
EXPIRE_SECONDS = 1.0  # interval of checking the deadlines of shared reads


class ReadPool:
    """A bounded number of reader threads, each with a connection, started when first needed."""

    def __init__(
        self,
        backend: Backend,
        handover: Handover,
        threads: int,
        max_waiting: int,
        observer: Observer,
        clock: Clock | None,
    ) -> None:
        self._handover = handover
        self._most, self._max_waiting = threads, max_waiting
        self._readers: list[Reader] = []
        self._open_reader = partial(
            Reader,
            backend=backend,
            take=self._take,
            put_back=self._put_back,
            done=self._done,
            observer=observer,
            clock=clock,
        )
        self._loop_reader = LoopReader(backend, observer, clock) if backend.reads_on_loop else None
        self._lookups = (
            LoopLookups(backend, handover.loop, self._finished, self._leave, observer) if backend.has_server else None
        )
        self._guard = threading.Lock()  # protects the attributes below, down to `_busy`
        self._shared: turns.Turns[Job] = turns.Turns()
        self._alone: turns.Turns[Job] = turns.Turns()
        self._alone_next = True
        self._idle = 0  # resting readers that have not been woken; the others check the queues before they rest
        self._busy = 0  # readers with a hop
        self._wake: queue.SimpleQueue[bool] = queue.SimpleQueue()  # True: check the queues; False: end
        self._gathered: list[Job] = []  # shared reads of this turn of the event loop
        self._running: set[Job] = set()  # jobs that wait for a reader or run
        self._expiring: asyncio.TimerHandle | None = None
        self._closing = self._ended = False

    @property
    def waiting(self) -> int:
        """The number of reads that wait for a thread or run."""
        return len(self._running)

    async def run(
        self, functions: Sequence[Reading], deadline: float | None = None, *, shared: bool = False
    ) -> list[Any]:
        """Run functions in one snapshot; returns the outcome of each, its result or its exception, in order.

        Raises DeadlineExceeded, StoreBusy, Draining for all of them together. `deadline` is a time of
        `time.monotonic()`. At the deadline, or when the caller is cancelled, the pool interrupts the running statement.
        `shared` reads of one turn of the event loop share a snapshot and a thread hop, up to MAX_HOP of them; their
        deadlines are accurate to a second.
        """
        future: asyncio.Future[list[Any]] = self._handover.loop.create_future()
        job = self._start(Job(functions, partial(_settle, future), turns.party.get(), deadline, shared))
        try:
            return await future
        except asyncio.CancelledError:
            self._stop(job)
            raise

    def begin(self, make: Callable[[], Reading], deadline: float | None = None) -> asyncio.Future[Any]:
        """Start a shared read for several callers; the future gets its outcome.

        `make` returns the function to run. It is called at the end of this turn of the event loop.
        """
        future: asyncio.Future[Any] = self._handover.loop.create_future()
        job = Job((), partial(_settle_one, future), turns.CORE, deadline, shared=True)
        job.make = make
        try:
            self._start(job)
        except RestanteError as error:
            self._handover.loop.call_soon(_refuse, make, future, error)
        return future

    def begin_few(
        self, function: Reading, settle: Callable[[Outcomes], object], deadline: float | None, party: turns.Party
    ) -> Callable[[], None]:
        """Start a shared read of few rows, by index, without a future. Raises as `run`.

        `settle` gets the outcome, once, on the event loop: one result or exception, or an exception. Returns a function
        that stops the read, whose outcome nobody wants then.
        """
        job = Job((function,), settle, party, deadline, shared=True)
        job.few = self._loop_reader is not None
        self._start(job)
        return partial(self._stop, job)

    async def close(self, seconds: float) -> None:
        """Refuse new reads, finish the accepted ones, and end the threads.

        Leaves a thread alone whose database does not answer within `seconds`; the end of the process ends it.
        """
        if not self._closing:
            self._closing = True
            self._flush()
            if self._lookups is not None:
                self._lookups.close()
            for _ in self._readers:
                self._wake.put(False)
            until = time.monotonic() + seconds
            for reader in self._readers:
                await asyncio.to_thread(reader.join, max(0.0, until - time.monotonic()))
            self._ended = True
            if self._loop_reader is not None:
                self._loop_reader.close()
            if self._expiring is not None:
                self._expiring.cancel()

    # --- On the loop ------------------------------------------------------------------------------------------------

    def _start(self, job: Job) -> Job:
        if self._closing:
            raise Draining
        if len(self._running) >= self._max_waiting + self._most:
            raise StoreBusy("too many reads are waiting")
        loop = self._handover.loop
        if job.deadline is not None:
            left = job.deadline - time.monotonic()
            if left <= 0:
                raise DeadlineExceeded("the deadline passed before the read could start")
            if not job.shared:
                job.alarm = loop.call_later(left, self._expire, job)
            elif self._expiring is None:
                self._expiring = loop.call_later(EXPIRE_SECONDS, self._expire_shared)
        self._running.add(job)
        if job.shared:
            if not self._gathered:
                loop.call_soon(self._flush)
            self._gathered.append(job)
        else:
            with self._guard:
                self._alone.put(job.party, job)
                self._rouse()
        return job

    def _flush(self) -> None:
        """Queue the shared reads that this turn of the event loop has gathered."""
        gathered, self._gathered = self._gathered, []
        for job in gathered:
            if job.make is not None:
                job.functions = (job.make(),)
        if self._lookups is not None:
            lookups = self._lookups
            gathered = [job for job in gathered if not (isinstance(job.functions[0], Lookup) and lookups.put(job))]
        if self._loop_reader is not None:
            gathered = self._without_few(self._loop_reader, gathered)
        if gathered:
            self._leave(gathered)

    def _leave(self, jobs: Sequence[Job]) -> None:
        """Queue shared reads for the threads."""
        with self._guard:
            for job in jobs:
                self._shared.put(job.party, job)
            self._rouse()

    def _without_few(self, reader: LoopReader, gathered: list[Job]) -> list[Job]:
        """Run the reads of few rows on this thread; returns the others, and those beyond MAX_ON_LOOP."""
        few = [job for job in gathered if job.few]
        if not few:
            return gathered
        rest = [job for job in gathered if not job.few]
        if len(few) > MAX_ON_LOOP:
            queue: turns.Turns[Job] = turns.Turns()
            for job in few:
                queue.put(job.party, job)
            few = [queue.take() for _ in range(MAX_ON_LOOP)]
            while queue:
                rest.append(queue.take())
        left = reader.run(few)
        self._finished([job for job in few if job not in left] if left else few)
        return rest + left

    def _rouse(self) -> None:
        """Wake or start a reader for a queued read. When all are busy, the next free reader takes the read."""
        if self._idle:
            self._idle -= 1
            self._wake.put(True)
        elif self._busy >= len(self._readers) < self._most:
            self._readers.append(self._open_reader(len(self._readers), wake=self._wake))

    def _expire(self, job: Job) -> None:
        if job.on_outcomes is not None:
            self._answer(job, DeadlineExceeded("the deadline passed before the read was done"))
            self._stop(job)

    def _expire_shared(self) -> None:
        now = time.monotonic()
        some = False
        for job in tuple(self._running):
            if job.shared and job.deadline is not None:
                some = True
                if job.deadline <= now:
                    self._expire(job)
        self._expiring = self._handover.loop.call_later(EXPIRE_SECONDS, self._expire_shared) if some else None

    def _stop(self, job: Job) -> None:
        """Interrupt a job, repeatedly until its thread has finished with it."""
        job.unwanted = True
        if job in self._running and job.thread is not None and not self._ended:
            loop = self._handover.loop
            asked = loop.run_in_executor(None, job.thread.interrupt, job)  # a round trip on PostgreSQL
            asked.add_done_callback(lambda _asked: loop.call_later(INSIST_SECONDS, self._stop, job))

    def _finished(self, hop: list[Job]) -> None:
        for job in hop:
            self._running.discard(job)
            self._answer(job, job.outcomes)

    def _answer(self, job: Job, outcomes: Outcomes) -> None:
        if job.alarm is not None:
            job.alarm.cancel()
        on_outcomes, job.on_outcomes = job.on_outcomes, None
        if on_outcomes is not None:
            on_outcomes(outcomes)

    # --- On the readers' threads ------------------------------------------------------------------------------------

    def _take(self) -> list[Job]:
        """The next hop, in turns by party; empty when no read waits, and the reader then rests until it is woken."""
        with self._guard:
            hop: list[Job] = []
            if self._alone and (self._alone_next or not self._shared):
                hop.append(self._alone.take())
                self._alone_next = False
            else:
                while self._shared and len(hop) < MAX_HOP:
                    hop.append(self._shared.take())
                self._alone_next = True
            if not hop:
                self._idle += 1
                return hop
            self._busy += 1
            if self._idle and (self._alone or self._shared):
                self._idle -= 1
                self._wake.put(True)
        return hop

    def _done(self, hop: list[Job]) -> None:
        with self._guard:
            self._busy -= 1
        self._handover.post(partial(self._finished, hop))

    def _put_back(self, hop: list[Job]) -> None:
        with self._guard:
            for job in reversed(hop):
                job.thread = None
                self._shared.put_back(job.party, job)


def _settle(future: asyncio.Future[list[Any]], outcomes: Outcomes) -> None:
    if future.done():
        return
    if isinstance(outcomes, Exception):
        future.set_exception(outcomes)
    else:
        future.set_result(outcomes)


def _settle_one(future: asyncio.Future[Any], outcomes: Outcomes) -> None:
    if future.done():
        return
    outcome = outcomes if isinstance(outcomes, Exception) else outcomes[0]
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def _refuse(make: Callable[[], Reading], future: asyncio.Future[Any], error: RestanteError) -> None:
    """Fail a gathered read that could not be started. `make` is still called, since it collects the callers."""
    make()
    if not future.done():
        future.set_exception(error)
