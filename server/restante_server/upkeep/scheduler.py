"""The scheduler of background work. `app` passes it explicit lists of periodic tasks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

from restante.errors import RestanteError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PeriodicTask:
    """Work that is repeated."""

    name: str
    seconds: float  # from the end of one run to the beginning of the next
    work: Callable[[], Awaitable[object]]
    at_once: bool = False  # the first run begins at once, not after `seconds`


class Scheduler:
    """Runs periodic tasks concurrently, each at its interval. A failure stops none. Belongs to the event loop."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[Any]] = []

    def start(self, periodic: Iterable[PeriodicTask]) -> None:
        """Run these tasks until `stop`."""
        for each in periodic:
            self.run(each.name, _repeat(each))

    def run(self, name: str, work: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine, which may be endless."""
        self._tasks.append(asyncio.create_task(work, name=name))

    async def stop(self, seconds: float) -> None:
        """Cancel everything and wait at most this long for its end.

        A write that has started cannot be cancelled, and it hangs if the database does not answer.
        """
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if not tasks:
            return
        ended, _ = await asyncio.wait(tasks, timeout=seconds)
        for task in ended:
            if not task.cancelled() and (problem := task.exception()) is not None:
                log.error("the task %s ended with an error", task.get_name(), exc_info=problem)


async def _repeat(task: PeriodicTask) -> None:
    put_off = False
    if not task.at_once:
        await asyncio.sleep(task.seconds)
    while True:
        try:
            await task.work()
        except RestanteError as error:
            # One warning is enough: while the database is away every run fails alike, and readiness reports it.
            log.log(
                logging.DEBUG if put_off else logging.WARNING, "the task %s is put off: %s", task.name, error.detail
            )
            put_off = True
        except Exception:
            log.exception("a run of the task %s failed", task.name)
        else:
            put_off = False
        await asyncio.sleep(task.seconds)
