"""The notices of a Watch stream that the client has not taken yet."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from restante.v1.sync_pb2 import WatchResponse
from restante_server.api.engine.allowances import Allowances, Resource
from restante_server.db.turns import Party

MAX_QUEUED = 4_096  # notices of one stream
MAX_QUEUED_OCTETS = 16 << 20  # of these notices


class Queued(NamedTuple):
    """One waiting notice."""

    notice: WatchResponse
    octets: int
    party: Party | None  # whose allowance counts the octets; None: the stream's, or the last one of a subscription


class Notices:
    """The waiting notices in order. The octets of each count for its party until the client takes it."""

    def __init__(self, allowances: Allowances, most: int = MAX_QUEUED, most_octets: int = MAX_QUEUED_OCTETS) -> None:
        self._allowances, self.most, self._most_octets = allowances, most, most_octets
        self._queue: deque[Queued] = deque()
        self.octets = 0
        self.wake = asyncio.Event()

    def __len__(self) -> int:
        return len(self._queue)

    def __iter__(self) -> Iterator[Queued]:
        return iter(self._queue)

    def has_room(self, octets: int) -> bool:
        """Whether one more notice of this size fits."""
        return len(self._queue) < self.most and self.octets + octets <= self._most_octets

    def put(self, queued: Queued) -> None:
        """Add a notice. Raises AccountLimitReached, having added nothing."""
        if queued.party is not None:
            self._allowances.take(queued.party, Resource.QUEUED_OCTETS, queued.octets)
        self._queue.append(queued)
        self.octets += queued.octets
        self.wake.set()

    def take(self) -> WatchResponse:
        """Remove and return the first notice."""
        queued = self._queue.popleft()
        self._release(queued)
        return queued.notice

    def replace(self, queue: list[Queued]) -> None:
        """Keep only these notices, in this order. New ones among them must have no party."""
        kept = set(map(id, queue))
        known = set(map(id, self._queue))
        for queued in self._queue:
            if id(queued) not in kept:
                self._release(queued)
        self.octets += sum(queued.octets for queued in queue if id(queued) not in known)
        self._queue = deque(queue)
        self.wake.set()

    def _release(self, queued: Queued) -> None:
        self.octets -= queued.octets
        if queued.party is not None:
            self._allowances.give_back(queued.party, Resource.QUEUED_OCTETS, queued.octets)
