"""AdminService: the queue."""

from __future__ import annotations

import time
from typing import Any

import structlog
from sqlalchemy import Connection, select

from restante.errors import InvalidArgument
from restante.v1 import methods
from restante.v1 import queue_pb2 as v1
from restante.v1.submission_pb2 import DsnReturn, EnvelopeOptions
from restante_mail.mime.sections import Kind
from restante_server.api.engine.access import administrators
from restante_server.api.engine.call import Call
from restante_server.api.engine.registry import Handlers
from restante_server.api.services import convert, pages, queue_selectors
from restante_server.api.services.submission import recipient
from restante_server.db.clock import now_microseconds
from restante_server.db.operation import Write
from restante_server.db.schema import transport_message
from restante_server.store import contents
from restante_server.store.contents import Wanted
from restante_server.transport import operations, oversight, rows, selection
from restante_server.transport.operations import Work
from restante_server.transport.outbound import holds, recipients
from restante_server.transport.outbound.holds import Hold
from restante_server.transport.selection import START, Key, Waiting

log = structlog.get_logger("restante.core")

handlers = Handlers()

STEP_SECONDS = 2.0  # of one call; the client continues
HEADER_OCTETS = 64 << 10
PART_OCTETS = 256 << 10
MOST_RECIPIENTS = 1_000  # of a message shown
NOT_SHOWN = "the message has left the queue"


@handlers.read(methods.LIST_QUEUE, rule=administrators, slow=True)
def list_queue(tx: Connection, call: Call, request: v1.ListQueueRequest) -> v1.ListQueueResponse:
    """See AdminService.ListQueue."""
    selector = queue_selectors.selector(request.selector, may_be_all=True)
    of = queue_selectors.identity("queue", request.selector)
    page = pages.Page.asked(of, request, call.result_octets, 2)
    after = Key(*map(pages.number, page.key)) if any(page.key) else START
    found = selection.waiting(tx, selector, after, page.most)
    answer = v1.ListQueueResponse()
    return page.fill(answer, answer.entries, found, _entry, _place)


def _place(waiting: Waiting) -> tuple[str, str]:
    return str(waiting.row.transport_id), str(waiting.row.recipient_id)


def _entry(waiting: Waiting) -> v1.QueueEntry:
    return v1.QueueEntry(
        transport_id=waiting.row.transport_id,
        recipient_id=waiting.row.recipient_id,
        reverse_path=waiting.reverse_path,
        destination=waiting.row.destination,
        size_octets=waiting.size_octets,
        accepted_at=convert.timestamp(waiting.accepted_at),
        recipient=recipient(waiting.row),
        expires_at=convert.timestamp(waiting.row.expires_at),
    )


@handlers.direct(methods.GET_QUEUED_MESSAGE, rule=administrators)
async def get_queued_message(call: Call, request: v1.GetQueuedMessageRequest) -> v1.GetQueuedMessageResponse:
    """See AdminService.GetQueuedMessage."""
    if request.part not in v1.QueuedPart.values():
        raise InvalidArgument(field="part", problem="is not a part of a message")
    if request.offset_octets < 0:
        raise InvalidArgument(field="offset_octets", problem="must not be negative")
    directory = call.core.contents.directory

    def read(tx: Connection) -> v1.GetQueuedMessageResponse:
        oversight.require(tx, request.transport_id)
        answer, content_id = _message(tx, request.transport_id)
        if request.part:
            if content_id is None:
                raise InvalidArgument(field="part", problem=NOT_SHOWN)
            stored = contents.load(tx, [content_id])[content_id]
            header = request.part == v1.QueuedPart.QUEUED_PART_HEADER
            wanted = Wanted(kind=Kind.HEADER if header else Kind.WHOLE, offset=request.offset_octets)
            limit = HEADER_OCTETS if header else PART_OCTETS
            answer.octets = contents.cut(tx, directory, stored, b"", wanted, limit).octets
            answer.content_octets = stored.size_octets
        return answer

    if request.part and not request.offset_octets:
        part = v1.QueuedPart.Name(request.part).removeprefix("QUEUED_PART_").lower()
        log.info("queued message read", transport_id=request.transport_id, part=part, by=_name(call))

        def note(tx: Connection) -> None:
            oversight.require(tx, request.transport_id)
            rows.trace(tx, [(request.transport_id, 0, None, f"{part} read by {_name(call)}")], now_microseconds(tx))

        await call.core.db.write(Write(note), deadline=call.deadline)
    return await call.core.db.read(read)


def _message(tx: Connection, transport_id: int) -> tuple[v1.GetQueuedMessageResponse, int | None]:
    """The message with its recipients, and the id of its content while any waits."""
    m = transport_message.c
    row: Any = tx.execute(select(transport_message).where(m.transport_id == transport_id)).one()
    listed = recipients.of_messages(tx, [transport_id])[:MOST_RECIPIENTS]
    answer = v1.GetQueuedMessageResponse(
        transport_id=transport_id,
        reverse_path=row.reverse_path,
        options=EnvelopeOptions(
            dsn_return=DsnReturn.ValueType(row.dsn_return),
            envelope_id=row.envelope_id,
            smtputf8=row.smtputf8,
            body_8bit=row.body_8bit,
        ),
        accepted_at=convert.timestamp(row.accepted_at),
        source=row.source,
        internet_message_id=row.internet_message_id,
        size_octets=row.size_octets,
        entries=map(_entry, selection.with_messages(tx, listed)),
    )
    if row.send_at is not None:
        answer.send_at.CopyFrom(convert.timestamp(row.send_at))
    return answer, row.content_id


