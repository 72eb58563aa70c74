"""Reading, listing and cancelling the submissions of an account."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, select

from restante.errors import SubmissionNotCancellable, SubmissionNotFound
from restante_server.db.schema import transport_message
from restante_server.transport import rows
from restante_server.transport.outbound import recipients
from restante_server.transport.outbound.recipients import Settlement
from restante_server.transport.settings import TransportSettings
from restante_server.transport.states import WAITING, State

TAKEN_BACK = ("2.0.0", "cancelled by the sender")

_m = transport_message
_columns = (_m.c.transport_id, _m.c.accepted_at, _m.c.send_at, _m.c.subject, _m.c.reverse_path)
_one = select(*_columns).where(_m.c.account_id == bindparam("account"), _m.c.transport_id == bindparam("id"))
_page = (
    select(*_columns)
    .where(_m.c.account_id == bindparam("account"), _m.c.transport_id < bindparam("before"))
    .order_by(_m.c.transport_id.desc())
    .limit(bindparam("most"))
)


class Submitted(NamedTuple):
    """One submission in its present state. Times are microseconds."""

    submission_id: int
    accepted_at: int
    send_at: int | None
    subject: str
    reverse_path: str
    recipients: tuple[recipients.Row, ...]


def get(tx: Connection, account_id: int, submission_id: int) -> Submitted:
    """One submission of this account. Raises SubmissionNotFound."""
    row = tx.execute(_one, {"account": account_id, "id": submission_id}).one_or_none()
    if row is None:
        raise SubmissionNotFound(submission_id=submission_id)
    return _with_recipients(tx, [row])[0]


def page(tx: Connection, account_id: int, before: int, most: int) -> list[Submitted]:
    """At most `most` submissions with a lower id than `before`, latest first."""
    where = {"account": account_id, "before": before, "most": most}
    return _with_recipients(tx, tx.execute(_page, where).all())


def cancel(tx: Connection, settings: TransportSettings, account_id: int, submission_id: int, now: int) -> Submitted:
    """Cancel every scheduled, pending or held recipient; leased ones are left alone.

    Raises SubmissionNotFound, and SubmissionNotCancellable when no recipient can be cancelled.
    """
    get(tx, account_id, submission_id)
    origins = rows.lock(tx, [submission_id])
    waiting = [row for row in recipients.of_messages(tx, origins) if State(row.state) in WAITING - {State.LEASED}]
    if not waiting:
        raise SubmissionNotCancellable
    recipients.settle(tx, settings, origins, [Settlement(row, State.DISCARDED, *TAKEN_BACK) for row in waiting], now)
    return get(tx, account_id, submission_id)


def _with_recipients(tx: Connection, messages: Sequence[Any]) -> list[Submitted]:
    """The submissions of these message rows, with their recipients."""
    by_message: dict[int, list[recipients.Row]] = {}
    if messages:
        for row in recipients.of_messages(tx, [message[0] for message in messages]):
            by_message.setdefault(row.transport_id, []).append(row)
    return [Submitted._make((*message, tuple(by_message.get(message[0], ())))) for message in messages]
