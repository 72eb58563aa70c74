"""The core's outbound queue in memory, for tests of the relay: leases that a test makes, loses and breaks.

It serves LeaseOutbound, ReadOutbound, RenewLease, ReportOutcome, and the RPCs of TLS policies and sessions;
`tests/contract/test_outbound_queue.py` makes the same calls on the real core. Any other RPC is unimplemented.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from restante import errors
from restante.methods import Method
from restante.v1 import methods
from restante.v1.submission_pb2 import EnvelopeOptions, EnvelopeRecipient
from restante.v1.tls_pb2 import (
    GetStsPolicyRequest,
    GetStsPolicyResponse,
    ReportTlsSessionsRequest,
    ReportTlsSessionsResponse,
    StoreStsPolicyResponse,
    StsPolicy,
    TlsSessions,
)
from restante.v1.tls_reports_pb2 import LeaseTlsReportsResponse
from restante.v1.transport_pb2 import (
    LeaseOutboundRequest,
    LeaseOutboundResponse,
    OutboundLease,
    OutboundRecipient,
    OutcomeKind,
    ReadOutboundRequest,
    ReadOutboundResponse,
    RecipientOutcome,
    RenewLeaseRequest,
    RenewLeaseResponse,
    ReportOutcomeRequest,
    ReportOutcomeResponse,
)
from restante_mail.authentication.mta_sts import parse_policy
from restante_mail.mime.scanner import parse
from restante_mail.mime.seven_bit import NotConvertible, seven_bit

CONTENT = b"Received: by mx.example.test;\r\nSubject: hello\r\n\r\nhello\r\n.dot\r\n"
CHUNK_OCTETS = 100_000
KINDS = {
    OutcomeKind.OUTCOME_KIND_RELAYED: "relayed",
    OutcomeKind.OUTCOME_KIND_DEFERRED: "deferred",
    OutcomeKind.OUTCOME_KIND_FAILED: "failed",
}


class OutboundQueue:
    """The calls of one relay. `reports` has {lease id: outcomes}, empty for a returned lease.

    Faults: the leases in `lost` belong to another relay; the next `busy_reports` reports and the next `broken_reads`
    reads fail, a read after its first octets.
    """

    def __init__(self) -> None:
        self.contents: dict[int, bytes] = {}
        self.reports: dict[int, list[RecipientOutcome]] = {}
        self.lost: set[int] = set()
        self.busy_reports = 0
        self.busy_tls_reports = 0
        self.clock: Callable[[], float] = time.time
        self._policies: dict[str, StsPolicy] = {}
        self._tls_reports: dict[bytes, ReportTlsSessionsRequest] = {}
        self.broken_reads = 0
        self.reads = 0
        self.requests: list[LeaseOutboundRequest] = []
        self._ids = itertools.count(1)
        self._due: asyncio.Queue[OutboundLease] = asyncio.Queue()
        self._leased: set[int] = set()
        self._changed = asyncio.Condition()

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
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: lease_id in self.reports)
        return [(KINDS[one.kind], one.status) for one in self.reports[lease_id]]

    # --- the calls of CoreLink ---

    async def lease_outbound(self, request: LeaseOutboundRequest) -> AsyncIterator[LeaseOutboundResponse]:
        """TransportService.LeaseOutbound."""
        self.requests.append(request)
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: len(self._leased - self.lost) < request.max_leases)
            lease = await self._due.get()
            self._leased.add(lease.lease_id)
            yield LeaseOutboundResponse(leases=[lease])

    async def read_outbound(self, request: ReadOutboundRequest) -> AsyncIterator[ReadOutboundResponse]:
        """TransportService.ReadOutbound."""
        self.reads += 1
        self._require(request.lease_id)
        content, reason = self.contents[request.lease_id], ""
        if request.seven_bit:
            try:
                content = seven_bit(content, parse(content))
            except NotConvertible as error:
                reason = str(error)
            yield ReadOutboundResponse(not_converted=reason)
        for start in range(0, len(content), CHUNK_OCTETS):
            yield ReadOutboundResponse(octets=content[start : start + CHUNK_OCTETS])
            if self.broken_reads:
                self.broken_reads -= 1
                raise errors.Draining("The connection was lost.")

    async def execute(
        self, method: Method[Any, Any], request: Any, *, timeout: float = 30.0, independent: bool = False
    ) -> Any:
        """RenewLease or ReportOutcome."""
        if method is methods.RENEW_LEASE:
            return self._renew(request)
        if method is methods.REPORT_OUTCOME:
            return await self._report(request)
        if method is methods.GET_STS_POLICY:
            return self._policy(request)
        if method is methods.STORE_STS_POLICY:
            self.store_policy(request.policy.domain, request.policy.record_id, request.policy.policy)
            return StoreStsPolicyResponse()
        if method is methods.REPORT_TLS_SESSIONS:
            return await self._report_tls(request)
        if method is methods.LEASE_TLS_REPORTS:
            return LeaseTlsReportsResponse()  # none is due
        raise errors.UnknownReason("", grpc.StatusCode.UNIMPLEMENTED)

    # --- TLS ---

    def store_policy(self, domain: str, record_id: str, text: bytes) -> None:
        """Keep an MTA-STS policy."""
        kept = StsPolicy(domain=domain, record_id=record_id, policy=text)
        now = int(self.clock())
        kept.fetched_at.FromSeconds(now)
        kept.expires_at.FromSeconds(now + parse_policy(text).max_age_seconds)
        self._policies[domain] = kept

    async def tls_sessions(self, least: int, seconds: float = 10.0) -> list[TlsSessions]:
        """All counted sessions, once there are at least so many messages of them."""

        def found() -> list[TlsSessions]:
            return [one for report in self._tls_reports.values() for one in report.sessions]

        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: len(found()) >= least)
        return found()

    def _policy(self, request: GetStsPolicyRequest) -> GetStsPolicyResponse:
        kept = self._policies.get(request.domain)
        if kept is None or kept.expires_at.seconds <= self.clock():
            return GetStsPolicyResponse()
        return GetStsPolicyResponse(policy=kept)

    async def _report_tls(self, request: ReportTlsSessionsRequest) -> ReportTlsSessionsResponse:
        if self.busy_tls_reports:
            self.busy_tls_reports -= 1
            raise errors.StoreBusy
        async with self._changed:
            self._tls_reports[request.request_id] = request  # a repeat is harmless
            self._changed.notify_all()
        return ReportTlsSessionsResponse()

    # --- leases ---

    def _renew(self, request: RenewLeaseRequest) -> RenewLeaseResponse:
        held = self._leased - self.lost
        return RenewLeaseResponse(lost_lease_ids=[one for one in request.lease_ids if one not in held])

    async def _report(self, request: ReportOutcomeRequest) -> ReportOutcomeResponse:
        if self.busy_reports:
            self.busy_reports -= 1
            raise errors.StoreBusy
        if self.reports.get(request.lease_id) and request.lease_id not in self.lost:
            return ReportOutcomeResponse()  # a repeat is harmless
        self._require(request.lease_id)
        async with self._changed:
            self._leased.discard(request.lease_id)
            self.reports[request.lease_id] = list(request.outcomes)
            self._changed.notify_all()
        return ReportOutcomeResponse()

    def _require(self, lease_id: int) -> None:
        if lease_id not in self._leased or lease_id in self.lost:
            raise errors.LeaseLost
