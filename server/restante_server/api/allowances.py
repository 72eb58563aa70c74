"""What one account may have at once, over all its connections, streams and sessions: counted in memory of this core.

A party (`db/turns.py`) is an account, or the address of those who have not logged on. Gateways and the core itself act
for many and have no bound here: what a gateway does for a session counts for the session's account.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from enum import Enum
from typing import Final

from restante.config import Limits
from restante.errors import AccountLimitReached, RestanteError, TooManyOperations
from restante_server.api.caller import NOBODY
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

    def held(self, party: Party, resource: Resource) -> int:
        """How much a party has of something."""
        return self._held[resource].get(party, 0)

    @property
    def parties(self) -> int:
        """How many hold anything at all."""
        return len({party for held in self._held.values() for party in held})

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


def _refusal(resource: Resource, limit: int) -> RestanteError:
    retry_seconds = RETRY_SECONDS.get(resource.value, LONG_SECONDS)
    if resource is Resource.OPERATIONS:
        return TooManyOperations(limit=limit, retry_seconds=retry_seconds)
    return AccountLimitReached(resource=resource.value, limit=limit, retry_seconds=retry_seconds)
