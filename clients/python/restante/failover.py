"""Which of several cores a link uses.

One core is used as long as it is well. When it cannot be reached, says nothing, drains or is not ready, the others are
asked by grpc.health.v1, all at once, and the first that is ready is used from then on, until it fails in turn. Nobody
moves back by itself. While no core is ready, they are asked again after pauses that grow.
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
MAX_SILENCES = 2  # in a row: a busy core may be late once
FIRST_PAUSE_SECONDS = 0.1  # while no core is ready
LONGEST_PAUSE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a link looks at its core, and how long it waits for a word."""

    check_seconds: float = 2.0  # between two looks at the core that is used
    answer_seconds: float = 2.0  # for an answer to such a question


PACE = Pace()


class Health(Enum):
    """What a core says, or does not say. The values are for people; `seconds` is how long it was waited for."""

    READY = "is ready"
    NOT_READY = "is not ready: its database does not answer, or it is ending"
    SILENT = "did not answer within {seconds:.0f} s"
    AWAY = "cannot be reached"

    def told(self, seconds: float) -> str:
        """The words."""
        return self.value.format(seconds=seconds)


async def ask_health(channel: grpc.aio.Channel, seconds: float) -> Health:
    """The core's answer by grpc.health.v1. Does not wait for a core that is away."""
    # The messages have these shapes on the wire; the package that has them by name is not worth a dependency.
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
    """A link went from one core to another."""

    before: str  # addresses
    after: str
    why: str


class Movable(Protocol):
    """The link, as far as the choice concerns it."""

    @property
    def target(self) -> Target:
        """The core that is used."""
        ...

    @property
    def channel(self) -> grpc.aio.Channel:
        """The connection to it."""
        ...

    def move(self, target: Target, channel: grpc.aio.Channel, *, abandon: bool) -> None:
        """Use another core from now on. `abandon`: the old one will not answer what it was asked."""
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
        """Look after the link from now on."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="failover")

    async def close(self) -> None:
        """Stay with the core that is used."""
        tasks = [task for task in (self._task, self._looking) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def suspect(self) -> None:
        """A stream broke or drained: look now."""
        self._suspected.set()

    async def examine(self) -> str:
        """Look at the core that is used, and move when it is not well and another is.

        Returns what stands against every core; empty when one is ready, or not yet given up.
        """
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._examine(), name="look for a core")
        return await asyncio.shield(self._looking)

    async def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                problem = await self.examine()
            except Exception as error:  # a fault of one look must not end them all
                log.exception("the look at the cores failed")
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
        why = health.told(self._pace.answer_seconds)
        self._silences = self._silences + 1 if health is Health.SILENT else 0
        if 0 < self._silences < MAX_SILENCES:
            self._suspected.set()  # look again at once
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
        """The first core to say that it is ready, with a connection to it."""
        candidates = [each for target in self._targets for each in await target.resolved()]
        others = [each for each in candidates if each.address != self._link.target.address]
        random.shuffle(others)  # the first questions go out in another order at each gateway
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
