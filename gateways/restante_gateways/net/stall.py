"""The end of a client that takes nothing of what we send: it would hold our memory for as long as it likes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class StallWatch:
    """While more is unsent than should be: calls `stalled` when nothing was taken for `seconds`."""

    __slots__ = ("_loop", "_seconds", "_stalled", "_timer", "_unsent")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, seconds: float, unsent: Callable[[], int], stalled: Callable[[], None]
    ) -> None:
        """`unsent`: how many octets wait to be sent now."""
        self._loop, self._seconds, self._unsent, self._stalled = loop, seconds, unsent, stalled
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """More is unsent than should be."""
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._check, self._unsent())

    def end(self) -> None:
        """It is no more, or the connection is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self, before_octets: int) -> None:
        self._timer = None
        if self._unsent() >= before_octets:
            self._stalled()
        else:
            self.begin()
