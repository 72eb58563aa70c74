"""Greylisting at one core: a read decides about most mail, and a write only notes what is new."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol, TypeVar

from sqlalchemy import Connection

from restante_server.db.clock import now_microseconds
from restante_server.db.engine import Database
from restante_server.db.operation import Write
from restante_server.transport.greylisting import rows
from restante_server.transport.greylisting.policy import Decision, GreylistSettings
from restante_server.transport.greylisting.rows import Asked

log = logging.getLogger(__name__)

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

    async def decide(self, asked: Asked, read: Read) -> list[Decision]:
        """The decision about each triplet, which is durable when this returns. Lets the store's errors pass."""
        made = await read(lambda tx: rows.decisions(tx, asked, self.settings, now_microseconds(tx)))
        notes = sum(one.writes for one in made)
        if not notes:
            return made
        self._notes += notes
        bounds, self._notes = self._notes >= BOUND_EVERY, self._notes % BOUND_EVERY
        note = partial(_note, asked=asked, settings=self.settings, bounds=bounds)
        return await self._db.write(Write(note, rows=notes + (3 * rows.AT_ONCE if bounds else 1)))

    async def purge(self) -> None:
        """Remove what has expired, and what is too much."""
        while await self._db.write(Write(lambda tx: rows.forget(tx, now_microseconds(tx)), rows=3 * rows.AT_ONCE)):
            continue


def _note(tx: Connection, *, asked: Asked, settings: GreylistSettings, bounds: bool) -> list[Decision]:
    made = rows.meet(tx, asked, settings, now_microseconds(tx))
    if bounds:
        rows.bound(tx)
    return made