@handlers.direct(methods.HOLD_QUEUED, rule=administrators)
async def hold_queued(call: Call, request: v1.HoldQueuedRequest) -> v1.HoldQueuedResponse:
    """See AdminService.HoldQueued."""
    if request.standing:
        named = _named(request.selector)
        if named is None:
            problem = "a standing hold has one condition: a sender, a recipient or a destination"
            raise InvalidArgument(field="selector", problem=problem)
        if not request.dry_run and not request.continue_token:
            kind, values = named

            def add(tx: Connection) -> None:
                holds.add(tx, kind, values, _name(call), now_microseconds(tx))

            await call.core.db.write(Write(add), deadline=call.deadline)
    work = operations.hold(_name(call))
    return v1.HoldQueuedResponse(step=await _steps(call, work, request.selector, request, "hold"))


@handlers.direct(methods.RELEASE_QUEUED, rule=administrators)
async def release_queued(call: Call, request: v1.ReleaseQueuedRequest) -> v1.ReleaseQueuedResponse:
    """See AdminService.ReleaseQueued."""
    queue_selectors.selector(request.selector)
    named, everything, ended = _named(request.selector), request.selector.all, 0
    if (named or everything) and not request.dry_run and not request.continue_token:

        def end(tx: Connection) -> int:
            return holds.end_all(tx) if named is None else holds.end(tx, *named)

        ended = await call.core.db.write(Write(end), deadline=call.deadline)
    step = await _steps(call, operations.release(_name(call)), request.selector, request, "release")
    return v1.ReleaseQueuedResponse(step=step, hold_count=ended)


def _named(given: v1.QueueSelector) -> tuple[holds.Kind, tuple[str, ...]] | None:
    """The kind and the spellings of the one condition that a standing hold may have; None for other selectors."""
    names = [field.name for field, _ in given.ListFields()]
    if names == ["sender"]:
        return holds.Kind.SENDER, queue_selectors.spellings(given.sender, "selector.sender")
    if names == ["recipient"]:
        return holds.Kind.RECIPIENT, queue_selectors.spellings(given.recipient, "selector.recipient")
    if names == ["destination"]:
        return holds.Kind.DESTINATION, (queue_selectors.destination(given.destination),)
    return None


@handlers.read(methods.LIST_STANDING_HOLDS, rule=administrators)
def list_standing_holds(
    tx: Connection, call: Call, request: v1.ListStandingHoldsRequest
) -> v1.ListStandingHoldsResponse:
    """See AdminService.ListStandingHolds."""
    page = pages.Page.asked("standing holds", request, call.result_octets)
    begin = pages.number(page.key[0]) if page.key[0] else 0
    found = list(enumerate(holds.listed(tx), 1))[begin : begin + page.most]
    answer = v1.ListStandingHoldsResponse()
    return page.fill(answer, answer.holds, found, lambda one: _hold(one[1]), lambda one: (str(one[0]),))


def _hold(found: Hold) -> v1.StandingHold:
    made = v1.StandingHold(created_at=convert.timestamp(found.created_at), created_by=found.created_by)
    setattr(made, found.kind.name.lower(), found.value)
    return made


@handlers.direct(methods.RETRY_QUEUED, rule=administrators)
async def retry_queued(call: Call, request: v1.RetryQueuedRequest) -> v1.RetryQueuedResponse:
    """See AdminService.RetryQueued."""
    return v1.RetryQueuedResponse(step=await _steps(call, operations.retry(), request.selector, request, "retry"))


@handlers.direct(methods.REROUTE_QUEUED, rule=administrators)
async def reroute_queued(call: Call, request: v1.RerouteQueuedRequest) -> v1.RerouteQueuedResponse:
    """See AdminService.RerouteQueued."""
    work = operations.requeue(call.core.transport.settings, _name(call))
    return v1.RerouteQueuedResponse(step=await _steps(call, work, request.selector, request, "reroute"))


@handlers.direct(methods.REMOVE_QUEUED, rule=administrators)
async def remove_queued(call: Call, request: v1.RemoveQueuedRequest) -> v1.RemoveQueuedResponse:
    """See AdminService.RemoveQueued."""
    settings = call.core.transport.settings
    work = operations.remove(settings, _name(call), silently=request.silently)
    return v1.RemoveQueuedResponse(step=await _steps(call, work, request.selector, request, "remove"))


def _name(call: Call) -> str:
    """The administrator's name in the trace."""
    return call.caller.address or "the local administrator"


async def _steps(call: Call, work: Work, given: v1.QueueSelector, request: Any, name: str) -> v1.QueueStep:
    """Run an operation, or count for it, for STEP_SECONDS at most."""
    selector = queue_selectors.selector(given)
    of = queue_selectors.identity(name, given)
    place = pages.key(of, request.continue_token, 2)
    after: Key | None = Key(*map(pages.number, place)) if any(place) else START
    if selector.transport_id is not None:
        await call.core.db.read(oversight.require, selector.transport_id)
    if request.dry_run:
        counted = await call.core.db.read(selection.count, selector, work.changes)
        return v1.QueueStep(recipient_count=counted.recipients, leased_count=counted.leased)
    done, until = v1.QueueStep(), time.monotonic() + STEP_SECONDS
    while after is not None:
        begun = after
        write = Write(
            lambda tx, begun=begun: operations.step(tx, work, selector, begun, now_microseconds(tx)),  # type: ignore[misc]
            rows=2 * operations.AT_ONCE,
        )
        step = await call.core.db.write(write, deadline=call.deadline)
        done.recipient_count += step.changed
        done.leased_count += step.leased
        after = step.last
        if time.monotonic() >= until:
            break
    if after is not None:
        done.continue_token = pages.token(of, *map(str, after))
    return done
