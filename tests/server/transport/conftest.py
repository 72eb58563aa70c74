"""A store with accounts, its transport and the API, without sockets, and with a movable clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from restante_server.db.engine import Database, open_database
from restante_server.db.group import Locks
from tests.harness.faults import DatabaseFaults
from tests.server.transport.world import Clock, World, open_world


@pytest.fixture
def clock() -> Clock:
    """The database's clock, which a test can advance."""
    return Clock()


@pytest.fixture
async def database(database_url: str, faults: DatabaseFaults, locks: Locks, clock: Clock) -> AsyncIterator[Database]:
    """An open database with the schema and the test's clock, closed after the test."""
    opened = open_database(database_url, locks=locks, faults=faults, clock=clock)
    yield opened
    await opened.close()


@pytest.fixture
async def world(database: Database, clock: Clock, tmp_path: Path) -> AsyncIterator[World]:
    """alice, bob and carol at example.test. Every test ends with the checks of store and transport."""
    opened = await open_world(database, tmp_path / "contents", clock)
    yield opened
    await opened.core.tasks.drain(5)
    assert await opened.problems() == []
