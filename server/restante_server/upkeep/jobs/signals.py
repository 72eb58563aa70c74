"""Wakes the runner and the watchers of one core, so that they need not wait for their next look at the rows.

Jobs of other cores give no signal: runner and watchers look at the rows every second as well. Belongs to the event
loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator


class JobSignals:
    """The signals of one core."""

    def __init__(self) -> None:
        self._started = asyncio.Event()
        self._watchers: dict[int, set[asyncio.Event]] = {}

    def started(self) -> None:
        """Wake the runner: a job was started, cancelled, or made room."""
        self._started.set()

    async def wait_started(self, seconds: float) -> None:
        """Wait for `started`, at most this long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._started.wait()
        self._started.clear()

    def changed(self, job_id: int) -> None:
        """Wake the watchers of a job, because its state changed."""
        for event in self._watchers.get(job_id, ()):
            event.set()

    @contextlib.contextmanager
    def watching(self, job_id: int) -> Iterator[asyncio.Event]:
        """An event that `changed` sets, for the time of the block."""
        event = asyncio.Event()
        watchers = self._watchers.setdefault(job_id, set())
        watchers.add(event)
        try:
            yield event
        finally:
            watchers.discard(event)
            if not watchers:
                self._watchers.pop(job_id, None)
