"""Fixtures for code that serves sockets: both kinds of event loop, and certificates for the test.

This module is a pytest plugin, loaded by tests/conftest.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest
import uvloop

from tests.harness.certificates import MakePair, pair_maker

T = TypeVar("T")
Run = Callable[[Callable[[], Awaitable[T]]], T]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run[object]:
    """A function that runs a coroutine function on each kind of event loop, for at most 20 seconds."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def run_on_loop(main: Callable[[], Awaitable[object]]) -> object:
        async def bounded() -> object:
            async with asyncio.timeout(20):
                return await main()

        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(bounded())

    return run_on_loop


@pytest.fixture
def make_pair(tmp_path: Path) -> MakePair:
    """A maker of self-signed certificates with their keys: `make_pair("name", "mail.example.test", days=90)`."""
    return pair_maker(tmp_path)
