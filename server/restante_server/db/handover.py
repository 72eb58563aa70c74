"""Passing results from worker threads to the event loop, with one wake-up for all that are ready."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

log = logging.getLogger(__name__)


class Handover:
    """Runs callables on an event loop, for each thread in the order of its `post` calls.

    `call_soon_threadsafe` writes to a socket each time. A thread that posts while a wake-up is pending only appends to
    the queue.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._ready: deque[Callable[[], object]] = deque()
        self._woken = False

    def post(self, call: Callable[[], object]) -> None:
        """Queue a call, from any thread. After the loop is closed no caller waits any more, and the call is dropped."""
        self._ready.append(call)
        if not self._woken:
            self._woken = True
            try:
                self.loop.call_soon_threadsafe(self._run)
            except RuntimeError:
                log.debug("the event loop is closed; %d results were dropped", len(self._ready))

    def _run(self) -> None:
        self._woken = False  # before the queue is read, so that later posts wake the loop again
        ready = self._ready
        while ready:
            ready.popleft()()
