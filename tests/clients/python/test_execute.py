"""The Execute multiplexer with servers that batch, break, drain, stall and refuse."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from restante import errors
from restante.execute import MAX_BATCH_OCTETS, MAX_BATCH_OPERATIONS, MAX_SESSION_IN_FLIGHT
from restante.v1 import methods
from restante.v1.batch_pb2 import Operation, OperationResult
from restante.v1.folder_pb2 import Folder, GetFolderRequest, GetFolderResponse
from restante.v1.message_pb2 import AppendMessageRequest, AppendMessageResponse
from restante.v1.session_pb2 import AuthenticateRequest, AuthenticateResponse
from restante_gateways.core.frames import Frames
from tests.clients.python.conftest import Servers, answer, refusal


@pytest.fixture(params=["grpc", "frames"])
async def servers(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Servers]:
    """Every test runs by gRPC, and in frames as gateways use them."""
    made = Servers(tmp_path / "core.sock", Frames() if request.param == "frames" else None)
    try:
        yield made
    finally:
        await made.close()


def folder(number: int) -> GetFolderRequest:
    return GetFolderRequest(folder_id=number)


async def echo(operation: Operation) -> OperationResult | None:
    if operation.HasField("append_message"):
        return answer(operation, append_message=AppendMessageResponse(message_id=1))
    return answer(operation, get_folder=GetFolderResponse(folder=Folder(folder_id=operation.get_folder.folder_id)))


async def test_each_operation_gets_its_own_answer_in_whatever_order_they_come(servers: Servers) -> None:
    async def backwards(operation: Operation) -> OperationResult | None:
        await asyncio.sleep(0.05 - operation.get_folder.folder_id / 1000)
        return await echo(operation)

    await servers.batches(backwards)
    link = await servers.link()
    found = await asyncio.gather(*(link.execute(methods.GET_FOLDER, folder(n)) for n in range(1, 31)))
    assert [each.folder.folder_id for each in found] == list(range(1, 31))


async def test_what_waits_while_the_stream_is_busy_goes_in_one_batch(servers: Servers) -> None:
    core = await servers.batches(echo)
    link = await servers.link()
    await asyncio.gather(*(link.execute(methods.GET_FOLDER, folder(n)) for n in range(1, 101)))
    assert len(core.operations) == 100
    assert len(core.requests) < 30  # far fewer than operations, though there is no timer
    assert [operation.get_folder.folder_id for operation in core.operations] == list(range(1, 101))  # as sent


async def test_an_operation_alone_is_sent_at_once(servers: Servers) -> None:
    await servers.batches(echo)
    link = await servers.link()
    await link.execute(methods.GET_FOLDER, folder(1))
    began = time.perf_counter()
    for number in range(20):
        await link.execute(methods.GET_FOLDER, folder(number))
    assert (time.perf_counter() - began) / 20 < 0.05  # no timer: with one, each would wait for it


async def test_a_batch_keeps_its_bounds(servers: Servers) -> None:
    core = await servers.batches(echo)
    link = await servers.link()
    small = [link.execute(methods.GET_FOLDER, folder(n)) for n in range(600)]
    large = [link.execute(methods.APPEND_MESSAGE, AppendMessageRequest(content=bytes(400_000))) for _ in range(8)]
    await asyncio.gather(*small, *large)
    for request in core.requests:
        assert len(request.operations) <= MAX_BATCH_OPERATIONS
        assert sum(operation.ByteSize() for operation in request.operations) <= MAX_BATCH_OCTETS


async def test_what_no_batch_may_hold_is_refused_here_with_the_reason_of_the_server(servers: Servers) -> None:
    core = await servers.batches(echo)
    link = await servers.link()
    with pytest.raises(errors.InvalidArgument) as refused:
        await link.execute(methods.APPEND_MESSAGE, AppendMessageRequest(content=bytes(MAX_BATCH_OCTETS)))
    assert refused.value.metadata["field"] == "operations"
    await link.execute(methods.GET_FOLDER, folder(1))
    assert [one.get_folder.folder_id for one in core.operations] == [1]


async def test_what_one_session_has_beyond_its_bound_is_held_back_in_order_while_others_pass(servers: Servers) -> None:
    open_ = asyncio.Event()

    async def later(operation: Operation) -> OperationResult | None:
        if operation.session_token == b"busy":
            await open_.wait()
        return await echo(operation)

    core = await servers.batches(later)
    link = await servers.link()
    busy = [asyncio.create_task(link.execute(methods.GET_FOLDER, folder(n), session=b"busy")) for n in range(1, 201)]
    await asyncio.sleep(0)
    given_up, of_the_held = busy[10], busy[150]
    await link.execute(methods.GET_FOLDER, folder(500), session=b"other")
    assert sum(operation.session_token == b"busy" for operation in core.operations) == MAX_SESSION_IN_FLIGHT
    of_the_held.cancel()
    given_up.cancel()
    open_.set()
    await asyncio.gather(*(task for task in busy if task not in (given_up, of_the_held)))
    of_busy = [one.get_folder.folder_id for one in core.operations if one.session_token == b"busy"]
    assert of_busy == [number for number in range(1, 201) if number != 151]  # the cancelled one is never sent


async def test_an_operation_carries_its_session_client_and_time(servers: Servers) -> None:
    core = await servers.batches(echo)
    link = await servers.link()
    await link.execute(
        methods.GET_FOLDER, folder(1), session=b"token", client_address="192.0.2.1", timeout=7.0, independent=True
    )
    (operation,) = core.operations
    assert operation.session_token == b"token"
    assert operation.client_address == "192.0.2.1"
    assert 6_000 < operation.timeout_milliseconds <= 7_000
    assert operation.independent


async def test_an_error_is_the_class_of_its_reason_and_only_its_own(servers: Servers) -> None:
    async def refuse_seven(operation: Operation) -> OperationResult | None:
        if operation.get_folder.folder_id == 7:
            return refusal(operation, errors.FolderNotFound(folder_id=7))
        return await echo(operation)

    await servers.batches(refuse_seven)
    link = await servers.link()
    results = await asyncio.gather(
        *(link.execute(methods.GET_FOLDER, folder(n)) for n in range(6, 9)), return_exceptions=True
    )
    assert isinstance(results[1], errors.FolderNotFound)
    assert results[1].metadata == {"folder_id": "7"}
    assert [isinstance(each, GetFolderResponse) for each in results] == [True, False, True]


async def test_what_a_broken_stream_left_unanswered_is_sent_again_as_it_was(servers: Servers) -> None:
    async def never(operation: Operation) -> OperationResult | None:
        return None

    core = await servers.batches(never)
    link = await servers.link()
    request = AppendMessageRequest(folder_id=1, content=b"x\r\n", request_id=b"0123456789abcdef")
    waiting = [asyncio.create_task(link.execute(methods.APPEND_MESSAGE, request)) for _ in range(3)]
    while len(core.operations) < 3:
        await asyncio.sleep(0.01)
    core.reply = echo
    core.break_streams()
    assert [response.message_id for response in await asyncio.gather(*waiting)] == [1, 1, 1]
    assert core.streams == 2
    assert {operation.append_message.request_id for operation in core.operations} == {b"0123456789abcdef"}


async def test_what_is_sent_again_keeps_its_order_and_goes_before_what_is_new(servers: Servers) -> None:
    async def never(operation: Operation) -> OperationResult | None:
        return None

    core = await servers.batches(never)
    link = await servers.link()
    waiting = [asyncio.create_task(link.execute(methods.GET_FOLDER, folder(n), session=b"token")) for n in range(1, 51)]
    while len(core.operations) < 50:
        await asyncio.sleep(0.01)
    core.reply = echo
    core.break_streams()
    waiting += [
        asyncio.create_task(link.execute(methods.GET_FOLDER, folder(n), session=b"token")) for n in range(51, 101)
    ]
    await asyncio.gather(*waiting)
    assert [one.get_folder.folder_id for one in core.operations][50:] == list(range(1, 101))


async def test_a_session_keeps_its_order_from_a_stream_that_drains_to_the_next(servers: Servers) -> None:
    release = asyncio.Event()

    async def slow_one(operation: Operation) -> OperationResult | None:
        if operation.get_folder.folder_id == 1:
            await release.wait()
        return await echo(operation)

    core = await servers.batches(slow_one)
    link = await servers.link()
    slow = asyncio.create_task(link.execute(methods.GET_FOLDER, folder(1), session=b"token"))
    while not core.operations:
        await asyncio.sleep(0.01)
    core.drain()
    while link._operations._stream is not None:
        await asyncio.sleep(0.01)
    following = asyncio.create_task(link.execute(methods.GET_FOLDER, folder(2), session=b"token"))
    await link.execute(methods.GET_FOLDER, folder(3), session=b"token", independent=True)
    await link.execute(methods.GET_FOLDER, folder(4), session=b"other")
    assert [one.get_folder.folder_id for one in core.operations] == [1, 3, 4]
    release.set()
    await asyncio.gather(slow, following)


async def test_a_core_that_comes_back_is_found_by_itself(servers: Servers) -> None:
    await servers.batches(echo)
    link = await servers.link(patience_seconds=10.0)
    await link.execute(methods.GET_FOLDER, folder(1))
    await servers.stop()
    waiting = asyncio.create_task(link.execute(methods.GET_FOLDER, folder(2)))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await servers.batches(echo)
    assert (await waiting).folder.folder_id == 2


async def test_a_core_that_stays_away_is_unavailable_after_the_patience(servers: Servers) -> None:
    link = await servers.link(patience_seconds=0.3)
    began = time.monotonic()
    with pytest.raises(errors.RestanteError) as caught:
        await link.execute(methods.GET_FOLDER, folder(1))
    assert time.monotonic() - began < 5.0
    code = caught.value.status_code if isinstance(caught.value, errors.UnknownReason) else caught.value.code
    assert code is grpc.StatusCode.UNAVAILABLE


async def test_a_later_step_of_a_login_is_never_sent_twice(servers: Servers) -> None:
    async def never(operation: Operation) -> OperationResult | None:
        return None

    core = await servers.batches(never)
    link = await servers.link()
    step = AuthenticateRequest(mechanism="LOGIN", response=b"secret", exchange=b"sealed")
    waiting = asyncio.create_task(link.execute(methods.AUTHENTICATE, step))
    while not core.operations:
        await asyncio.sleep(0.01)
    core.break_streams()
    with pytest.raises(errors.RestanteError):
        await waiting
    assert len(core.operations) == 1


async def test_the_first_step_of_a_login_may_be_sent_again(servers: Servers) -> None:
    async def never(operation: Operation) -> OperationResult | None:
        return None

    async def grant(operation: Operation) -> OperationResult | None:
        return answer(operation, authenticate=AuthenticateResponse(challenge=b"Password:"))

    core = await servers.batches(never)
    link = await servers.link()
    waiting = asyncio.create_task(link.execute(methods.AUTHENTICATE, AuthenticateRequest(mechanism="LOGIN")))
    while not core.operations:
        await asyncio.sleep(0.01)
    core.reply = grant
    core.break_streams()
    assert (await waiting).challenge == b"Password:"


async def test_draining_moves_new_operations_to_a_fresh_connection_and_finishes_the_old(servers: Servers) -> None:
    release = asyncio.Event()

    async def slow_one(operation: Operation) -> OperationResult | None:
        if operation.get_folder.folder_id == 1:
            await release.wait()
        return await echo(operation)

    core = await servers.batches(slow_one)
    link = await servers.link()
    slow = asyncio.create_task(link.execute(methods.GET_FOLDER, folder(1)))
    while not core.operations:
        await asyncio.sleep(0.01)
    first = link._channel
    core.drain()
    while link._operations._stream is not None:
        await asyncio.sleep(0.01)
    assert (await link.execute(methods.GET_FOLDER, folder(2))).folder.folder_id == 2
    assert core.streams == 2
    assert (link._channel is first) == servers.by_frames
    release.set()
    assert (await slow).folder.folder_id == 1  # answered on the stream that carried it
    assert [operation.get_folder.folder_id for operation in core.operations] == [1, 2]


async def test_a_cancelled_operation_is_given_up_at_the_server_too(servers: Servers) -> None:
    async def never(operation: Operation) -> OperationResult | None:
        return None

    core = await servers.batches(never)
    link = await servers.link()
    waiting = asyncio.create_task(link.execute(methods.GET_FOLDER, folder(1)))
    while not core.operations:
        await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    while not core.cancelled:
        await asyncio.sleep(0.01)
    assert core.cancelled == [core.operations[0].operation_id]


async def test_the_deadline_holds_although_the_server_says_nothing(servers: Servers) -> None:
    async def never(operation: Operation) -> OperationResult | None:
        return None

    core = await servers.batches(never)
    link = await servers.link()
    began = time.monotonic()
    with pytest.raises(errors.DeadlineExceeded):
        await link.execute(methods.GET_FOLDER, folder(1), timeout=0.2)
    assert 0.2 <= time.monotonic() - began < 5.0
    assert core.operations[0].timeout_milliseconds <= 200


async def test_closing_ends_what_waits(servers: Servers) -> None:
    async def never(operation: Operation) -> OperationResult | None:
        return None

    core = await servers.batches(never)
    link = await servers.link(patience_seconds=0.0)
    waiting = asyncio.create_task(link.execute(methods.GET_FOLDER, folder(1)))
    while not core.operations:
        await asyncio.sleep(0.01)
    await link.close()
    with pytest.raises(errors.Draining):
        await waiting


@pytest.mark.parametrize("servers", ["grpc"], indirect=True)
async def test_a_channel_closed_under_a_stream_loses_it_but_not_the_operation(servers: Servers) -> None:
    async def never(operation: Operation) -> OperationResult | None:
        return None

    core = await servers.batches(never)
    link = await servers.link()
    waiting = asyncio.create_task(link.execute(methods.GET_FOLDER, folder(3)))
    while not core.operations:
        await asyncio.sleep(0.01)
    core.reply = echo
    old, link._channel = link._channel, link.target.open_channel()
    await old.close()  # the end of a retired connection's time
    assert (await asyncio.wait_for(waiting, 10)).folder.folder_id == 3
