"""`check` finds damage: each kind of damage, made by hand, is reported."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, delete, insert, literal, select, update
from sqlalchemy.sql.compiler import SQLCompiler

from restante_server.db import schema
from restante_server.db.engine import Database
from restante_server.directory.rights import Place
from restante_server.store import flags, removal
from restante_server.store.check import check
from restante_server.store.flags import FlagChange
from restante_server.store.removal import Mode
from tests.server.store.material import NOW, make_box, uids

s = schema
GRAVE = {"kind": 1, "target_folder_id": 0, "created_at": NOW}
DAMAGE = {
    "folder with counters other than its messages give": update(s.folder).values(unread_count=9),
    "mailbox with counters other than its messages give": update(s.mailbox).values(used_octets=1),
    "folder without a mailbox": update(s.folder).where(s.folder.c.role == 5).values(mailbox_id=77),
    "folder without its parent": update(s.folder).where(s.folder.c.role == 5).values(parent_folder_id=99),
    "role that several folders have": update(s.folder).where(s.folder.c.role == 5).values(role=4),
    "mailbox without an Inbox": update(s.folder).where(s.folder.c.role == 1).values(role=0),
    "folder with a change number above its mailbox's": update(s.folder).values(change_number=1_000),
    "folder with a \\Recent boundary above UIDNEXT": update(s.folder).values(recent_uid=99),
    "UIDVALIDITY that several folders have": update(s.folder).values(uid_validity=1),
    "message without a mailbox": update(s.message).where(s.message.c.message_id == 1).values(mailbox_id=77),
    "message without its folder": update(s.message).where(s.message.c.message_id == 1).values(folder_id=99),
    "message with a folder or a UID, but not both": update(s.message)
    .where(s.message.c.message_id == 1)
    .values(uid=None),
    "message with unknown flags": update(s.message).where(s.message.c.message_id == 1).values(flags=33),
    "message without a listing": delete(s.listing).where(s.listing.c.content_id == 1),
    "message without a listing: mailbox_id 1, message_id 2": update(s.message)
    .where(s.message.c.message_id == 2)
    .values(listed_in=77),
    "listing without a content": update(s.listing).where(s.listing.c.content_id == 1).values(content_id=88),
    "listing without a content, or under another mailbox than": insert(s.listing).from_select(
        s.listing.c.keys(), select(literal(77), *list(s.listing.c)[1:]).where(s.listing.c.content_id == 1)
    ),
    "content without the listing that it says it has": update(s.content).values(listed_in=77),
    "message without a folder, neither recoverable nor removed": delete(s.removed),
    "removal entry of a message in a folder, of a recoverable one or of no message": update(s.removed).values(
        message_id=3
    ),
    "recoverable entry of a message in a folder or of no message": update(s.recoverable).values(message_id=1),
    "tombstone with a change number above its mailbox's or below its history": update(s.mailbox).values(
        history_from=50
    ),
    "tombstone with a change number above its folder's": update(s.folder).values(change_number=2),
    "message without a live content": update(s.content).values(state=2),
    "message with a size other than that of head and content": update(s.message).values(head=b""),
    "content without octets in the database": delete(s.content_octets),
    "content with a size other than that of its octets": update(s.content_octets).values(octets=b"x"),
    "octets without a content": insert(s.content_octets).values(content_id=500, octets=b"x"),
    "content_pin without a live content": insert(s.content_pin).values(content_id=500, pin_id=1, expires_at=NOW),
    "tombstone with unequal or unreadable sets": update(s.tombstone).values(uids=b""),
}


@pytest.mark.parametrize("what", DAMAGE)
async def test_damage_is_found(database: Database, what: str) -> None:
    box = await make_box(database)
    await box.fill(box.inbox, 3)
    await box.write(flags.change_flags, uids(box.inbox, 1), FlagChange.ADD, 1)
    await box.write(removal.remove, uids(box.inbox, 3), Mode.SOFT, NOW)
    await box.write(removal.remove, uids(box.inbox, 2), Mode.HARD, NOW)
    assert await database.read(check) == []

    def damage(tx: Connection, place: Place) -> None:
        # Raw SQL text that bypasses every rule, so that the tenancy check does not see it as the store's statement.
        compiled = DAMAGE[what].compile(tx)
        tx.exec_driver_sql(str(compiled), _driver_parameters(tx, compiled))

    await box.write(damage)
    assert any(problem.startswith(what) for problem in await database.read(check))


def _driver_parameters(tx: Connection, compiled: object) -> Any:
    assert isinstance(compiled, SQLCompiler)
    values = compiled.construct_params()
    return tuple(values[name] for name in compiled.positiontup) if compiled.positiontup else dict(values)
