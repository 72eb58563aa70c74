"""The results of an Execute stream that the client has not taken yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from restante.v1.batch_pb2 import ExecuteResponse, OperationResult
from restante_server.api.engine.allowances import Allowances, Resource
from restante_server.db.turns import Party

MAX_RESPONSE_OCTETS = 256 << 10
MAX_RESULT_OCTETS = 64 << 10


class Results:
    """The waiting results in order. Each holds its party's allowance of one operation until the client takes it."""

    def __init__(self, allowances: Allowances, changed: Callable[[], None]) -> None:
        """`changed` is called when there is something to take."""
        self._allowances, self._changed = allowances, changed
        self._waiting: deque[tuple[OperationResult, int, Party | None]] = deque()  # with octets and holder
        self._draining = False
        self._abandoned = False
        self.octets = 0  # of the waiting results

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def ready(self) -> bool:
        """Whether `take` has anything to return."""
        return bool(self._waiting) or self._draining

    def put(self, result: OperationResult, party: Party | None) -> None:
        """Add a result. Its operation counts for `party`, or for nobody if None."""
        if self._abandoned:  # no client takes it
            self._give_back(party)
            party = None
        octets = result.ByteSize()
        self._waiting.append((result, octets, party))
        self.octets += octets
        self._changed()

    def take(self) -> ExecuteResponse:
        """Remove as many results as one response may hold, and return that response."""
        response = ExecuteResponse(draining=self._draining)
        self._draining = False
        octets = 0
        while self._waiting and octets < MAX_RESPONSE_OCTETS - MAX_RESULT_OCTETS:
            result, size, party = self._waiting.popleft()
            octets += size
            self._give_back(party)
            response.results.append(result)
        self.octets -= octets
        return response

    def announce_draining(self) -> None:
        """Ask the client to send new operations on another stream."""
        self._draining = True
        self._changed()

    def abandon(self) -> None:
        """Drop all results and give back their allowances, because the client is gone."""
        self._abandoned = True
        for _, _, party in self._waiting:
            self._give_back(party)
        self._waiting.clear()

    def _give_back(self, party: Party | None) -> None:
        if party is not None:
            self._allowances.give_back(party, Resource.OPERATIONS)
