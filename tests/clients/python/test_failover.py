"""A link with several cores stays with a ready one, and moves when that fails."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from restante import errors
from restante.failover import Move, Pace
from restante.link import CoreLink
from restante.target import Target
from restante.v1 import batch_pb2_grpc, methods, sync_pb2_grpc
from restante.v1.batch_pb2 import Operation, OperationResult
from restante.v1.folder_pb2 import Folder, GetFolderRequest, GetFolderResponse
from restante.v1.sync_pb2 import WatchRequest, WatchResponse
from restante.v1.types_pb2 import FolderChanges
from tests.clients.python.conftest import Batches, answer
from tests.clients.python.test_watch import until
from tests.harness.certificates import pair_maker

PACE = Pace(check_seconds=0.3, answer_seconds=0.3)


class Health(health.aio.HealthServicer):  # type: ignore[misc]
    """A health service that answers unless it hangs."""

    hanging = False

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[object, object]
    ) -> health_pb2.HealthCheckResponse:
        while self.hanging:
            await asyncio.sleep(0.05)
        return await super().Check(request, context)


class Watches(sync_pb2_grpc.SyncServiceServicer):
    """Watch streams that record the subscriptions."""

    def __init__(self) -> None:
        self.since: list[int] = []
        self.streams: list[asyncio.Queue[WatchResponse]] = []

    async def Watch(
        self, requests: AsyncIterator[WatchRequest], context: grpc.aio.ServicerContext[object, object]
    ) -> AsyncIterator[WatchResponse]:
        notices: asyncio.Queue[WatchResponse] = asyncio.Queue()
        self.streams.append(notices)

        async def take() -> None:
            async for request in requests:
                self.since.append(request.subscribe.since_change_number)

        taking = asyncio.create_task(take())
        try:
            while True:
                yield await notices.get()
        finally:
            taking.cancel()


class Core:
    """One core on a separate socket; it answers with its name."""

    def __init__(self, address: str, name: str, credentials: grpc.ServerCredentials | None = None) -> None:
        self.target, self.name, self._credentials = Target(address), name, credentials
        self.silent = False
        self.batches, self.health = Batches(self._reply), Health()
        self.watches = Watches()  # type: ignore[abstract]
        self._server: grpc.aio.Server | None = None

    async def _reply(self, operation: Operation) -> OperationResult | None:
        if self.silent:
            return None
        return answer(operation, get_folder=GetFolderResponse(folder=Folder(display_name=self.name)))

    async def start(self) -> None:
        self._server = grpc.aio.server()
        batch_pb2_grpc.add_BatchServiceServicer_to_server(self.batches, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        sync_pb2_grpc.add_SyncServiceServicer_to_server(self.watches, self._server)
        if self._credentials is None:
            self._server.add_insecure_port(self.target.address)
        else:
            self._server.add_secure_port(self.target.address, self._credentials)
        await self._server.start()
        await self.set_ready(True)

    async def set_ready(self, ready: bool) -> None:
        state = health_pb2.HealthCheckResponse
        await self.health.set("", state.SERVING if ready else state.NOT_SERVING)

    async def stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            await server.stop(None)


class Pair:
    """Two cores, and a link to both."""

    def __init__(self, first: Core, second: Core, link: CoreLink) -> None:
        self.first, self.second, self.link = first, second, link
        self.moves: list[Move] = []
        link.on_move(self.moves.append)

    async def ask(self, timeout: float = 10.0) -> str:
        response = await self.link.execute(methods.GET_FOLDER, GetFolderRequest(), session=b"s", timeout=timeout)
        return response.folder.display_name


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    first, second = Core(f"unix:{tmp_path}/1.sock", "first"), Core(f"unix:{tmp_path}/2.sock", "second")
    await first.start()
    await second.start()
    link = await CoreLink.connect([first.target, second.target], pace=PACE)
    try:
        yield Pair(first, second, link)
    finally:
        await link.close()
        await first.stop()
        await second.stop()


async def test_the_first_core_is_used_while_it_is_well(pair: Pair) -> None:
    assert [await pair.ask() for _ in range(3)] == ["first"] * 3
    await asyncio.sleep(0.7)
    assert await pair.ask() == "first"
    assert pair.moves == []
    assert pair.second.batches.streams == 0


async def test_an_operation_without_an_answer_is_sent_again_to_the_other_core(pair: Pair) -> None:
    assert await pair.ask() == "first"
    pair.first.silent = True
    asking = asyncio.create_task(pair.ask())
    await until(lambda: len(pair.first.batches.operations) == 2)
    await pair.first.stop()
    async with asyncio.timeout(3):
        assert await asking == "second"
    (move,) = pair.moves
    assert (move.before, move.after) == (pair.first.target.address, pair.second.target.address)
    assert move.why == "cannot be reached"


async def test_a_core_that_was_left_is_not_returned_to_while_the_other_is_well(pair: Pair) -> None:
    assert await pair.ask() == "first"
    await pair.first.stop()
    assert await pair.ask() == "second"
    await pair.first.start()
    await asyncio.sleep(0.8)
    assert await pair.ask() == "second"
    assert len(pair.moves) == 1
    await pair.second.stop()
    assert await pair.ask() == "first"  # it has rejoined


async def test_a_core_that_is_away_at_the_beginning_is_passed_over(tmp_path: Path) -> None:
    second = Core(f"unix:{tmp_path}/2.sock", "second")
    await second.start()
    link = await CoreLink.connect([Target(f"unix:{tmp_path / '1.sock'}"), second.target])
    try:
        assert await link.why_not_serving() == ""
        async with asyncio.timeout(3):
            assert await Pair(second, second, link).ask() == "second"
    finally:
        await link.close()
        await second.stop()


async def test_a_core_that_ends_finishes_what_it_has_and_gets_nothing_new(pair: Pair) -> None:
    gate = asyncio.Event()
    reply = pair.first.batches.reply

    async def slowly(operation: Operation) -> OperationResult | None:
        await gate.wait()
        return await reply(operation)

    pair.first.batches.reply = slowly
    asking = asyncio.create_task(pair.ask())
    await until(lambda: len(pair.first.batches.operations) == 1)
    await pair.first.set_ready(False)
    await until(lambda: bool(pair.moves))
    other = await pair.link.execute(methods.GET_FOLDER, GetFolderRequest(), session=b"another")
    assert other.folder.display_name == "second"
    gate.set()
    assert await asking == "first"
    assert await pair.ask() == "second"
    assert "not ready" in pair.moves[0].why


async def test_a_core_that_drains_and_refuses_is_left(pair: Pair) -> None:
    assert await pair.ask() == "first"
    pair.first.batches.drain()
    await pair.first.set_ready(False)
    await until(lambda: bool(pair.moves))
    assert await pair.ask() == "second"


async def test_a_stream_that_reaches_its_age_goes_on_at_the_same_core(pair: Pair) -> None:
    assert await pair.ask() == "first"
    pair.first.batches.drain()
    await asyncio.sleep(0.2)
    assert await pair.ask() == "first"
    assert pair.first.batches.streams == 2
    assert pair.moves == []


async def test_a_core_that_says_nothing_is_given_up_after_its_second_silence(pair: Pair) -> None:
    assert await pair.ask() == "first"
    pair.first.silent = pair.first.health.hanging = True
    began = asyncio.get_running_loop().time()
    async with asyncio.timeout(5):
        assert await pair.ask() == "second"
    assert asyncio.get_running_loop().time() - began >= 2 * PACE.answer_seconds
    assert "did not answer" in pair.moves[0].why


async def test_one_late_answer_moves_nobody(pair: Pair) -> None:
    assert await pair.ask() == "first"
    pair.first.health.hanging = True
    await asyncio.sleep(0.4)
    pair.first.health.hanging = False
    await asyncio.sleep(0.7)
    assert pair.moves == []
    assert await pair.link.why_not_serving() == ""


async def test_while_no_core_is_ready_nothing_moves_and_the_first_that_is_back_is_used(pair: Pair) -> None:
    assert await pair.ask() == "first"
    await pair.first.stop()
    await pair.second.stop()
    await until(lambda: pair.link.why_not_serving is not None)
    problem = await pair.link.why_not_serving()
    assert "cannot be reached" in problem
    assert "no other is ready" in problem
    with pytest.raises(errors.RestanteError):
        await pair.ask(timeout=0.5)
    await pair.second.start()
    async with asyncio.timeout(5):
        while True:
            try:
                assert await pair.ask() == "second"
                break
            except errors.RestanteError:
                continue
    assert await pair.link.why_not_serving() == ""


async def test_a_subscription_goes_on_from_what_it_has_seen_and_the_gap_is_told(pair: Pair) -> None:
    resumed: list[bool] = []
    seen: list[int] = []
    pair.link.watch.on_resumed(lambda: resumed.append(True))
    pair.link.watch.subscribe(1, 2, 10, 1, b"s", lambda notice: seen.append(notice.folder.change_number))
    await until(lambda: pair.first.watches.since == [10])
    pair.first.watches.streams[0].put_nowait(WatchResponse(subscription_id=1, folder=FolderChanges(change_number=17)))
    await until(lambda: seen == [17])
    await pair.first.stop()
    async with asyncio.timeout(5):
        await until(lambda: pair.second.watches.since == [17])
    await asyncio.sleep(1.3)
    assert resumed == [True]


async def test_the_watch_follows_when_the_core_is_not_ready_any_more(pair: Pair) -> None:
    pair.link.watch.subscribe(1, 2, 10, 1, b"s", lambda notice: None)
    await until(lambda: pair.first.watches.since == [10])
    await pair.first.set_ready(False)
    await until(lambda: pair.second.watches.since == [10])


async def test_a_name_stands_for_all_its_addresses() -> None:
    found = await Target("dns:localhost:2051").resolved()
    assert "127.0.0.1:2051" in {target.address for target in found}
    assert {target.server_name for target in found} == {"localhost"}
    assert await Target("dns:no-such-name.invalid:2051").resolved() == ()
    plain = Target("localhost:2051")
    assert await plain.resolved() == (plain,)


async def test_a_name_leads_from_one_of_its_addresses_to_another_by_tls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The certificate is checked for the name, at any address."""
    pair = pair_maker(tmp_path)("server", "cores.example.test")
    credentials = grpc.ssl_server_credentials([(pair.key.read_bytes(), pair.certificate.read_bytes())])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    places = ("127.0.0.1", "127.0.0.2")
    real = socket.getaddrinfo

    def lookup(host: str, *more: Any, **options: Any) -> list[Any]:
        if host != "cores.example.test":
            return real(host, *more, **options)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (place, port)) for place in places]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    cores = {place: Core(f"{place}:{port}", place, credentials) for place in places}
    for core in cores.values():
        await core.start()
    name = Target(f"dns:cores.example.test:{port}", root_certificates=pair.certificate.read_bytes())
    link = await CoreLink.connect(name)
    try:
        pair_of = Pair(cores[places[0]], cores[places[1]], link)
        async with asyncio.timeout(10):
            first = await pair_of.ask()
            await cores[first].stop()
            second = await pair_of.ask()
        assert {first, second} == set(places)
        assert link.target.server_name == "cores.example.test"
    finally:
        await link.close()
        for core in cores.values():
            await core.stop()
