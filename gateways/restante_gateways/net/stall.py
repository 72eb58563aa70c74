"""A timeout for clients that do not read, which would otherwise hold the process's memory without limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class StallWatch:
    """Calls `stalled` when the client reads nothing for `seconds` while writing is paused."""

    __slots__ = ("_loop", "_seconds", "_stalled", "_timer", "_unsent")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, seconds: float, unsent: Callable[[], int], stalled: Callable[[], None]
    ) -> None:
        """`unsent` returns the current number of unsent octets."""
        self._loop, self._seconds, self._unsent, self._stalled = loop, seconds, unsent, stalled
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Start the watch: writing is paused."""
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._check, self._unsent())

    def end(self) -> None:
        """Stop the watch: writing has resumed, or the connection has ended."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self, before_octets: int) -> None:
        self._timer = None
        if self._unsent() >= before_octets:
            self._stalled()
        else:
            self.begin()
