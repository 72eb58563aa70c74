"""Long reverse-paths of mail that was sent on, by the keys in their short forms (`restante_mail.envelope.srs`).

A path is kept once, however many of its messages are sent on, and for as long as a report may come back. Their number
is bounded, because anybody may send mail with invented paths through an alias.
"""

from __future__ import annotations

from sqlalchemy import Connection, delete, func, select, update

from restante_server.db.schema import kept_path as table
from restante_server.db.upsert import insert_missing

MAX_PATHS = 100_000
DAY = 86_400_000_000  # microseconds
AT_ONCE = 500  # removed in one transaction


def keep(tx: Connection, key: str, path: str, now: int) -> bool:
    """Keep a path from now on; returns False if there are too many, or if another path has the key."""
    found = tx.execute(select(table.c.path, table.c.used_at).where(table.c.path_key == key)).one_or_none()
    if found is not None:
        if now - found.used_at >= DAY:  # the form has a day of its own
            tx.execute(update(table).where(table.c.path_key == key).values(used_at=now))
        return bool(found.path == path)
    if (tx.scalar(select(func.count()).select_from(table)) or 0) >= MAX_PATHS:
        return False
    tx.execute(insert_missing(tx, table).values(path_key=key, path=path, used_at=now))
    return True


def find(tx: Connection, key: str) -> str | None:
    """The path of a key."""
    return tx.scalar(select(table.c.path).where(table.c.path_key == key))


def forget(tx: Connection, before: int) -> int:
    """Delete some paths last used before a moment (microseconds); returns their number."""
    old = select(table.c.path_key).where(table.c.used_at < before).limit(AT_ONCE)
    return tx.execute(delete(table).where(table.c.path_key.in_(old))).rowcount
