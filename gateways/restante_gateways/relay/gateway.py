"""The relay's process: leases as they come, connections kept for a while, each recipient reported."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from restante import errors
from restante.config import Config
from restante.link import CoreLink
from restante.v1 import methods
from restante.v1.transport_pb2 import (
    LeaseOutboundRequest,
    OutboundLease,
    OutcomeKind,
    ReadOutboundRequest,
    RecipientOutcome,
    RenewLeaseRequest,
    ReportOutcomeRequest,
)
from restante_gateways.net.resolver import LookupFailed, LoopsBack, NoSuchDomain, Resolver, TakesNoMail
from restante_gateways.net.runtime import Runtime
from restante_gateways.relay.connection import Connection, Unreachable, tls_context
from restante_gateways.relay.outcomes import SENDING_IS_OFF, Outcome, deferred, failed
from restante_gateways.relay.routes import Hop, NotAllowed, Router

log = structlog.get_logger("relay")

LEASE_SECONDS = 300
RENEW_SECONDS = 100.0
MEMORY_OCTETS = 128 << 20  # of messages under way
KEEP_SECONDS = 5.0  # an idle connection is kept for the next message
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
REPORT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """Settings of the relay. See `restante.config.Relay`."""

    own_name: str
    send: bool
    connections: int
    connections_per_host: int
    nameservers: tuple[str, ...]
    routes: tuple[tuple[str, str], ...]
    allow_private: tuple[str, ...]
    port: int
    drain_seconds: float

    @classmethod
    def from_config(cls, config: Config) -> RelaySettings:
        """The settings that the configuration file gives."""
        relay = config.relay
        return cls(
            own_name=config.transport.hostname,
            send=relay.send,
            connections=relay.connections,
            connections_per_host=relay.connections_per_host,
            nameservers=relay.nameservers,
            routes=tuple(relay.routes.items()),
            allow_private=relay.allow_private,
            port=relay.port,
            drain_seconds=config.core.drain_seconds,
        )


class Octets:
    """Room for messages in memory: who does not fit waits. A message larger than all of it fits alone."""

    def __init__(self, limit: int) -> None:
        self._limit, self._used = limit, 0
        self._changed = asyncio.Condition()

    async def take(self, octets: int) -> None:
        """Wait for room."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._used or self._used + octets <= self._limit)
            self._used += octets

    async def give(self, octets: int) -> None:
        """Let the next one in."""
        async with self._changed:
            self._used -= octets
            self._changed.notify_all()


