"""TransportService's RPCs for relays: leasing, reading and reporting outbound mail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import Connection

from restante.errors import InvalidArgument
from restante.v1 import methods
from restante.v1.submission_pb2 import DsnReturn, EnvelopeOptions, EnvelopeRecipient, NotifyCondition
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
from restante_mail.envelope.status_codes import is_status_code
from restante_server.api.engine import access
from restante_server.api.engine.call import Call
from restante_server.api.engine.registry import Handlers
from restante_server.api.services.leased import LeasedMessage
from restante_server.api.services.violations import collected
from restante_server.db.clock import now_microseconds
from restante_server.db.operation import Write
from restante_server.transport.outbound import candidates, queue
from restante_server.transport.outbound.dsn import clean
from restante_server.transport.outbound.queue import Lease, Outcome
from restante_server.transport.outbound.turns import Turns
from restante_server.transport.states import State

handlers = Handlers()

RELAY = access.identities("relay")
CHUNK_OCTETS = 256 << 10
MAX_LEASES = 1_000
DEFAULT_LEASE_SECONDS = 300
LOOK_SECONDS = 1.0  # between two looks for work that became due at other cores
AGAIN_SECONDS = 0.05  # until the next look, if another core held the due rows
LEASES_AT_ONCE = 50  # in one response
ROOM_SHARE = 4  # before LOOK_SECONDS have passed, new leases need 1/ROOM_SHARE of max_leases free
STATES = {
    OutcomeKind.OUTCOME_KIND_RELAYED: State.RELAYED,
    OutcomeKind.OUTCOME_KIND_DEFERRED: State.PENDING,
    OutcomeKind.OUTCOME_KIND_FAILED: State.FAILED,
}
USUAL_STATUS = {State.RELAYED: "2.0.0", State.PENDING: "4.0.0", State.FAILED: "5.0.0"}


@handlers.stream("TransportService", "LeaseOutbound", rule=RELAY)
async def lease_outbound(call: Call, request: LeaseOutboundRequest) -> AsyncIterator[LeaseOutboundResponse]:
    """See TransportService.LeaseOutbound."""
    seconds = DEFAULT_LEASE_SECONDS
    with collected() as bad:
        bad.require(1 <= request.max_leases <= MAX_LEASES, "max_leases", f"must be 1 to {MAX_LEASES}")
        with bad.noting("lease_seconds"):
            seconds = lease_seconds(request.lease_seconds)
    turns, news = Turns(request.max_leases), _News()
    stops = (
        call.core.transport.on_due(news.mail),
        call.core.transport.on_ended(news.changed.set),
        call.core.tasks.on_drain(news.drain),
    )
    # Choosing leases reads many rows: a busy relay gets its next leases several at a time, or after LOOK_SECONDS.
    some_room = max(1, request.max_leases // ROOM_SHARE)
    clock = asyncio.get_running_loop().time
    chosen_at = clock() - LOOK_SECONDS
    try:
        while not news.draining:
            news.changed.clear()
            least = 1 if clock() - chosen_at >= LOOK_SECONDS else some_room
            leases, passed_over = await lease_now(call, turns, seconds, least, fresh=least == 1 or news.take())
            if leases:
                chosen_at = clock()
            for start in range(0, len(leases), LEASES_AT_ONCE):
                some = leases[start : start + LEASES_AT_ONCE]
                yield LeaseOutboundResponse(leases=map(lease_of, some))
            if not leases:
                await _until(news.changed, AGAIN_SECONDS if passed_over else LOOK_SECONDS)
        yield LeaseOutboundResponse(draining=True)
    finally:
        for stop in stops:
            stop()


class _News:
    """What a relay's stream waits for."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.draining, self._mail = False, True

    def mail(self) -> None:
        """Mail became due."""
        self._mail = True
        self.changed.set()

    def drain(self) -> None:
        """The server is shutting down."""
        self.draining = True
        self.changed.set()

    def take(self) -> bool:
        """Whether mail became due since the last call."""
        mail, self._mail = self._mail, False
        return mail


