"""Resolving waiting recipients anew, after the directory or the domains have changed."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, case, null, update

from restante_server.db.effects import events
from restante_server.db.schema import transport_recipient as table
from restante_server.directory.lookup import resolve_many
from restante_server.transport import route, rows
from restante_server.transport.outbound import recipients
from restante_server.transport.outbound.dsn import Action
from restante_server.transport.outbound.recipients import Row, Settlement
from restante_server.transport.records import Origin, Planned, Recipient
from restante_server.transport.settings import TransportSettings
from restante_server.transport.states import State

_aim = (
    update(table)
    .where(table.c.transport_id == bindparam("message"), table.c.recipient_id == bindparam("recipient"))
    .values(
        destination=bindparam("new_destination"),
        mailbox_id=bindparam("new_mailbox"),
        next_attempt_at=bindparam("due_at"),
        # A sender who was warned already is not warned again.
        warn_at=case(
            (bindparam("new_destination") == "", null()),
            (table.c.destination == "", bindparam("new_warn_at")),
            else_=table.c.warn_at,
        ),
    )
)


def reroute(
    tx: Connection,
    settings: TransportSettings,
    origins: dict[int, Origin],
    chosen: Sequence[Row],
    by: str,
    now: int,
) -> None:
    """Resolve recipients of locked messages: to a mailbox, another server, the targets of an alias, or a failure.

    Each keeps its state, and pending ones are due now. An alias becomes EXPANDED, and its targets new recipients,
    except those that the message has already. An alias that the message was expanded from before is a loop.
    """
    known: dict[int, dict[str, int]] = {transport_id: {} for transport_id in origins}  # {key: state}
    highest: dict[int, int] = {}
    for row in recipients.of_messages(tx, origins):
        known[row.transport_id][route.key_of(row.forward_path)] = row.state
        highest[row.transport_id] = row.recipient_id
    aimed, added, ends = list[tuple[Row, Planned]](), list[tuple[Row, Planned]](), list[Settlement]()
    for row, resolution in zip(chosen, resolve_many(tx, [row.forward_path for row in chosen]), strict=True):
        keys = known[row.transport_id]
        had = {key for key, state in keys.items() if state == State.EXPANDED}
        who = Recipient(row.forward_path, row.notify, row.original_recipient)
        first, *targets = route.plan([resolution], [who], may_relay=True, promised=row.promised, had=had)
        if first.state is State.PENDING:
            aimed.append((row, first))
        elif first.state is State.FAILED:
            ends.append(Settlement(row, State.FAILED, first.status, first.diagnostic, Action.FAILED))
        else:
            action = Action.EXPANDED if first.reported else None
            ends.append(Settlement(row, State.EXPANDED, first.status, first.diagnostic, action))
            fresh = [one for one in targets if route.key_of(one.forward_path) not in keys]
            keys |= {route.key_of(one.forward_path): row.state for one in fresh}
            added += [(row, one) for one in fresh]
    if aimed:
        times = {transport_id: _warn_at(settings, origin) for transport_id, origin in origins.items()}
        tx.execute(_aim, [_aimed(row, planned, now, times[row.transport_id]) for row, planned in aimed])
        notes = [
            (row.transport_id, row.recipient_id, State(row.state), f"resolved anew by {by}: {_place(planned)}")
            for row, planned in aimed
        ]
        rows.trace(tx, notes, now)
    failed = _add(tx, settings, origins, added, highest, now)
    recipients.settle(tx, settings, origins, ends + failed, now)
    events(tx, rows.DUE).update(origins)


def _place(planned: Planned) -> str:
    return f"for {planned.destination}" if planned.destination else "local"


def _warn_at(settings: TransportSettings, origin: Origin) -> int:
    """The time at which the sender of a message is warned of its delay."""
    return settings.schedule.warn_at(origin.send_at or origin.accepted_at)


def _aimed(row: Row, planned: Planned, now: int, warn_at: int) -> dict[str, object]:
    return {
        "message": row.transport_id,
        "recipient": row.recipient_id,
        "new_destination": planned.destination,
        "new_mailbox": planned.mailbox_id or None,
        "due_at": now if row.state == State.PENDING else row.next_attempt_at,
        "new_warn_at": warn_at,
    }


def _add(
    tx: Connection,
    settings: TransportSettings,
    origins: dict[int, Origin],
    added: Sequence[tuple[Row, Planned]],
    highest: dict[int, int],
    now: int,
) -> list[Settlement]:
    """Insert the targets of aliases; returns the settlements of those that fail."""
    made, failing = [], dict[tuple[int, int], Planned]()
    for row, planned in added:
        highest[row.transport_id] += 1
        number = highest[row.transport_id]
        if planned.state is State.FAILED:
            failing[row.transport_id, number] = planned
        due_at = now if row.state == State.PENDING else row.next_attempt_at or now
        waiting = planned._replace(state=State(row.state), status="", diagnostic="")
        origin = origins[row.transport_id]
        times = (due_at, row.expires_at, _warn_at(settings, origin))
        made.append(rows.recipient_row(row.transport_id, number, waiting, origin.account_id or 0, *times))
    rows.insert_recipient_rows(tx, made)
    ends = []
    for row in recipients.of_messages(tx, {transport_id for transport_id, _ in failing}) if failing else []:
        unknown = failing.get((row.transport_id, row.recipient_id))
        if unknown is not None:
            ends.append(Settlement(row, State.FAILED, unknown.status, unknown.diagnostic, Action.FAILED))
    return ends
