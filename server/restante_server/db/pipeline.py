"""The write pipeline; no other code opens a write transaction.

The operations that wait when a lane becomes free form one transaction, without any timer: a single operation is
committed at once, and under load many share the cost of a commit. A writer gets its answer when its commit is durable.

Waiting writers are served in turns by party (`turns.py`), both for room in the pipeline and for a place in a group.

Of several lanes, a write uses the first that is free or soon will be: few large groups cost less than many small ones.
The writes of a mailbox that wait together use one lane (`lanes.py`).

Listeners receive the events of one lane in commit order. An operation over mailboxes of several lanes runs in one of
them, so its events about another mailbox may come after later commits of that mailbox's lane. Listeners therefore order
events by change number.

Within a mailbox, commits are in the order of change numbers: with several lanes (or cores) its row is locked for the
whole transaction, so no reader sees change number n+1 before n.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from restante.errors import Draining
from restante_server.db.backend import Backend
from restante_server.db.clock import Clock
from restante_server.db.effects import Listeners
from restante_server.db.group import Bounds, GroupRunner, Item, Locks
from restante_server.db.handover import Handover
from restante_server.db.hooks import FaultHooks, Observer
from restante_server.db.lane import Lane
from restante_server.db.lanes import Lanes
from restante_server.db.operation import Operation
from restante_server.db.turns import Party, Turns, party

log = logging.getLogger(__name__)

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """The limits of the work inside the pipeline, running or queued; further writers wait for room."""

    operations: int = 4_096
    octets: int = 64 << 20


class Pipeline:
    """Admits operations and answers writers, on the event loop; the lanes do the work on their threads."""

    def __init__(
        self,
        backend: Backend,
        handover: Handover,
        bounds: Bounds,
        limits: QueueLimits,
        locks: Locks,
        faults: FaultHooks | None,
        observer: Observer,
        clock: Clock | None,
        listeners: Listeners,
    ) -> None:
        self._handover, self._limits, self._listeners = handover, limits, listeners
        self.operations = 0  # admitted and not yet answered
        self.octets = 0
        self._outside: Turns[Item] = Turns()  # waiting for room
        self._closing = False
        self._empty: asyncio.Event = asyncio.Event()
        self._empty.set()
        self._lanes = Lanes(
            Lane(number, GroupRunner(backend, bounds, locks, faults, clock, listeners), bounds, self._post, observer)
            for number in range(backend.lanes)
        )

    @property
    def waiting(self) -> int:
        """The number of writers that wait for room in the pipeline."""
        return len(self._outside)

    async def write(self, operation: Operation[R], deadline: float | None = None) -> R:
        """Run an operation; returns its result once it is durable. Raises the operation's exception or a DatabaseError.

        `deadline` is a time of `time.monotonic()`, after which the operation is not started. Cancelling the writer
        withdraws an operation that has not started; one that has started completes, including its effects.
        """
        future: asyncio.Future[R] = self._handover.loop.create_future()
        withdraw = self.begin(operation, partial(_settle, future), deadline, party.get())
        try:
            return await future
        except asyncio.CancelledError:
            withdraw()
            raise

    def begin(
        self, operation: Operation[Any], settle: Callable[[Item], object], deadline: float | None, party: Party
    ) -> Callable[[], None]:
        """As `write`, without a future: `settle` gets the item, once, on the event loop, with its result or error.

        Returns a function that withdraws an operation that has not started, which is then not settled. Raises Draining.
        """
        if self._closing:
            raise Draining
        item = Item(operation, deadline, party, settle)
        if self._outside or not self._fits(item):
            self._outside.put(party, item)
        else:
            self._admit(item)
        return partial(self._withdraw, item)

    async def close(self, seconds: float) -> None:
        """Refuse new writes, finish the accepted ones, and end the lanes.

        Abandons writes that a database does not answer within `seconds`; their writers never got a success.
        """
        if not self._closing:
            self._closing = True
            until = time.monotonic() + seconds
            try:
                async with asyncio.timeout(seconds):
                    await self._empty.wait()
            except TimeoutError:
                log.warning("%d writes were abandoned at shutdown: the database does not answer", self.operations)
            for lane in self._lanes.all:
                lane.finish()
            for lane in self._lanes.all:
                await asyncio.to_thread(lane.join, max(0.0, until - time.monotonic()))

    def _fits(self, item: Item) -> bool:
        """Whether there is room. An operation larger than the whole pipeline fits when it is alone."""
        return self.operations == 0 or (
            self.operations < self._limits.operations and self.octets + item.octets <= self._limits.octets
        )

    def _admit(self, item: Item) -> None:
        self.operations += 1
        self.octets += item.octets
        self._empty.clear()
        self._lanes.put(item)

    def _withdraw(self, item: Item) -> None:
        if not self._outside.remove(item.party, item) and self._lanes.drop(item):
            self._release(1, item.octets)

    def _release(self, operations: int, octets: int) -> None:
        self.operations -= operations
        self.octets -= octets
        outside = self._outside
        while outside and self._fits(outside.peek()):
            self._admit(outside.take())
        if self.operations == 0:
            self._empty.set()

    def _post(self, group: list[Item]) -> None:
        self._handover.post(partial(self._answer, group))

    def _answer(self, group: list[Item]) -> None:
        """Fire the events of a group in commit order, and answer each writer after its events."""
        octets = 0
        for item in group:
            octets += item.octets
            self._lanes.answered(item)
            if item.effects is not None:
                self._listeners.happened(item.effects, self._report)
            try:
                item.settle(item)
            except Exception as error:  # noqa: BLE001 - the other writers still get their answers
                self._report(error)
        self._release(len(group), octets)

    def _report(self, error: Exception) -> None:
        self._handover.loop.call_exception_handler(
            {"message": "a listener to the events or the outcome of a write failed", "exception": error}
        )


def _settle(future: asyncio.Future[R], item: Item) -> None:
    if future.done():  # its writer was cancelled
        return
    if item.error is None:
        future.set_result(item.result)
    else:
        future.set_exception(item.error)
