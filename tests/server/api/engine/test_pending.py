"""The response to a call that needs no task."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from restante.errors import Cancelled, FolderNotFound
from restante.v1.folder_pb2 import GetFolderResponse
from restante_server.api.engine.pending import Outcome, Pending

ANSWER = GetFolderResponse()


def test_the_listener_is_called_once_at_once_however_late_it_comes() -> None:
    early, late = Pending(), Pending()
    heard: list[Outcome] = []
    early.then(heard.append)
    early.settle(ANSWER)
    assert heard == [ANSWER]
    late.settle(ANSWER)
    late.settle(FolderNotFound())
    late.then(heard.append)
    assert heard == [ANSWER, ANSWER]


def test_cancelling_gives_the_work_up_once_and_nothing_comes_after_it() -> None:
    pending = Pending()
    stops: list[None] = []
    heard: list[Outcome] = []
    pending.stop = lambda: stops.append(None)
    pending.then(heard.append)
    pending.cancel()
    pending.cancel()
    pending.settle(ANSWER)
    assert len(stops) == 1
    assert [type(one) for one in heard] == [Cancelled]


def test_a_settled_response_keeps_nothing_alive_that_keeps_it() -> None:
    """Every operation would otherwise leave a cycle for the collector."""

    class Flight:
        def __init__(self) -> None:
            self.pending = Pending()
            self.pending.stop = self.stop
            self.pending.then(self.done)

        def stop(self) -> None: ...

        def done(self, outcome: Outcome) -> None: ...

    flight = Flight()
    flight.pending.settle(ANSWER)
    gone = weakref.ref(flight)
    gc.disable()
    try:
        del flight
        assert gone() is None
    finally:
        gc.enable()


async def test_it_can_be_awaited() -> None:
    ready, failing = Pending(), Pending()
    ready.settle(ANSWER)
    assert await ready is ANSWER
    asyncio.get_running_loop().call_soon(failing.settle, FolderNotFound())
    with pytest.raises(FolderNotFound):
        await failing


async def test_a_cancelled_wait_cancels_the_call() -> None:
    pending = Pending()
    stops: list[None] = []
    pending.stop = lambda: stops.append(None)

    async def wait() -> object:
        return await pending

    waiting = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert len(stops) == 1
    assert pending.settled
