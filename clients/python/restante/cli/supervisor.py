"""Child processes: started, watched, started again when they die, drained at the end."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0
STEADY_SECONDS = 30.0  # a child that ran so long is started again at once
EXTRA_SECONDS = 5.0  # beyond a child's own time to drain


@dataclass(eq=False)
class Child:
    """One program. `restarts` counts how often it has been started again."""

    name: str
    arguments: Sequence[str]  # behind `python -m restante`
    process: asyncio.subprocess.Process | None = None
    restarts: int = 0
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class Supervisor:
    """Some children in the order they were started."""

    def __init__(self, tell: Callable[[str], None], drain_seconds: float) -> None:
        """`tell` is given a line when a child dies."""
        self._tell, self._drain_seconds = tell, drain_seconds
        self.children: list[Child] = []
        self._ending = False

    async def start(self, name: str, arguments: Sequence[str]) -> Child:
        """Start a child and keep it running."""
        child = Child(name, arguments)
        child.process = await self._spawn(child)
        child.task = asyncio.create_task(self._keep(child), name=name)
        self.children.append(child)
        return child

    async def stop(self) -> None:
        """End the children, the last started first; those that do not end in time are killed."""
        self._ending = True
        # Gateways tell their clients while the core is still there to take what they have.
        for child in reversed(self.children):
            if child.process is not None and child.process.returncode is None:
                child.process.send_signal(signal.SIGTERM)
            if child is self.children[0] or child is self.children[1 % len(self.children)]:
                await self._ended(child)
        for child in self.children:
            await self._ended(child)
            if child.task is not None:
                child.task.cancel()
        await asyncio.gather(*(child.task for child in self.children if child.task), return_exceptions=True)

    async def _ended(self, child: Child) -> None:
        if child.process is None:
            return
        try:
            async with asyncio.timeout(self._drain_seconds + EXTRA_SECONDS):
                await child.process.wait()
        except TimeoutError:
            self._tell(f"{child.name} did not end in time and is killed")
            child.process.kill()
            await child.process.wait()

    async def _spawn(self, child: Child) -> asyncio.subprocess.Process:
        # A session of its own: Ctrl-C at the terminal reaches only the supervisor, which ends them in order.
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "restante", *child.arguments, stdin=asyncio.subprocess.DEVNULL, start_new_session=True
        )

    async def _keep(self, child: Child) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            began = time.monotonic()
            assert child.process is not None
            code = await child.process.wait()
            if self._ending:
                return
            if time.monotonic() - began > STEADY_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            self._tell(f"{child.name} ended with status {code}; starting it again in {pause:.1f} s")
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            child.restarts += 1
            child.process = await self._spawn(child)
