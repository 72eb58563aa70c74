"""Request ids: the core executes each request once and answers a repeat with the first answer
(docs/design.md "Idempotence").

The transaction that does the work also keeps the answer. A request with a kept answer has therefore been executed, and
a failed request leaves no row. Every write with a request id uses this module: unary calls one by one, mail in sets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, delete, insert, select

from restante.errors import RequestIdReused, StoreBusy
from restante_server.db import prepared
from restante_server.db.schema import request as table
from restante_server.db.upsert import insert_missing


class Key(NamedTuple):
    """The scope in which a request id is unique."""

    mailbox_id: int  # 0: the request does not belong to one mailbox
    actor: str
    request_id: bytes


class Request(NamedTuple):
    """One call that must be executed once only."""

    key: Key
    method: str  # name of the request message
    fingerprint: bytes  # digest of the whole request
    kept_until: int  # microseconds


class RequestRaced(StoreBusy):
    """Another core is executing the same request. A retry finds its answer."""


class Sorted(NamedTuple):
    """The requests of one set, by position."""

    known: dict[int, bytes | RequestIdReused]  # executed before: the answer, or the error when the requests differ
    repeats: dict[int, int]  # repeated within the set: the position of the first
    fresh: list[int]  # to be executed now


_COLUMNS = (
    table.c.mailbox_id,
    table.c.actor,
    table.c.request_id,
    table.c.method,
    table.c.fingerprint,
    table.c.response,
)
_find_one = select(*_COLUMNS).where(
    table.c.mailbox_id == bindparam("mailbox_id"),
    table.c.actor == bindparam("actor"),
    table.c.request_id == bindparam("request_id"),
)
_insert = insert(table)
# For upkeep, across all mailboxes.
_last_expired = (
    select(table.c.expires_at)
    .where(table.c.expires_at < bindparam("before"))
    .order_by(table.c.expires_at)
    .offset(bindparam("most"))
    .limit(1)
    .execution_options(across_mailboxes=True)
)
_expired = delete(table).where(table.c.expires_at <= bindparam("last")).execution_options(across_mailboxes=True)


def find(tx: Connection, request: Request) -> bytes | None:
    """The answer that was kept for this request, or None when its key is new.

    Raises RequestIdReused when the key belongs to a different request.
    """
    row = prepared.first(tx, _find_one, _scope(request.key))
    if row is None:
        return None
    if (row[3], bytes(row[4])) != (request.method, request.fingerprint):
        raise RequestIdReused
    return bytes(row[5])


def sort(tx: Connection, requests: Sequence[Request]) -> Sorted:
    """Divide the requests of a set into those executed before, those repeated within the set, and new ones."""
    looks = prepared.first_of_each(tx, _find_one, [_scope(request.key) for request in requests])
    rows = {Key(row[0], row[1], bytes(row[2])): row for row in looks if row is not None}
    made = Sorted({}, {}, [])
    first: dict[Key, int] = {}
    for at, request in enumerate(requests):
        row = rows.get(request.key)
        earlier = first.setdefault(request.key, at)
        if row is not None:
            same = (row[3], bytes(row[4])) == (request.method, request.fingerprint)
            made.known[at] = bytes(row[5]) if same else RequestIdReused()
        elif earlier == at:
            made.fresh.append(at)
        elif requests[earlier][1:3] == request[1:3]:
            made.repeats[at] = earlier
        else:
            made.known[at] = RequestIdReused()
    return made


def keep(tx: Connection, answered: Iterable[tuple[Request, bytes]], *, is_locked: bool) -> None:
    """Keep answers: ids and numbers, never contents. The caller must roll back the set on RequestRaced.

    `is_locked`: the transaction has locked the keys' mailboxes, so no other core can have inserted the same keys.
    """
    rows: list[dict[str, Any]] = [
        {
            **_scope(request.key),
            "method": request.method,
            "fingerprint": request.fingerprint,
            "response": answer,
            "expires_at": request.kept_until,
        }
        for request, answer in answered
    ]
    if not rows:
        return
    if is_locked or tx.dialect.name == "sqlite":  # SQLite has one writer
        prepared.run_many(tx, _insert, rows)
        return
    if prepared.run_each(tx, insert_missing(tx, table), rows) != len(rows):
        raise RequestRaced("The same request is in progress; wait for its answer.")


def _scope(key: Key) -> dict[str, Any]:
    return {"mailbox_id": key.mailbox_id, "actor": key.actor, "request_id": key.request_id}


def forget_expired(tx: Connection, now: int, most: int) -> int:
    """Remove about `most` expired answers, across all mailboxes; returns their number."""
    last = tx.execute(_last_expired, {"before": now, "most": most}).scalar()
    return tx.execute(_expired, {"last": now - 1 if last is None else last}).rowcount
