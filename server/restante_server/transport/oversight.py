"""The trace of messages for administrators: each step of each recipient, and notes on the message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, or_, select

from restante.errors import TransportMessageNotFound
from restante_server.db.schema import trace_event, transport_message, transport_recipient
from restante_server.transport.outbound import recipients
from restante_server.transport.outbound.recipients import Row
from restante_server.transport.states import WAITING, State

_r, _m, _e = transport_recipient, transport_message, trace_event


class Event(NamedTuple):
    """One trace event of a recipient, or a note on the message (recipient_id 0, state None)."""

    happened_at: int
    recipient_id: int
    forward_path: str
    state: State | None
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


@dataclass(frozen=True, slots=True)
class Wanted:
    """The messages whose trace is wanted: those that meet every condition. Times are microseconds.

    Addresses are tuples of spellings, of which one must match.
    """

    internet_message_id: str = ""
    addresses: tuple[str, ...] = ()  # the reverse-path or a recipient
    senders: tuple[str, ...] = ()  # "" is the null path
    recipients: tuple[str, ...] = ()
    accepted_from: int | None = None
    accepted_before: int | None = None

    def among(self, statement: Select[Any]) -> Select[Any]:
        """The statement on transport_message with these conditions."""
        if self.internet_message_id:
            statement = statement.where(_m.c.internet_message_id == self.internet_message_id)
        if self.addresses:
            to_it = _m.c.transport_id.in_(_having(self.addresses))
            statement = statement.where(or_(_m.c.reverse_path.in_(self.addresses), to_it))
        if self.senders:
            statement = statement.where(_m.c.reverse_path.in_(self.senders))
        if self.recipients:
            statement = statement.where(_m.c.transport_id.in_(_having(self.recipients)))
        if self.accepted_from is not None:
            statement = statement.where(_m.c.accepted_at >= self.accepted_from)
        if self.accepted_before is not None:
            statement = statement.where(_m.c.accepted_at < self.accepted_before)
        return statement


def _having(paths: tuple[str, ...]) -> Select[tuple[int]]:
    return select(_r.c.transport_id).where(_r.c.forward_path.in_(paths))


_message = select(
    _m.c.transport_id,
    _m.c.accepted_at,
    _m.c.reverse_path,
    _m.c.internet_message_id,
    _m.c.size_octets,
    _m.c.source,
    _m.c.checks,
)


def require(tx: Connection, transport_id: int) -> None:
    """Raise TransportMessageNotFound when the message does not exist."""
    if tx.execute(select(_m.c.transport_id).where(_m.c.transport_id == transport_id)).first() is None:
        raise TransportMessageNotFound(transport_id=transport_id)


def by_id(tx: Connection, transport_id: int) -> list[History]:
    """One message. Raises TransportMessageNotFound."""
    require(tx, transport_id)
    return _histories(tx, _message.where(_m.c.transport_id == transport_id))


def latest(tx: Connection, wanted: Wanted, before: int, most: int) -> list[History]:
    """The wanted messages with a lower id than `before`, latest first, at most `most`."""
    statement = wanted.among(_message).where(_m.c.transport_id < before)
    return _histories(tx, statement.order_by(_m.c.transport_id.desc()).limit(most))


def _histories(tx: Connection, statement: Select[Any]) -> list[History]:
    found = tx.execute(statement).all()
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
        History._make((*message, _events(message, by_message.get(message.transport_id, []), steps)))
        for message in found
    ]


def _events(message: Any, listed: Sequence[Row], steps: dict[tuple[int, int], list[Any]]) -> tuple[Event, ...]:
    """All events by time: the notes, the first of each recipient, derived from its row (see `rows.trace`), and the
    traced ones."""
    accepted_at: int = message.accepted_at
    notes = steps.get((message.transport_id, 0), [])
    made = [Event(note.happened_at, 0, "", None, note.detail) for note in notes]
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
