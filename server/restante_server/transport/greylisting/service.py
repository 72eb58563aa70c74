"""Greylisting at one core: a read decides about most mail, and a write only notes what is new."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, Protocol, TypeVar

from sqlalchemy import Connection

from restante_process.addresses import Address
from restante_server.db.clock import now_microseconds
from restante_server.db.engine import Database
from restante_server.db.operation import Write
from restante_server.directory.known import SECONDS, SECONDS_ALONE
from restante_server.transport.greylisting import overview, rows
from restante_server.transport.greylisting.allowed import Allowed
from restante_server.transport.greylisting.policy import Decision, GreylistSettings, Outcome
from restante_server.transport.greylisting.triplet import Triplet

R = TypeVar("R")
BOUND_EVERY: Final = 100  # notes of this core, after which the number of rows is bounded anew


class Read(Protocol):
    """Runs a short read."""

    def __call__(self, function: Callable[[Connection], R]) -> Awaitable[R]: ...


class Greylist:
    """Decides about recipients. Belongs to the event loop."""

    def __init__(self, settings: GreylistSettings, db: Database) -> None:
        self.settings, self._db = settings, db
        self._notes = BOUND_EVERY  # of rows since they were bounded: what other cores have left is bounded at once
        self._seconds = SECONDS_ALONE if db.alone else SECONDS
        self._allowed, self._good_until = Allowed(), 0.0
        self._generation, self._lock = 0, threading.Lock()
        db.listeners.on_invalidation(overview.ALLOWED, self._forget_allowed)

    async def decide(self, client: Address, triplets: Sequence[Triplet], read: Read) -> list[Decision]:
        """The decision about each triplet of a client, which is durable then. Lets the store's errors pass."""
        allowed = await self._known_allowed(read)
        if allowed.has_client(client):
            return [Decision(Outcome.PROVEN)] * len(triplets)
        asked = [one for one in triplets if not allowed.has_recipient(one.recipient)]
        made = dict(zip(asked, await self._met(asked, read), strict=True)) if asked else {}
        return [made.get(one, Decision(Outcome.PROVEN)) for one in triplets]

    async def purge(self) -> None:
        """Remove what has expired, and what is too much."""
        while await self._db.write(Write(lambda tx: rows.forget(tx, now_microseconds(tx)), rows=3 * rows.AT_ONCE)):
            continue

    async def _met(self, triplets: Sequence[Triplet], read: Read) -> list[Decision]:
        made = await read(lambda tx: rows.decisions(tx, triplets, self.settings, now_microseconds(tx)))
        notes = sum(one.writes for one in made)
        if not notes:
            return made
        self._notes += notes
        bounds, self._notes = self._notes >= BOUND_EVERY, self._notes % BOUND_EVERY
        note = partial(_note, triplets=triplets, settings=self.settings, bounds=bounds)
        return await self._db.write(Write(note, rows=notes + (3 * rows.AT_ONCE if bounds else 1)))

    async def _known_allowed(self, read: Read) -> Allowed:
        """What administrators let pass, from memory for a while. A change by another core shows when that ends."""
        if self._good_until > time.monotonic():
            return self._allowed
        generation = self._generation
        allowed = Allowed(await read(overview.allowed))
        with self._lock:
            if generation == self._generation:
                self._allowed, self._good_until = allowed, time.monotonic() + self._seconds
        return allowed

    def _forget_allowed(self) -> None:
        """Read again after a change. Called on any thread."""
        with self._lock:
            self._generation += 1
            self._good_until = 0.0


def _note(tx: Connection, *, triplets: Sequence[Triplet], settings: GreylistSettings, bounds: bool) -> list[Decision]:
    made = rows.meet(tx, triplets, settings, now_microseconds(tx))
    if bounds:
        rows.bound(tx)
    return made
