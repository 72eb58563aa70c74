"""Stores with mail, for tests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, func, insert, select

from restante_mail.idset import IdSet
from restante_mail.mime import parts
from restante_mail.mime.facts import scan
from restante_server.db import schema
from restante_server.db.engine import Database
from restante_server.db.operation import Write
from restante_server.directory import rights
from restante_server.directory.rights import Place
from restante_server.store import contents, erasure, folders, mailboxes, messages, removal, rows, transfer
from restante_server.store.contents import NewContent
from restante_server.store.folders import Role
from restante_server.store.listing import Listing, listing_of
from restante_server.store.messages import NewMessage, Placed
from restante_server.store.removal import Mode
from restante_server.store.selection import Selection
from restante_server.store.transfer import Transferred

R = TypeVar("R")

OWNER = 1  # the account of every mailbox here

NOW = 1_790_000_000_000_000  # microseconds; any moment will do
SIMPLE = (
    b"From: Alice <alice@example.test>\r\nTo: bob@example.test\r\nSubject: Lunch\r\n"
    b"Date: Mon, 21 Sep 2026 12:00:00 +0200\r\nMessage-ID: <1@example.test>\r\n\r\nAt noon?\r\n"
)
_LISTED: dict[bytes, Listing] = {}


def begin_store(tx: Connection) -> None:
    """Create the row of the store's facts if it is missing."""
    if tx.execute(select(func.count()).select_from(schema.store)).scalar_one() == 0:
        values = {"store_id": 1, "store_uuid": "test", "epoch": 1, "uid_validity_next": 1_000, "created_at": NOW}
        tx.execute(insert(schema.store), values)


def new_content(tx: Connection, octets: bytes = SIMPLE) -> int:
    """A content that the caller will refer to."""
    digest = hashlib.sha256(octets).digest()
    structure = parts.encode(scan(octets).tree)
    return contents.insert_many(tx, [NewContent(len(octets), digest, structure, octets, None)], NOW)[0]


def new_messages(tx: Connection, count: int, octets: bytes = SIMPLE, **facts: object) -> list[NewMessage]:
    """Messages that share one content."""
    content_id = new_content(tx, octets)
    shown = _LISTED.setdefault(octets, listing_of(scan(octets)))
    values: dict[str, object] = {"received_at": NOW, "head": b"Return-Path: <>\r\n", **facts}
    return [NewMessage(content_id, len(octets), shown, **values) for _ in range(count)]  # type: ignore[arg-type]


class Box:
    """One mailbox in an open database, with short methods to write and read it."""

    def __init__(self, database: Database, mailbox_id: int, by_role: dict[Role, int]) -> None:
        self.database, self.id, self.by_role = database, mailbox_id, by_role
        self.inbox, self.trash, self.archive = by_role[Role.INBOX], by_role[Role.TRASH], by_role[Role.ARCHIVE]

    async def write(self, function: Callable[..., R], *args: object, **named: object) -> R:
        """Run `function(tx, place, ...)` as one operation of the owner."""
        return await self.database.write(
            Write(lambda tx: function(tx, self.place(tx), *args, **named), mailboxes=frozenset({self.id}))
        )

    async def read(self, function: Callable[..., R], *args: object, **named: object) -> R:
        """Read `function(tx, place, ...)` in a snapshot."""
        return await self.database.read(lambda tx: function(tx, self.place(tx), *args, **named))

    async def write_in(self, folder_id: int, function: Callable[..., R], *args: object, **named: object) -> R:
        """As `write`, with the place in a folder."""
        return await self.database.write(
            Write(lambda tx: function(tx, self.place(tx, folder_id), *args, **named), mailboxes=frozenset({self.id}))
        )

    async def read_in(self, folder_id: int, function: Callable[..., R], *args: object, **named: object) -> R:
        """As `read`, with the place in a folder."""
        return await self.database.read(lambda tx: function(tx, self.place(tx, folder_id), *args, **named))

    def place(self, tx: Connection, folder_id: int = 0) -> Place:
        """The owner's place in the mailbox or a folder."""
        return rights.decide(tx, OWNER, self.id, folder_id)

    async def fill(self, folder_id: int, count: int, **facts: object) -> list[Placed]:
        """Put messages into a folder."""

        def run(tx: Connection, place: Place) -> list[Placed]:
            return add_to(tx, place, folder_id, new_messages(tx, count, **facts))  # type: ignore[arg-type]

        return await self.write(run)


async def make_box(database: Database, quota_octets: int | None = None) -> Box:
    """A mailbox with its default folders."""

    def run(tx: Connection) -> tuple[int, dict[Role, int]]:
        begin_store(tx)
        mailbox_id = mailboxes.create(tx, NOW, quota_octets=quota_octets, account_id=OWNER)  # one without is purged
        tree = folders.tree(tx, rights.decide(tx, OWNER, mailbox_id))
        return mailbox_id, {Role(facts.role): facts.folder_id for facts in tree}

    return Box(database, *await database.write(Write(run)))


def add_to(
    tx: Connection, place: Place, folder_id: int, items: list[NewMessage], *, within_quota: bool = True
) -> list[Placed]:
    """Put messages into a folder of a mailbox."""
    return messages.add(tx, rights.within(tx, place, folder_id), items, within_quota=within_quota)


def listings(tx: Connection, *_: object) -> list[tuple[int, int]]:
    """(mailbox_id, content_id) of every listing, ascending by content."""
    found = select(schema.listing.c.mailbox_id, schema.listing.c.content_id).order_by(schema.listing.c.content_id)
    return [(row[0], row[1]) for row in tx.execute(found.execution_options(across_mailboxes=True))]


def previews(tx: Connection, place: Place) -> list[str]:
    """The previews of the messages in the folders of a mailbox."""
    found = rows.page(tx, place, Selection(None, IdSet(((1, 99),))), frozenset({"preview"}), most=99)
    return list(found.columns["preview"])


def copy_to(
    tx: Connection,
    place: Place,
    selection: Selection,
    folder_id: int,
    expected: int | None = None,
    if_change_number: int | None = None,
) -> Transferred:
    """Copy messages into another folder of their mailbox."""
    target = rights.within(tx, place, folder_id)
    return transfer.copy(tx, place, selection, target, expected, if_change_number=if_change_number)


def move_to(
    tx: Connection,
    place: Place,
    selection: Selection,
    folder_id: int,
    now: int,
    expected: int | None = None,
    if_change_number: int | None = None,
) -> Transferred:
    """Move messages into another folder of their mailbox."""
    target = rights.within(tx, place, folder_id)
    return transfer.move(tx, place, selection, target, now, expected, if_change_number=if_change_number)


def erase(tx: Connection, place: Place, selection: Selection) -> None:
    """Remove messages permanently, as if their leases had lapsed at once."""
    removal.remove(tx, place, selection, Mode.HARD, NOW)
    erasure.end_leases(tx, place, IdSet(((1, 1 << 40),)), NOW)


def uids(folder_id: int, *runs: int | tuple[int, int]) -> Selection:
    """Messages of a folder by UID, as numbers and runs."""
    return Selection(folder_id, IdSet.from_runs(run if isinstance(run, tuple) else (run, run) for run in runs))


def ids(*numbers: int) -> Selection:
    """Messages by message id."""
    return Selection(None, IdSet.of(numbers))
