"""Execute in frames from a gateway to the real core. `tests/clients/python/test_execute` runs over both bindings."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from restante import errors
from restante.carrier import GrpcCarrier
from restante.link import CoreLink
from restante.target import ProcessIdentity, Target
from restante.v1 import methods
from restante.v1.folder_pb2 import GetChangeNumbersRequest
from restante_gateways.core import cores
from restante_gateways.core.frames import FrameCarrier, Frames
from restante_process import config_file
from restante_process.frames import SOCKET_NAME
from tests.harness.local_core import LocalCore, open_local_core

FELL_BACK = "operations go by gRPC instead of frames"


@pytest.fixture
async def core(store_template: Path, tmp_path: Path) -> AsyncIterator[LocalCore]:
    async with open_local_core(store_template, tmp_path / "data") as made:
        yield made


async def ask(link: CoreLink) -> None:
    await link.execute(methods.GET_CHANGE_NUMBERS, GetChangeNumbersRequest(), timeout=10.0)


def carrier_of(link: CoreLink) -> object:
    """The carrier of the present stream."""
    assert link._operations._stream is not None
    return link._operations._stream._carrier


def test_the_configuration_chooses(tmp_path: Path) -> None:
    assert cores.frames(config_file.load(None, {}, {"gateway.execute": "grpc"})) is None
    assert isinstance(cores.frames(config_file.load(None, {}, {"gateway.execute": "frames"})), Frames)


async def test_operations_go_in_frames_to_a_core_of_this_machine(core: LocalCore) -> None:
    link: CoreLink = await core.link("imap", open_carrier=Frames())
    await asyncio.gather(*(ask(link) for _ in range(300)))
    assert isinstance(carrier_of(link), FrameCarrier)


async def test_operations_given_up_at_any_moment_leave_nothing_in_flight_and_delay_no_others(core: LocalCore) -> None:
    link: CoreLink = await core.link("imap", open_carrier=Frames())
    answered = 0

    async def worker(chance: random.Random) -> None:
        nonlocal answered
        for _ in range(40):
            asking = asyncio.create_task(ask(link))
            if chance.random() < 0.3:
                for _ in range(chance.randrange(6)):
                    await asyncio.sleep(0)
                asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asking
                answered += 1

    async with asyncio.timeout(20):
        await asyncio.gather(*(worker(random.Random(number)) for number in range(50)))
    assert answered > 1_000
    (execution,) = core.process.server._batches._executions
    async with asyncio.timeout(5):
        while execution._flights or link._operations._lanes:
            await asyncio.sleep(0.01)


async def test_a_core_without_the_socket_is_spoken_to_by_grpc_and_the_log_says_so_once(core: LocalCore) -> None:
    core.process.socket.with_name(SOCKET_NAME).unlink()
    link: CoreLink = await core.link("imap", open_carrier=Frames())
    with capture_logs() as logged:
        await ask(link)
        link._operations.replace(1.0)
        await ask(link)
    assert isinstance(carrier_of(link), GrpcCarrier)
    assert [each["core"] for each in logged if each["event"] == FELL_BACK] == [link.target.address]


async def test_a_socket_that_a_killed_core_left_behind_is_not_tried_for_ever(core: LocalCore) -> None:
    await core.process.server._frames.stop(0.0)  # without removing the file
    link: CoreLink = await core.link("imap", open_carrier=Frames())
    with capture_logs() as logged:
        await ask(link)
    assert isinstance(carrier_of(link), GrpcCarrier)
    assert [each["why"] for each in logged if each["event"] == FELL_BACK]


async def test_a_core_on_another_machine_is_spoken_to_by_grpc() -> None:
    with capture_logs() as logged:
        assert Frames()(Target("core.example.net:50052"), None) is None  # type: ignore[arg-type]
    assert [each["why"] for each in logged] == ["the core is on another machine"]


async def test_a_wrong_secret_is_refused_with_its_reason(core: LocalCore) -> None:
    target = Target(core.target().address, ProcessIdentity("imap", "wrong"))
    link = await CoreLink.connect(target, open_carrier=Frames())
    try:
        with pytest.raises(errors.InvalidSession, match="secret"):
            await ask(link)
    finally:
        await link.close()


async def test_operations_wait_for_a_core_that_restarts_and_go_in_frames_again(core: LocalCore) -> None:
    link: CoreLink = await core.link("imap", open_carrier=Frames())
    with capture_logs() as logged:
        await ask(link)
        await core.stop()
        waiting = [asyncio.create_task(ask(link)) for _ in range(20)]
        await asyncio.sleep(0.3)
        await core.start()
        await asyncio.gather(*waiting)
    assert isinstance(carrier_of(link), FrameCarrier)
    assert not [each for each in logged if each["event"] == FELL_BACK]


async def test_a_link_that_leaves_a_silent_core_takes_its_operations_along(core: LocalCore, tmp_path: Path) -> None:
    silent = asyncio.Event()

    async def keep_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silent.wait()
        writer.close()

    async with await asyncio.start_unix_server(keep_silent, tmp_path / SOCKET_NAME):
        identity = core.target("imap").identity
        link = await CoreLink.connect(Target(f"unix:{tmp_path}/core.sock", identity), open_carrier=Frames())
        try:
            waiting = asyncio.create_task(ask(link))
            await asyncio.sleep(0.1)
            assert not waiting.done() and isinstance(carrier_of(link), FrameCarrier)
            target = core.target("imap")
            link.move(target, target.open_channel(), abandon=True)
            await asyncio.wait_for(waiting, 5)
        finally:
            silent.set()
            await link.close()
