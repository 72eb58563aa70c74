"""One Execute stream: order within a session, independence between sessions, limits.

See docs/design.md "Operations and batches".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2

from restante.errors import FolderNotFound, InvalidArgument, from_status
from restante.v1 import methods
from restante.v1.batch_pb2 import ExecuteRequest, ExecuteResponse, Operation, OperationResult
from restante.v1.folder_pb2 import GetFolderRequest, ReadFolderChangesResponse
from restante.v1.types_pb2 import FolderChanges
from restante_process.config import Limits
from restante_server.api.engine.allowances import Allowances
from restante_server.api.engine.batch import MAX_BATCH_OCTETS, MAX_BATCH_OPERATIONS, Batch, parse
from restante_server.api.engine.caller import Caller
from restante_server.api.engine.execute import (
    MAX_IN_FLIGHT,
    MAX_SESSION_IN_FLIGHT,
    Execution,
    Executor,
)
from restante_server.api.engine.registry import Handler, HandlerKind
from restante_server.api.engine.results import MAX_RESPONSE_OCTETS

Work = Callable[[Any], Any]


class FakeDispatcher:
    """A dispatcher that runs a test's function for each folder id, and records the order of beginnings."""

    def __init__(self) -> None:
        self.began: list[int] = []
        self.work: dict[int, Work] = {}
        self.copies: Work | None = None  # for CopyMessages
        self.running = 0
        self.most_running = 0

    async def run(
        self, handler: Handler, caller: Caller, request: Any, deadline: float, result_octets: int, **_: Any
    ) -> Any:
        copying = handler.method is methods.COPY_MESSAGES
        if not copying:
            self.began.append(request.folder_id)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            work = self.copies if copying else self.work.get(request.folder_id)
            answer = work(request) if work else None
            if asyncio.iscoroutine(answer):
                answer = await answer
            return answer if isinstance(answer, Message) else handler.method.response()
        finally:
            self.running -= 1

    def begin(self, *arguments: Any, **named: Any) -> Any:
        return self.run(*arguments, **named)

    def may_cancel(self, handler: Handler, request: Message, task: asyncio.Task[Any]) -> bool:
        return handler.only_reads(request)


def handler(method: Any, kind: HandlerKind) -> Handler:
    return Handler(method, kind, lambda _: None, lambda *_: None, lambda *_: (), lambda _: 1, lambda _: 0)


HANDLERS = {
    "get_folder": handler(methods.GET_FOLDER, HandlerKind.READ),
    "read_folder_changes": handler(methods.READ_FOLDER_CHANGES, HandlerKind.READ),
    "delete_folder": handler(methods.DELETE_FOLDER, HandlerKind.WRITE),
    "copy_messages": handler(methods.COPY_MESSAGES, HandlerKind.WRITE),
}


class FakeAuthenticator:
    """An authenticator for which every token is a session of account 1 that needs a lookup."""

    def known(self, token: bytes, stream: Caller, client_address: str = "") -> Caller | None:
        return None

    async def session(self, token: bytes, stream: Caller, client_address: str = "") -> Caller:
        return Caller(account_id=1, token=token)


class RememberedSessions(FakeAuthenticator):
    """An authenticator that needs no lookup."""

    def known(self, token: bytes, stream: Caller, client_address: str = "") -> Caller | None:
        return Caller(account_id=1, token=token)


