"""Access to the transport's tables, and the lock under which a message's recipients change.

A transaction locks the message before it changes a recipient's state (`lock`), and several messages in ascending order.
Two cores that settle the last two recipients of a message therefore see each other's changes, and release the content
once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Select, bindparam, insert, select, update

from restante_server.db import prepared
from restante_server.db.effects import Topic, events
from restante_server.db.numbered import insert_numbered
from restante_server.db.schema import trace_event, transport_message, transport_recipient
from restante_server.store import garbage
from restante_server.transport.records import Incoming, Origin, Planned
from restante_server.transport.schedule import Schedule
from restante_server.transport.states import WAITING, State

LONGEST_DIAGNOSTIC = 512  # characters kept

DUE: Topic[set[int]] = Topic("transport due", set)
"""The event that recipients became due: the transport ids of their messages."""

ENDED: Topic[set[int]] = Topic("lease ended", set)
"""The event that leases were reported: their ids."""

_insert_recipients = insert(transport_recipient)
_insert_events = insert(trace_event)
ORIGIN = (
    transport_message.c.transport_id,
    transport_message.c.reverse_path,
    transport_message.c.content_id,
    transport_message.c.trace_field,
    transport_message.c.size_octets,
    transport_message.c.dsn_return,
    transport_message.c.envelope_id,
    transport_message.c.accepted_at,
    transport_message.c.send_at,
    transport_message.c.account_id,
)
_lock = (
    select(*ORIGIN)
    .where(transport_message.c.transport_id.in_(bindparam("ids", expanding=True)))
    .order_by(transport_message.c.transport_id)
    .with_for_update()
)
_still_waiting = (
    select(transport_recipient.c.transport_id)
    .where(
        transport_recipient.c.transport_id.in_(bindparam("ids", expanding=True)),
        transport_recipient.c.state.in_(sorted(WAITING)),
    )
    .distinct()
)
_let_go = (
    update(transport_message)
    .where(transport_message.c.transport_id.in_(bindparam("ids", expanding=True)))
    .values(content_id=None)
)


def insert_messages(tx: Connection, items: Sequence[tuple[Incoming, int | None]]) -> list[int]:
    """Insert messages, each with the content for its waiting recipients (None: no recipient waits); returns the ids."""
    rows = [
        {
            "reverse_path": item.reverse_path,
            "content_id": content_id,
            "trace_field": item.trace_field,
            "size_octets": item.size_octets,
            "dsn_return": item.dsn_return,
            "envelope_id": item.envelope_id,
            "smtputf8": item.smtputf8,
            "body_8bit": item.body_8bit,
            "tls_optional": item.tls_optional,
            "source": item.source,
            "account_id": item.account_id,
            "subject": item.subject,
            "signing_domain": item.signing_domain,
            "forwarder": item.forwarder,
            "internet_message_id": item.internet_message_id,
            "send_at": item.send_at,
            "accepted_at": item.accepted_at,
            "checks": item.checks,
        }
        for item, content_id in items
    ]
    return insert_numbered(tx, transport_message.c.transport_id, rows)


def insert_recipients(
    tx: Connection, messages: Iterable[tuple[int, Incoming, Sequence[Planned]]], schedule: Schedule
) -> None:
    """Insert the recipients of messages, numbered from 1. Waiting ones are due at `send_at`, else at once."""
    made: list[dict[str, Any]] = []
    for transport_id, item, recipients in messages:
        due_at = item.send_at or item.accepted_at
        expires_at, warn_at = schedule.expires_at(due_at), schedule.warn_at(due_at)
        made += [
            recipient_row(transport_id, number, planned, item.account_id or 0, due_at, expires_at, warn_at)
            for number, planned in enumerate(recipients, 1)
        ]
    insert_recipient_rows(tx, made)


def insert_recipient_rows(tx: Connection, made: Sequence[dict[str, Any]]) -> None:
    """Insert rows that `recipient_row` has made."""
    prepared.run_many(tx, _insert_recipients, made)
    if waiting := {row["transport_id"] for row in made if row["state"] == State.PENDING}:
        events(tx, DUE).update(waiting)


def recipient_row(
    transport_id: int, recipient_id: int, planned: Planned, sender: int, due_at: int, expires_at: int, warn_at: int
) -> dict[str, Any]:
    """A row for `insert_recipient_rows`. `sender` is the submitter's account, or 0. Only foreign ones are warned of."""
    waits = planned.state in WAITING
    return {
        "transport_id": transport_id,
        "recipient_id": recipient_id,
        "forward_path": planned.forward_path,
        "original_recipient": planned.original_recipient,
        "notify": planned.notify,
        "state": int(planned.state),
        "mailbox_id": planned.mailbox_id or None,
        "message_id": planned.message_id or None,
        "destination": planned.destination,
        "sender": sender,
        "promised": planned.promised,
        "junk": planned.junk,
        "remark": planned.remark,
        "next_attempt_at": due_at if waits else None,
        "attempt_count": 0,
        "warn_at": warn_at if waits and planned.destination else None,
        "lease_id": None,
        "lease_expires_at": None,
        "status": planned.status,
        "diagnostic": planned.diagnostic[:LONGEST_DIAGNOSTIC],
        "expires_at": expires_at,
    }


def origin(item: Incoming, transport_id: int, content_id: int) -> Origin:
    """The Origin of a message that this transaction has just inserted."""
    return Origin(
        transport_id,
        item.reverse_path,
        content_id,
        item.trace_field,
        item.size_octets,
        item.dsn_return,
        item.envelope_id,
        item.accepted_at,
        item.send_at,
        item.account_id,
    )


def lock(tx: Connection, transport_ids: Iterable[int]) -> dict[int, Origin]:
    """Lock messages in ascending order; returns those that exist."""
    ids = sorted(set(transport_ids))
    return {row[0]: Origin._make(row) for row in tx.execute(_lock, {"ids": ids})} if ids else {}


def release(tx: Connection, origins: Iterable[Origin], now: int) -> None:
    """Release the contents of those of these (locked) messages that have no waiting recipient any more."""
    held = {origin.transport_id: origin.content_id for origin in origins if origin.content_id is not None}
    if not held:
        return
    waiting = set(tx.scalars(_still_waiting, {"ids": sorted(held)}))
    settled = sorted(held.keys() - waiting)
    if settled:
        tx.execute(_let_go, {"ids": settled})
        garbage.notice(tx, [held[transport_id] for transport_id in settled], now)


def trace(tx: Connection, events: Sequence[tuple[int, int, State | None, str]], now: int) -> None:
    """Insert trace events: (transport id, recipient id, state, detail). A note on the message has neither (0, None).

    The state in which a recipient was inserted needs no event: its row and `accepted_at` give it.
    """
    rows = [
        {
            "transport_id": transport_id,
            "recipient_id": recipient_id,
            "happened_at": now,
            "state": int(state or 0),
            "detail": detail[: 2 * LONGEST_DIAGNOSTIC],
        }
        for transport_id, recipient_id, state, detail in events
    ]
    prepared.run_many(tx, _insert_events, rows)


def page(statement: Select[Any], limit: int) -> Select[Any]:
    """The statement with a limit of one row more than a page, so that the caller sees whether another page follows."""
    return statement.limit(limit + 1)
