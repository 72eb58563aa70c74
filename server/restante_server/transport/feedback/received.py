"""Reading the DMARC reports of other servers from the mailboxes that receive them.

A periodic task looks at the messages that were delivered since its last look. It passes over a message without a
report, and logs why it could not read one. The messages stay in their mailboxes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from restante_mail.feedback import aggregate_xml, attachments
from restante_mail.feedback.aggregate import AggregateReport
from restante_mail.feedback.errors import BadReport
from restante_mail.mime import parts
from restante_mail.mime.decoders import decoded
from restante_mail.mime.parts import Part
from restante_server.db.engine import Database
from restante_server.db.operation import Write
from restante_server.db.schema import message, report_cursor
from restante_server.db.upsert import insert_into
from restante_server.directory.lookup import Resolution, resolve_many
from restante_server.store import contents
from restante_server.transport.feedback import archive
from restante_server.transport.feedback.archive import Direction

log = logging.getLogger(__name__)

AT_ONCE = 20  # messages
MAX_MESSAGE_OCTETS = 8 << 20  # a larger message is passed over
MAX_PARTS = 20  # of one message, in which a report is sought
_TYPES = frozenset(
    "application/gzip application/x-gzip application/zip application/x-zip-compressed application/xml text/xml".split()
)
_ENDINGS = (".xml.gz", ".xml", ".zip")


class Unread(NamedTuple):
    """A message that has not been searched for reports; `octets` are None if it is too large."""

    message_id: int
    octets: bytes | None
    structure: bytes = b""


async def read(db: Database, directory: Path, addresses: Sequence[str], now: int) -> int:
    """Keep the new reports in the mailboxes of these addresses; returns their number. `directory` has the contents."""
    kept = 0
    for mailbox_id in await db.read(_mailboxes, addresses):
        while messages := await db.read(_unread, mailbox_id, directory):
            found = await asyncio.to_thread(_reports, messages)
            last = messages[-1].message_id

            def keep(
                tx: Connection, found: list[AggregateReport] = found, mailbox_id: int = mailbox_id, last: int = last
            ) -> int:
                _move_cursor(tx, mailbox_id, last)
                return sum(archive.keep(tx, Direction.RECEIVED, report, report.email, now) for report in found)

            kept += await db.write(Write(keep, rows=len(found) + 1))
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
        select(message.c.message_id, message.c.content_id)
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
    stored = contents.load(tx, [content_id for _, content_id in rows])
    found = []
    for message_id, content_id in rows:
        one = stored[content_id]
        if one.size_octets > MAX_MESSAGE_OCTETS:
            found.append(Unread(message_id, None))
        else:
            octets = contents.read_range(tx, directory, one, 0, one.size_octets)
            found.append(Unread(message_id, octets, one.structure))
    return found


def _move_cursor(tx: Connection, mailbox_id: int, message_id: int) -> None:
    into = insert_into(tx, report_cursor).values(mailbox_id=mailbox_id, message_id=message_id)
    tx.execute(into.on_conflict_do_update(index_elements=[report_cursor.c.mailbox_id], set_={"message_id": message_id}))


def _reports(messages: Sequence[Unread]) -> list[AggregateReport]:
    """The reports in these messages."""
    found = []
    for one in messages:
        if one.octets is None:
            log.warning("message %d is too large to be searched for reports", one.message_id)
            continue
        for part in _candidates(parts.decode(one.structure)):
            try:
                found.append(aggregate_xml.read(attachments.decompress(b"".join(decoded(one.octets, part)))))
            except BadReport as problem:
                log.warning("the report in message %d cannot be read: %s", one.message_id, problem)
    return found


def _candidates(tree: Part) -> list[Part]:
    """The parts that may be a report, by media type or file name."""
    leaves = (part for part in tree.walk() if not part.is_multipart and not part.is_message)
    chosen = [part for part in leaves if part.media_type in _TYPES or part.filename.lower().endswith(_ENDINGS)]
    return chosen[:MAX_PARTS]
