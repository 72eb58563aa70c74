"""The search threads, which accounts use in turn.

A search computes for as long as there is mail to look through. It runs on separate threads, so that it never delays
reads and deliveries. Each account runs one look (a part of a search) at a time. At most RUNNING looks compute at one
moment: a look that has used its time slice lets waiting looks go first, even in the middle of a message.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

from restante.errors import DeadlineExceeded, TooManyOperations
from restante_server.db.threads import on_thread

R = TypeVar("R")

THREADS: Final = 16  # looks begun and not finished, each of another account
RUNNING: Final = 2  # looks that compute at one moment: more would only take the interpreter from everyone else
SLICE_SECONDS: Final = 0.1
WAKE_SECONDS: Final = 0.05  # between two checks of a waiting look whether it was stopped
MOST_OF_ACCOUNT: Final = 32  # searches of one account that run or wait
RETRY_SECONDS: Final = 1.0


class Stopped(Exception):
    """The search's caller is gone, or its deadline has passed."""


class Baton:
    """Lets `count` threads run. The others wait, and go on in the order of their arrival."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: deque[threading.Event] = deque()
        self._guard = threading.Lock()

    @property
    def wanted(self) -> bool:
        """Whether another thread waits."""
        return bool(self._waiting)

    def take(self, give_up: Callable[[], bool]) -> bool:
        """Wait until this thread may run. Returns False if `give_up` returns True before."""
        with self._guard:
            if self._free:
                self._free -= 1
                return True
            mine = threading.Event()
            self._waiting.append(mine)
        while not mine.wait(WAKE_SECONDS):
            if give_up():
                with self._guard:
                    if not mine.is_set():
                        self._waiting.remove(mine)
                        return False
        return True

    def give(self) -> None:
        """Let the thread that has waited longest run instead of this one."""
        with self._guard:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._free += 1


class Turn:
    """One look's permission to run. The look calls `check` at every message and every piece of its text.

    The event loop calls `stop`, the look's thread all else.
    """

    __slots__ = ("_baton", "_deadline", "_ends_at", "_runs", "_slice_ends_at", "_stopped")

    def __init__(self, baton: Baton, deadline: float) -> None:
        """`deadline` is a moment of `time.monotonic()`."""
        self._baton, self._deadline = baton, deadline
        self._ends_at = self._slice_ends_at = 0.0
        self._runs = self._stopped = False

    def stop(self) -> None:
        """Make the look end at its next check."""
        self._stopped = True

    def run(self, work: Callable[[Turn], R]) -> R:
        """Run the work on this thread and return its result. Raises Stopped."""
        try:
            self._wait()
            self._ends_at = self._slice_ends_at
            return work(self)
        finally:
            if self._runs:
                self._baton.give()

    def check(self) -> None:
        """Let waiting looks go first if this one has used its slice. Raises Stopped."""
        if self._unwanted():
            raise Stopped
        if self._baton.wanted and time.monotonic() >= self._slice_ends_at:
            self._runs = False
            self._baton.give()
            self._wait()

    @property
    def over(self) -> bool:
        """Whether the look should end after this message, so that another search may have the turn."""
        return time.monotonic() >= self._ends_at

    def _unwanted(self) -> bool:
        return self._stopped or time.monotonic() >= self._deadline

    def _wait(self) -> None:
        self._runs = self._baton.take(self._unwanted)
        if not self._runs:
            raise Stopped
        self._slice_ends_at = time.monotonic() + SLICE_SECONDS


class Searches:
    """The accounts that search, those that wait for a turn, and the threads. Belongs to the event loop."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="restante-search")
        self._baton = Baton(RUNNING)
        self._free = THREADS
        self._under_way: Counter[int] = Counter()  # {account: its searches}
        self._running: set[int] = set()  # accounts that have a turn
        self._waiting: OrderedDict[int, deque[asyncio.Future[None]]] = OrderedDict()  # by account, the next one first

    @property
    def running(self) -> int:
        """The number of accounts that have a turn."""
        return len(self._running)

    def close(self) -> None:
        """End the threads without waiting for them."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @contextlib.contextmanager
    def under_way(self, account_id: int) -> Iterator[None]:
        """Count one search of an account, from its first turn to its last. Raises TooManyOperations."""
        if self._under_way[account_id] >= MOST_OF_ACCOUNT:
            raise TooManyOperations(limit=MOST_OF_ACCOUNT, retry_seconds=RETRY_SECONDS)
        self._under_way[account_id] += 1
        try:
            yield
        finally:
            self._under_way[account_id] -= 1
            if not self._under_way[account_id]:
                del self._under_way[account_id]

    @contextlib.asynccontextmanager
    async def turn(self, account_id: int) -> AsyncIterator[None]:
        """Wait until the account has a turn, and hold it for the block.

        An account has one turn at a time. At most THREADS accounts have one, and the others wait in order.
        """
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(account_id, deque()).append(granted)
        self._grant()
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self._release(account_id)
            else:
                self._withdraw(account_id, granted)
            raise
        try:
            yield
        finally:
            self._release(account_id)

    async def look(self, work: Callable[[Turn], R], deadline: float) -> R:
        """Run `work` on a search thread, within a turn. Raises DeadlineExceeded.

        If the caller is cancelled, the work is stopped, and the turn lasts until the thread is free.
        """
        turn = Turn(self._baton, deadline)
        try:
            return await on_thread(self._threads, partial(turn.run, work), stop=turn.stop)
        except Stopped:
            raise DeadlineExceeded from None

    def _grant(self) -> None:
        """Give the free turns to the accounts that have waited longest."""
        for account_id in tuple(self._waiting):
            if not self._free:
                return
            if account_id in self._running:
                continue
            queue = self._waiting.pop(account_id)
            while queue and queue[0].cancelled():  # its task has not run `_withdraw` yet
                queue.popleft()
            if not queue:
                continue
            queue.popleft().set_result(None)
            if queue:
                self._waiting[account_id] = queue  # behind the others
            self._running.add(account_id)
            self._free -= 1

    def _release(self, account_id: int) -> None:
        self._running.discard(account_id)
        self._free += 1
        self._grant()

    def _withdraw(self, account_id: int, granted: asyncio.Future[None]) -> None:
        queue = self._waiting.get(account_id)
        if queue is None or granted not in queue:
            return  # `_grant` has dropped it
        queue.remove(granted)
        if not queue:
            del self._waiting[account_id]