class Relay:
    """Everything that is shared by the leases under way."""

    def __init__(self, settings: RelaySettings, core: CoreLink) -> None:
        """Raises ValueError for settings that cannot be read."""
        self._settings, self._core = settings, core
        resolver = Resolver(settings.nameservers, [settings.own_name])
        self._router = Router(resolver, dict(settings.routes), settings.allow_private, settings.port)
        self._context = tls_context()
        self._room = Octets(MEMORY_OCTETS)
        self._slots = asyncio.Semaphore(settings.connections)
        self._host_slots: defaultdict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(settings.connections_per_host)
        )
        self._idle: defaultdict[Hop, list[Connection]] = defaultdict(list)
        self._under_way: dict[int, asyncio.Task[None]] = {}

    async def run(self, draining: asyncio.Event) -> None:
        """Take leases until told to drain; then finish those under way, as long as may be."""
        loops = [asyncio.create_task(work()) for work in (self._lease, self._renew, self._tidy)]
        try:
            await draining.wait()
        finally:
            for task in loops:
                task.cancel()
            if self._under_way:
                await asyncio.wait(self._under_way.values(), timeout=self._settings.drain_seconds)
            for task in self._under_way.values():
                task.cancel()  # the lease lapses, and the core gives it to another
            await asyncio.gather(*loops, *self._under_way.values(), return_exceptions=True)
            await asyncio.gather(*(idle.close() for kept in self._idle.values() for idle in kept))

    async def _lease(self) -> None:
        request = LeaseOutboundRequest(max_leases=2 * self._settings.connections, lease_seconds=LEASE_SECONDS)
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                async for response in self._core.lease_outbound(request):
                    pause = FIRST_PAUSE_SECONDS
                    for lease in response.leases:
                        self._begin(lease)
                    if response.draining:
                        break
            except errors.RestanteError as error:
                log.warning("the core gives no work", reason=error.reason, detail=error.detail)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _begin(self, lease: OutboundLease) -> None:
        task = asyncio.create_task(self._work(lease))
        self._under_way[lease.lease_id] = task
        task.add_done_callback(lambda _: self._under_way.pop(lease.lease_id, None))

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            held = list(self._under_way)
            for start in range(0, len(held), 1_000):
                request = RenewLeaseRequest(lease_ids=held[start : start + 1_000], lease_seconds=LEASE_SECONDS)
                try:
                    answer = await self._core.execute(methods.RENEW_LEASE, request, independent=True)
                except errors.RestanteError as error:
                    log.warning("leases could not be renewed", reason=error.reason)
                    continue
                for lease_id in answer.lost_lease_ids:
                    task = self._under_way.get(lease_id)
                    if task is not None:
                        task.cancel()

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(KEEP_SECONDS)
            now = asyncio.get_running_loop().time()
            for hop, kept in list(self._idle.items()):
                old = [idle for idle in kept if now - idle.idle_since > KEEP_SECONDS or not idle.usable]
                self._idle[hop] = [idle for idle in kept if idle not in old]
                if not self._idle[hop]:
                    del self._idle[hop]
                await asyncio.gather(*(idle.close() for idle in old))

    async def _work(self, lease: OutboundLease) -> None:
        outcomes = await self._attempt(lease)
        request = ReportOutcomeRequest(lease_id=lease.lease_id, outcomes=_reported(lease, outcomes))
        try:
            await self._core.execute(methods.REPORT_OUTCOME, request, timeout=REPORT_SECONDS, independent=True)
        except errors.RestanteError as error:
            # The lease lapses and the recipients are tried again: at least once, never lost.
            log.warning("an outcome could not be reported", transport_id=lease.transport_id, reason=error.reason)
        for item in request.outcomes:
            log.info(
                "attempt",
                transport_id=lease.transport_id,
                recipient_id=item.recipient_id,
                destination=lease.destination,
                outcome=OutcomeKind.Name(item.kind).removeprefix("OUTCOME_KIND_").lower(),
                status=item.status,
                remote_host=item.remote_host,
            )

    async def _attempt(self, lease: OutboundLease) -> dict[int, Outcome]:
        if not self._settings.send:
            return dict.fromkeys(_ids(lease), SENDING_IS_OFF)
        async with self._slots:
            await self._room.take(lease.size_octets)
            try:
                return await self._send(lease)
            except errors.RestanteError as error:
                return dict.fromkeys(_ids(lease), deferred("4.3.0", f"the message could not be read: {error.reason}"))
            finally:
                await self._room.give(lease.size_octets)

    async def _send(self, lease: OutboundLease) -> dict[int, Outcome]:
        """Try the servers of the destination in their order, until one takes part in a transaction."""
        content: bytes | None = None
        last = deferred("4.4.1", f"no server of {lease.destination} could be reached")
        try:
            async for hop in self._router.hops(lease.destination):
                async with self._host_slots[hop.address]:
                    try:
                        connection = await self._connection(hop)
                    except Unreachable as unreachable:
                        last = unreachable.outcome
                        continue
                    if content is None:
                        request = ReadOutboundRequest(lease_id=lease.lease_id)
                        content = b"".join([piece.octets async for piece in self._core.read_outbound(request)])
                    try:
                        outcomes = await connection.transact(
                            lease.reverse_path, lease.options, lease.recipients, content
                        )
                    except Unreachable as unreachable:
                        last = unreachable.outcome
                        await connection.close()
                        continue
                    await self._keep(connection)
                    return outcomes
        except NoSuchDomain:
            last = failed("5.1.2", f"the domain {lease.destination} does not exist")
        except TakesNoMail:
            last = failed("5.1.10", f"the domain {lease.destination} takes no mail (null MX)")
        except LoopsBack:
            last = failed("5.4.6", f"mail for {lease.destination} would come back to this server")
        except NotAllowed:
            last = failed(
                "5.4.4", f"the servers of {lease.destination} have addresses that this relay does not talk to"
            )
        except LookupFailed as error:
            last = deferred("4.4.3", str(error))
        return dict.fromkeys(_ids(lease), last)

    async def _connection(self, hop: Hop) -> Connection:
        while self._idle[hop]:
            kept = self._idle[hop].pop()
            if kept.usable:
                return kept
            await kept.close()
        return await Connection.open(hop, self._settings.own_name, self._context)

    async def _keep(self, connection: Connection) -> None:
        if connection.usable:
            self._idle[connection.hop].append(connection)
        else:
            await connection.close()


def _ids(lease: OutboundLease) -> Iterable[int]:
    return [item.recipient_id for item in lease.recipients]


def _reported(lease: OutboundLease, outcomes: dict[int, Outcome]) -> list[RecipientOutcome]:
    reported = []
    for recipient_id in _ids(lease):
        outcome = outcomes[recipient_id]
        kind = OutcomeKind.OUTCOME_KIND_DEFERRED
        if outcome.relayed:
            kind = OutcomeKind.OUTCOME_KIND_RELAYED
        elif outcome.final:
            kind = OutcomeKind.OUTCOME_KIND_FAILED
        reported.append(
            RecipientOutcome(
                recipient_id=recipient_id,
                kind=kind,
                status=outcome.status,
                diagnostic=outcome.diagnostic,
                remote_host=outcome.remote_host,
                dsn_passed_on=outcome.dsn_passed_on,
            )
        )
    return reported


async def run(settings: RelaySettings, core: CoreLink, runtime: Runtime) -> None:
    """Serves until `runtime.draining` is set, then drains. Raises ValueError."""
    relay = Relay(settings, core)
    runtime.ready(True)
    await relay.run(runtime.draining)
