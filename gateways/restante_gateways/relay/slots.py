"""The callers that wait for a connection to one host, admitted in order as far as its window allows."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator

import structlog

from restante_gateways.relay.window import Window

log = structlog.get_logger("relay")


class Slots:
    """The slots of one host. `users` hold one or wait for one."""

    def __init__(self, host: str, window: Window) -> None:
        self._host, self._window = host, window
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._taken = 0
        self.users = 0
        self.used_at = 0.0  # loop time of the last end of a use

    @contextlib.asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Wait for a slot, and hold it until exit."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        self.users += 1
        self._admit()
        try:
            await turn
            yield
        finally:
            if turn.done() and not turn.cancelled():
                self._taken -= 1
            self.users -= 1
            self.used_at = loop.time()
            self._admit()

    def succeeded(self) -> None:
        """See Window."""
        self._window.succeeded()
        self._admit()

    def failed(self, began: float) -> None:
        """See Window; `began` is the loop time at which the attempt got its slot."""
        before = self._window.allowed
        if self._window.failed(began, asyncio.get_running_loop().time()) and before > 1:
            log.info("fewer connections to a host", remote_host=self._host, connections=self._window.allowed)

    def _admit(self) -> None:
        while self._waiting and self._taken < self._window.allowed:
            turn = self._waiting.popleft()
            if not turn.done():  # else the waiting task was cancelled
                self._taken += 1
                turn.set_result(None)
