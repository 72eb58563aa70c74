"""Filling a store fast, without a running core: through the store's own functions, some hundred rows a transaction."""

from __future__ import annotations

import contextlib
import hashlib
import random
import time
from collections.abc import AsyncIterator
from functools import partial

from sqlalchemy import Connection, func, select

from restante_mail.mime import parts
from restante_mail.mime.facts import scan
from restante_process.config import Config
from restante_server.accounts import lifecycle
from restante_server.db import schema
from restante_server.db.engine import Database
from restante_server.db.operation import Write
from restante_server.directory import accounts, rights
from restante_server.directory.accounts import NewAccount
from restante_server.opening import open_store
from restante_server.store import contents, folders, messages
from restante_server.store.contents import NewContent
from restante_server.store.folders import Role
from restante_server.store.listing import listing_of
from restante_server.store.messages import NewMessage

AT_ONCE = 250
OCTETS = 2_000  # of a message, about
DAY = 24 * 3_600 * 1_000_000  # microseconds
WORDS = "agenda budget contract delivery estimate figures invoice letter meeting offer price quarter report".split()


@contextlib.asynccontextmanager
async def opened(settings: Config) -> AsyncIterator[Database]:
    """The database of an installation, for the time of the context."""
    database = open_store(settings)
    try:
        yield database
    finally:
        await database.close()


def letter(number: int) -> bytes:
    """Message `number`, which differs from all others in its header and text. Canonical octets."""
    words = random.Random(number)
    subject = " ".join(words.choices(WORDS, k=4))
    header = (
        f"From: Sender {number % 500} <sender{number % 500}@sender.test>\r\nTo: Owner <owner@bench.test>\r\n"
        f"Subject: {subject}\r\nDate: Mon, 2 Nov 2026 10:{number // 60 % 60:02d}:{number % 60:02d} +0000\r\n"
        f"Message-ID: <{number}.{words.getrandbits(64):016x}@sender.test>\r\nMIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n\r\n"
    )
    lines = [" ".join(words.choices(WORDS, k=9)) for _ in range((OCTETS - len(header)) // 65)]
    return (header + "\r\n".join(lines) + "\r\n").encode()


def _append(tx: Connection, mailbox_id: int, start: int, count: int, now: int) -> None:
    place = rights.system(mailbox_id)
    inbox = folders.with_role(tx, place, Role.INBOX)
    assert inbox is not None
    new, items = [], []
    for number in range(start, start + count):
        octets = letter(number)
        facts = scan(octets)
        new.append(NewContent(len(octets), digest_of(octets), parts.encode(facts.tree), octets, None))
        items.append((len(octets), listing_of(facts), now - (number % 1_000) * DAY // 10))
    ids = contents.insert_many(tx, new, now)
    made = [
        NewMessage(content_id, size, listing, received_at=at)
        for content_id, (size, listing, at) in zip(ids, items, strict=True)
    ]
    messages.add(tx, rights.system(mailbox_id, inbox.folder_id), made, within_quota=False)


def _create(tx: Connection, names: list[str], verifier: str, now: int) -> None:
    for name in names:
        lifecycle.create(tx, now, NewAccount(f"{name}@bench.test", verifier))


async def fill(settings: Config, folders_of: dict[str, int], accounts_named: list[str], verifier: str) -> None:
    """Create accounts of the domain bench.test, then bring INBOXes to a number of messages ({name: number}).

    `verifier` is the password hash of all new accounts. The store must exist, and no SQLite core may run.
    """
    now = time.time_ns() // 1_000
    async with opened(settings) as database:
        for start in range(0, len(accounts_named), AT_ONCE):
            some = accounts_named[start : start + AT_ONCE]
            await database.write(Write(partial(_create, names=some, verifier=verifier, now=now), rows=20 * len(some)))
        for name, count in folders_of.items():
            await _fill_inbox(database, name, count, now)


async def _fill_inbox(database: Database, name: str, count: int, now: int) -> None:
    found = await database.read(lambda tx: accounts.get(tx, f"{name}@bench.test"))
    for start in range(found.message_count, count, AT_ONCE):
        append = partial(_append, mailbox_id=found.mailbox_id, start=start, count=min(AT_ONCE, count - start), now=now)
        await database.write(Write(append, mailboxes=frozenset({found.mailbox_id}), rows=4 * AT_ONCE))


def digest_of(octets: bytes) -> bytes:
    """The digest of a content."""
    return hashlib.sha256(octets).digest()


async def verifier_of(settings: Config, address: str) -> str:
    """The password hash of an account."""
    wanted = (
        select(schema.credential.c.verifier)
        .join(schema.account, schema.account.c.account_id == schema.credential.c.account_id)
        .where(func.lower(schema.account.c.address) == address)
    )
    async with opened(settings) as database:
        found: str = await database.read(lambda tx: tx.execute(wanted).scalar_one())
        return found
