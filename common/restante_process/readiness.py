"""Whether a process can serve its clients now: `/readyz`, and the loops that keep it true."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from restante_process.http import Page, Pages

log = logging.getLogger(__name__)

CHECK_SECONDS = 1.0  # between two looks at a condition: readiness is withdrawn and given again within seconds


class Readiness:
    """A process is ready while none of its named conditions has a problem. For one event loop."""

    def __init__(self, **problems: str) -> None:
        """The conditions with what stands against each at the start, such as `core="not asked yet"`."""
        self._problems = dict(problems)

    def set(self, condition: str, problem: str) -> None:
        """Set the reason against a condition; empty: it holds."""
        before, self._problems[condition] = self._problems.get(condition, ""), problem
        if problem and not before:
            log.warning("not ready: %s: %s", condition, problem)
        elif before and not problem:
            log.info("no longer in the way of being ready: %s", condition)

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
        """Look at a condition until cancelled. `check` says what stands against it, and bounds its own time."""
        while True:
            try:
                problem = await check()
            except Exception as error:
                log.exception("check failed: %s", condition)
                problem = f"the check failed: {type(error).__name__}"
            self.set(condition, problem)
            await asyncio.sleep(every_seconds)


def pages(registry: CollectorRegistry, readiness: Readiness) -> Pages:
    """The three pages of every process: /metrics, /healthz (it turns), /readyz (it can serve; if not, why not)."""

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
