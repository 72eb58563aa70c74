"""Selecting waiting recipients by their envelope, in pages by message.

Every page reads the index of waiting recipients from its place on. The conditions are written so that no other index
serves them: an index on addresses would have to sort all its hits for every page, and the pages together would read the
queue many times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, case, exists, func, select, tuple_

from restante_server.db.schema import transport_message, transport_recipient
from restante_server.transport.outbound import recipients
from restante_server.transport.outbound.recipients import Row
from restante_server.transport.states import WAITING, State

_r, _m = transport_recipient, transport_message


class Key(NamedTuple):
    """A recipient's place in the queue."""

    transport_id: int
    recipient_id: int


START = Key(0, 0)


@dataclass(frozen=True, slots=True)
class Selector:
    """Waiting recipients that meet every condition."""

    transport_id: int | None = None
    senders: tuple[str, ...] = ()  # spellings of one reverse-path; "" is the null path
    recipients: tuple[str, ...] = ()  # spellings of one forward-path
    destination: str = ""
    states: frozenset[State] = WAITING
    accepted_before: int | None = None  # microseconds

    def conditions(self) -> list[ColumnElement[bool]]:
        """The conditions as SQL on transport_recipient."""
        found: list[ColumnElement[bool]] = [
            _r.c.next_attempt_at.is_not(None),
            (_r.c.state + 0).in_(sorted(self.states & WAITING)),
        ]
        if self.transport_id is not None:
            found.append(_r.c.transport_id == self.transport_id)
        if self.recipients:
            found.append(_r.c.forward_path.concat("").in_(self.recipients))
        if self.destination:
            found.append(_r.c.destination.concat("") == self.destination)
        of_message: list[ColumnElement[bool]] = []
        if self.senders:
            of_message.append(_m.c.reverse_path.concat("").in_(self.senders))
        if self.accepted_before is not None:
            of_message.append(_m.c.accepted_at + 0 < self.accepted_before)
        if of_message:
            found.append(exists().where(_m.c.transport_id == _r.c.transport_id, *of_message))
        return found


class Waiting(NamedTuple):
    """A recipient with facts of its message."""

    row: Row
    reverse_path: str
    size_octets: int
    accepted_at: int


class Count(NamedTuple):
    """The numbers of selected recipients."""

    recipients: int
    leased: int


def _behind(after: Key) -> ColumnElement[bool]:
    # ">=" seeks to the place; SQLite would search for a ">" of a pair from the beginning of the message.
    return tuple_(_r.c.transport_id, _r.c.recipient_id) >= tuple_(after.transport_id, after.recipient_id + 1)


def keys(tx: Connection, selector: Selector, after: Key, most: int) -> list[Key]:
    """The places of at most `most` selected recipients behind `after`, in order."""
    statement = select(_r.c.transport_id, _r.c.recipient_id).where(*selector.conditions(), _behind(after))
    ordered = statement.order_by(_r.c.transport_id, _r.c.recipient_id).limit(most)
    return [Key(*row) for row in tx.execute(ordered)]


def read(tx: Connection, places: Sequence[Key]) -> list[Row]:
    """The recipients at these places, in order."""
    wanted = set(places)
    rows = recipients.of_messages(tx, {place.transport_id for place in places})
    return [row for row in rows if (row.transport_id, row.recipient_id) in wanted]


def waiting(tx: Connection, selector: Selector, after: Key, most: int) -> list[Waiting]:
    """Selected recipients behind `after`, in order, at most `most`."""
    statement = select(*recipients.COLUMNS).where(*selector.conditions(), _behind(after))
    ordered = statement.order_by(_r.c.transport_id, _r.c.recipient_id).limit(most)
    return with_messages(tx, [Row._make(row) for row in tx.execute(ordered)])


def with_messages(tx: Connection, rows: Sequence[Row]) -> list[Waiting]:
    """These recipients with the facts of their messages."""
    if not rows:
        return []
    ids = sorted({row.transport_id for row in rows})
    facts = select(_m.c.transport_id, _m.c.reverse_path, _m.c.size_octets, _m.c.accepted_at)
    by_id: dict[int, Any] = {row[0]: row[1:] for row in tx.execute(facts.where(_m.c.transport_id.in_(ids)))}
    return [Waiting(row, *by_id[row.transport_id]) for row in rows]


def count(tx: Connection, selector: Selector, changing: frozenset[State]) -> Count:
    """Selected recipients in the states that an operation changes, and leased ones that it does not."""
    others = {State.LEASED} - changing
    changed, left = (func.sum(case((_r.c.state.in_(sorted(states)), 1), else_=0)) for states in (changing, others))
    found = tx.execute(select(changed, left).where(*selector.conditions())).one()
    return Count(int(found[0] or 0), int(found[1] or 0))
