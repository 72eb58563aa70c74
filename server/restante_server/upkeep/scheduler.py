"""Work that goes on by itself beside the calls. `app` hands it explicit lists of jobs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

from restante.errors import RestanteError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """Something to do again and again."""

    name: str
    seconds: float  # from the end of one run to the beginning of the next
    work: Callable[[], Awaitable[object]]
    at_once: bool = False  # the first run comes at once, not after `seconds`


class Scheduler:
    """Runs jobs side by side, each as often as it says, whatever goes wrong with one. Belongs to the event loop."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[Any]] = []

    def start(self, jobs: Iterable[Job]) -> None:
        """Run these jobs until `stop`."""
        for job in jobs:
            self.run(job.name, _repeat(job))

    def run(self, name: str, work: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine once, or for as long as it goes on by itself."""
        self._tasks.append(asyncio.create_task(work, name=name))

    async def stop(self, seconds: float) -> None:
        """Cancel everything and wait at most so long for it to end.

        A write that has started cannot be cancelled, and hangs with a database that does not answer.
        """
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if not tasks:
            return
        ended, _ = await asyncio.wait(tasks, timeout=seconds)
        for task in ended:
            if not task.cancelled() and (problem := task.exception()) is not None:
                log.error("background work ended: %s", task.get_name(), exc_info=problem)


async def _repeat(job: Job) -> None:
    put_off = False
    if not job.at_once:
        await asyncio.sleep(job.seconds)
    while True:
        try:
            await job.work()
        except RestanteError as error:
            # A warning once: while the database is away every run fails alike, and readiness says so.
            log.log(logging.DEBUG if put_off else logging.WARNING, "put off: %s: %s", job.name, error.detail)
            put_off = True
        except Exception:
            log.exception("background work failed: %s", job.name)
        else:
            put_off = False
        await asyncio.sleep(job.seconds)
