"""A relay with an outbound queue in memory and scripted peers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest
import uvloop
from prometheus_client import CollectorRegistry

from restante_gateways.relay.gateway import Relay, RelaySettings
from restante_gateways.relay.metrics import RelayMetrics
from restante_gateways.relay.peer import Patience
from tests.harness.outbound_queue import OutboundQueue

HASTE = Patience(
    connect=1.0, greeting=0.5, command=0.5, tls=0.5, data=0.5, piece=0.5, final=0.5, transaction=5.0, quit=0.2
)


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, Callable[[], Any]]:
    """The relay's event loop (uvloop) and asyncio's, whose transports differ in places."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@contextlib.asynccontextmanager
async def running(
    core: OutboundQueue, routes: dict[str, str], *, registry: CollectorRegistry | None = None, **settings: Any
) -> AsyncIterator[Callable[[], None]]:
    """A running relay for the time of the context; yields a function that makes it drain."""
    settings = {"own_name": "mx.example.test", "patience": HASTE, "drain_seconds": 1.0, **settings}
    relay = Relay(
        RelaySettings(routes=tuple(routes.items()), **settings), core, RelayMetrics(registry or CollectorRegistry())
    )
    draining = asyncio.Event()
    task = asyncio.create_task(relay.run(draining))
    try:
        yield draining.set
    finally:
        draining.set()
        async with asyncio.timeout(10):
            await task
