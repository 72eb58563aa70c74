"""Leases of outbound mail: attempted concurrently, renewed, reported, and returned when the process drains."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

import structlog

from restante import errors
from restante.methods import Method, Request, Response
from restante.v1 import methods
from restante.v1.transport_pb2 import (
    LeaseOutboundRequest,
    LeaseOutboundResponse,
    OutboundLease,
    OutcomeKind,
    RecipientOutcome,
    RenewLeaseRequest,
    ReportOutcomeRequest,
)
from restante_gateways.relay.attempt import Attempts, Ending, Reader
from restante_gateways.relay.metrics import RelayMetrics
from restante_gateways.relay.outcomes import OUR_FAULT, SENDING_IS_OFF, Outcome, deferred

log = structlog.get_logger("relay")

LEASE_SECONDS = 120  # after a crash of the relay its mail waits this long
RENEW_SECONDS = 30.0
MAX_LEASES = 1_000  # in one request
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
REPORT_SECONDS = 30.0


class Core(Reader, Protocol):
    """The calls of the relay to the core; `restante.link.CoreLink` implements them."""

    async def execute(
        self, method: Method[Request, Response], request: Request, *, timeout: float = 30.0, independent: bool = False
    ) -> Response:
        """Run one operation."""
        ...

    def lease_outbound(self, request: LeaseOutboundRequest) -> AsyncIterator[LeaseOutboundResponse]:
        """TransportService.LeaseOutbound."""
        ...


@dataclass(eq=False, slots=True)
class _Held:
    task: asyncio.Task[None]
    until: float  # loop time; afterwards another relay may hold the lease


class Leases:
    """All leases of this process. Without `send`, every lease is deferred with that reason."""

    def __init__(
        self,
        core: Core,
        attempts: Attempts,
        metrics: RelayMetrics,
        most: int,
        *,
        send: bool,
        renew_seconds: float = RENEW_SECONDS,
    ) -> None:
        self._core, self._attempts, self._metrics, self._most, self._send = core, attempts, metrics, most, send
        self._renew_seconds = renew_seconds
        self._held: dict[int, _Held] = {}
        self._fewer = asyncio.Event()

    @property
    def count(self) -> int:
        """The number of leases held."""
        return len(self._held)

    async def take(self) -> None:
        """Take leases for ever."""
        request = LeaseOutboundRequest(max_leases=min(self._most, MAX_LEASES), lease_seconds=LEASE_SECONDS)
        pause = FIRST_PAUSE_SECONDS
        while True:
            # The core limits the leases of one stream; this limits those of earlier streams, too.
            while len(self._held) > self._most:
                self._fewer.clear()
                await self._fewer.wait()
            try:
                async for response in self._core.lease_outbound(request):
                    pause = FIRST_PAUSE_SECONDS
                    for lease in response.leases:
                        self._begin(lease)
                    if response.draining:
                        break
            except errors.RestanteError as error:
                log.warning("no leases from the core", reason=error.reason, detail=error.detail)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def renew(self) -> None:
        """Renew for ever. Cancel an attempt whose lease is lost, since another relay may have it."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._renew_seconds)
            ids, now = list(self._held), loop.time()
            for start in range(0, len(ids), MAX_LEASES):
                await self._renew(ids[start : start + MAX_LEASES], now)
            for held in list(self._held.values()):
                if held.until <= loop.time():
                    held.task.cancel()

    async def finish(self, seconds: float) -> None:
        """Wait at most `seconds` for current attempts; then cancel the rest and return their leases to the queue."""
        tasks = [held.task for held in self._held.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        left = dict(self._held)
        for held in left.values():
            held.task.cancel()
        await asyncio.gather(*(held.task for held in left.values()), return_exceptions=True)
        await asyncio.gather(*(self._give_back(lease_id) for lease_id in left))

    def _begin(self, lease: OutboundLease) -> None:
        task = asyncio.create_task(self._work(lease))
        self._held[lease.lease_id] = _Held(task, asyncio.get_running_loop().time() + LEASE_SECONDS)
        task.add_done_callback(lambda _: self._ended(lease.lease_id))

    def _ended(self, lease_id: int) -> None:
        self._held.pop(lease_id, None)
        self._fewer.set()

    async def _renew(self, ids: list[int], now: float) -> None:
        request = RenewLeaseRequest(lease_ids=ids, lease_seconds=LEASE_SECONDS)
        try:
            answer = await self._core.execute(methods.RENEW_LEASE, request, independent=True)
        except errors.RestanteError as error:
            log.warning("leases not renewed", reason=error.reason)
            return
        lost = set(answer.lost_lease_ids)
        for lease_id in ids:
            held = self._held.get(lease_id)
            if held is not None and lease_id in lost:
                log.warning("lease lost", lease_id=lease_id)
                held.task.cancel()
            elif held is not None:
                held.until = now + LEASE_SECONDS

    async def _work(self, lease: OutboundLease) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            outcomes = await self._attempt(lease)
        except Ending:
            await self._give_back(lease.lease_id)
            return
        except errors.LeaseLost:
            log.warning("lease lost", lease_id=lease.lease_id)
            return
        seconds = loop.time() - began
        counts = self._metrics.attempted(outcomes.values(), seconds)
        hosts = sorted({outcome.remote_host for outcome in outcomes.values() if outcome.remote_host})
        log.info(
            "attempt",
            transport_id=lease.transport_id,
            destination=lease.destination,
            **counts,
            status=sorted({outcome.status for outcome in outcomes.values()}),
            remote_host=",".join(hosts),
            milliseconds=round(1_000 * seconds, 1),
        )
        ours = next((outcome for outcome in outcomes.values() if outcome.ours), None)
        if ours is not None:
            log.error("a configured server takes no mail from this relay", detail=ours.diagnostic)
        await self._report(lease.lease_id, _reported(lease, outcomes))

    async def _attempt(self, lease: OutboundLease) -> dict[int, Outcome]:
        """The outcomes of an attempt; an error becomes a deferral. Raises Ending, LeaseLost."""
        ids = [item.recipient_id for item in lease.recipients]
        if not self._send:
            return dict.fromkeys(ids, SENDING_IS_OFF)
        try:
            return await self._attempts.make(lease)
        except (Ending, errors.LeaseLost):
            raise
        except errors.RestanteError as error:
            return dict.fromkeys(ids, deferred("4.3.0", f"the message could not be read: {error.reason}"))
        except Exception:
            # Without an outcome the lease would expire and return at once, for ever.
            log.exception("attempt failed", transport_id=lease.transport_id)
            return dict.fromkeys(ids, OUR_FAULT)

    async def _report(self, lease_id: int, outcomes: list[RecipientOutcome]) -> None:
        """Report until the core accepts it or the lease is lost: unreported mail would be relayed again."""
        loop, pause = asyncio.get_running_loop(), FIRST_PAUSE_SECONDS
        request = ReportOutcomeRequest(lease_id=lease_id, outcomes=outcomes)
        while True:
            try:
                await self._core.execute(methods.REPORT_OUTCOME, request, timeout=REPORT_SECONDS, independent=True)
            except errors.RestanteError as error:
                held = self._held.get(lease_id)
                lost = held is None or held.until <= loop.time() or error.caused_by_client
                if lost:
                    log.warning("outcomes not reported", lease_id=lease_id, reason=error.reason)
                    return
            else:
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _give_back(self, lease_id: int) -> None:
        request = ReportOutcomeRequest(lease_id=lease_id)
        try:
            await self._core.execute(methods.REPORT_OUTCOME, request, timeout=2.0, independent=True)
        except errors.RestanteError as error:
            log.warning("lease not returned", lease_id=lease_id, reason=error.reason)


def _reported(lease: OutboundLease, outcomes: dict[int, Outcome]) -> list[RecipientOutcome]:
    reported = []
    for item in lease.recipients:
        outcome = outcomes[item.recipient_id]
        kind = OutcomeKind.OUTCOME_KIND_DEFERRED
        if outcome.relayed:
            kind = OutcomeKind.OUTCOME_KIND_RELAYED
        elif outcome.final:
            kind = OutcomeKind.OUTCOME_KIND_FAILED
        reported.append(
            RecipientOutcome(
                recipient_id=item.recipient_id,
                kind=kind,
                status=outcome.status,
                diagnostic=outcome.diagnostic,
                remote_host=outcome.remote_host,
                dsn_passed_on=outcome.dsn_passed_on,
            )
        )
    return reported
