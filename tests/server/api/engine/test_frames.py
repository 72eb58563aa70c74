"""The core's socket of frames (docs/design.md "Frames"). `test_server` has what both bindings of Execute do alike."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from restante import errors
from restante.v1.batch_pb2 import ExecuteRequest, Operation, OperationResult
from restante.v1.folder_pb2 import GetChangeNumbersRequest, ListFoldersRequest
from restante.v1.session_pb2 import Scope
from restante_process.frames import MAX_HELLO_OCTETS, SOCKET_NAME, Kind, frame, hello
from restante_server.api.engine import frames
from restante_server.api.engine.results import MAX_RESPONSE_OCTETS
from tests.harness.execute_stream import FrameStream
from tests.server.api.served import Served, operation, served

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def core(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with served(Path(tmp_path_factory.mktemp("frames"))) as made:
        yield made


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


async def connected(core: Served, *octets: bytes) -> FrameStream:
    """A connection on which these octets were sent."""
    stream = await FrameStream.open(core.process.socket.with_name(SOCKET_NAME), None)
    for each in octets:
        stream.writer.write(each)
    return stream


def proof(core: Served, identity: str = "imap") -> bytes:
    return hello(dict(core.identity(identity)))


def numbers(operation_id: int) -> Operation:
    return Operation(operation_id=operation_id, get_change_numbers=GetChangeNumbersRequest())


async def results_of(stream: FrameStream, count: int) -> list[OperationResult]:
    found: list[OperationResult] = []
    while len(found) < count:
        response = await stream.read()
        assert response is not None
        assert response.ByteSize() <= MAX_RESPONSE_OCTETS
        found += response.results
    return found


async def test_only_our_own_user_can_reach_the_socket_and_it_goes_with_the_core(tmp_path: Path) -> None:
    async with served(tmp_path) as core:
        socket = core.process.socket.with_name(SOCKET_NAME)
        assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    assert not socket.exists()


async def test_it_lies_beside_the_cores_socket_where_the_directory_has_too_long_a_path(tmp_path: Path) -> None:
    scratch = tmp_path / ("d" * 100)
    scratch.mkdir()
    async with served(scratch) as core:
        assert core.process.socket.parent != core.directory
        assert stat.S_IMODE(core.process.socket.parent.stat().st_mode) == 0o700
        stream = await core.execute_stream("frames", "imap")
        await stream.write(ExecuteRequest(operations=[numbers(1)]))
        response = await stream.read()
        assert response is not None and response.results[0].HasField("get_change_numbers")
        stream.cancel()


async def test_a_process_proves_its_identity_by_its_secret(core: Served) -> None:
    for wrong in ("", "00", core.secret("pop3")):
        stream = await connected(core, hello({"restante-identity": "imap", "restante-secret": wrong}))
        with pytest.raises(errors.InvalidSession, match="secret of the process identity is wrong"):
            await stream.read()
    with pytest.raises(errors.InvalidSession, match="Only a process with an identity"):
        await (await connected(core, hello({}))).read()
    stream = await connected(
        core, proof(core), frame(Kind.MESSAGE, ExecuteRequest(operations=[numbers(1)]).SerializeToString())
    )
    (answered,) = await results_of(stream, 1)
    assert answered.HasField("get_change_numbers")
    stream.cancel()


async def test_the_right_of_an_operation_is_that_of_the_identity(core: Served) -> None:
    stream = await core.execute_stream("frames", "relay")
    await stream.write(ExecuteRequest(operations=[operation("FolderService/ListFolders", ListFoldersRequest())]))
    response = await stream.read()
    assert response is not None
    assert errors.from_status(response.results[0].status).reason == "INVALID_SESSION"
    stream.cancel()


@pytest.mark.parametrize(
    ("octets", "problem"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "unknown kind"),
        (frame(Kind.MESSAGE), "the first frame is MESSAGE"),
        (frame(Kind.HELLO, b"junk"), "NAME: VALUE"),
        (frame(Kind.HELLO, bytes(MAX_HELLO_OCTETS + 1)), "at most 4096"),
    ],
)
async def test_other_beginnings_end_the_connection_with_a_logged_reason(
    core: Served, octets: bytes, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    stream = await connected(core, octets)
    with pytest.raises(errors.UnknownReason, match=problem):
        await stream.read()
    assert problem in caplog.text
    assert await stream.reader.read() == b""


@pytest.mark.parametrize(
    "octets", [frame(Kind.STATUS), frame(Kind.HELLO), b"\0\0\0\0\x09", frame(Kind.MESSAGE, b"\xff\xff")]
)
async def test_octets_that_are_no_request_end_the_connection_with_a_logged_reason(
    core: Served, octets: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    stream = await connected(core, proof(core), octets)
    with pytest.raises(errors.UnknownReason) as caught:
        await stream.read()
    assert caught.value.status_code is grpc.StatusCode.INTERNAL
    assert "a connection of Execute ends" in caplog.text
    assert await stream.reader.read() == b""


async def test_a_client_that_sends_nothing_is_disconnected(core: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "HELLO_SECONDS", 0.1)
    stream = await connected(core)
    with pytest.raises(errors.UnknownReason, match="in time"):
        await stream.read()


async def test_a_client_that_does_not_close_after_the_last_frame_is_disconnected(
    core: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "CLOSE_SECONDS", 0.1)
    stream = await connected(core, proof(core), frame(Kind.END))
    assert await stream.read() is None
    await until(lambda: not core.process.server._frames.connections)
    stream.cancel()


async def test_requests_cut_anywhere_are_answered_each_once(core: Served) -> None:
    requests = [ExecuteRequest(operations=[numbers(n), numbers(n + 1)]) for n in range(1, 60, 2)]
    octets = proof(core) + b"".join(frame(Kind.MESSAGE, request.SerializeToString()) for request in requests)
    stream = await connected(core)
    for size in (1, 2, 3, 5, 7, 400):
        stream.writer.write(octets[:size])
        octets = octets[size:]
        await asyncio.sleep(0.005)
    stream.writer.write(octets)
    found = await results_of(stream, 60)
    assert sorted(result.operation_id for result in found) == list(range(1, 61))
    stream.cancel()


async def test_what_is_answered_in_one_turn_is_one_response(core: Served) -> None:
    stream = await core.execute_stream("frames", "imap")
    await stream.write(ExecuteRequest(operations=[Operation(operation_id=n) for n in range(1, 101)]))
    response = await stream.read()
    assert response is not None and len(response.results) == 100
    stream.cancel()


async def test_a_client_that_never_reads_holds_a_bounded_number_of_octets(core: Served) -> None:
    """Its answers wait in the execution, which then stops reading; the transport holds one response at most."""
    token = (await core.session("bob", Scope.SCOPE_IMAP, identity="imap")).session_token
    stream = await core.execute_stream("frames", "imap")
    listing = operation("FolderService/ListFolders", ListFoldersRequest(), token=token, independent=True)
    sent = 0

    async def flood() -> None:
        nonlocal sent
        while True:
            requests = []
            for _ in range(50):
                sent += 1
                listing.operation_id = sent
                requests.append(Operation.FromString(listing.SerializeToString()))
            await stream.write(ExecuteRequest(operations=requests))

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(flood(), 3)
    (connection,) = core.process.server._frames.connections
    (execution,) = core.process.server._batches._executions
    assert execution.is_full and sent > 1_000
    assert len(execution._results) <= 1_024 + 50
    assert connection._transport.get_write_buffer_size() <= 2 * MAX_RESPONSE_OCTETS
    stream.cancel()
    await until(lambda: not core.process.server._batches._executions)
    assert not core.process.server._frames.connections


async def test_a_draining_core_does_not_wait_for_connections_without_a_first_frame(tmp_path: Path) -> None:
    async with served(tmp_path) as core:
        stream = await connected(core)
        await until(lambda: core.process.server._frames.connections)
        async with asyncio.timeout(2):
            await core.process.server._frames.stop(10.0)
        assert await stream.reader.read() == b""


async def test_a_draining_core_ends_connections_that_do_not_finish(tmp_path: Path) -> None:
    async with served(tmp_path) as core:
        stream = await connected(core, proof(core))
        await until(lambda: core.process.server._batches._executions)
        async with asyncio.timeout(2):
            await core.process.server.stop(0.2)
        response = await stream.read()
        assert response is not None and response.draining
        with pytest.raises((errors.Draining, ConnectionError)):
            await stream.read()
