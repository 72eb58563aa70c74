"""Running work on a thread for a coroutine that may be cancelled."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

R = TypeVar("R")


async def on_thread(threads: Executor, work: Callable[[], R], *, stop: Callable[[], object] = lambda: None) -> R:
    """Run `work` on one of the threads; returns its result or raises its exception.

    A cancelled caller continues only after the thread has finished, because the thread may use the caller's files until
    then. On cancellation `stop` is called first and should make the work end soon.
    """
    running = asyncio.get_running_loop().run_in_executor(threads, work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop()
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError):  # the first cancellation is raised at the end
                await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # retrieved, so that asyncio does not report it: the caller is gone
        raise
