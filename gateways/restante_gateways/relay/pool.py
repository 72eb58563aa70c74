"""Resources that attempts share: connections, limited in total and for each host, and memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator

from restante_gateways.relay.connection import Connection
from restante_gateways.relay.metrics import RelayMetrics
from restante_gateways.relay.outcomes import Outcome
from restante_gateways.relay.peer import Patience
from restante_gateways.relay.routes import Hop
from restante_gateways.relay.slots import Slots
from restante_gateways.relay.tls.security import Security
from restante_gateways.relay.transaction import Unreachable
from restante_gateways.relay.window import Window

KEEP_SECONDS = 5.0  # an idle connection is kept for the next message
SLOW_SECONDS = 5.0  # after a failed connection attempt of more than this, the server is not tried for a while
ALONE_SECONDS = 30.0  # duration of that suspension
FORGET_SECONDS = 600.0  # the window of a host is kept so long after its last use
MAX_REMEMBERED = 1_000


class Room:
    """A memory limit for messages, granted in order. A message larger than the limit is granted alone."""

    def __init__(self, octets: int) -> None:
        self._limit, self.used = octets, 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @contextlib.asynccontextmanager
    async def taken(self, octets: int) -> AsyncIterator[None]:
        """Wait until `octets` are free, and hold them until exit."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((octets, turn))
        self._admit()
        try:
            await turn
            yield
        finally:
            if turn.done() and not turn.cancelled():
                self.used -= octets
            self._admit()

    def _admit(self) -> None:
        while self._waiting:
            octets, turn = self._waiting[0]
            if not turn.done():  # else the waiting task was cancelled
                if self.used and self.used + octets > self._limit:
                    return
                self.used += octets
                turn.set_result(None)
            self._waiting.popleft()


class Pool:
    """A pool of connections. `connection` gives the caller one of them exclusively until exit.

    A caller waits first for a slot of its host and then for one of all, so that a slow host does not delay others.
    """

    def __init__(
        self,
        own_name: str,
        security: Security,
        patience: Patience,
        metrics: RelayMetrics,
        most: int,
        per_host: int,
        *,
        first_per_host: int = 2,
        keep_seconds: float = KEEP_SECONDS,
        slow_seconds: float = SLOW_SECONDS,
        alone_seconds: float = ALONE_SECONDS,
    ) -> None:
        self._own_name, self._security, self._patience, self._metrics = own_name, security, patience, metrics
        self._most, self._per_host, self._first_per_host = most, per_host, first_per_host
        self._keep_seconds, self._slow_seconds, self._alone_seconds = keep_seconds, slow_seconds, alone_seconds
        self._slots = asyncio.Semaphore(most)
        self._hosts: dict[Hop, Slots] = {}
        self._idle: dict[Hop, list[Connection]] = {}
        self._alone: dict[Hop, tuple[float, Outcome]] = {}
        self.busy = 0  # connections in use, or being opened

    @property
    def open_connections(self) -> int:
        """The number of open connections, including idle ones and those being opened."""
        return self.busy + sum(map(len, self._idle.values()))

    @contextlib.asynccontextmanager
    async def place(self, hop: Hop) -> AsyncIterator[Slots]:
        """Wait for a slot for this host, and hold it until exit; `connection` needs one.

        The caller notes the end of its attempt, and thereby sets the number of slots.
        """
        slots = self._hosts.get(hop)
        if slots is None:
            slots = self._hosts[hop] = Slots(hop.host, Window(self._first_per_host, self._per_host))
        async with slots.taken(), self._slots:
            yield slots

    @contextlib.asynccontextmanager
    async def connection(self, hop: Hop) -> AsyncIterator[Connection]:
        """An idle connection, or a new one; kept after exit if it is usable. The caller must hold a `place`.

        Raises Unreachable.
        """
        self.busy += 1
        try:
            connection = self._reused(hop) or await self._opened(hop)
            try:
                yield connection
            except BaseException:
                connection.abandon()
                raise
        finally:
            self.busy -= 1
        await self._keep(connection)

    def _reused(self, hop: Hop) -> Connection | None:
        kept = self._idle.get(hop, [])
        while kept:
            connection = kept.pop()
            if not kept:
                del self._idle[hop]
            if connection.usable:
                return connection
            connection.abandon()
        return None

    async def _opened(self, hop: Hop) -> Connection:
        loop = asyncio.get_running_loop()
        until, outcome = self._alone.get(hop, (0.0, None))
        if outcome is not None and loop.time() < until:
            raise Unreachable(outcome)
        if self._idle and self.open_connections > self._most:
            oldest = min((kept[0] for kept in self._idle.values()), key=lambda idle: idle.idle_since)
            self._forget(oldest)
            await oldest.close()
        began = loop.time()
        try:
            connection = await Connection.open(hop, self._own_name, self._security, self._patience)
        except Unreachable as unreachable:
            if unreachable.leave_alone or loop.time() - began > self._slow_seconds:
                self._alone[hop] = loop.time() + self._alone_seconds, unreachable.outcome
                while len(self._alone) > MAX_REMEMBERED:
                    del self._alone[next(iter(self._alone))]
            raise
        self._alone.pop(hop, None)
        self._metrics.connection_opened(secured=connection.secured)
        return connection

    async def _keep(self, connection: Connection) -> None:
        if not connection.usable:
            await connection.close()
            return
        connection.idle_since = asyncio.get_running_loop().time()
        self._idle.setdefault(connection.hop, []).append(connection)

    async def tidy(self) -> None:
        """Close connections that were idle for too long, repeatedly, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._keep_seconds / 2)
            await self.close_idle(before=loop.time() - self._keep_seconds)
            self._forget_hosts(loop.time() - FORGET_SECONDS)

    async def close_idle(self, before: float = float("inf")) -> None:
        """Close connections that have been idle since before this loop time or are unusable."""
        idle = [connection for kept in self._idle.values() for connection in kept]
        old = [connection for connection in idle if connection.idle_since < before or not connection.usable]
        for connection in old:
            self._forget(connection)
        await asyncio.gather(*(connection.close() for connection in old))

    def _forget_hosts(self, before: float) -> None:
        """Forget the windows of hosts that were not used since, and of the earliest used ones above a bound."""
        unused = [(slots.used_at, hop) for hop, slots in self._hosts.items() if not slots.users]
        unused.sort(key=lambda each: each[0])
        surplus = len(self._hosts) - MAX_REMEMBERED
        for number, (used_at, hop) in enumerate(unused):
            if used_at < before or number < surplus:
                del self._hosts[hop]

    def _forget(self, connection: Connection) -> None:
        kept = self._idle[connection.hop]
        kept.remove(connection)
        if not kept:
            del self._idle[connection.hop]
