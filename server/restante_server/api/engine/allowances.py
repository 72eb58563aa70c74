"""The limits of one account over all its connections, streams and sessions, counted in the memory of this core.

A party (`db/turns.py`) is an account, or the address of clients that have not logged in. Gateways and the core itself
act for many clients and have no limit here. A gateway's work for a session counts for the session's account.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from enum import Enum
from typing import Final

from restante.errors import AccountLimitReached, RestanteError, TooManyOperations
from restante_process.config import Limits
from restante_server.api.engine.caller import ANONYMOUS
from restante_server.db.turns import Party

RETRY_SECONDS: Final = {"operations": 0.1, "streams": 5.0, "subscriptions": 5.0, "queued_octets": 1.0}
LONG_SECONDS: Final = 60.0
ADDRESS_SHARE: Final = 16  # an address has this many times the limit of an account: many people may share it


class Resource(Enum):
    """The limited resources. The value is the name in the error's details."""

    OPERATIONS = "operations"  # unary calls and operations of batches, until the client has taken the answer
    STREAMS = "streams"  # streaming calls
    SUBSCRIPTIONS = "subscriptions"  # of Watch
    QUEUED_OCTETS = "queued_octets"  # of notices of Watch that the client has not taken
    UPLOAD_OCTETS = "upload_octets"  # of uploads that are not yet in the store

    __hash__ = object.__hash__  # members are unique; Enum hashes their names, in Python


class _Line(dict[asyncio.Future[None], int]):
    """The paused streams of one party, the next one first, and the number of operations that each waits for."""

    __slots__ = ("looking", "timer")

    def __init__(self) -> None:
        self.looking = False  # `_look` is scheduled; once per turn of the loop is enough
        self.timer: asyncio.TimerHandle | None = None


class Allowances:
    """The amounts that each party holds. Belongs to the event loop.

    Every `take` needs its `give_back`. A party that holds nothing takes no memory.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits: Final = {
            Resource.OPERATIONS: limits.account_operations,
            Resource.STREAMS: limits.account_streams,
            Resource.SUBSCRIPTIONS: limits.account_subscriptions,
            Resource.QUEUED_OCTETS: limits.account_queued_octets,
            Resource.UPLOAD_OCTETS: limits.account_upload_octets,
        }
        self._held: dict[Resource, dict[Party, int]] = {resource: {} for resource in Resource}
        self._lines: dict[Party, _Line] = {}
        self.begun: Final[dict[Party, int]] = {}  # operations begun in this turn of the loop, by party

    def held(self, party: Party, resource: Resource) -> int:
        """The amount of a resource that a party holds."""
        return self._held[resource].get(party, 0)

    @property
    def parties(self) -> int:
        """The number of parties that hold anything or wait."""
        return len(set(self._lines).union(*self._held.values()))

    def may_take(self, party: Party, resource: Resource, amount: int = 1) -> bool:
        """Whether `take` would not refuse."""
        return party.many or self._held[resource].get(party, 0) + amount <= self._limit(party, resource)

    def take(self, party: Party, resource: Resource, amount: int = 1) -> None:
        """Count an amount for a party. Raises TooManyOperations or AccountLimitReached, having counted nothing."""
        if party.many:
            return
        held = self._held[resource]
        total = held.get(party, 0) + amount
        if total > self.limits[resource] and total > (limit := self._limit(party, resource)):
            raise _refusal(resource, limit)
        held[party] = total

    def _limit(self, party: Party, resource: Resource) -> int:
        return self.limits[resource] * (ADDRESS_SHARE if party.name.startswith(ANONYMOUS) else 1)

    @contextlib.contextmanager
    def holding(self, party: Party, resource: Resource) -> Iterator[None]:
        """Take one of a resource for the length of the block. Raises as `take`."""
        self.take(party, resource)
        try:
            yield
        finally:
            self.give_back(party, resource)

    def give_back(self, party: Party, resource: Resource, amount: int = 1) -> None:
        """Free an amount that was taken."""
        if party.many:
            return
        held = self._held[resource]
        left = held.get(party, 0) - amount
        if left > 0:
            held[party] = left
        else:
            held.pop(party, None)
        if self._lines and resource is Resource.OPERATIONS and (line := self._lines.get(party)) and not line.looking:
            line.looking = True
            asyncio.get_running_loop().call_soon(self._look, party, line)

    async def room(self, party: Party, amount: int) -> None:
        """Pause one stream of a party whose operations were refused, until the party has room again.

        The paused streams of a party wait in one line. The first goes on as soon as there is room for `amount`
        operations. Every RETRY_SECONDS one goes on even without room, so that cancellations are read, too. So a party
        gets at most one request's worth of refusals each time, however many streams it has.
        """
        line = self._lines.get(party)
        if line is None:
            line = self._lines[party] = _Line()
            self._set_timer(party, line)
        turn = asyncio.get_running_loop().create_future()
        line[turn] = min(amount, self._limit(party, Resource.OPERATIONS))
        try:
            await turn
        finally:
            line.pop(turn, None)
            if not line and self._lines.get(party) is line:
                del self._lines[party]
                if line.timer is not None:
                    line.timer.cancel()

    def _set_timer(self, party: Party, line: _Line) -> None:
        seconds = RETRY_SECONDS[Resource.OPERATIONS.value]
        line.timer = asyncio.get_running_loop().call_later(seconds, self._pass, party, line)

    def _pass(self, party: Party, line: _Line) -> None:
        """Let the first stream in line go on, with or without room."""
        if self._lines.get(party) is line:
            self._set_timer(party, line)
            _go_on(line)

    def _look(self, party: Party, line: _Line) -> None:
        """Let the first stream in line go on if there is room for it."""
        line.looking = False
        if line and self.may_take(party, Resource.OPERATIONS, next(iter(line.values()))):
            _go_on(line)


def _go_on(line: _Line) -> None:
    while line:
        turn = next(iter(line))
        del line[turn]
        if not turn.done():  # done: cancelled meanwhile
            turn.set_result(None)
            return


def _refusal(resource: Resource, limit: int) -> RestanteError:
    retry_seconds = RETRY_SECONDS.get(resource.value, LONG_SECONDS)
    if resource is Resource.OPERATIONS:
        return TooManyOperations(limit=limit, retry_seconds=retry_seconds)
    return AccountLimitReached(resource=resource.value, limit=limit, retry_seconds=retry_seconds)
