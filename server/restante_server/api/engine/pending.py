"""The response to a call that needs no task of its own: a read of few rows, or a write in the pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any

from google.protobuf.message import Message

from restante.errors import Cancelled, RestanteError

Outcome = Message | RestanteError
Done = Callable[[Outcome], object]


class Pending:
    """A response that is not there yet. Belongs to the event loop.

    Unlike a future it calls back at once when it is settled, and has one listener. It can be awaited instead; a
    cancelled wait cancels the call.
    """

    __slots__ = ("_done", "_outcome", "stop")

    def __init__(self) -> None:
        self.stop: Callable[[], object] | None = None  # gives the work up; set by the one who began it
        self._done: Done | None = None
        self._outcome: Outcome | None = None

    @property
    def settled(self) -> bool:
        """Whether there is an outcome, or the call was cancelled."""
        return self._outcome is not None

    def settle(self, outcome: Outcome) -> None:
        """Set the outcome, once, and call the listener. A cancelled call keeps its outcome, Cancelled."""
        if self._outcome is None:
            self._outcome = outcome
            done, self._done, self.stop = self._done, None, None  # both lead back to here: no cycle is left to collect
            if done is not None:
                done(outcome)

    def then(self, done: Done) -> None:
        """Call `done` with the outcome: at once if it is there, otherwise within `settle`."""
        if self._outcome is not None:
            done(self._outcome)
        else:
            self._done = done

    def cancel(self) -> None:
        """Give the work up if it has no outcome yet; the outcome is Cancelled."""
        if self._outcome is None:
            if self.stop is not None:
                self.stop()
            self.settle(Cancelled())

    def __await__(self) -> Generator[Any, None, Message]:
        """Wait for the response. Raises the RestanteError of a call that failed."""
        if self._outcome is None:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._done = lambda _outcome: None if future.done() else future.set_result(None)
            try:
                yield from future
            except asyncio.CancelledError:
                self.cancel()
                raise
        outcome = self._outcome
        assert outcome is not None  # the future is done
        if isinstance(outcome, RestanteError):
            raise outcome
        return outcome
