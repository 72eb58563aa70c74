"""Every test of the store ends with `check`, and each of its statements on mailbox data must name the mailbox."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from sqlalchemy import ClauseElement, Connection, Engine, event

from restante_server.db import prepared
from restante_server.db.engine import Database
from restante_server.store.check import check
from tests.harness.tenancy import names_mailbox
from tests.server.store.material import Box, make_box

_examined: dict[ClauseElement, list[str]] = {}  # statements are kept by modules and run many times


@pytest.fixture(autouse=True)
def _tenancy() -> Iterator[None]:
    """Fail a test that ran a statement without the mailbox (tests/contract/test_tenancy.py)."""
    forgotten: list[str] = []

    def examine(tx: Connection | None, statement: Any, many: Any, params: Any, options: Any) -> None:
        if not isinstance(statement, ClauseElement):
            return
        if statement not in _examined:
            _examined[statement] = names_mailbox(statement)
        if _examined[statement]:
            forgotten.append(f"{', '.join(_examined[statement])} in {statement}")

    event.listen(Engine, "before_execute", examine)
    yield
    event.remove(Engine, "before_execute", examine)
    for statement in prepared.kept():  # SQLAlchemy has no event for these
        examine(None, statement, None, None, None)
    assert forgotten == []


@pytest.fixture
async def box(database: Database) -> AsyncIterator[Box]:
    """A mailbox. Its store must pass the check at the end of the test."""
    yield await make_box(database)
    assert await database.read(check) == []


@pytest.fixture
async def other(box: Box) -> Box:
    """Another mailbox in the same store."""
    return await make_box(box.database)
