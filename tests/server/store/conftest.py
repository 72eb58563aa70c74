"""Every test of the store ends with `check`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from restante_server.db.engine import Database
from restante_server.store.check import check
from tests.server.store.material import Box, make_box


@pytest.fixture
async def box(database: Database) -> AsyncIterator[Box]:
    """A mailbox; whatever the test did to its store, the store must be sound at the end."""
    yield await make_box(database)
    assert await database.read(check) == []


@pytest.fixture
async def other(box: Box) -> Box:
    """Another mailbox in the same store."""
    return await make_box(box.database)
