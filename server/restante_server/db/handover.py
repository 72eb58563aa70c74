"""From worker threads back to the event loop, one wake-up for whatever has finished meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

log = logging.getLogger(__name__)


class Handover:
    """Runs callables on a loop, in the order of `post` for each thread.

    `call_soon_threadsafe` writes to a socket each time; here a thread that posts while a wake-up is already under
    way only appends.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._ready: deque[Callable[[], object]] = deque()
        self._woken = False

    def post(self, call: Callable[[], object]) -> None:
        """From any thread. After the loop is closed nobody waits for an answer any more, and the call is dropped."""
        self._ready.append(call)
        if not self._woken:
            self._woken = True
            try:
                self.loop.call_soon_threadsafe(self._run)
            except RuntimeError:
                log.debug("the event loop is closed, %d answers dropped", len(self._ready))

    def _run(self) -> None:
        self._woken = False  # before the queue is read: what is appended from here on wakes the loop again
        ready = self._ready
        while ready:
            ready.popleft()()
