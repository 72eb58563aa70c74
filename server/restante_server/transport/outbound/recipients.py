"""Reading the recipient rows of accepted messages, and changing them under the message's lock (see `rows`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, bindparam, select, update

from restante_server.db.effects import events
from restante_server.db.schema import transport_recipient as table
from restante_server.transport import rows
from restante_server.transport.outbound import reports
from restante_server.transport.outbound.dsn import Action
from restante_server.transport.outbound.reports import Notice
from restante_server.transport.records import Origin
from restante_server.transport.settings import TransportSettings
from restante_server.transport.states import State


class Row(NamedTuple):
    """One recipient row."""

    transport_id: int
    recipient_id: int
    forward_path: str
    original_recipient: str
    notify: int
    state: int
    mailbox_id: int | None
    destination: str
    promised: bool
    junk: bool
    remark: str
    next_attempt_at: int | None
    attempt_count: int
    lease_id: int | None
    expires_at: int
    status: str
    diagnostic: str


COLUMNS = tuple(table.c[name] for name in Row._fields)
_by_message = (
    select(*COLUMNS)
    .where(table.c.transport_id.in_(bindparam("ids", expanding=True)))
    .order_by(table.c.transport_id, table.c.recipient_id)
)
_settle = (
    update(table)
    .where(table.c.transport_id == bindparam("message"), table.c.recipient_id == bindparam("recipient"))
    .values(
        state=bindparam("new_state"),
        message_id=bindparam("new_message"),
        status=bindparam("new_status"),
        diagnostic=bindparam("new_diagnostic"),
        attempt_count=bindparam("attempts"),
        next_attempt_at=None,
        warn_at=None,
        lease_expires_at=None,
    )
)
_wait = (
    update(table)
    .where(table.c.transport_id == bindparam("message"), table.c.recipient_id == bindparam("recipient"))
    .values(
        state=int(State.PENDING),
        status=bindparam("new_status"),
        diagnostic=bindparam("new_diagnostic"),
        attempt_count=bindparam("attempts"),
        next_attempt_at=bindparam("due_at"),
        lease_expires_at=None,
    )
)


class Settlement(NamedTuple):
    """The final state of a recipient."""

    row: Row
    state: State
    status: str
    diagnostic: str = ""
    action: Action | None = None  # the action of the report to the sender; None: no report
    remote_host: str = ""
    attempts: int = 0  # added to the row's attempt count
    message_id: int | None = None  # the message in the recipient's mailbox that a delivery has placed


class Postponement(NamedTuple):
    """The next attempt of a recipient that keeps waiting."""

    row: Row
    due_at: int
    status: str
    diagnostic: str = ""
    attempts: int = 0  # added to the row's attempt count


def of_messages(tx: Connection, transport_ids: Iterable[int], *conditions: ColumnElement[bool]) -> list[Row]:
    """The recipients of these messages that meet the conditions, in order."""
    statement = _by_message.where(*conditions) if conditions else _by_message
    return [Row._make(row) for row in tx.execute(statement, {"ids": sorted(set(transport_ids))})]


def settle(
    tx: Connection,
    settings: TransportSettings,
    origins: dict[int, Origin],
    settlements: Sequence[Settlement],
    now: int,
) -> None:
    """Settle recipients of locked messages: updates the rows, writes the trace, makes reports and releases contents."""
    if not settlements:
        return
    tx.execute(
        _settle,
        [
            {
                "message": one.row.transport_id,
                "recipient": one.row.recipient_id,
                "new_state": int(one.state),
                "new_message": one.message_id,
                "new_status": one.status,
                "new_diagnostic": one.diagnostic[: rows.LONGEST_DIAGNOSTIC],
                "attempts": one.row.attempt_count + one.attempts,
            }
            for one in settlements
        ],
    )
    rows.trace(tx, [(one.row.transport_id, one.row.recipient_id, one.state, detail(one)) for one in settlements], now)
    notices: dict[int, list[Notice]] = {}
    for one in settlements:
        if one.action is not None:
            notices.setdefault(one.row.transport_id, []).append(notice(one.row, one.action, one))
    for transport_id, group in sorted(notices.items()):
        origin = origins[transport_id]
        if origin.content_id is not None:
            reports.send(tx, settings, origin, origin.content_id, group, now)
    rows.release(tx, [origins[transport_id] for transport_id in {one.row.transport_id for one in settlements}], now)


def postpone(tx: Connection, postponements: Sequence[Postponement], now: int, *, traced: bool = True) -> None:
    """Make recipients of locked messages wait until a later attempt."""
    if not postponements:
        return
    made: list[dict[str, Any]] = [
        {
            "message": one.row.transport_id,
            "recipient": one.row.recipient_id,
            "new_status": one.status,
            "new_diagnostic": one.diagnostic[: rows.LONGEST_DIAGNOSTIC],
            "attempts": one.row.attempt_count + one.attempts,
            "due_at": one.due_at,
        }
        for one in postponements
    ]
    tx.execute(_wait, made)
    if ready := {one.row.transport_id for one in postponements if one.due_at <= now}:
        events(tx, rows.DUE).update(ready)
    if traced:
        steps = [(one.row.transport_id, one.row.recipient_id, State.PENDING, detail(one)) for one in postponements]
        rows.trace(tx, steps, now)


def notice(row: Row, action: Action, settled: Settlement | None = None, retried_until: int | None = None) -> Notice:
    """The facts about a recipient for a report to the sender."""
    return Notice(
        action,
        row.forward_path,
        row.original_recipient,
        row.notify,
        settled.status if settled is not None else row.status,
        settled.diagnostic if settled is not None else row.diagnostic,
        settled.remote_host if settled is not None else "",
        retried_until,
    )


def detail(step: Settlement | Postponement) -> str:
    """The trace line of a step."""
    host = getattr(step, "remote_host", "")
    return " ".join(part for part in (step.status, f"[{host}]" if host else "", step.diagnostic) if part)
