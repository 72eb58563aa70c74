"""A core with a few accounts."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from restante_server.db.engine import Database
from tests.server.api.people import Bench, make_bench


@pytest.fixture
async def bench(database: Database) -> AsyncIterator[Bench]:
    """A core with a few accounts; see `people.make_bench`."""
    made = await make_bench(database)
    yield made
    made.core.directory.close()
