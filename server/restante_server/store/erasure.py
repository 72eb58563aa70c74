"""Messages that were removed permanently: their rows stay for an hour under a lease and are then erased.

A permanently removed message is at once in no folder, no listing and no quota. Its rows stay, because a client that
has not received the removal yet may still ask for the message by its id (RFC 2180 4.1.2). The rows hold the content,
so the collector leaves it alone. The lease is in the database: it survives a restart and holds for every core.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, Connection, Delete, Insert, and_, bindparam, delete, insert, select

from restante_mail.idset import IdSet
from restante_server.db import prepared
from restante_server.db.clock import now_microseconds
from restante_server.db.schema import message, recoverable, removed
from restante_server.directory.rights import Place
from restante_server.store import garbage
from restante_server.store.runs import JsonRows, among, encode_runs, join_from
from restante_server.store.selection import Kind, Selection, chosen

LEASE_MICROSECONDS = 3_600 * 1_000_000  # from the permanent removal of the message


def lease(tx: Connection, place: Place, selection: Selection) -> None:
    """Put the rows of these messages under a lease. The caller takes the messages out of their folders and counters."""
    if selection.ids:
        expiry = now_microseconds(tx) + LEASE_MICROSECONDS
        prepared.run(tx, _lease(selection.kind), selection.parameters(place.mailbox_id, expiry=expiry))


def lapsed(tx: Connection, most: int) -> dict[int, IdSet]:
    """Messages whose leases have lapsed, by mailbox, the earliest first, as arguments for `end_leases`."""
    return by_mailbox(tx.execute(_lapsed, {"now": now_microseconds(tx), "most": most}).all())


def end_leases(tx: Connection, place: Place, message_ids: IdSet, now: int) -> int:
    """Erase those of these messages that are under a lease; returns their number."""
    where = {"mailbox": place.mailbox_id, "runs": encode_runs(message_ids)}
    leased = IdSet.of(tx.execute(_leased, where).scalars())
    if leased:
        tx.execute(_drop_removed, {"mailbox": place.mailbox_id, "runs": encode_runs(leased)})
        erase(tx, place, leased, now)
    return len(leased)


def erase(tx: Connection, place: Place, message_ids: IdSet, now: int) -> None:
    """Delete the rows of these messages and report their contents to the collector."""
    if not message_ids:
        return
    where = {"mailbox": place.mailbox_id, "runs": encode_runs(message_ids)}
    content_ids = tx.execute(_contents, where).scalars().all()
    garbage.notice(tx, content_ids, now)
    tx.execute(_drop_messages, where)


def by_mailbox(rows: Sequence[Sequence[Any]]) -> dict[int, IdSet]:
    """Group rows of (mailbox id, message id) into a set of message ids for each mailbox."""
    found: dict[int, list[int]] = {}
    for mailbox_id, message_id in rows:
        found.setdefault(mailbox_id, []).append(message_id)
    return {mailbox_id: IdSet.of(ids) for mailbox_id, ids in found.items()}


# --- Statements -----------------------------------------------------------------------------------------------------

_runs = JsonRows("runs")


def by_runs(table: str) -> Delete:
    """Delete the rows of `table` that belong to the messages of `runs`."""
    rows = {"message": message, "recoverable": recoverable, "removed": removed}[table]
    other = rows.alias("other")
    within = and_(other.c.mailbox_id == bindparam("mailbox"), other.c.message_id.between(_runs.item(0), _runs.item(1)))
    ids = select(other.c.message_id).select_from(join_from(_runs.rows, other, within))
    return delete(rows).where(rows.c.mailbox_id == bindparam("mailbox"), among(rows.c.message_id, ids))


@cache
def _lease(kind: Kind) -> Insert:
    source, condition = chosen(kind)
    expiry = bindparam("expiry", type_=BigInteger)
    rows = select(message.c.mailbox_id, message.c.message_id, expiry).select_from(source).where(condition)
    return insert(removed).from_select(["mailbox_id", "message_id", "expires_at"], rows)


_drop_messages, _drop_removed = by_runs("message"), by_runs("removed")
_contents = (
    select(message.c.content_id)
    .select_from(
        join_from(
            _runs.rows,
            message,
            and_(
                message.c.mailbox_id == bindparam("mailbox"),
                message.c.message_id.between(_runs.item(0), _runs.item(1)),
            ),
        )
    )
    .distinct()
    .order_by(message.c.content_id)
)
_leased = select(removed.c.message_id).select_from(
    join_from(
        _runs.rows,
        removed,
        and_(removed.c.mailbox_id == bindparam("mailbox"), removed.c.message_id.between(_runs.item(0), _runs.item(1))),
    )
)
# Reads across mailboxes to find those that have work; changes none.
_lapsed = (
    select(removed.c.mailbox_id, removed.c.message_id)
    .where(removed.c.expires_at <= bindparam("now"))
    .order_by(removed.c.expires_at)
    .limit(bindparam("most"))
    .execution_options(across_mailboxes=True)
)
