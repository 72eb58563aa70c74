"""A store with people, its transport, and the API in front of it, without sockets."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from restante_server.db.engine import Database
from tests.server.transport.world import World, open_world


@pytest.fixture
async def world(database: Database, tmp_path: Path) -> AsyncIterator[World]:
    """alice, bob and carol at example.test. Every test ends with the checks of store and transport."""
    opened = await open_world(database, tmp_path / "contents")
    yield opened
    await opened.core.drain(5)
    assert await opened.problems() == []


@pytest.fixture
def patient(world: World) -> World:
    """The same, with reports and retries at times that tests can name."""
    settings = dataclasses.replace(world.transport.settings, hostname="mx.example.test")
    world.transport.settings = settings
    return world
