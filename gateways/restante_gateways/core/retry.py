"""Repeating calls while the core is away."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from restante import errors
from restante.retry import answer_was_lost, is_over, is_temporary

__all__ = ["OutcomeUnknown", "Pauses", "answer_was_lost", "is_over", "is_temporary", "repeated", "settle"]

T = TypeVar("T")

PATIENCE_SECONDS = 20.0  # for an answer that was lost: a core is back, or another takes over, within 5
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0


class OutcomeUnknown(Exception):
    """The core was lost between a commit and its answer, and no core has answered since: it may have been done."""


class Pauses:
    """Pauses before repetitions, each twice as long as the one before, within some seconds in all."""

    def __init__(self, patience_seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._patience_seconds, self._pause = patience_seconds, FIRST_PAUSE_SECONDS
        self._until = self._loop.time() + patience_seconds

    def begin_anew(self) -> None:
        """There was progress: the time counts from now on."""
        self._pause, self._until = FIRST_PAUSE_SECONDS, self._loop.time() + self._patience_seconds

    async def wait(self) -> bool:
        """Pause; False, at once, when the time is over."""
        if self._loop.time() + self._pause > self._until:
            return False
        await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        return True


async def repeated(read: Callable[[], Awaitable[T]], patience_seconds: float = 5.0) -> T:
    """A read that is begun again while the core is away. Raises the core's refusal, or the last failure."""
    pauses = Pauses(patience_seconds)
    while True:
        try:
            return await read()
        except errors.RestanteError as error:
            if not is_temporary(error) or not await pauses.wait():
                raise


async def settle(attempt: Callable[[], Awaitable[T]], patience_seconds: float = PATIENCE_SECONDS) -> T:
    """Repeat an attempt whose answer was lost. All attempts bear one request_id, and so are one.

    Raises the core's refusal, and OutcomeUnknown when no answer comes in time.
    """
    pauses = Pauses(patience_seconds)
    while True:
        try:
            return await attempt()
        except errors.RestanteError as error:
            if not answer_was_lost(error):
                raise
            if not await pauses.wait():
                raise OutcomeUnknown from error
