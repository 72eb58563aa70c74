"""What one account may have at once, over all its connections, streams and sessions: counted in memory of this core.

A party (`db/turns.py`) is an account, or the address of those who have not logged on. Gateways and the core itself act
for many and have no bound here: what a gateway does for a session counts for the session's account.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from enum import Enum
from typing import Final

from restante.errors import AccountLimitReached, RestanteError, TooManyOperations
from restante_process.config import Limits
from restante_server.api.engine.caller import NOBODY
from restante_server.db.turns import Party

RETRY_SECONDS: Final = {"operations": 0.1, "streams": 5.0, "subscriptions": 5.0, "queued_octets": 1.0}
LONG_SECONDS: Final = 60.0
ADDRESS_SHARE: Final = 16  # many people may come from one address: so many times what one account may have


class Resource(Enum):
    """What is bounded, by the name that an error tells."""

    OPERATIONS = "operations"  # calls and operations of batches whose answers the client has not taken
    STREAMS = "streams"  # streaming calls
    SUBSCRIPTIONS = "subscriptions"  # of Watch
    QUEUED_OCTETS = "queued_octets"  # notices of Watch that the client has not taken
    UPLOAD_OCTETS = "upload_octets"  # of uploads on their way, before they are in the store


class _Line(dict[asyncio.Future[None], int]):
    """The streams of one party that are not read for now, the next one first, with the room that each waits for."""

    __slots__ = ("looking", "timer")

    def __init__(self) -> None:
        self.looking = False  # at the room that there is: once in a turn of the loop
        self.timer: asyncio.TimerHandle | None = None


class Allowances:
    """Belongs to the event loop. What is taken must be given back; a party that holds nothing takes no memory."""

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
        self.begun: Final[dict[Party, int]] = {}  # operations in this turn of the loop, by native clients' streams

    def held(self, party: Party, resource: Resource) -> int:
        """How much a party has of something."""
        return self._held[resource].get(party, 0)

    @property
    def parties(self) -> int:
        """How many hold anything at all, or wait."""
        return len(set(self._lines).union(*self._held.values()))

    def may_take(self, party: Party, resource: Resource, amount: int = 1) -> bool:
        """Whether `take` would not refuse."""
        return party.many or self._held[resource].get(party, 0) + amount <= self._limit(party, resource)

    def take(self, party: Party, resource: Resource, amount: int = 1) -> None:
        """Raises TooManyOperations or AccountLimitReached, having taken nothing."""
        if party.many:
            return
        held, limit = self._held[resource], self._limit(party, resource)
        total = held.get(party, 0) + amount
        if total > limit:
            raise _refusal(resource, limit)
        held[party] = total

    def _limit(self, party: Party, resource: Resource) -> int:
        return self.limits[resource] * (ADDRESS_SHARE if party.name.startswith(NOBODY) else 1)

    @contextlib.contextmanager
    def holding(self, party: Party, resource: Resource) -> Iterator[None]:
        """One of something, for the length of the block. Raises as `take`."""
        self.take(party, resource)
        try:
            yield
        finally:
            self.give_back(party, resource)

    def give_back(self, party: Party, resource: Resource, amount: int = 1) -> None:
        """What was taken is free again."""
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
        """Wait, in line with all others of a party that was refused, before more operations of it are read.

        The first in line goes on as soon as there is room for `amount` operations; and one goes on every RETRY_SECONDS
        however that stands, so that what is no new operation is read, too. A party is refused no more operations by
        this than it brings in one request each time, however many streams it has.
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
        """The first in line goes on."""
        if self._lines.get(party) is line:
            self._set_timer(party, line)
            _go_on(line)

    def _look(self, party: Party, line: _Line) -> None:
        """The first in line goes on if there is room for it."""
        line.looking = False
        if line and self.may_take(party, Resource.OPERATIONS, next(iter(line.values()))):
            _go_on(line)


def _go_on(line: _Line) -> None:
    while line:
        turn = next(iter(line))
        del line[turn]
        if not turn.done():  # it was not cancelled meanwhile
            turn.set_result(None)
            return


def _refusal(resource: Resource, limit: int) -> RestanteError:
    retry_seconds = RETRY_SECONDS.get(resource.value, LONG_SECONDS)
    if resource is Resource.OPERATIONS:
        return TooManyOperations(limit=limit, retry_seconds=retry_seconds)
    return AccountLimitReached(resource=resource.value, limit=limit, retry_seconds=retry_seconds)
