"""Every invariant of the queue as a query. `check` names the broken ones; a sound queue gives an empty list."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select, and_, exists, func, or_, select

from restante_server.db.schema import transport_message, transport_recipient
from restante_server.transport.states import FINAL, WAITING, State

MOST_NAMED = 10  # examples listed for one broken invariant

_r, _m = transport_recipient, transport_message
_ids = (_r.c.transport_id, _r.c.recipient_id)
_of_message = _r.c.transport_id == _m.c.transport_id
_waiting = _r.c.state.in_(sorted(WAITING))

_INVARIANTS: list[tuple[str, Select[*tuple[Any, ...]]]] = [
    ("recipient with an unknown state", select(*_ids).where(_r.c.state.not_in(sorted(FINAL | WAITING)))),
    ("waiting recipient without a next attempt", select(*_ids).where(_waiting, _r.c.next_attempt_at.is_(None))),
    ("settled recipient with a next attempt", select(*_ids).where(~_waiting, _r.c.next_attempt_at.is_not(None))),
    (
        "settled or local recipient with a report of its delay to come",
        select(*_ids).where(_r.c.warn_at.is_not(None), or_(~_waiting, _r.c.destination == "")),
    ),
    (
        "waiting recipient without a mailbox or destination, or with both",
        select(*_ids).where(
            _waiting,
            or_(
                and_(_r.c.mailbox_id.is_(None), _r.c.destination == ""),
                and_(_r.c.mailbox_id.is_not(None), _r.c.destination != ""),
            ),
        ),
    ),
    (
        "leased recipient without a lease, or a lease without a leased recipient",
        select(*_ids).where(
            or_(
                and_(_r.c.state == State.LEASED, or_(_r.c.lease_id.is_(None), _r.c.lease_expires_at.is_(None))),
                and_(_r.c.state != State.LEASED, _r.c.lease_expires_at.is_not(None)),
            )
        ),
    ),
    (
        "waiting recipient of a message without its content",
        select(*_ids).join(_m, _of_message).where(_waiting, _m.c.content_id.is_(None)),
    ),
    (
        "message with a content although no recipient waits",
        select(_m.c.transport_id).where(_m.c.content_id.is_not(None), ~exists().where(_of_message, _waiting)),
    ),
    (
        "delivered recipient without its message",
        select(*_ids).where(_r.c.state == State.DELIVERED, or_(_r.c.mailbox_id.is_(None), _r.c.message_id.is_(None))),
    ),
    (
        "message of a recipient that is not delivered",
        select(*_ids).where(_r.c.state != State.DELIVERED, _r.c.message_id.is_not(None)),
    ),
    (
        "mailbox reached by several messages of one acceptance",
        select(_r.c.mailbox_id, _r.c.transport_id)
        .where(_r.c.message_id.is_not(None))
        .group_by(_r.c.mailbox_id, _r.c.transport_id)
        .having(func.count(_r.c.message_id.distinct()) > 1),
    ),
    ("recipient whose mail goes to Junk without a reason", select(*_ids).where(_r.c.junk, _r.c.remark == "")),
    ("recipient without a message", select(*_ids).where(~exists().where(_of_message))),
    ("message without recipients", select(_m.c.transport_id).where(~exists().where(_of_message))),
]


def check(tx: Connection) -> list[str]:
    """Return one line for each violation, with its ids. Reads every row of the queue in one snapshot."""
    problems: list[str] = []
    for what, statement in _INVARIANTS:
        broken = tx.execute(statement.limit(MOST_NAMED).execution_options(across_mailboxes=True)).mappings()
        problems += [f"{what}: {', '.join(f'{name} {value}' for name, value in row.items())}" for row in broken]
    return problems
