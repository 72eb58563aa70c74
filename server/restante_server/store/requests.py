"""Request ids: what was done under them, in the transaction that did it (docs/design.md "Idempotence")."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, bindparam, delete, insert, select

from restante.errors import RequestIdReused, StoreBusy
from restante_server.db import prepared
from restante_server.db.schema import request
from restante_server.db.upsert import insert_into


class Key(NamedTuple):
    """Where a request id is unique."""

    mailbox_id: int  # 0: not of one mailbox
    actor: str
    request_id: bytes


_find = select(request.c.method, request.c.fingerprint, request.c.response).where(
    request.c.mailbox_id == bindparam("mailbox"),
    request.c.actor == bindparam("who"),
    request.c.request_id == bindparam("id"),
)
_insert = insert(request)
# Upkeep, of all mailboxes.
_last_expired = (
    select(request.c.expires_at)
    .where(request.c.expires_at < bindparam("before"))
    .order_by(request.c.expires_at)
    .offset(bindparam("most"))
    .limit(1)
    .execution_options(across_mailboxes=True)
)
_expired = delete(request).where(request.c.expires_at <= bindparam("last")).execution_options(across_mailboxes=True)


def find(tx: Connection, key: Key, method: str, fingerprint: bytes) -> bytes | None:
    """What was answered under this key, serialised, or None when the key is new.

    Raises RequestIdReused when it stands for another request.
    """
    row = prepared.first(tx, _find, {"mailbox": key.mailbox_id, "who": key.actor, "id": key.request_id})
    if row is None:
        return None
    if (row[0], row[1]) != (method, fingerprint):
        raise RequestIdReused
    return bytes(row[2])


def remember(tx: Connection, key: Key, method: str, fingerprint: bytes, response: bytes, expires_at: int) -> None:
    """Keep an answer until `expires_at`, microseconds. Answers hold ids and numbers, never contents.

    Raises StoreBusy when another core has done the same at this moment: asked again, its answer is there.
    """
    values = {"method": method, "fingerprint": fingerprint, "response": response, "expires_at": expires_at}
    row = {**key._asdict(), **values}
    if tx.dialect.name == "sqlite" or key.mailbox_id:  # one writer, or the mailbox is locked: nobody can be first
        prepared.run_many(tx, _insert, [row])
    elif tx.execute(insert_into(tx, request).on_conflict_do_nothing().returning(request.c.method), row).first() is None:
        raise StoreBusy("The same request is being done at this moment.")


def forget_expired(tx: Connection, now: int, most: int) -> int:
    """Remove what is past its time, in every mailbox, about `most` at a time; returns how many."""
    last = tx.execute(_last_expired, {"before": now, "most": most}).scalar()
    return tx.execute(_expired, {"last": now - 1 if last is None else last}).rowcount
