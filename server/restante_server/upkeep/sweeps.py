"""Removal of expired rows: deleted mail, tombstones, request ids, uploads, jobs. Each is a series of short writes."""

from __future__ import annotations

from functools import partial
from typing import Final

from sqlalchemy import Connection

from restante_process.config import Store
from restante_server.db.clock import now_microseconds
from restante_server.db.engine import Database
from restante_server.db.operation import Write
from restante_server.directory import rights
from restante_server.store import changes, erasure, removal, requests, uploads
from restante_server.upkeep.jobs import records

DAY: Final = 24 * 3600 * 1_000_000  # microseconds
AT_ONCE: Final = 500  # messages or mailboxes in one round, which limits the wait of other writers
JOBS_AT_ONCE: Final = 10  # in one write, with all their findings
LAPSE_OCTETS: Final = 4 << 20  # approximate octets that one step of an expiring upload frees
UNUSED_OCTETS: Final = 64 << 20  # free space to keep in SQLite's file for new mail
GIVE_BACK_OCTETS: Final = 4 << 20  # of SQLite's file returned to the file system in one write
ROUNDS: Final = 1_000  # of one call; the next call does the rest


async def tidy(db: Database, settings: Store, now: int) -> None:
    """Purge deleted mail beyond its days or octets, and mailboxes without an owner; delete other expired rows."""
    await purge_deleted(db, now - settings.recoverable_days * DAY, now)
    await trim_deleted(db, settings.recoverable_octets, now)
    await erase_removed(db, now)
    await forget_removals(db, now - settings.history_days * DAY)
    while await db.write(Write(partial(requests.forget_expired, now=now, most=AT_ONCE), rows=AT_ONCE)):
        continue
    await lapse_uploads(db, now)
    await forget_jobs(db)
    await purge_ownerless(db, now)
    for _ in range(ROUNDS):
        if not await db.give_back(UNUSED_OCTETS, GIVE_BACK_OCTETS):
            break


async def purge_deleted(db: Database, before: int, now: int) -> int:
    """Remove for good the messages deleted before a moment (microseconds); returns their number."""
    purged = 0
    for _ in range(ROUNDS):
        due = await db.read(removal.due, before, AT_ONCE)
        if not due:
            break
        for mailbox_id, ids in due.items():
            run = partial(removal.purge, place=rights.system(mailbox_id), message_ids=ids, now=now)
            purged += await db.write(Write(run, mailboxes=frozenset({mailbox_id}), rows=4 * len(ids)))
    return purged


async def trim_deleted(db: Database, limit_octets: int, now: int) -> int:
    """Purge the longest deleted messages of mailboxes with more recoverable octets than the limit.

    Returns the number of messages.
    """
    purged = 0
    for _ in range(ROUNDS):
        mailbox_ids = await db.read(removal.over, limit_octets, AT_ONCE)
        if not mailbox_ids:
            break
        for mailbox_id in mailbox_ids:
            run = partial(
                removal.trim, place=rights.system(mailbox_id), limit_octets=limit_octets, most=AT_ONCE, now=now
            )
            purged += await db.write(Write(run, mailboxes=frozenset({mailbox_id}), rows=4 * AT_ONCE))
    return purged


async def erase_removed(db: Database, now: int) -> int:
    """Erase messages that were removed for good and whose reading lease has expired; returns their number."""
    erased = 0
    for _ in range(ROUNDS):
        lapsed = await db.read(erasure.lapsed, AT_ONCE)
        if not lapsed:
            break
        for mailbox_id, ids in lapsed.items():
            run = partial(erasure.end_leases, place=rights.system(mailbox_id), message_ids=ids, now=now)
            erased += await db.write(Write(run, mailboxes=frozenset({mailbox_id}), rows=4 * len(ids)))
    return erased


async def lapse_uploads(db: Database, now: int) -> int:
    """Delete expired uploads with their pieces; returns their number. The collector removes their contents."""
    lapsed = 0
    for _ in range(ROUNDS):
        past = await db.read(uploads.past, now)
        for upload_id in past:
            while await db.write(Write(partial(uploads.lapse, upload_id=upload_id, now=now), octets=LAPSE_OCTETS)):
                continue
        lapsed += len(past)
        if not past:
            break
    return lapsed


async def purge_ownerless(db: Database, now: int) -> int:
    """Remove the mailboxes of deleted accounts that no job removes any more; returns their number.

    A job that was cancelled or failed names its mailbox for as long as its row is kept.
    """
    purged = 0
    for mailbox_id in await db.read(removal.ownerless, AT_ONCE):
        run = partial(removal.delete_mailbox, place=rights.system(mailbox_id), most=AT_ONCE, now=now)
        while await db.write(Write(run, mailboxes=frozenset({mailbox_id}), rows=4 * AT_ONCE)):
            continue
        purged += 1
    return purged


async def forget_jobs(db: Database) -> int:
    """Delete the rows of jobs that ended 30 days ago; returns their number."""
    forgotten = 0
    for _ in range(ROUNDS):
        gone = await db.write(Write(_forget_some_jobs, rows=records.MOST_FINDINGS))
        forgotten += gone
        if not gone:
            break
    return forgotten


def _forget_some_jobs(tx: Connection) -> int:
    return records.forget(tx, now_microseconds(tx) - records.KEPT_MICROSECONDS, JOBS_AT_ONCE)


async def forget_removals(db: Database, before: int) -> int:
    """Delete tombstones older than a moment (microseconds); returns their number."""
    forgotten = 0
    for _ in range(ROUNDS):
        mailbox_ids = await db.read(changes.with_old_history, before, AT_ONCE)
        if not mailbox_ids:
            break
        for mailbox_id in mailbox_ids:
            run = partial(changes.forget_history, place=rights.system(mailbox_id), before=before)
            forgotten += await db.write(Write(run, mailboxes=frozenset({mailbox_id}), rows=AT_ONCE))
    return forgotten
