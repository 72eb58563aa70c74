"""Work on a thread for a coroutine that may be cancelled."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

R = TypeVar("R")


async def on_thread(threads: Executor, work: Callable[[], R], *, stop: Callable[[], object] = lambda: None) -> R:
    """Returns or raises what the work does, run on one of the threads.

    A caller that is cancelled, however often, goes on only once the thread has let go: until then the thread may use
    the caller's files. `stop` is called first, and should make the work end soon.
    """
    running = asyncio.get_running_loop().run_in_executor(threads, work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop()
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError):  # the first one is raised in the end
                await asyncio.wait([running])
        raise
