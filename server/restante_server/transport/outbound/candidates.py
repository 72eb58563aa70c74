"""The due recipients among which leases are chosen, at a cost that does not grow with the queue.

The oldest due recipients are read first. Fewer than OLDEST of them are all that are due, and nothing else is read.
Otherwise mail of one destination or one sender may hide the rest. Two walks then find it: over the senders, with the
oldest recipient of each, and over the lanes (a destination and a sender), with the oldest of each. A walk goes from key
to key of an index and never reads a second row of the same key. It takes MOST keys and goes on behind the last one the
next time, so that every destination and every sender comes in turn.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import choice
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    Text,
    and_,
    bindparam,
    case,
    func,
    literal_column,
    select,
)
from sqlalchemy import tuple_ as row

from restante_server.db import prepared
from restante_server.db.schema import transport_recipient
from restante_server.transport.outbound.turns import Candidate, Turns
from restante_server.transport.states import State

OLDEST = 500  # due recipients
MOST = 200  # keys of one walk
LANES_EACH = 16  # lanes of one destination in one walk
HIGHEST = (1 << 63) - 1

_r = transport_recipient
# Literals, because a partial index serves only a statement that shows its condition, and SQLite must see it in the
# index's own spelling: WAITS leads to the index by lane, _BY_SENDER to the one by sender.
_pending = _r.c.state == literal_column(str(int(State.PENDING)))
WAITS = and_(_pending, _r.c.destination != literal_column("''"))
"""The condition of recipients that wait for a relay."""
_BY_SENDER = and_(_pending, _r.c.destination > literal_column("''"))
_moment = bindparam("moment", type_=BigInteger)
_due = _r.c.next_attempt_at <= _moment
_order = (_r.c.next_attempt_at, _r.c.transport_id, _r.c.recipient_id)
_oldest = (
    select(_r.c.next_attempt_at, _r.c.transport_id, _r.c.destination, _r.c.sender)
    .where(WAITS, _due)
    .order_by(_r.c.next_attempt_at)
    .limit(OLDEST)
)


def _first(column: ColumnElement[Any], *conditions: ColumnElement[bool]) -> ColumnElement[Any]:
    """A column of the first due recipient that meets the conditions, or NULL."""
    return select(column).where(*conditions, _due).order_by(*_order).limit(1).scalar_subquery()


def _walk_senders() -> Select[Any]:
    def following(sender: ColumnElement[int]) -> ColumnElement[Any]:
        return select(func.min(_r.c.sender)).where(_BY_SENDER, _r.c.sender > sender).scalar_subquery()

    begun = select(following(bindparam("after", type_=BigInteger)).label("sender"), literal_column("1").label("number"))
    walk = begun.cte("walk", recursive=True)
    step = select(following(walk.c.sender), walk.c.number + 1)
    walk = walk.union_all(step.where(walk.c.sender.is_not(None), walk.c.number < MOST))
    same = (_BY_SENDER, _r.c.sender == walk.c.sender)
    found = (_first(column, *same) for column in (_r.c.next_attempt_at, _r.c.transport_id, _r.c.destination))
    return select(*found, walk.c.sender).where(walk.c.sender.is_not(None)).order_by(walk.c.number)


def _walk_lanes() -> Select[Any]:
    """Each destination has its first lane, and then those from the pivot on, which is a sender."""

    def following(column: ColumnElement[Any], destination: Any, sender: Any) -> ColumnElement[Any]:
        # ">=", because SQLite would read every row of the pair that a ">" excludes.
        from_here = row(_r.c.destination, _r.c.sender) >= row(destination, sender)
        ordered = select(column).where(WAITS, from_here).order_by(_r.c.destination, _r.c.sender)
        return ordered.limit(1).scalar_subquery()

    after: tuple[Any, Any] = bindparam("after", type_=Text), literal_column(str(HIGHEST))
    begun = select(
        following(_r.c.destination, *after).label("destination"),
        following(_r.c.sender, *after).label("sender"),
        literal_column("1").label("lane"),
        literal_column("1").label("number"),
    )
    walk = begun.cte("walk", recursive=True)
    pivot = bindparam("pivot", type_=BigInteger)
    sender = case(
        (and_(walk.c.lane == 1, walk.c.sender < pivot), pivot),
        (walk.c.lane < LANES_EACH, walk.c.sender + 1),
        else_=literal_column(str(HIGHEST)),
    )
    destination = following(_r.c.destination, walk.c.destination, sender)
    step = select(
        destination,
        following(_r.c.sender, walk.c.destination, sender),
        case((destination == walk.c.destination, walk.c.lane + 1), else_=1),
        walk.c.number + 1,
    )
    walk = walk.union_all(step.where(walk.c.destination.is_not(None), walk.c.number < MOST))
    same = (WAITS, _r.c.destination == walk.c.destination, _r.c.sender == walk.c.sender)
    found = (_first(column, *same) for column in (_r.c.next_attempt_at, _r.c.transport_id))
    lanes = select(*found, walk.c.destination, walk.c.sender).where(walk.c.destination.is_not(None))
    return lanes.order_by(walk.c.number)


_senders, _lanes = _walk_senders(), _walk_lanes()
STATEMENTS = (_oldest, _senders, _lanes)
"""The statements of one search, for a test that examines what they read."""
_anything = select(_r.c.transport_id).where(WAITS, _due).limit(1)


def anything_due(tx: Connection, now: int) -> bool:
    """Whether a foreign recipient is due."""
    return prepared.first(tx, _anything, {"moment": now}) is not None


def find(tx: Connection, now: int, turns: Turns) -> list[Candidate]:
    """Candidates for leases: all when they are few, else some of every destination and every sender, in turn."""
    oldest = _made(prepared.rows(tx, _oldest, {"moment": now}))
    if len(oldest) < OLDEST:
        return oldest
    senders = prepared.rows(tx, _senders, {"moment": now, "after": turns.after_sender})
    turns.after_sender = senders[-1][-1] if len(senders) == MOST else -1
    turns.pivot = choice(senders)[-1] if senders else 0
    lanes = prepared.rows(tx, _lanes, {"moment": now, "after": turns.after_destination, "pivot": turns.pivot})
    turns.after_destination = lanes[-1][-2] if len(lanes) == MOST else ""
    return oldest + _made(senders) + _made(lanes)


def _made(rows: Iterable[tuple[Any, ...]]) -> list[Candidate]:
    return [Candidate._make(row) for row in rows if row[0] is not None]
