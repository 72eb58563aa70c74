"""Repetition of calls while the core is unreachable."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from restante import errors
from restante.retry import answer_was_lost, is_over, is_temporary

__all__ = ["OutcomeUnknown", "Pauses", "answer_was_lost", "is_over", "is_temporary", "repeated", "settle"]

T = TypeVar("T")

PATIENCE_SECONDS = 20.0  # for a lost answer; a core restarts, or another takes over, within 5
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0


class OutcomeUnknown(Exception):
    """The connection to the core was lost before the answer, and no core has answered since. The call may have been
    executed."""


class Pauses:
    """Pauses before repetitions, each twice as long as the one before, up to a total of `patience_seconds`."""

    def __init__(self, patience_seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._patience_seconds, self._pause = patience_seconds, FIRST_PAUSE_SECONDS
        self._until = self._loop.time() + patience_seconds

    def begin_anew(self) -> None:
        """Restart the pauses and the total after some progress."""
        self._pause, self._until = FIRST_PAUSE_SECONDS, self._loop.time() + self._patience_seconds

    async def wait(self) -> bool:
        """Pause and return True, or return False at once when the total is used up."""
        if self._loop.time() + self._pause > self._until:
            return False
        await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        return True


async def repeated(read: Callable[[], Awaitable[T]], patience_seconds: float = 5.0) -> T:
    """Repeat a read while the core is unreachable. Raises the core's refusal, or the last failure."""
    pauses = Pauses(patience_seconds)
    while True:
        try:
            return await read()
        except errors.RestanteError as error:
            if not is_temporary(error) or not await pauses.wait():
                raise


async def settle(attempt: Callable[[], Awaitable[T]], patience_seconds: float = PATIENCE_SECONDS) -> T:
    """Repeat an attempt whose answer was lost. All attempts must carry one request_id, so that the core executes one.

    Raises the core's refusal, and OutcomeUnknown if no answer arrives in time.
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
