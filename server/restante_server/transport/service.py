"""The transport of one core process: what API handlers call, and the work that goes on by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from restante.config import Config
from restante_server.db.engine import Database
from restante_server.store.changes import Touched
from restante_server.store.staging import Contents
from restante_server.transport.settings import TransportSettings
from restante_server.transport.take import RequestRaced, TakeMail, Taken

Changed = Callable[[dict[int, Touched]], None]
RACES = 3


@dataclass
class Transport:
    """Belongs to the event loop."""

    settings: TransportSettings
    db: Database
    contents: Contents
    changed: Changed  # tells watchers of a commit
    _work: asyncio.Event = field(default_factory=asyncio.Event)
    _streams: set[Callable[[], None]] = field(default_factory=set)

    @classmethod
    def of(cls, settings: Config, db: Database, contents: Contents, changed: Changed) -> Transport:
        """From the configuration."""
        return cls(TransportSettings.of(settings), db, contents, changed)

    async def take(self, mail: TakeMail) -> Taken:
        """Take responsibility for a message; returns once that is durable. Raises what the store raises."""
        for _ in range(RACES):
            try:
                return (await self.db.write(mail)).taken
            except RequestRaced:
                continue
        return (await self.db.write(mail)).taken

    def told(self, touched: dict[int, Touched]) -> None:
        """A commit of the transport: tell the watchers, and begin what may be waiting now."""
        if touched:
            self.changed(touched)
        self.wake()

    def wake(self) -> None:
        """Something may be due: deliver it, and let the relays look."""
        self._work.set()
        for tell in tuple(self._streams):
            tell()

    def on_due(self, tell: Callable[[], None]) -> Callable[[], None]:
        """Be told when something may be due; returns how to stop."""
        self._streams.add(tell)
        return partial(self._streams.discard, tell)

    def start(self) -> list[asyncio.Task[None]]:
        """Begin the work that goes on by itself."""
        return []


def now() -> int:
    """Microseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1_000
