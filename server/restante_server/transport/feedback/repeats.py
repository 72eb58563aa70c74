"""Refusals that were counted, so that a repetition of the same request counts nothing.

A refused acceptance leaves no row, so that refused mail costs no write. A gateway that has lost the answer repeats the
request within minutes, and usually at the same core: memory is enough.
"""

from __future__ import annotations

from restante_server.store.requests import Key

MOST = 10_000  # requests in memory


class CountedRefusals:
    """The latest requests that were refused. Belongs to the event loop."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._seen: dict[Key, None] = {}  # the oldest first

    def is_new(self, key: Key) -> bool:
        """Whether a refused request is seen for the first time."""
        new = self._seen.pop(key, self) is self
        self._seen[key] = None
        if len(self._seen) > self._most:
            del self._seen[next(iter(self._seen))]
        return new
