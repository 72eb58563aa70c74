"""Child processes: started, watched, started again when they die, drained at the end, ended when their parent dies."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0
STEADY_SECONDS = 2.0  # a child that ran so long is not failing to start: it is started again at once
EXTRA_SECONDS = 5.0  # beyond a child's own time to drain
HEAD_START_SECONDS = 3.0  # for the first child, before others that died beside it are started and take its processor

IGNORING_HANGUP = ("/bin/sh", "-c", 'trap "" HUP; exec "$@"', "sh")
"""Runs a program that begins with SIGHUP ignored: the signal would end a child that has just begun, and which reads its
configuration anyway. A function of Python's that runs in the child would make Python fork, and gRPC's own handlers of a
fork can abort the child (grpc/grpc#43055)."""

LEASH = "RESTANTE_LEASH"
"""In a child's environment: seconds to end in, once its standard input, a pipe from the parent, has ended."""


@dataclass(eq=False)
class Child:
    """One program. `restarts` counts how often it has been started again, `died` tells that it ended unasked."""

    name: str
    arguments: Sequence[str]  # behind `python -m restante_cli`
    process: asyncio.subprocess.Process | None = None
    restarts: int = 0
    last_status: int | None = None
    died: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class Supervisor:
    """Children that are kept running. The others need the first, which therefore ends last."""

    def __init__(
        self,
        tell: Callable[[str], None],
        drain_seconds: float,
        first_ready: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        """`tell` is given a line when a child dies. `drain_seconds` is a child's own time to drain. `first_ready` says
        whether the first child serves: another that died waits for that a while before it is started again."""
        self._tell, self._drain_seconds, self._first_ready = tell, drain_seconds, first_ready
        self.children: list[Child] = []
        self.complete = False  # every child has been ready once: from here on one that dies is started again
        self._ending = asyncio.Event()

    async def start(self, name: str, arguments: Sequence[str]) -> Child:
        """Start a child and keep it running. Raises OSError."""
        child = Child(name, arguments)
        child.process = await self._spawn(child)
        child.task = asyncio.create_task(self._keep(child), name=name)
        self.children.append(child)
        return child

    def reload(self) -> None:
        """Have each child read its configuration and certificates again."""
        for child in self.children:
            if child.process is not None and child.process.returncode is None:
                child.process.send_signal(signal.SIGHUP)

    async def stop(self) -> None:
        """End the children; those that do not end in time are killed.

        Gateways drain first, all at once, while the core is still there to take what their clients have begun.
        """
        self._ending.set()
        await asyncio.gather(*(self._end(child) for child in self.children[1:]))
        await asyncio.gather(*(self._end(child) for child in self.children[:1]))

    async def _end(self, child: Child) -> None:
        assert child.task is not None
        if child.process is not None and child.process.returncode is None:
            child.process.terminate()
        # The task ends with the process; one that was just being started again is ended by its task.
        done, _ = await asyncio.wait([child.task], timeout=self._drain_seconds + EXTRA_SECONDS)
        if not done:
            self._tell(f"{child.name} did not end in time and is killed")
            if child.process is not None and child.process.returncode is None:
                child.process.kill()
        await child.task

    async def _spawn(self, child: Child) -> asyncio.subprocess.Process:
        # A session of its own: Ctrl-C at the terminal reaches only the supervisor, which ends them in order.
        # The pipe is its leash: it ends when this process does, however that comes.
        return await asyncio.create_subprocess_exec(
            *IGNORING_HANGUP,
            sys.executable,
            "-m",
            "restante_cli",
            *child.arguments,
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, LEASH: str(self._drain_seconds + EXTRA_SECONDS)},
        )

    async def _keep(self, child: Child) -> None:
        pause, began = FIRST_PAUSE_SECONDS, time.monotonic()
        assert child.process is not None
        while True:
            child.last_status = await child.process.wait()
            if self._ending.is_set():
                return
            child.died.set()
            if time.monotonic() - began > STEADY_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            self._tell(f"{child.name} {_ended(child.last_status)}; starting it again in {pause:.1f} s")
            if await self._ending_within(pause):
                return
            if child is not self.children[0] and await self._ending_before_first_is_ready():
                return
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            child.restarts += 1
            began = time.monotonic()
            try:
                child.process = await self._spawn(child)
            except OSError as error:
                self._tell(f"{child.name} could not be started: {error.strerror}")
                continue  # the process that has ended is found ended once more, after a longer pause
            if self._ending.is_set():
                child.process.terminate()

    async def _ending_before_first_is_ready(self) -> bool:
        until = time.monotonic() + HEAD_START_SECONDS
        while self._first_ready is not None and time.monotonic() < until and not await self._first_ready():
            if await self._ending_within(FIRST_PAUSE_SECONDS):
                return True
        return False

    async def _ending_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._ending.wait()
        except TimeoutError:
            return False
        return True


def _ended(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def hold_leash() -> None:
    """In a child: drain when the parent dies, as if it had asked, and end whatever happens some seconds later."""
    seconds = os.environ.pop(LEASH, "")
    if not seconds:
        return

    def hold() -> None:
        while os.read(0, 4_096):
            pass  # nothing is ever written to it
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(float(seconds))
        os._exit(1)

    threading.Thread(target=hold, name="leash", daemon=True).start()
