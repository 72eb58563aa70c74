"""The choice of a link among several cores.

A link uses one core until that cannot be reached, does not answer, drains or is not ready. The link then asks all the
others at once by grpc.health.v1, and uses the first that is ready until that one fails in turn. It never moves back
without such a failure. While no core is ready, it asks again after growing pauses.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import grpc
import grpc.aio
from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import Int32Value

from restante.target import Target

log = logging.getLogger(__name__)

SERVING = 1  # of grpc.health.v1.HealthCheckResponse.ServingStatus
MAX_SILENCES = 2  # checks in a row without an answer: a busy core may miss one
FIRST_PAUSE_SECONDS = 0.1  # while no core is ready
LONGEST_PAUSE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Pace:
    """The times of a link's health checks."""

    check_seconds: float = 2.0  # between two checks of the present core
    answer_seconds: float = 2.0  # the longest wait for an answer


PACE = Pace()


class Health(Enum):
    """The result of a health check. The values are for people; `seconds` is the time waited for an answer."""

    READY = "is ready"
    NOT_READY = "is not ready: its database does not answer, or it is shutting down"
    SILENT = "did not answer within {seconds:.0f} s"
    AWAY = "cannot be reached"

    def describe(self, seconds: float) -> str:
        """The result in words."""
        return self.value.format(seconds=seconds)


async def ask_health(channel: grpc.aio.Channel, seconds: float) -> Health:
    """The core's answer by grpc.health.v1. Does not wait for an unreachable core."""
    # These well-known types have the same octets as the health messages, and save a dependency on their package.
    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=Empty.SerializeToString,  # HealthCheckRequest of the whole server
        response_deserializer=Int32Value.FromString,  # HealthCheckResponse: an enum in field 1
    )
    try:
        answer = await check(Empty(), timeout=seconds)
    except grpc.aio.AioRpcError as error:
        return Health.SILENT if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED else Health.AWAY
    return Health.READY if answer.value == SERVING else Health.NOT_READY


@dataclass(frozen=True, slots=True)
class Move:
    """The move of a link from one core to another."""

    before: str  # addresses
    after: str
    why: str


class Movable(Protocol):
    """The part of a link that `Failover` uses."""

    @property
    def target(self) -> Target:
        """The present core."""
        ...

    @property
    def channel(self) -> grpc.aio.Channel:
        """The connection to the present core."""
        ...

    def move(self, target: Target, channel: grpc.aio.Channel, *, abandon: bool) -> None:
        """Use another core from now on. `abandon`: do not wait for the old core's answers."""
        ...


class Failover:
    """Keeps a link on a core that is ready."""

    def __init__(self, link: Movable, targets: Sequence[Target], pace: Pace) -> None:
        self._link, self._targets, self._pace = link, tuple(targets), pace
        self._silences = 0
        self._suspected = asyncio.Event()
        self._looking: asyncio.Task[str] | None = None
        self._task: asyncio.Task[None] | None = None
        self.on_move: list[Callable[[Move], None]] = []

    def start(self) -> None:
        """Begin the health checks."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="failover")

    async def close(self) -> None:
        """End the health checks; the link stays with its present core."""
        tasks = [task for task in (self._task, self._looking) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def suspect(self) -> None:
        """Check the present core now, because a stream broke or drained."""
        self._suspected.set()

    async def examine(self) -> str:
        """Check the present core, and move to a ready one when the check fails.

        Returns the reason why no core is usable; empty when one is ready, or when the check will be repeated.
        """
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._examine(), name="core probe")
        return await asyncio.shield(self._looking)

    async def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                problem = await self.examine()
            except Exception as error:  # a failed check must not end the checks
                log.exception("the probe of the cores failed")
                problem = str(error) or type(error).__name__
            if problem:
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                continue
            pause = FIRST_PAUSE_SECONDS
            try:
                async with asyncio.timeout(self._pace.check_seconds * random.uniform(0.9, 1.1)):
                    await self._suspected.wait()
            except TimeoutError:
                pass
            self._suspected.clear()

    async def _examine(self) -> str:
        before = self._link.target
        health = await ask_health(self._link.channel, self._pace.answer_seconds)
        if health is Health.READY:
            self._silences = 0
            return ""
        why = health.describe(self._pace.answer_seconds)
        self._silences = self._silences + 1 if health is Health.SILENT else 0
        if 0 < self._silences < MAX_SILENCES:
            self._suspected.set()  # check again at once
            return ""
        found = await self._find()
        if found is None:
            return f"the core at {before.address} {why}; no other is ready"
        self._silences = 0
        target, channel = found
        self._link.move(target, channel, abandon=health is not Health.NOT_READY)
        moved = Move(before.address, target.address, why)
        for listener in self.on_move:
            listener(moved)
        return ""

    async def _find(self) -> tuple[Target, grpc.aio.Channel] | None:
        """The first core that answers as ready, with a connection to it."""
        candidates = [each for target in self._targets for each in await target.resolved()]
        others = [each for each in candidates if each.address != self._link.target.address]
        random.shuffle(others)  # spreads the gateways over the cores
        channels = {target: target.open_channel() for target in others}
        seconds = self._pace.answer_seconds
        asked = {asyncio.create_task(ask_health(channel, seconds)): target for target, channel in channels.items()}
        found, waiting = None, set(asked)
        try:
            while waiting and found is None:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                found = next((asked[task] for task in done if task.result() is Health.READY), None)
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
            for target, channel in channels.items():
                if target is not found:
                    await channel.close()
        return None if found is None else (found, channels[found])
