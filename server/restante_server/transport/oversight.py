"""Queries and commands on the queue and the trace for administrators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, and_, bindparam, or_, select

from restante.errors import TransportMessageNotFound
from restante_server.db.schema import trace_event, transport_message, transport_recipient
from restante_server.transport import rows
from restante_server.transport.outbound import recipients
from restante_server.transport.outbound.dsn import Action
from restante_server.transport.outbound.recipients import Postponement, Row, Settlement
from restante_server.transport.settings import TransportSettings
from restante_server.transport.states import WAITING, State

REMOVED = "4.7.0"  # RFC 3463 3.8; not the message's fault
AT_ONCE = 500  # recipients in one transaction

_r, _m, _e = transport_recipient, transport_message, trace_event
_waiting = _r.c.state.in_(sorted(WAITING))
_queue = (
    select(*recipients.COLUMNS, _m.c.reverse_path, _m.c.size_octets, _m.c.accepted_at)
    .join(_m, _m.c.transport_id == _r.c.transport_id)
    .where(_waiting, _r.c.next_attempt_at.is_not(None))
    .order_by(_r.c.next_attempt_at, _r.c.transport_id, _r.c.recipient_id)
)


class Waiting(NamedTuple):
    """A waiting recipient with facts of its message."""

    row: Row
    reverse_path: str
    size_octets: int
    accepted_at: int


class Event(NamedTuple):
    """One trace event of a recipient, or of the message (recipient_id 0)."""

    happened_at: int
    recipient_id: int
    forward_path: str
    state: State
    detail: str


class History(NamedTuple):
    """One message with its trace events."""

    transport_id: int
    accepted_at: int
    reverse_path: str
    internet_message_id: str
    size_octets: int
    source: str
    checks: bytes  # serialised restante.v1.MessageChecks; empty: not checked
    events: tuple[Event, ...]


class QueueKey(NamedTuple):
    """The recipient behind which a page of the queue begins."""

    next_attempt_at: int
    transport_id: int
    recipient_id: int


def waiting(tx: Connection, destination: str, after: QueueKey | None, most: int) -> list[Waiting]:
    """Waiting recipients of one destination, or of all (""), in the order of their next attempts."""
    statement = _queue.limit(most)
    if destination:
        statement = statement.where(_r.c.destination == destination)
    if after is not None:
        due = _r.c.next_attempt_at
        behind = or_(
            _r.c.transport_id > after.transport_id,
            and_(_r.c.transport_id == after.transport_id, _r.c.recipient_id > after.recipient_id),
        )
        statement = statement.where(or_(due > after.next_attempt_at, and_(due == after.next_attempt_at, behind)))
    return [Waiting(Row._make(row[:-3]), *row[-3:]) for row in tx.execute(statement)]


def some_pending(tx: Connection, after: int) -> list[int]:
    """Messages above this id that have pending recipients, ascending, at most AT_ONCE."""
    statement = (
        select(_r.c.transport_id)
        .where(_r.c.state == int(State.PENDING), _r.c.transport_id > after)
        .order_by(_r.c.transport_id)
        .distinct()
        .limit(AT_ONCE)
    )
    return list(tx.scalars(statement))


def retry(tx: Connection, transport_ids: Sequence[int], now: int) -> int:
    """Make the pending recipients of these messages due now; returns their number."""
    origins = rows.lock(tx, transport_ids)
    pending = recipients.of_messages(tx, origins, _r.c.state == int(State.PENDING))
    later = [Postponement(row, now, row.status, row.diagnostic) for row in pending]
    recipients.postpone(tx, later, now, traced=False)
    return len(pending)


def require(tx: Connection, transport_id: int) -> None:
    """Raise TransportMessageNotFound when the message does not exist."""
    if tx.execute(select(_m.c.transport_id).where(_m.c.transport_id == transport_id)).first() is None:
        raise TransportMessageNotFound(transport_id=transport_id)


def remove(tx: Connection, settings: TransportSettings, transport_id: int, silently: bool, now: int) -> int:
    """End all waiting recipients of a message: as failed with a report, or `silently` as discarded without one.

    Returns their number. Leased recipients are ended too; the relay's later report about them has no effect.
    """
    require(tx, transport_id)
    origins = rows.lock(tx, [transport_id])
    ending = recipients.of_messages(tx, origins, _waiting)
    reason = "removed from the queue by the administrator"
    if silently:
        ends = [Settlement(row, State.DISCARDED, "2.0.0", reason) for row in ending]
    else:
        ends = [Settlement(row, State.FAILED, REMOVED, reason, Action.FAILED) for row in ending]
    recipients.settle(tx, settings, origins, ends, now)
    return len(ending)


# --- Trace ----------------------------------------------------------------------------------------------------------

_message = select(
    _m.c.transport_id,
    _m.c.accepted_at,
    _m.c.reverse_path,
    _m.c.internet_message_id,
    _m.c.size_octets,
    _m.c.source,
    _m.c.checks,
)


def by_id(tx: Connection, transport_id: int) -> list[History]:
    """One message. Raises TransportMessageNotFound."""
    require(tx, transport_id)
    return _histories(tx, _message.where(_m.c.transport_id == transport_id))


def by_message_id(tx: Connection, internet_message_id: str, before: int, most: int) -> list[History]:
    """Messages with this Message-ID and a lower id than `before`, latest first."""
    wanted = _m.c.internet_message_id == internet_message_id
    return _histories(tx, _latest(before, most).where(wanted))


def by_address(tx: Connection, address: str, before: int, most: int) -> list[History]:
    """Messages from or to this address, in exactly this spelling, latest first."""
    named = select(_r.c.transport_id).where(_r.c.forward_path == bindparam("address"))
    wanted = or_(_m.c.reverse_path == bindparam("address"), _m.c.transport_id.in_(named))
    return _histories(tx, _latest(before, most).where(wanted), {"address": address})


def latest(tx: Connection, before: int, most: int) -> list[History]:
    """Any messages, latest first."""
    return _histories(tx, _latest(before, most))


def _latest(before: int, most: int) -> Select[Any]:
    return _message.where(_m.c.transport_id < before).order_by(_m.c.transport_id.desc()).limit(most)


def _histories(tx: Connection, statement: Select[Any], parameters: dict[str, object] | None = None) -> list[History]:
    found = tx.execute(statement, parameters or {}).all()
    ids = [message.transport_id for message in found]
    if not ids:
        return []
    steps: dict[tuple[int, int], list[Any]] = {}
    events = select(_e).where(_e.c.transport_id.in_(ids)).order_by(_e.c.transport_id, _e.c.event_id)
    for event in tx.execute(events):
        steps.setdefault((event.transport_id, event.recipient_id), []).append(event)
    by_message: dict[int, list[Row]] = {}
    for row in recipients.of_messages(tx, ids):
        by_message.setdefault(row.transport_id, []).append(row)
    return [
        History._make((*message, _events(message.accepted_at, by_message.get(message.transport_id, []), steps)))
        for message in found
    ]


def _events(accepted_at: int, listed: Sequence[Row], steps: dict[tuple[int, int], list[Any]]) -> tuple[Event, ...]:
    """All events of the recipients by time: the first of each, derived from its row (see `rows.trace`), and the traced
    ones."""
    made: list[Event] = []
    for row in listed:
        later = steps.get((row.transport_id, row.recipient_id), [])
        if later or State(row.state) in WAITING:
            begun = State.PENDING if later or row.state != State.SCHEDULED else State.SCHEDULED
            made.append(Event(accepted_at, row.recipient_id, row.forward_path, begun, "taken"))
        else:
            detail = f"{row.status} {row.diagnostic}".strip()
            made.append(Event(accepted_at, row.recipient_id, row.forward_path, State(row.state), detail))
        made += [
            Event(event.happened_at, row.recipient_id, row.forward_path, State(event.state), event.detail)
            for event in later
        ]
    return tuple(sorted(made, key=lambda event: event.happened_at))
