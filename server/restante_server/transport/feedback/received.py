"""Reading the reports of other servers from the mailboxes that receive them.

A periodic task looks at the messages that were delivered since its last look. It passes over a message without a
report, and logs why it could not read one. The messages stay in their mailboxes.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from restante_mail.feedback.errors import BadReport
from restante_mail.mime import parts
from restante_mail.mime.parts import Part
from restante_server.db.engine import Database
from restante_server.db.operation import Write
from restante_server.db.schema import listing, message, report_cursor
from restante_server.db.upsert import insert_into
from restante_server.directory.lookup import Resolution, resolve_many
from restante_server.store import contents
from restante_server.store.rows import SHOWS
from restante_server.transport.feedback import aggregate_reports, archive, failure_reports, tls_received
from restante_server.transport.feedback.archive import Direction, Kind, NewReport
from restante_server.transport.feedback.reader import Letter, Reader

log = logging.getLogger(__name__)

AT_ONCE = 20  # messages
MAX_MESSAGE_OCTETS = 8 << 20  # a larger message is passed over

READERS: tuple[Reader, ...] = (tls_received.READER, aggregate_reports.READER, failure_reports.READER)
"""All kinds of reports that are read."""


class Unread(NamedTuple):
    """A message that has not been searched for reports; `octets` are None if it is too large."""

    message_id: int
    octets: bytes | None
    structure: bytes = b""
    checks: bytes = b""  # serialised restante.v1.MessageChecks


async def read(db: Database, directory: Path, addresses: Sequence[str], now: int) -> int:
    """Keep the new reports in the mailboxes of these addresses; returns their number. `directory` has the contents."""
    kept = 0
    for mailbox_id in await db.read(_mailboxes, addresses):
        while messages := await db.read(_unread, mailbox_id, directory):
            found = await asyncio.to_thread(_reports, messages)
            last = messages[-1].message_id

            def keep(
                tx: Connection, found: list[NewReport] = found, mailbox_id: int = mailbox_id, last: int = last
            ) -> int:
                _move_cursor(tx, mailbox_id, last)
                return _keep(tx, found, now)

            kept += await db.write(Write(keep, rows=len(found) + 1))
    return kept


def _keep(tx: Connection, found: Sequence[NewReport], now: int) -> int:
    """Keep what there is room for; returns the number of new reports."""
    room = {kind: archive.room(tx, kind) for kind in sorted({report.kind for report in found})}
    left_out: Counter[Kind] = Counter()
    kept = 0
    for report in found:
        if room[report.kind] <= 0:
            left_out[report.kind] += 1
        elif archive.keep(tx, Direction.RECEIVED, report, now) is not None:
            room[report.kind] -= 1
            kept += 1
    for kind, count in left_out.items():
        log.warning("%d received reports (%s) are not kept: there are %d", count, kind.name, archive.MAX_RECEIVED)
    return kept


def _mailboxes(tx: Connection, addresses: Sequence[str]) -> list[int]:
    """The mailboxes of the addresses; an alias stands for its local targets."""
    found = resolve_many(tx, addresses)
    return sorted({one.mailbox_id for one in _flat(found) if one.mailbox_id})


def _flat(found: Iterable[Resolution]) -> Iterator[Resolution]:
    for one in found:
        yield one
        yield from one.targets


def _unread(tx: Connection, mailbox_id: int, directory: Path) -> list[Unread]:
    """The next messages behind the cursor that were delivered by the transport."""
    cursor = select(report_cursor.c.message_id).where(report_cursor.c.mailbox_id == mailbox_id).scalar_subquery()
    wanted = (
        select(message.c.message_id, message.c.content_id, listing.c.checks)
        .outerjoin(listing, SHOWS)
        .where(
            message.c.mailbox_id == mailbox_id,
            message.c.message_id > func.coalesce(cursor, 0),
            message.c.folder_id.is_not(None),
            func.length(message.c.head) > 0,
        )
        .order_by(message.c.message_id)
        .limit(AT_ONCE)
    )
    rows = tx.execute(wanted).all()
    stored = contents.load(tx, [content_id for _, content_id, _ in rows])
    found = []
    for message_id, content_id, checks in rows:
        one = stored[content_id]
        if one.size_octets > MAX_MESSAGE_OCTETS:
            found.append(Unread(message_id, None))
        else:
            octets = contents.read_range(tx, directory, one, 0, one.size_octets)
            found.append(Unread(message_id, octets, one.structure, checks or b""))
    return found


def _move_cursor(tx: Connection, mailbox_id: int, message_id: int) -> None:
    into = insert_into(tx, report_cursor).values(mailbox_id=mailbox_id, message_id=message_id)
    tx.execute(into.on_conflict_do_update(index_elements=[report_cursor.c.mailbox_id], set_={"message_id": message_id}))


def _reports(messages: Sequence[Unread]) -> list[NewReport]:
    """The reports in these messages."""
    found = []
    for one in messages:
        if one.octets is None:
            log.warning("message %d is too large to be searched for reports", one.message_id)
            continue
        letter = Letter(one.octets, parts.decode(one.structure), one.checks)
        for reader, part in _claimed(letter.tree):
            try:
                found.append(reader.read(letter, part))
            except BadReport as problem:
                log.warning("%s in message %d cannot be read: %s", reader.name, one.message_id, problem)
    return found


def _claimed(tree: Part) -> Iterator[tuple[Reader, Part]]:
    """The parts that may be reports, each with the first reader that claims it."""
    claimed: set[int] = set()  # identities of parts
    for reader in READERS:
        for part in reader.candidates(tree):
            if id(part) not in claimed:
                claimed.add(id(part))
                yield reader, part
