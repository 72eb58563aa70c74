"""The collector of contents (docs/design.md "Contents"): it removes a content that no column of the schema references.

A writer that drops a reference to a content adds the content to the garbage list (store.garbage). The collector locks
the content's row, checks the references again, marks the row dead and commits. After that it removes the file, and last
the row. A writer that adds a reference locks the same row and must find it alive (`contents.require_live`), so one of
the two always waits for the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, bindparam, delete, exists, literal_column, or_, select

from restante.errors import StoreBusy
from restante_server.db.clock import now_microseconds
from restante_server.db.engine import Database
from restante_server.db.operation import Write
from restante_server.db.schema import (
    CONTENT_HOLDERS,
    content,
    content_garbage,
    content_pin,
    store,
)
from restante_server.store import garbage
from restante_server.store.contents import ContentState, Location, mark_dead, pin, remove, unpin

AT_ONCE = 200
EVERYTHING = 0  # a pin on this id, which no content has, pauses every collector
PAUSE_MICROSECONDS = 3_600 * 1_000_000  # then collectors go on, because the process that paused them may have died
ORPHAN_SECONDS = 7_200  # no write lasts this long, so an older file without a row has no writer

_noticed = select(content_garbage.c.content_id).order_by(content_garbage.c.content_id).limit(bindparam("limit"))
_locked = (
    select(content.c.content_id, content.c.place, content.c.state, content.c.file_name)
    .where(content.c.content_id.in_(bindparam("ids", expanding=True)))
    .order_by(content.c.content_id)
    .with_for_update()
)
_paused = select(content_pin.c.pin_id).where(
    content_pin.c.content_id == EVERYTHING, content_pin.c.expires_at > bindparam("now")
)
# As a literal, the state lets SQLite use the index of dead contents.
_dead = (
    select(content.c.content_id, content.c.file_name)
    .where(content.c.state == literal_column(str(int(ContentState.DEAD))))
    .limit(bindparam("limit"))
)
# A row that an uncommitted writer is adding again stays for the next round.
_ours = (
    select(content_garbage.c.content_id)
    .where(content_garbage.c.content_id.in_(bindparam("ids", expanding=True)))
    .with_for_update(skip_locked=True)
)
# Collectors share the lock of the store's row, and a pause locks it exclusively: so they exclude each other.
_together = select(store.c.store_id).with_for_update(read=True)
_alone = select(store.c.store_id).with_for_update()
_held = (
    select(content.c.content_id)
    .where(
        content.c.content_id.in_(bindparam("ids", expanding=True)),
        or_(
            *(exists().where(holder == content.c.content_id) for holder in CONTENT_HOLDERS),
        ),
    )
    .execution_options(across_mailboxes=True)  # any mailbox may reference the content
)


def lapse_pins(tx: Connection, now: int, limit: int = 1_000) -> int:
    """Remove expired pins; returns their number."""
    columns = (content_pin.c.content_id, content_pin.c.pin_id)
    rows = list(tx.execute(select(*columns).where(content_pin.c.expires_at <= now).limit(limit)))
    for content_id, pin_id in rows:
        tx.execute(delete(content_pin).where(content_pin.c.content_id == content_id, content_pin.c.pin_id == pin_id))
    garbage.notice(tx, (content_id for content_id, _ in rows if content_id != EVERYTHING), now)
    return len(rows)


def pause_collection(tx: Connection, pin_id: int) -> None:
    """Keep every collector of the store from removing anything for an hour. Another call extends the pause.

    The call waits for running collectors: once this transaction has committed, every live content stays.
    """
    tx.execute(_alone)
    unpin(tx, EVERYTHING, pin_id)
    pin(tx, EVERYTHING, pin_id, now_microseconds(tx) + PAUSE_MICROSECONDS)


def resume_collection(tx: Connection, pin_id: int) -> None:
    """Let collectors go on, unless another pause is in force."""
    unpin(tx, EVERYTHING, pin_id)


def mark_unheld(tx: Connection, limit: int = AT_ONCE) -> dict[int, str | None]:
    """Mark listed contents dead that no column references.

    Returns {content id: file name, or None for a content in the database}.
    """
    ids = list(tx.scalars(_noticed, {"limit": limit}))
    if not ids:
        return {}
    rows = list(tx.execute(_locked, {"ids": ids}))
    tx.execute(_together)
    if tx.execute(_paused, {"now": now_microseconds(tx)}).first() is not None:
        return {}
    ours = list(tx.scalars(_ours, {"ids": ids}))
    if not ours:
        return {}
    held = set(tx.scalars(_held, {"ids": ours}))
    free = {
        row.content_id: row.file_name if row.place == Location.FILE else None
        for row in rows
        if row.content_id in ours and row.content_id not in held
    }
    if free:
        mark_dead(tx, list(free))
    finished = [content_id for content_id, file_name in free.items() if file_name is None]
    if finished:
        remove(tx, finished)
    tx.execute(delete(content_garbage).where(content_garbage.c.content_id.in_(ours)))
    return free


def dead_files(tx: Connection, limit: int = AT_ONCE) -> dict[int, str]:
    """The files of dead contents by id, including those that an interrupted collector left."""
    rows = tx.execute(_dead, {"limit": limit})
    return {row.content_id: row.file_name for row in rows if row.file_name is not None}


class Collector:
    """Removes contents that no column references."""

    def __init__(self, db: Database, directory: Path) -> None:
        self._db, self._directory = db, directory

    @contextlib.asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Keep the collectors of all cores from removing anything during the block, so that files can be copied."""
        pin_id = secrets.randbits(62)
        await self._db.write(Write(partial(pause_collection, pin_id=pin_id)))
        renewing = asyncio.create_task(self._renew_pause(pin_id), name="pause of collectors")
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.shield(self._db.write(Write(partial(resume_collection, pin_id=pin_id))))

    async def _renew_pause(self, pin_id: int) -> None:
        while True:
            await asyncio.sleep(PAUSE_MICROSECONDS / 1_000_000 / 4)
            with contextlib.suppress(StoreBusy):  # there is time for three more attempts
                await self._db.write(Write(partial(pause_collection, pin_id=pin_id)))

    async def collect(self, now: int) -> int:
        """Run one round and return the number of contents removed. Call again until it is 0."""
        await self._db.write(Write(lambda tx: lapse_pins(tx, now)))
        dead = await self._db.write(Write(mark_unheld, rows=4 * AT_ONCE))
        files = await self._db.read(dead_files)
        for file_name in files.values():
            (self._directory / file_name).unlink(missing_ok=True)
        if files:
            await self._db.write(Write(lambda tx: remove(tx, list(files)), rows=len(files)))
        return len(dead)

    async def remove_orphans(self, older_than_seconds: float = ORPHAN_SECONDS) -> int:
        """Remove files without a row, left by a process that died while writing; returns their number."""
        oldest = time.time() - older_than_seconds
        removed = 0
        for directory in await asyncio.to_thread(_directories, self._directory):
            names = await asyncio.to_thread(_old_files, directory, oldest)
            for start in range(0, len(names), AT_ONCE):
                some = names[start : start + AT_ONCE]
                known = await self._db.read(_known_files, some)
                for name in set(some) - known:
                    (self._directory / name).unlink(missing_ok=True)
                    removed += 1
        return removed


def _directories(above: Path) -> list[Path]:
    return sorted(path for path in above.iterdir() if path.is_dir())


def _old_files(directory: Path, oldest: float) -> list[str]:
    """The names of old files, relative to the contents directory, without files that a collector removes meanwhile."""
    names = []
    with os.scandir(directory) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                if entry.stat().st_mtime < oldest:
                    names.append(f"{directory.name}/{entry.name}")
    return names


def _known_files(tx: Connection, names: list[str]) -> set[str]:
    found = tx.scalars(select(content.c.file_name).where(content.c.file_name.in_(names)))
    return {name for name in found if name is not None}
