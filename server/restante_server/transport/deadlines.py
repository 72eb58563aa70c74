"""Work at deadlines: making scheduled mail due, ending lapsed leases, warning senders, expiring mail and traces."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, Select, bindparam, delete, exists, func, select, update

from restante_server.db.effects import events
from restante_server.db.schema import trace_event, transport_message, transport_recipient
from restante_server.transport import rows
from restante_server.transport.outbound import recipients, reports
from restante_server.transport.outbound.dsn import Action
from restante_server.transport.outbound.queue import EXPIRED
from restante_server.transport.outbound.recipients import Postponement, Settlement
from restante_server.transport.schedule import MINUTE
from restante_server.transport.settings import TransportSettings
from restante_server.transport.states import WAITING, State

AT_ONCE = 500  # recipients in one transaction
LAST_ATTEMPT = 15 * MINUTE  # time for the attempt at the moment of expiry

_r, _m = transport_recipient, transport_message
_scheduled = (_r.c.state == int(State.SCHEDULED), _r.c.next_attempt_at <= bindparam("moment"))
_lapsed = (_r.c.state == int(State.LEASED), _r.c.lease_expires_at <= bindparam("moment"))
_expired = (_r.c.state == int(State.PENDING), _r.c.expires_at <= bindparam("moment"))
_late = (_r.c.state.in_((int(State.PENDING), int(State.LEASED))), _r.c.warn_at <= bindparam("moment"))
_begin = (
    update(_r)
    .where(_r.c.transport_id.in_(bindparam("ids", expanding=True)), *_scheduled)
    .values(state=int(State.PENDING))
)
_warn = (
    update(_r)
    .where(_r.c.transport_id == bindparam("message"), _r.c.recipient_id == bindparam("recipient"))
    .values(warn_at=None)
)
_old = (
    select(_m.c.transport_id)
    .where(
        _m.c.accepted_at < bindparam("before"),
        func.coalesce(_m.c.send_at, _m.c.accepted_at) < bindparam("before"),
        _m.c.content_id.is_(None),
        ~exists().where(_r.c.transport_id == _m.c.transport_id, _r.c.state.in_(sorted(WAITING))),
    )
    .order_by(_m.c.accepted_at)
    .limit(AT_ONCE)
)


def _some(conditions: Sequence[ColumnElement[bool]]) -> Select[tuple[int]]:
    return select(_r.c.transport_id).where(*conditions).limit(AT_ONCE)


_DUE = {"begin": _some(_scheduled), "lapse": _some(_lapsed), "expire": _some(_expired), "warn": _some(_late)}


def moments(settings: TransportSettings, now: int) -> dict[str, int]:
    """For each kind of work the moment up to which it is due."""
    return {
        "begin": now,
        "lapse": now,
        "expire": now - LAST_ATTEMPT,
        "warn": now,
    }


def due(tx: Connection, work: str, moment: int) -> list[int]:
    """Messages for which this work is due."""
    return sorted(set(tx.scalars(_DUE[work], {"moment": moment})))


def begin(tx: Connection, ids: Sequence[int], now: int) -> None:
    """Make the scheduled recipients whose send time has come pending."""
    origins = rows.lock(tx, ids)
    at_last = (_r.c.state == int(State.SCHEDULED), _r.c.next_attempt_at <= now)
    coming = recipients.of_messages(tx, origins, *at_last)
    tx.execute(_begin, {"ids": sorted(origins), "moment": now})
    events(tx, rows.DUE).update(origins)
    rows.trace(
        tx, [(row.transport_id, row.recipient_id, State.PENDING, "the time of sending has come") for row in coming], now
    )


def lapse(tx: Connection, ids: Sequence[int], now: int) -> None:
    """End leases that a relay has not reported in time; their recipients are due at once."""
    origins = rows.lock(tx, ids)
    lost = recipients.of_messages(tx, origins, _r.c.state == int(State.LEASED), _r.c.lease_expires_at <= now)
    recipients.postpone(tx, [Postponement(row, now, "4.4.2", "the relay's lease has lapsed") for row in lost], now)
    if lost:
        forget = update(_r).where(_r.c.lease_id.in_({row.lease_id for row in lost})).values(lease_id=None)
        tx.execute(forget.where(_r.c.transport_id.in_(sorted(origins)), _r.c.state == int(State.PENDING)))


def expire(tx: Connection, settings: TransportSettings, ids: Sequence[int], now: int) -> None:
    """Fail recipients that no attempt has reached before their expiry. RFC 5321 4.5.4.1."""
    origins = rows.lock(tx, ids)
    given_up = recipients.of_messages(
        tx, origins, _r.c.state == int(State.PENDING), _r.c.expires_at <= now - LAST_ATTEMPT
    )
    ends = []
    for row in given_up:
        last = f"; the last reply was: {row.status} {row.diagnostic}".rstrip() if row.status else ""
        ends.append(
            Settlement(row, State.FAILED, EXPIRED, f"the time for delivery attempts is over{last}", Action.FAILED)
        )
    recipients.settle(tx, settings, origins, ends, now)


def warn(tx: Connection, settings: TransportSettings, ids: Sequence[int], now: int) -> None:
    """Send each sender one report that the mail is delayed."""
    origins = rows.lock(tx, ids)
    waits = _r.c.state.in_((int(State.PENDING), int(State.LEASED)))
    late = recipients.of_messages(tx, origins, waits, _r.c.warn_at <= now)
    if not late:
        return
    tx.execute(_warn, [{"message": row.transport_id, "recipient": row.recipient_id} for row in late])
    for transport_id, origin in sorted(origins.items()):
        notices = [
            recipients.notice(
                row._replace(status=row.status or "4.4.1", diagnostic=row.diagnostic or "no attempt has succeeded yet"),
                Action.DELAYED,
                retried_until=row.expires_at,
            )
            for row in late
            if row.transport_id == transport_id
        ]
        if origin.content_id is not None and notices:
            reports.send(tx, settings, origin, origin.content_id, notices, now)


def forget(tx: Connection, before: int) -> int:
    """Remove settled messages accepted and, if scheduled, to be sent before this moment; returns their number.

    Their recipients and trace go with them.
    """
    ids = sorted(tx.scalars(_old, {"before": before}))
    ids = sorted(rows.lock(tx, ids))
    if not ids:
        return 0
    for table in (trace_event, transport_recipient, transport_message):
        tx.execute(delete(table).where(table.c.transport_id.in_(ids)))
    return len(ids)
