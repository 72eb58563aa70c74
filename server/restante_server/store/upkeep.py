"""What must be forgotten in time: deleted mail, removals, request ids, uploads. Bounded writes, one after another."""

from __future__ import annotations

from functools import partial
from typing import Final

from restante.config import Store
from restante_server.db.engine import Database
from restante_server.db.operation import Call
from restante_server.store import changes, removal, requests, uploads

DAY: Final = 24 * 3600 * 1_000_000  # microseconds
AT_ONCE: Final = 500  # messages or mailboxes in one round: other writers wait only so long
ROUNDS: Final = 1_000  # of one call; what is left then is done the next time


async def tidy(db: Database, settings: Store, now: int) -> None:
    """Purge deleted mail past its time, and forget removals, request ids and uploads past theirs."""
    await purge_deleted(db, now - settings.recoverable_days * DAY, now)
    await forget_removals(db, now - settings.history_days * DAY)
    await db.write(Call(partial(requests.forget_expired, now=now), rows=AT_ONCE))
    await db.write(Call(partial(uploads.lapse, now=now), rows=AT_ONCE))


async def purge_deleted(db: Database, before: int, now: int) -> int:
    """Remove for good what was deleted before this moment; returns how many messages."""
    purged = 0
    for _ in range(ROUNDS):
        due = await db.read(removal.due, before, AT_ONCE)
        if not due:
            break
        for mailbox_id, ids in due.items():
            run = partial(removal.purge, mailbox_id=mailbox_id, message_ids=ids, now=now)
            purged += await db.write(Call(run, mailboxes=frozenset({mailbox_id}), rows=4 * len(ids)))
    return purged


async def forget_removals(db: Database, before: int) -> int:
    """Forget removals older than this moment; returns how many."""
    forgotten = 0
    for _ in range(ROUNDS):
        mailbox_ids = await db.read(changes.with_old_history, before, AT_ONCE)
        if not mailbox_ids:
            break
        for mailbox_id in mailbox_ids:
            run = partial(changes.forget_history, mailbox_id=mailbox_id, before=before)
            forgotten += await db.write(Call(run, mailboxes=frozenset({mailbox_id}), rows=AT_ONCE))
    return forgotten
