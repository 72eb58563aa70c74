"""Jobs run again after any failure, and end within a limit."""

from __future__ import annotations

import asyncio
import logging

import pytest

from restante.errors import StoreBusy
from restante_server.upkeep.scheduler import PeriodicTask, Scheduler


async def test_a_job_waits_its_time_unless_it_begins_at_once() -> None:
    ran: list[str] = []

    async def note(name: str) -> None:
        ran.append(name)

    scheduler = Scheduler()
    scheduler.start(
        [PeriodicTask("late", 60, lambda: note("late")), PeriodicTask("soon", 60, lambda: note("soon"), at_once=True)]
    )
    for _ in range(5):
        await asyncio.sleep(0)
    assert ran == ["soon"]
    await scheduler.stop(1)


async def test_a_job_that_fails_is_repeated_and_a_busy_store_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    outcomes = [StoreBusy(), StoreBusy(), ValueError("a fault"), None, StoreBusy()]
    done = asyncio.Event()

    async def work() -> None:
        if not outcomes:
            done.set()
            return
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome

    scheduler = Scheduler()
    with caplog.at_level(logging.DEBUG, "restante_server.upkeep.scheduler"):
        scheduler.start([PeriodicTask("sweep", 0, work, at_once=True)])
        await asyncio.wait_for(done.wait(), 5)
    await scheduler.stop(1)
    levels = [record.levelname for record in caplog.records if "sweep" in record.getMessage()]
    assert levels == ["WARNING", "DEBUG", "ERROR", "WARNING"]


async def test_stop_waits_no_longer_than_it_may(caplog: pytest.LogCaptureFixture) -> None:
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    async def broken() -> None:
        raise ValueError("a fault")

    scheduler = Scheduler()
    scheduler.run("stubborn", stubborn())
    scheduler.run("broken", broken())
    try:
        await asyncio.sleep(0)
        began = asyncio.get_running_loop().time()
        await asyncio.wait_for(asyncio.shield(scheduler.stop(0.05)), 1)
        assert asyncio.get_running_loop().time() - began < 1
        assert "the task broken ended with an error" in caplog.text
    finally:  # the loop of the test waits for every task at its end
        release.set()
        await asyncio.sleep(0)
        await scheduler.stop(1)
