"""The write pipeline: nothing else opens a write transaction.

Whatever waits when a lane is free becomes one transaction, without any timer: alone an operation is committed at
once, under load the price of a commit is shared. A writer is answered when its commit is durable.

Who waits is served in turns by party (`turns.py`), for room in the pipeline and for a place in a group.

Effects of one lane are told in commit order. An operation over mailboxes of several lanes runs in the lane of the
lowest: what it tells about the others may come after what their own lanes committed later. Receivers go by the number.

Within a mailbox commit order is number order: a mailbox always goes to the same lane, and where there are several
lanes (or cores) its row is locked for the whole transaction, so nobody can see change number n+1 before n.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from restante.errors import Draining
from restante_server.db.backend import Backend
from restante_server.db.clock import Clock
from restante_server.db.effects import Listeners
from restante_server.db.group import Bounds, GroupRunner, Item, Locks
from restante_server.db.handover import Handover
from restante_server.db.hooks import FaultHooks, Observer
from restante_server.db.lane import Lane
from restante_server.db.operation import Operation
from restante_server.db.turns import Turns, party

log = logging.getLogger(__name__)

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How much may be inside the pipeline, running or in its queue; writers beyond that wait their turn."""

    operations: int = 4_096
    octets: int = 64 << 20


class Pipeline:
    """Admission and answers, on the event loop; the lanes do the rest on their threads."""

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
        self.operations = 0  # inside
        self.octets = 0
        self._outside: Turns[Item] = Turns()  # waiting for room
        self._closing = False
        self._empty: asyncio.Event = asyncio.Event()
        self._empty.set()
        self._lanes = [
            Lane(number, GroupRunner(backend, bounds, locks, faults, clock, listeners), bounds, self._post, observer)
            for number in range(backend.lanes)
        ]

    @property
    def waiting(self) -> int:
        """Writers that wait for room in the queue."""
        return len(self._outside)

    async def write(self, operation: Operation[R], deadline: float | None = None) -> R:
        """Returns what `operation.run` returned, once that is durable; raises what it raised, or a DatabaseError.

        `deadline` is a moment of `time.monotonic()`: past it, the operation is not started. A writer that is
        cancelled takes back an operation that has not started; one that has started completes, effects included.
        """
        if self._closing:
            raise Draining
        mailboxes = operation.mailboxes
        lane = min(mailboxes) % len(self._lanes) if mailboxes else 0
        item = Item(operation, deadline, lane, party.get(), self._handover.loop.create_future())
        if self._outside or not self._fits(item):
            self._outside.put(item.party, item)
        else:
            self._admit(item)
        try:
            result: R = await item.future
        except asyncio.CancelledError:
            self._withdraw(item)
            raise
        return result

    async def close(self, seconds: float) -> None:
        """Takes no new writes, finishes those it has, ends the lanes.

        What a database that does not answer keeps for longer than `seconds` is left to the process's end: nobody was
        told that it is done.
        """
        if not self._closing:
            self._closing = True
            until = time.monotonic() + seconds
            try:
                async with asyncio.timeout(seconds):
                    await self._empty.wait()
            except TimeoutError:
                log.warning("%d writes are left behind: the database does not answer", self.operations)
            for lane in self._lanes:
                lane.finish()
            for lane in self._lanes:
                await asyncio.to_thread(lane.join, max(0.0, until - time.monotonic()))

    def _fits(self, item: Item) -> bool:
        """An operation larger than the whole queue fits when it is alone."""
        return self.operations == 0 or (
            self.operations < self._limits.operations and self.octets + item.octets <= self._limits.octets
        )

    def _admit(self, item: Item) -> None:
        self.operations += 1
        self.octets += item.octets
        self._empty.clear()
        self._lanes[item.lane].put(item)

    def _withdraw(self, item: Item) -> None:
        if not self._outside.remove(item.party, item) and self._lanes[item.lane].drop(item):
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
        """Events in commit order; each writer is answered after its own."""
        octets = 0
        for item in group:
            octets += item.octets
            future = item.future
            if item.effects is not None:
                self._listeners.happened(item.effects, self._report)
            if item.error is None:
                if not future.done():
                    future.set_result(item.result)
            elif not future.done():
                future.set_exception(item.error)
        self._release(len(group), octets)

    def _report(self, error: Exception) -> None:
        self._handover.loop.call_exception_handler(
            {"message": "a listener to the events of a committed write failed", "exception": error}
        )
