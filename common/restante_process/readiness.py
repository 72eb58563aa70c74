"""The readiness of a process to serve its clients: `/readyz`, and the loops that check its conditions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from restante_process.http import Page, Pages

log = logging.getLogger(__name__)

CHECK_SECONDS = 1.0  # between two checks of a condition, so that readiness follows within seconds


class Readiness:
    """A process is ready while none of its named conditions has a problem. For one event loop."""

    def __init__(self, **problems: str) -> None:
        """The conditions, each with its problem at the start, such as `core="no answer yet"`."""
        self._problems = dict(problems)

    def set(self, condition: str, problem: str) -> None:
        """Set the problem of a condition; with an empty text the condition holds."""
        before, self._problems[condition] = self._problems.get(condition, ""), problem
        if problem and not before:
            log.warning("not ready: %s: %s", condition, problem)
        elif before and not problem:
            log.info("condition of readiness met again: %s", condition)

    @property
    def problems(self) -> list[str]:
        """One line for each condition that does not hold: its name and the reason."""
        return [f"{condition}: {problem}" for condition, problem in self._problems.items() if problem]

    @property
    def ready(self) -> bool:
        """Whether every condition holds."""
        return not self.problems

    async def keep(
        self, condition: str, check: Callable[[], Awaitable[str]], every_seconds: float = CHECK_SECONDS
    ) -> None:
        """Check a condition until cancelled. `check` returns its problem, and must limit its own time."""
        while True:
            try:
                problem = await check()
            except Exception as error:
                log.exception("the readiness check of %s failed", condition)
                problem = f"the check failed: {type(error).__name__}"
            self.set(condition, problem)
            await asyncio.sleep(every_seconds)


def pages(registry: CollectorRegistry, readiness: Readiness) -> Pages:
    """The three pages of every process: /metrics, /healthz (the event loop runs), /readyz (ready, or the problems)."""

    async def metrics() -> Page:
        return Page(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    async def healthz() -> Page:
        return Page(b"ok\n")

    async def readyz() -> Page:
        problems = readiness.problems
        if problems:
            return Page("".join(f"{each}\n" for each in problems).encode(), HTTPStatus.SERVICE_UNAVAILABLE)
        return Page(b"ready\n")

    return {"/metrics": metrics, "/healthz": healthz, "/readyz": readyz}
