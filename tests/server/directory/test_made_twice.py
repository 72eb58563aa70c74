"""The same name is made twice at once, on PostgreSQL by two cores: one gets it, and the other hears that it exists."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection

from restante.errors import AddressExists, DomainExists, FolderExists, RestanteError
from restante_server.accounts import lifecycle
from restante_server.db.engine import Database, open_database
from restante_server.db.group import Locks
from restante_server.db.operation import Write
from restante_server.directory import aliases, domains, rights
from restante_server.directory.accounts import NewAccount
from restante_server.store import folders
from tests.server.directory.material import NOW

MAILBOX = 1  # of alice


def create_domain(tx: Connection) -> None:
    domains.create(tx, NOW, "example.org")


def create_account(tx: Connection) -> None:
    lifecycle.create(tx, NOW, NewAccount("dora@example.test", "no hash"))


def create_alias(tx: Connection) -> None:
    aliases.create(tx, NOW, "team@example.test", ["alice@example.test"])


def create_folder(tx: Connection) -> None:
    folders.create(tx, rights.system(MAILBOX), ["Work"], NOW)


@pytest.mark.parametrize(
    ("create", "exists"),
    [
        (create_domain, DomainExists),
        (create_account, AddressExists),
        (create_alias, AddressExists),
        (create_folder, FolderExists),
    ],
)
async def test_the_second_of_two_hears_that_it_exists(
    people: Database,
    database_url: str,
    locks: Locks,
    create: Callable[[Connection], None],
    exists: type[RestanteError],
) -> None:
    def slowly(tx: Connection) -> bool:
        create(tx)
        time.sleep(0.2)  # the other core looks before this one commits
        return True

    write: Write[Any] = Write(slowly, mailboxes=frozenset([MAILBOX] if create is create_folder else []))
    other = people if "sqlite" in database_url else open_database(database_url, locks=locks)
    try:
        outcomes = await asyncio.gather(*(core.write(write) for core in (people, other)), return_exceptions=True)
    finally:
        if other is not people:
            await other.close()
    assert {type(outcome) for outcome in outcomes} == {bool, exists}
