"""A relay with an in-memory core and scripted peers."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest
import uvloop
from prometheus_client import CollectorRegistry

from restante import errors
from restante.methods import Method
from restante.v1 import methods
from restante.v1.submission_pb2 import EnvelopeOptions, EnvelopeRecipient
from restante.v1.transport_pb2 import (
    LeaseOutboundRequest,
    LeaseOutboundResponse,
    OutboundLease,
    OutboundRecipient,
    OutcomeKind,
    ReadOutboundRequest,
    ReadOutboundResponse,
    RecipientOutcome,
    RenewLeaseResponse,
    ReportOutcomeRequest,
    ReportOutcomeResponse,
)
from restante_gateways.relay.gateway import Relay, RelaySettings
from restante_gateways.relay.metrics import RelayMetrics
from restante_gateways.relay.peer import Patience

HASTE = Patience(
    connect=1.0, greeting=0.5, command=0.5, tls=0.5, data=0.5, piece=0.5, final=0.5, transaction=5.0, quit=0.2
)
CONTENT = b"Received: by mx.example.test;\r\nSubject: hello\r\n\r\nhello\r\n.dot\r\n"
KINDS = {
    OutcomeKind.OUTCOME_KIND_RELAYED: "relayed",
    OutcomeKind.OUTCOME_KIND_DEFERRED: "deferred",
    OutcomeKind.OUTCOME_KIND_FAILED: "failed",
}


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, Callable[[], Any]]:
    """The relay's event loop (uvloop) and asyncio's, whose transports differ in places."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


class FakeCore:
    """The relay's calls of the core, in memory. `reports` has {lease id: outcomes}; None for a returned lease."""

    def __init__(self) -> None:
        self.contents: dict[int, bytes] = {}
        self.reports: dict[int, list[RecipientOutcome]] = {}
        self.lost: set[int] = set()  # leases that another relay holds
        self.away = 0  # number of reports that fail
        self.reads = 0
        self.breaks = 0  # number of reads that break in the middle
        self.requests: list[LeaseOutboundRequest] = []
        self._ids = itertools.count(1)
        self._due: asyncio.Queue[OutboundLease] = asyncio.Queue()
        self._reported = asyncio.Condition()

    def put(
        self,
        *recipients: str | EnvelopeRecipient,
        content: bytes = CONTENT,
        destination: str = "example.net",
        reverse_path: str = "alice@example.test",
        options: EnvelopeOptions | None = None,
    ) -> int:
        """Make a message due; returns its lease."""
        lease_id = next(self._ids)
        self.contents[lease_id] = content
        named = [
            one if isinstance(one, EnvelopeRecipient) else EnvelopeRecipient(forward_path=one) for one in recipients
        ]
        lease = OutboundLease(
            lease_id=lease_id,
            transport_id=lease_id,
            destination=destination,
            reverse_path=reverse_path,
            options=options,
            recipients=[
                OutboundRecipient(recipient_id=number, recipient=one) for number, one in enumerate(named, start=1)
            ],
            size_octets=len(content),
        )
        self._due.put_nowait(lease)
        return lease_id

    async def outcomes(self, lease_id: int, seconds: float = 10.0) -> list[tuple[str, str]]:
        """(outcome, status) of each recipient of a lease, once reported."""
        async with asyncio.timeout(seconds), self._reported:
            await self._reported.wait_for(lambda: lease_id in self.reports)
        return [(KINDS[one.kind], one.status) for one in self.reports[lease_id]]

    async def lease_outbound(self, request: LeaseOutboundRequest) -> AsyncIterator[LeaseOutboundResponse]:
        self.requests.append(request)
        while True:
            yield LeaseOutboundResponse(leases=[await self._due.get()])

    async def read_outbound(self, request: ReadOutboundRequest) -> AsyncIterator[ReadOutboundResponse]:
        self.reads += 1
        if request.lease_id in self.lost:
            raise errors.LeaseLost
        content = self.contents[request.lease_id]
        for start in range(0, len(content), 100_000):
            yield ReadOutboundResponse(octets=content[start : start + 100_000])
            if self.breaks:
                self.breaks -= 1
                raise errors.Draining("The connection was lost.")

    async def execute(
        self, method: Method[Any, Any], request: Any, *, timeout: float = 30.0, independent: bool = False
    ) -> Any:
        if method is methods.RENEW_LEASE:
            return RenewLeaseResponse(lost_lease_ids=[one for one in request.lease_ids if one in self.lost])
        assert method is methods.REPORT_OUTCOME and isinstance(request, ReportOutcomeRequest)
        if self.away:
            self.away -= 1
            raise errors.StoreBusy
        async with self._reported:
            assert request.lease_id not in self.reports, "reported twice"
            self.reports[request.lease_id] = list(request.outcomes)
            self._reported.notify_all()
        return ReportOutcomeResponse()


@contextlib.asynccontextmanager
async def running(
    core: FakeCore, routes: dict[str, str], *, registry: CollectorRegistry | None = None, **settings: Any
) -> AsyncIterator[Callable[[], None]]:
    """A running relay for the time of the context; yields a function that makes it drain."""
    settings = {"own_name": "mx.example.test", "patience": HASTE, "drain_seconds": 1.0, **settings}
    relay = Relay(
        RelaySettings(routes=tuple(routes.items()), **settings), core, RelayMetrics(registry or CollectorRegistry())
    )
    draining = asyncio.Event()
    task = asyncio.create_task(relay.run(draining))
    try:
        yield draining.set
    finally:
        draining.set()
        async with asyncio.timeout(10):
            await task