@pytest.fixture(autouse=True, params=["tasks", "calls"])
def binding(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test runs with an execution in two tasks, as gRPC has it, and in calls alone, as the frames have it."""
    monkeypatch.setattr(Harness, "by_calls", request.param == "calls")


class Harness:
    """An execution whose input and output a test controls."""

    by_calls = False

    def __init__(self, identity: str = "imap", authenticator: Any = None) -> None:
        self.dispatcher = FakeDispatcher()
        self.allowances = Allowances(Limits(account_operations=100_000))
        sessions = authenticator or FakeAuthenticator()
        executor = Executor(HANDLERS, self.dispatcher, sessions, self.allowances)  # type: ignore[arg-type]
        self._change = asyncio.Event()
        self.execution = Execution(executor, Caller(identity=identity), self._change.set if self.by_calls else None)
        self._requests: asyncio.Queue[Batch | None] = asyncio.Queue()
        self.results: dict[int, OperationResult] = {}
        self.order: list[int] = []
        self.messages: list[int] = []
        works = (
            (self._feed(), self._answer()) if self.by_calls else (self.execution.feed(self._take()), self._collect())
        )
        self._tasks = [asyncio.create_task(work) for work in works]

    async def _feed(self) -> None:
        async for batch in self._take():
            self.execution.take(batch)
            while self.execution.is_full:
                await asyncio.sleep(0.001)
        self.execution.end()

    async def _answer(self) -> None:
        while not self.execution.is_over:
            while self.execution.is_ready:
                self._record(self.execution.answer())
            self._change.clear()
            if not self.execution.is_over:
                await self._change.wait()

    async def _take(self) -> AsyncIterator[Batch]:
        while (request := await self._requests.get()) is not None:
            yield request

    async def _collect(self) -> None:
        async for response in self.execution.answers():
            self._record(response)

    def _record(self, response: ExecuteResponse) -> None:
        self.messages.append(response.ByteSize())
        for result in response.results:
            assert result.operation_id not in self.results, "answered twice"
            self.results[result.operation_id] = result
            self.order.append(result.operation_id)

    def send(self, *operations: Operation, cancel: tuple[int, ...] = ()) -> None:
        request = ExecuteRequest(operations=operations, cancel_operation_ids=cancel)
        self.send_octets(request.SerializeToString())

    def send_octets(self, data: bytes) -> None:
        self.send_batch(parse(data))

    def send_batch(self, batch: Batch) -> None:
        self._requests.put_nowait(batch)

    async def finish(self) -> None:
        self._requests.put_nowait(None)
        async with asyncio.timeout(10):
            await asyncio.gather(*self._tasks)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.001)


def operation(number: int, session: bytes = b"a", **others: Any) -> Operation:
    return Operation(
        operation_id=number, session_token=session, get_folder=GetFolderRequest(folder_id=number), **others
    )


def reason(result: OperationResult) -> str:
    return from_status(result.status).reason


async def test_operations_of_one_session_run_in_order_each_after_the_one_before() -> None:
    harness = Harness()
    harness.dispatcher.work[1] = lambda _: asyncio.sleep(0.02)
    harness.send(*(operation(number) for number in range(1, 6)))
    await harness.finish()
    assert harness.dispatcher.began == [1, 2, 3, 4, 5]
    assert harness.order == [1, 2, 3, 4, 5]
    assert harness.dispatcher.most_running == 1


async def test_independent_operations_do_not_wait() -> None:
    harness = Harness()
    gate = asyncio.Event()
    harness.dispatcher.work[1] = lambda _: gate.wait()
    harness.send(operation(1), operation(2), operation(3, independent=True))
    await harness.until(lambda: 3 in harness.results)
    assert 2 not in harness.results
    gate.set()
    await harness.finish()
    assert set(harness.results) == {1, 2, 3}


async def test_sessions_never_wait_for_each_other() -> None:
    harness = Harness()
    gate = asyncio.Event()
    harness.dispatcher.work[1] = lambda _: gate.wait()
    harness.send(operation(1, b"slow"), *(operation(number, b"quick") for number in range(2, 40)))
    await harness.until(lambda: len(harness.results) == 38)
    assert 1 not in harness.results
    gate.set()
    await harness.finish()


async def test_one_that_fails_leaves_the_others_alone() -> None:
    harness = Harness()

    def fail(_: Any) -> None:
        raise FolderNotFound(folder_id=50)

    harness.dispatcher.work[50] = fail
    harness.send(*(operation(number) for number in range(1, 61)))
    await harness.finish()
    failed = harness.results.pop(50)
    assert reason(failed) == "FOLDER_NOT_FOUND"
    info = error_details_pb2.ErrorInfo()
    failed.status.details[0].Unpack(info)
    assert dict(info.metadata) == {"folder_id": "50"}
    assert len(harness.results) == 59
    assert not any(result.HasField("status") for result in harness.results.values())


async def test_a_fault_is_answered_without_its_text() -> None:
    harness = Harness()

    def fail(_: Any) -> None:
        raise ValueError("the secret detail")

    harness.dispatcher.work[1] = fail
    harness.send(operation(1))
    await harness.finish()
    assert reason(harness.results[1]) == "INTERNAL"
    assert "secret" not in str(harness.results[1])


async def test_a_huge_result_names_the_streaming_rpc() -> None:
    harness = Harness()
    huge = ReadFolderChangesResponse(changes=FolderChanges(uids=range(1, 60_000)))
    harness.dispatcher.work[7] = lambda _: huge
    request = methods.READ_FOLDER_CHANGES.request(folder_id=7)
    harness.send(Operation(operation_id=1, session_token=b"a", read_folder_changes=request), operation(2))
    await harness.finish()
    error = from_status(harness.results[1].status)
    assert error.reason == "RESULT_TOO_LARGE"
    assert error.metadata == {"rpc": "FolderService/OpenFolder", "limit_octets": "65536"}
    assert not harness.results[2].HasField("status")


async def test_answers_are_cut_into_messages() -> None:
    harness = Harness()
    large = ReadFolderChangesResponse(changes=FolderChanges(uids=range(1, 20_000)))
    for number in range(1, 41):
        harness.dispatcher.work[number] = lambda _: large
    request = methods.READ_FOLDER_CHANGES.request
    harness.send(
        *(
            Operation(operation_id=n, session_token=b"%d" % n, read_folder_changes=request(folder_id=n))
            for n in range(1, 41)
        )
    )
    await harness.finish()
    assert len(harness.results) == 40
    assert max(harness.messages) <= MAX_RESPONSE_OCTETS


async def test_a_session_with_too_many_in_flight_is_told_to_wait() -> None:
    harness = Harness()
    gate = asyncio.Event()
    harness.dispatcher.work[1] = lambda _: gate.wait()
    harness.send(*(operation(number) for number in range(1, MAX_SESSION_IN_FLIGHT + 3)), operation(500, b"other"))
    await harness.until(lambda: 500 in harness.results and len(harness.results) == 3)
    refused = from_status(harness.results[MAX_SESSION_IN_FLIGHT + 1].status)
    assert refused.reason == "TOO_MANY_OPERATIONS"
    assert refused.retry_seconds
    gate.set()
    await harness.finish()


async def test_operations_that_memory_answers_keep_their_order_and_need_no_task() -> None:
    harness = Harness(authenticator=RememberedSessions())
    harness.dispatcher.begin = lambda handler, *_: handler.method.response()  # type: ignore[method-assign]
    tasks = asyncio.all_tasks()
    harness.send(*(operation(number) for number in range(1, 6)))
    await harness.until(lambda: bool(harness.results))
    assert harness.order == [1, 2, 3, 4, 5]
    assert asyncio.all_tasks() == tasks
    await harness.finish()


async def test_reading_stops_while_too_many_are_in_flight() -> None:
    harness = Harness()
    gate = asyncio.Event()
    sessions = MAX_IN_FLIGHT // 32
    for session in range(sessions + 4):
        first = session * 1_000 + 1
        harness.dispatcher.work[first] = lambda _: gate.wait()
        harness.send(*(operation(first + n, b"s%d" % session) for n in range(32)))
    await harness.until(lambda: len(harness.dispatcher.began) >= sessions)
    await asyncio.sleep(0.02)
    assert len(harness.dispatcher.began) == sessions, "requests beyond the bound are not taken"
    gate.set()
    await harness.finish()
    assert len(harness.results) == 32 * (sessions + 4)


async def test_cancelling_what_has_not_begun_and_a_read_that_has() -> None:
    harness = Harness()
    gate = asyncio.Event()
    harness.dispatcher.work[1] = lambda _: gate.wait()
    harness.send(operation(1), operation(2), operation(3))
    await harness.until(lambda: harness.dispatcher.began == [1])
    harness.send(cancel=(2,))
    harness.send(cancel=(1,))
    await harness.finish()
    assert reason(harness.results[1]) == reason(harness.results[2]) == "CANCELLED"
    assert not harness.results[3].HasField("status")
    assert harness.dispatcher.began == [1, 3]


async def test_a_write_that_has_begun_is_finished() -> None:
    harness = Harness()
    gate = asyncio.Event()
    harness.dispatcher.work[9] = lambda _: gate.wait()
    request = methods.DELETE_FOLDER.request(folder_id=9)
    harness.send(Operation(operation_id=1, session_token=b"a", delete_folder=request))
    await harness.until(lambda: harness.dispatcher.began == [9])
    harness.execution.abandon()
    gate.set()
    await harness.finish()
    assert not harness.results[1].HasField("status")


async def test_a_deadline_passed_while_waiting_in_line() -> None:
    harness = Harness()
    harness.dispatcher.work[1] = lambda _: asyncio.sleep(0.05)
    harness.send(operation(1), operation(2, timeout_milliseconds=10))
    await harness.finish()
    assert reason(harness.results[2]) == "DEADLINE_EXCEEDED"
    assert harness.dispatcher.began == [1]


async def test_unknown_and_doubled_operations_are_refused() -> None:
    harness = Harness()
    gate = asyncio.Event()
    harness.dispatcher.work[1] = lambda _: gate.wait()
    harness.send(Operation(operation_id=8, session_token=b"b"), operation(1))
    await harness.until(lambda: 8 in harness.results)
    assert reason(harness.results[8]) == "UNKNOWN_OPERATION"
    gate.set()
    await harness.finish()


async def test_a_batch_that_is_too_long_ends_the_stream() -> None:
    harness = Harness()
    harness.send(*(operation(number) for number in range(MAX_BATCH_OPERATIONS + 1)))
    with pytest.raises(Exception, match="at most 256"):
        await harness.finish()


def sized(number: int, octets: int) -> Operation:
    """An operation of exactly `octets` octets."""
    made = operation(number)
    made.client_address = "x" * (octets - made.ByteSize() - 4)
    made.client_address += "x" * (octets - made.ByteSize())
    assert made.ByteSize() == octets
    return made


@pytest.mark.parametrize("count", [1, 4])
def test_a_request_is_too_large_by_its_operations_and_not_by_what_frames_them(count: int) -> None:
    at_most = ExecuteRequest(operations=[sized(n, MAX_BATCH_OCTETS // count) for n in range(count)])
    assert at_most.ByteSize() > MAX_BATCH_OCTETS and not parse(at_most.SerializeToString()).oversize
    at_most.operations.append(operation(count))
    assert parse(at_most.SerializeToString()).oversize
    cancelling = ExecuteRequest(cancel_operation_ids=range(1 << 60, (1 << 60) + MAX_BATCH_OCTETS // 8))
    assert not parse(cancelling.SerializeToString()).oversize


async def test_a_request_that_is_too_large_is_refused_by_operation_and_the_stream_goes_on() -> None:
    harness = Harness()
    gate = asyncio.Event()
    harness.dispatcher.work[1] = lambda _: gate.wait()
    harness.send(operation(1))
    await harness.until(lambda: harness.dispatcher.began == [1])
    large = ExecuteRequest(operations=[sized(2, MAX_BATCH_OCTETS), operation(3)], cancel_operation_ids=[1])
    harness.send_octets(large.SerializeToString())
    harness.send(operation(4))
    await harness.finish()
    for number in (2, 3):
        refused = from_status(harness.results[number].status)
        assert isinstance(refused, InvalidArgument) and refused.metadata["field"] == "operations"
    assert reason(harness.results[1]) == "CANCELLED"
    assert not harness.results[4].HasField("status")
    assert harness.dispatcher.began == [1, 4]


async def test_nothing_is_kept_of_operations_that_were_answered() -> None:
    harness = Harness()
    for start in range(0, 10_000, 200):
        harness.send(*(operation(start + n, b"s%d" % n) for n in range(200)))
    await harness.finish()
    assert len(harness.results) == 10_000
    assert not harness.execution._sessions
    assert not harness.execution._flights
