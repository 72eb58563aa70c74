"""One write lane: a thread with a connection, which takes the waiting operations as a group whenever it is free."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable

from restante.errors import DeadlineExceeded
from restante_server.db.errors import DatabaseError
from restante_server.db.group import Bounds, GroupRunner, Item
from restante_server.db.hooks import Observer
from restante_server.db.turns import Party, Turns

log = logging.getLogger(__name__)


class Lane:
    """Runs groups, one after the other. Call `put`, `drop` and `finish` on the event loop only."""

    def __init__(
        self, number: int, runner: GroupRunner, bounds: Bounds, done: Callable[[list[Item]], None], observer: Observer
    ) -> None:
        """Start the thread, which calls `done` with each group after its commit or failure, in order."""
        self._number, self._runner, self._bounds = number, runner, bounds
        self._done, self._observer = done, observer
        self._waiting: Turns[Item] = Turns()
        self._guard = threading.Lock()
        self._idle = True
        self._began = 0.0  # when the group that runs was taken, by time.monotonic()
        self._wake: queue.SimpleQueue[bool] = queue.SimpleQueue()  # True: check the queue; False: finish and end
        self._thread = threading.Thread(target=self._work, name=f"restante-write-{number}", daemon=True)
        self._thread.start()

    def is_free_soon(self, within_seconds: float) -> bool:
        """Whether no group runs, or one that has not run for so long."""
        return self._idle or time.monotonic() - self._began < within_seconds

    def put(self, item: Item) -> None:
        with self._guard:
            self._waiting.put(item.party, item)
            if not self._idle:
                return
            self._idle = False
            self._began = time.monotonic()
        self._wake.put(True)

    def drop(self, item: Item) -> bool:
        """Withdraw an operation that has not started; False when it has started and will complete."""
        with self._guard:
            item.dropped = not item.started  # it stays queued until its turn, since removal would need a scan
            return item.dropped

    def finish(self) -> None:
        """End the thread after the items already put. No item may be put after this."""
        self._wake.put(False)

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)

    def _work(self) -> None:
        while self._wake.get():
            while (group := self._take()) is not None:
                self._run(group)
        self._runner.disconnect()

    def _run(self, group: list[Item]) -> None:
        due = [item for item in group if item.error is None]
        if due:
            began = time.perf_counter()
            replays = 0
            try:
                replays = self._runner.run(due)
            except BaseException as error:  # a program error: the writers get it, and the lane continues
                log.exception("write group failed")
                self._runner.disconnect()
                for item in due:
                    item.error = DatabaseError("the write pipeline failed")
                    item.error.__cause__ = error
            self._observer.group(self._number, len(due), time.perf_counter() - began, replays)
            self._done(group)
            try:
                self._runner.upkeep()
            except Exception:  # the writers of the next group get the error if it persists
                log.exception("upkeep between two groups failed")
                self._runner.disconnect()
        else:
            self._done(group)

    def _take(self) -> list[Item] | None:
        """The next group, in turns by party; None, with the lane marked idle, when no item waits.

        A group is committed together, so the items of one party are placed together in it: deliveries that were taken
        in turns with other work still run as one set. An item whose deadline has passed gets its error here.
        """
        group: list[Item] = []
        count = rows = octets = 0
        now = self._began = time.monotonic()
        bounds, waiting = self._bounds, self._waiting
        with self._guard:
            while waiting and count < bounds.operations:
                item = waiting.peek()
                if item.dropped:
                    waiting.take()
                    continue
                if item.deadline is not None and item.deadline <= now:
                    item.error = DeadlineExceeded("the deadline passed before the write could start")
                elif count and (rows + item.rows > bounds.rows or octets + item.octets > bounds.octets):
                    break
                else:
                    count, rows, octets = count + 1, rows + item.rows, octets + item.octets
                item.started = True
                group.append(waiting.take())
            if not group:
                self._idle = True
                return None
        return _by_party(group)


def _by_party(group: list[Item]) -> list[Item]:
    """The items with those of each party together, otherwise in the same order."""
    together: dict[Party, list[Item]] = {}
    for item in group:
        together.setdefault(item.party, []).append(item)
    return group if len(together) == 1 else [item for items in together.values() for item in items]
