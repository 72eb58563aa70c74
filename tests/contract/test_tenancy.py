"""Promise 6 of the design: every statement on mailbox data names the mailbox.

During the tests of the store, every statement that SQLAlchemy executes is checked (tests/server/store/conftest.py).
This module tests the check itself, and checks every prepared statement of the store's modules without running one.
"""

from __future__ import annotations

import importlib
import pkgutil

import pytest
from sqlalchemy import ClauseElement, Delete, Insert, Select, Update, and_, bindparam, delete, insert, select, update

import restante_server.store
from restante_server.db.schema import content, folder, listing, message, recoverable
from restante_server.store.rows import SHOWS
from restante_server.store.runs import JsonRows, join_from
from restante_server.store.selection import Kind, chosen, members
from tests.harness.tenancy import names_mailbox

MINE = message.c.mailbox_id == bindparam("mailbox")
SAME = and_(recoverable.c.mailbox_id == message.c.mailbox_id, recoverable.c.message_id == message.c.message_id)
other = message.alias("other")
held = select(other.c.mailbox_id, other.c.message_id).where(other.c.mailbox_id == bindparam("mailbox")).subquery()
loose = select(other.c.mailbox_id, other.c.message_id).where(other.c.uid == bindparam("uid")).subquery()
pairs = JsonRows("pairs")

SOUND: list[ClauseElement] = [
    select(message.c.uid).where(MINE),
    select(message.c.uid, recoverable.c.deleted_at).join_from(message, recoverable, SAME).where(MINE),
    select(recoverable.c.deleted_at).join_from(message, recoverable, SAME).where(MINE),
    select(listing.c.preview).join_from(message, listing, SHOWS).where(MINE),
    update(message).where(MINE, message.c.uid == 1).values(flags=1),
    delete(message).where(MINE),
    insert(message),
    insert(message).from_select(["mailbox_id"], select(message.c.mailbox_id).where(MINE)),
    select(content.c.digest).where(content.c.content_id == 1),
    select(folder.c.role).select_from(
        join_from(pairs.rows, folder, and_(folder.c.mailbox_id == pairs.item(0), folder.c.folder_id == pairs.item(1)))
    ),
    update(message).where(members(Kind(True, False, False))).values(flags=1),
    update(message).where(message.c.mailbox_id == held.c.mailbox_id).values(flags=1),
    select(message.c.flags).select_from(chosen(Kind(False, False, True))[0]),
]
UNSOUND: list[ClauseElement] = [
    update(message).where(message.c.mailbox_id == loose.c.mailbox_id).values(flags=1),
    select(message.c.uid),
    select(message.c.uid).where(message.c.folder_id == bindparam("folder")),
    update(message).where(message.c.uid == 1).values(flags=1),
    delete(message).where(message.c.message_id == bindparam("id")),
    select(message.c.uid, recoverable.c.deleted_at).join_from(message, recoverable, SAME),
    select(message.c.uid).join_from(message, recoverable, recoverable.c.message_id == message.c.message_id).where(MINE),
    select(listing.c.preview).join_from(message, listing, listing.c.content_id == message.c.content_id).where(MINE),
    select(listing.c.preview).join_from(message, listing, SHOWS),
    select(message.c.uid).join_from(message, listing, SHOWS).where(listing.c.mailbox_id == bindparam("mailbox")),
    select(message.c.uid).where(message.c.listed_in == bindparam("mailbox")),
    insert(message).from_select(["mailbox_id"], select(message.c.mailbox_id)),
    update(message)
    .where(MINE, message.c.message_id.in_(select(other.c.message_id).where(other.c.uid == 1)))
    .values(flags=1),
    select(message.c.uid).where(message.c.mailbox_id != bindparam("mailbox")),
    select(message.c.uid).where(message.c.mailbox_id == message.c.folder_id),
    select(folder.c.role).select_from(join_from(pairs.rows, folder, folder.c.folder_id == pairs.item(0))),
]


@pytest.mark.parametrize("statement", SOUND, ids=range(len(SOUND)))
def test_a_statement_that_names_the_mailbox_passes(statement: ClauseElement) -> None:
    assert names_mailbox(statement) == []


@pytest.mark.parametrize("statement", UNSOUND, ids=range(len(UNSOUND)))
def test_a_statement_that_forgets_it_for_any_table_is_found(statement: ClauseElement) -> None:
    assert names_mailbox(statement) != []


def test_work_across_mailboxes_says_so() -> None:
    across = select(message.c.uid).execution_options(across_mailboxes=True)
    assert names_mailbox(across) == []


def test_statements_kept_by_the_store_name_the_mailbox() -> None:
    found = 0
    for module in pkgutil.iter_modules(restante_server.store.__path__, "restante_server.store."):
        if module.name.endswith((".check", ".garbage")):  # they are about all mailboxes, by design
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, Select | Insert | Update | Delete):
                found += 1
                assert names_mailbox(value) == [], f"{module.name}.{name}: {value}"
    assert found > 50