async def _until(changed: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await changed.wait()
    except TimeoutError:
        return


async def lease_now(
    call: Call, turns: Turns, seconds: int, least: int = 1, *, fresh: bool = True
) -> tuple[list[Lease], bool]:
    """Lease work. Returns the new leases, and whether there are none because other cores held all due rows.

    Writes only if something is due and there is room for at least `least` leases. Without new mail (`fresh`), as many
    must have ended since the last choice: what was left then had no turn.
    """

    def look(tx: Connection) -> tuple[set[int], bool]:
        return queue.standing(tx, turns.held), candidates.anything_due(tx, now_microseconds(tx))

    standing, due = await call.core.db.read(look)
    turns.keep(standing)
    if not due or turns.room < least or not (fresh or turns.ended >= least):
        return [], False
    forwarding = call.core.transport.forwarding
    write = Write(lambda tx: queue.lease(tx, now_microseconds(tx), turns, seconds, forwarding), rows=turns.room)
    found = await call.core.db.write(write)
    for lease in found.leases:
        turns.give(lease.lease_id, lease.destination, lease.sender)
    return found.leases, found.passed_over


def lease_seconds(given: int) -> int:
    """The duration of a lease. Raises InvalidArgument."""
    if given and not 30 <= given <= 3_600:
        raise InvalidArgument(field="lease_seconds", problem="must be 30 to 3600, or 0 for the default")
    return given or DEFAULT_LEASE_SECONDS


def lease_of(lease: Lease) -> OutboundLease:
    origin = lease.origin
    expires_at = Timestamp()
    expires_at.FromMicroseconds(lease.expires_at)
    return OutboundLease(
        lease_id=lease.lease_id,
        transport_id=origin.transport_id,
        destination=lease.destination,
        reverse_path=lease.reverse_path,
        options=EnvelopeOptions(
            dsn_return=DsnReturn.ValueType(origin.dsn_return),
            envelope_id=origin.envelope_id,
            smtputf8=lease.smtputf8,
            body_8bit=lease.body_8bit,
        ),
        recipients=[
            OutboundRecipient(
                recipient_id=row.recipient_id,
                recipient=EnvelopeRecipient(
                    forward_path=row.forward_path,
                    notify=[
                        condition for condition in NotifyCondition.values() if condition and row.notify & 1 << condition
                    ],
                    original_recipient=row.original_recipient,
                ),
                attempt_count=row.attempt_count,
            )
            for row in lease.rows
        ],
        size_octets=origin.size_octets + lease.added_octets,
        expires_at=expires_at,
        tls_optional=lease.tls_optional,
    )


@handlers.stream("TransportService", "ReadOutbound", rule=RELAY)
async def read_outbound(call: Call, request: ReadOutboundRequest) -> AsyncIterator[ReadOutboundResponse]:
    """See TransportService.ReadOutbound."""
    transport = call.core.transport
    leased = LeasedMessage(call.core.db, transport.settings, request.lease_id, transport.signatures)
    async for piece in leased.sent(request.seven_bit):
        yield ReadOutboundResponse(octets=piece.octets[:CHUNK_OCTETS], not_converted=piece.not_converted)
        for start in range(CHUNK_OCTETS, len(piece.octets), CHUNK_OCTETS):
            yield ReadOutboundResponse(octets=piece.octets[start : start + CHUNK_OCTETS])


@handlers.direct(methods.RENEW_LEASE, rule=RELAY)
async def renew_lease(call: Call, request: RenewLeaseRequest) -> RenewLeaseResponse:
    """See TransportService.RenewLease."""
    seconds = DEFAULT_LEASE_SECONDS
    with collected() as bad:
        bad.require(len(request.lease_ids) <= MAX_LEASES, "lease_ids", f"must be at most {MAX_LEASES}")
        with bad.noting("lease_seconds"):
            seconds = lease_seconds(request.lease_seconds)

    def renew(tx: Connection) -> list[int]:
        return queue.renew(tx, now_microseconds(tx), list(request.lease_ids), seconds)

    lost = await call.core.db.write(Write(renew, rows=len(request.lease_ids)), deadline=call.deadline)
    return RenewLeaseResponse(lost_lease_ids=lost)


@handlers.direct(methods.REPORT_OUTCOME, rule=RELAY)
async def report_outcome(call: Call, request: ReportOutcomeRequest) -> ReportOutcomeResponse:
    """See TransportService.ReportOutcome."""
    transport = call.core.transport
    outcomes = [_outcome(one) for one in request.outcomes]

    def report(tx: Connection) -> None:
        queue.report(tx, transport.settings, request.lease_id, outcomes, now_microseconds(tx))

    write = Write(report, rows=3 * len(outcomes) + 3)
    await call.core.db.write(write, deadline=call.deadline)
    for outcome in outcomes:
        transport.figures.settled(outcome.state, 1)
    return ReportOutcomeResponse()


def _outcome(given: RecipientOutcome) -> Outcome:
    state = STATES.get(given.kind)
    if state is None:
        raise InvalidArgument(field="outcomes.kind", problem="must be RELAYED, DEFERRED or FAILED")
    status = given.status if is_status_code(given.status) else USUAL_STATUS[state]
    diagnostic, remote_host = clean(given.diagnostic)[:512], clean(given.remote_host)[:255]
    return Outcome(given.recipient_id, state, status, diagnostic, remote_host, given.dsn_passed_on)
