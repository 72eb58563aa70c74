"""Tasks that outlive the call that began them, and the announcement that the core drains."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any


class Tasks:
    """The tasks and the listeners of one core. Belongs to the event loop."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()
        self._on_drain: set[Callable[[], None]] = set()

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run a coroutine as a task, which `drain` waits for."""
        task = asyncio.create_task(work, name=name)
        self._running.add(task)  # the loop itself keeps no task alive
        task.add_done_callback(self._running.discard)
        return task

    def on_drain(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` when the core begins to drain; returns a function that cancels this."""
        self._on_drain.add(listener)
        return partial(self._on_drain.discard, listener)

    def announce_drain(self) -> None:
        """Call every listener of `on_drain`."""
        for listener in tuple(self._on_drain):
            listener()

    async def drain(self, seconds: float) -> None:
        """Wait at most this long for the tasks, then cancel the rest."""
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=seconds)
            for task in late:
                task.cancel()
