"""A store in which alice, bob and carol have accounts."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from restante_server.db.engine import Database
from restante_server.directory.service import Directory
from tests.server.directory.material import SETTINGS, make_account, make_store


@pytest.fixture
async def store(database: Database) -> Database:
    """A store with the domain example.test."""
    await make_store(database)
    return database


@pytest.fixture
async def people(store: Database) -> Database:
    """A store with the domain example.test and the accounts alice, bob and carol."""
    for name in ("alice", "bob", "carol"):
        await make_account(store, f"{name}@example.test", display_name=name.capitalize())
    return store


@pytest.fixture
async def directory(people: Database) -> AsyncIterator[Directory]:
    """One core's Directory: its logins, sessions and lookups."""
    opened = await Directory.open(people, SETTINGS)
    yield opened
    opened.close()
