"""The supervisor of child processes: it starts them, restarts those that die, and drains them at the end.

A child ends by itself when the supervisor dies.
"""

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
STEADY_SECONDS = 2.0  # a child that ran longer has started well: the pause before its restart is the shortest again
EXTRA_SECONDS = 5.0  # after a child's time to drain
HEAD_START_SECONDS = 3.0  # for a core to become ready, before the restart of gateways takes processor time

IGNORING_HANGUP = ("/bin/sh", "-c", 'trap "" HUP; exec "$@"', "sh")
"""A shell command that runs a program with SIGHUP ignored. The signal would end a child that has just started, and such
a child reads its configuration anyway. A `preexec_fn` would make Python fork, and gRPC's fork handlers can abort the
child (grpc/grpc#43055)."""

LEASH = "RESTANTE_LEASH"
"""A child's environment variable: its seconds to end after its standard input, a pipe from the parent, has ended."""


@dataclass(eq=False)
class Child:
    """One child process. `restarts` counts its restarts; `died` is set when it ends unexpectedly."""

    name: str
    arguments: Sequence[str]  # after `python -m restante_cli`
    ends_last: bool = False  # the other children depend on it
    process: asyncio.subprocess.Process | None = None
    restarts: int = 0
    last_status: int | None = None
    died: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class Supervisor:
    """Keeps children running. The gateways depend on the cores, which therefore end last."""

    def __init__(
        self,
        report: Callable[[str], None],
        drain_seconds: float,
        core_ready: Callable[[], Awaitable[bool]] | None = None,
        *,
        extra_seconds: float = EXTRA_SECONDS,
        head_start_seconds: float = HEAD_START_SECONDS,
        steady_seconds: float = STEADY_SECONDS,
    ) -> None:
        """`report` gets a line when a child dies. A child has `drain_seconds` to drain. `core_ready` returns whether
        a core serves: the restart of a gateway waits for that, at most `head_start_seconds`."""
        self._report, self._drain_seconds, self._core_ready = report, drain_seconds, core_ready
        self._extra_seconds, self._head_start_seconds = extra_seconds, head_start_seconds
        self._steady_seconds = steady_seconds
        self.children: list[Child] = []
        self.complete = False  # set when every child has been ready once: a child that dies later is restarted
        self._ending = asyncio.Event()

    async def start(self, name: str, arguments: Sequence[str], *, ends_last: bool = False) -> Child:
        """Start a child and keep it running; with `ends_last` the others depend on it. Raises OSError."""
        child = Child(name, arguments, ends_last)
        child.process = await self._spawn(child)
        child.task = asyncio.create_task(self._keep(child), name=name)
        self.children.append(child)
        return child

    def reload(self) -> None:
        """Send SIGHUP to each child, so that it reads its configuration and certificates again."""
        for child in self.children:
            if child.process is not None and child.process.returncode is None:
                child.process.send_signal(signal.SIGHUP)

    async def stop(self) -> None:
        """End the children, and kill those that do not end in time.

        The gateways drain first, all at once, while the cores can still complete the requests of their clients.
        """
        self._ending.set()
        for last in (False, True):
            await asyncio.gather(*(self._end(child) for child in self.children if child.ends_last is last))

    async def _end(self, child: Child) -> None:
        assert child.task is not None
        if child.process is not None and child.process.returncode is None:
            child.process.terminate()
        # The task ends with the process; the task itself terminates a process that it has just restarted.
        done, _ = await asyncio.wait([child.task], timeout=self._drain_seconds + self._extra_seconds)
        if not done:
            self._report(f"{child.name} did not end in time and was killed")
            if child.process is not None and child.process.returncode is None:
                child.process.kill()
        await child.task

    async def _spawn(self, child: Child) -> asyncio.subprocess.Process:
        # In a new session: Ctrl-C at the terminal then reaches only the supervisor, which ends the children in order.
        # The pipe on standard input closes when this process ends, for any reason; the child then ends too.
        return await asyncio.create_subprocess_exec(
            *IGNORING_HANGUP,
            sys.executable,
            "-m",
            "restante_cli",
            *child.arguments,
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, LEASH: str(self._drain_seconds + self._extra_seconds)},
        )

    async def _keep(self, child: Child) -> None:
        pause, began = FIRST_PAUSE_SECONDS, time.monotonic()
        assert child.process is not None
        while True:
            child.last_status = await child.process.wait()
            if self._ending.is_set():
                return
            child.died.set()
            if time.monotonic() - began > self._steady_seconds:
                pause = FIRST_PAUSE_SECONDS
            self._report(f"{child.name} {_ended(child.last_status)}; starting it again in {pause:.1f} s")
            if await self._ending_within(pause):
                return
            if not child.ends_last and await self._ending_before_a_core_is_ready():
                return
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            child.restarts += 1
            began = time.monotonic()
            try:
                child.process = await self._spawn(child)
            except OSError as error:
                self._report(f"{child.name} could not be started: {error.strerror}")
                continue  # the loop sees the same ended process again, and tries after a longer pause
            if self._ending.is_set():
                child.process.terminate()

    async def _ending_before_a_core_is_ready(self) -> bool:
        until = time.monotonic() + self._head_start_seconds
        while self._core_ready is not None and time.monotonic() < until and not await self._core_ready():
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
    """In a child: drain when the parent dies, as on SIGTERM, and exit at the latest after the seconds in LEASH."""
    seconds = os.environ.pop(LEASH, "")
    if not seconds:
        return

    def hold() -> None:
        while os.read(0, 4_096):
            pass  # the parent never writes to the pipe
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(float(seconds))
        os._exit(1)

    threading.Thread(target=hold, name="leash", daemon=True).start()
