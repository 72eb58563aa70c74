"""Operations that refer to others: when they begin, what they get, and how they end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from restante.errors import FolderNotFound, RestanteError, from_status
from restante.v1.batch_pb2 import ExecuteRequest, Operation, OperationResult, Reference
from restante.v1.folder_pb2 import (
    DeleteFolderRequest,
    DeleteFolderResponse,
    Folder,
    GetFolderRequest,
    GetFolderResponse,
)
from restante.v1.message_pb2 import CopyMessagesRequest, CopyMessagesResponse
from restante.v1.types_pb2 import IdRange
from restante_server.api.engine.batch import MAX_BATCH_OCTETS, parse
from restante_server.api.engine.execute import MAX_REQUEST_OCTETS
from restante_server.api.engine.linked import MAX_REFERENCES
from tests.server.api.engine.test_execute import Harness, operation


def refer(number: int, *, folder: str = "folder.folder_id", to: str = "folder_id") -> Reference:
    return Reference(operation_id=number, response_field=folder, request_field=to)


def delete(number: int, *references: Reference, session: bytes = b"a", **others: Any) -> Operation:
    """A write of folder 1000 + `number`, unless a reference says another."""
    request = DeleteFolderRequest(folder_id=1_000 + number)
    return Operation(operation_id=number, session_token=session, delete_folder=request, references=references, **others)


def error_of(result: OperationResult) -> RestanteError:
    return from_status(result.status)


def folder(folder_id: int) -> Any:
    return lambda _: GetFolderResponse(folder=Folder(folder_id=folder_id))


async def test_a_chain_of_three_passes_values_on() -> None:
    harness = Harness()
    harness.dispatcher.work[1] = folder(20)
    harness.dispatcher.work[20] = folder(300)
    second = operation(2)
    second.references.append(refer(1))
    harness.send(operation(1), second, delete(3, refer(2)))
    await harness.finish()
    assert harness.dispatcher.began == [1, 20, 300]
    assert harness.order == [1, 2, 3]
    assert not any(result.HasField("status") for result in harness.results.values())


async def test_an_independent_operation_waits_for_those_that_it_refers_to_alone() -> None:
    harness = Harness()
    gate = asyncio.Event()

    async def slow(_: Any) -> GetFolderResponse:
        await gate.wait()
        return GetFolderResponse(folder=Folder(folder_id=20))

    harness.dispatcher.work[1] = slow
    harness.send(operation(1), delete(2, refer(1), independent=True), operation(3, independent=True))
    await harness.until(lambda: 3 in harness.results)
    assert harness.dispatcher.began == [1, 3]
    gate.set()
    await harness.finish()
    assert harness.dispatcher.began == [1, 3, 20]


async def test_an_ordered_operation_waits_for_an_independent_one_behind_which_it_comes() -> None:
    harness = Harness()
    gate = asyncio.Event()

    async def slow(_: Any) -> GetFolderResponse:
        await gate.wait()
        return GetFolderResponse(folder=Folder(folder_id=20))

    harness.dispatcher.work[1] = slow
    harness.send(operation(1, independent=True), delete(2, refer(1)), operation(3), operation(4, b"b"))
    await harness.until(lambda: 4 in harness.results)
    assert harness.dispatcher.began == [1, 4], "operation 3 keeps its place behind operation 2"
    gate.set()
    await harness.finish()
    assert harness.dispatcher.began == [1, 4, 20, 3]


async def test_a_failure_goes_down_the_chain_and_no_further() -> None:
    def fail(_: Any) -> None:
        raise FolderNotFound(folder_id=1)

    harness = Harness()
    harness.dispatcher.work[1] = fail
    harness.dispatcher.work[1_002] = lambda _: DeleteFolderResponse(deleted_count=7)
    chained = operation(3)
    chained.references.append(refer(2, folder="deleted_count"))
    harness.send(operation(1), delete(2, refer(1)), chained, operation(4))
    await harness.finish()
    assert harness.dispatcher.began == [1, 4], "neither of the two has an effect"
    assert error_of(harness.results[1]).reason == "FOLDER_NOT_FOUND"
    for number, named in ((2, "1"), (3, "2")):
        error = error_of(harness.results[number])
        assert (error.reason, error.metadata) == ("OPERATION_REFERENCE_FAILED", {"operation_id": named})
    assert not harness.results[4].HasField("status")


async def test_a_write_that_waits_is_cancelled_and_one_that_has_begun_is_not() -> None:
    harness = Harness()
    gates = {1: asyncio.Event(), 20: asyncio.Event()}

    async def slow(request: Any) -> GetFolderResponse:
        await gates[request.folder_id].wait()
        return GetFolderResponse(folder=Folder(folder_id=20))

    async def slow_write(request: Any) -> DeleteFolderResponse:
        await gates[request.folder_id].wait()
        return DeleteFolderResponse()

    harness.dispatcher.work[1] = slow
    harness.dispatcher.work[20] = slow_write
    harness.send(operation(1), delete(2, refer(1), independent=True), delete(3, refer(1), independent=True))
    await harness.until(lambda: harness.dispatcher.began == [1])
    harness.send(cancel=(2,))
    await harness.until(lambda: 2 in harness.results)
    gates[1].set()
    await harness.until(lambda: harness.dispatcher.began == [1, 20])
    harness.send(cancel=(3,))
    gates[20].set()
    await harness.finish()
    assert error_of(harness.results[2]).reason == "CANCELLED"
    assert not harness.results[3].HasField("status")


async def test_a_cancelled_operation_fails_those_that_refer_to_it() -> None:
    harness = Harness()
    harness.dispatcher.work[1] = lambda _: asyncio.sleep(60)
    harness.send(operation(1), delete(2, refer(1)))
    await harness.until(lambda: harness.dispatcher.began == [1])
    harness.send(cancel=(1,))
    await harness.finish()
    assert error_of(harness.results[1]).reason == "CANCELLED"
    assert error_of(harness.results[2]).reason == "OPERATION_REFERENCE_FAILED"
    assert harness.dispatcher.began == [1]


async def test_waiting_ends_at_the_deadline() -> None:
    harness = Harness()
    gate = asyncio.Event()
    harness.dispatcher.work[1] = lambda _: gate.wait()
    harness.send(operation(1), delete(2, refer(1), independent=True, timeout_milliseconds=30))
    await harness.until(lambda: 2 in harness.results)
    gate.set()
    await harness.finish()
    assert error_of(harness.results[2]).reason == "DEADLINE_EXCEEDED"
    assert harness.dispatcher.began == [1]


async def test_a_client_that_goes_leaves_no_operation_waiting() -> None:
    harness = Harness()
    harness.dispatcher.work[1] = lambda _: asyncio.sleep(60)
    harness.send(operation(1), delete(2, refer(1), independent=True), delete(3, refer(2, folder="deleted_count")))
    await harness.until(lambda: harness.dispatcher.began == [1])
    harness.execution.abandon()
    await harness.until(lambda: not harness.execution._flights)
    assert harness.dispatcher.began == [1]
    await harness.finish()


@pytest.mark.parametrize(
    ("operations", "field", "problem"),
    [
        ((delete(2, refer(3)), operation(3)), "references[0].operation_id", "comes behind this one"),
        ((delete(2, refer(2)),), "references[0].operation_id", "is this one"),
        ((operation(1, b"b"), delete(2, refer(1))), "references[0].operation_id", "belongs to another session"),
        ((delete(2, refer(9)),), "references[0].operation_id", "no operation 9 in this request message"),
        ((operation(1), delete(2, refer(1), refer(7))), "references[1].operation_id", "no operation 7"),
        ((operation(1), delete(2, refer(1, folder="no"))), "references[0].response_field", "has no field 'no'"),
        ((operation(1), delete(2, refer(1, to="mailbox"))), "references[0].request_field", "has no field 'mailbox'"),
        ((operation(1), delete(2, *([refer(1)] * (MAX_REFERENCES + 1)))), "references", "more than 16"),
        ((Operation(operation_id=1, session_token=b"a"), delete(2, refer(1))), "references[0].operation_id", "unknown"),
    ],
)
async def test_a_faulty_reference_is_refused_and_has_no_effect(
    operations: tuple[Operation, ...], field: str, problem: str
) -> None:
    harness = Harness()
    harness.send(*operations, operation(50))
    await harness.finish()
    error = error_of(harness.results[2])
    assert (error.reason, error.metadata["field"]) == ("INVALID_ARGUMENT", field)
    assert problem in error.metadata["problem"]
    assert 1_002 not in harness.dispatcher.began
    assert not harness.results[50].HasField("status"), "the others are not concerned"


async def test_no_reference_reaches_an_earlier_request_message() -> None:
    harness = Harness()
    gate = asyncio.Event()
    harness.dispatcher.work[1] = lambda _: gate.wait()
    harness.send(operation(1), operation(2, b"b"))
    await harness.until(lambda: 2 in harness.results)
    harness.send(delete(3, refer(1)), delete(4, refer(2), session=b"b"))  # one runs, the other is answered
    await harness.until(lambda: 4 in harness.results)
    gate.set()
    await harness.finish()
    for number, named in ((3, 1), (4, 2)):
        error = error_of(harness.results[number])
        assert error.metadata["field"] == "references[0].operation_id"
        assert error.metadata["problem"] == f"no operation {named} in this request message: send both in one"


async def test_what_references_bring_counts_for_the_size_of_the_request() -> None:
    """Otherwise one long answer, copied by many operations, would take any amount of memory."""
    harness = Harness()
    long = ["x" * 30_000]
    harness.dispatcher.work[1] = lambda _: GetFolderResponse(folder=Folder(path=long))

    def copy(number: int) -> Operation:
        return Operation(
            operation_id=number,
            session_token=b"a",
            get_folder=GetFolderRequest(folder_id=1_000 + number),
            references=[refer(1, folder="folder.path", to="path")],
        )

    batch = parse(ExecuteRequest(operations=[operation(1), *map(copy, range(2, 52))]).SerializeToString())
    harness.send_batch(batch)
    await harness.finish()
    refused = [number for number, result in harness.results.items() if result.HasField("status")]
    assert len(harness.dispatcher.began) - 1 == MAX_BATCH_OCTETS // 30_010
    assert len(refused) == 50 - MAX_BATCH_OCTETS // 30_010
    error = error_of(harness.results[refused[0]])
    assert (error.reason, error.metadata["field"]) == ("INVALID_ARGUMENT", "references")
    assert batch.request.ByteSize() < MAX_BATCH_OCTETS + 2 * 30_010, "no refused operation keeps what it copied"


async def test_an_operation_may_refer_to_several_and_several_to_one() -> None:
    harness = Harness()
    harness.dispatcher.work[1] = folder(20)
    harness.dispatcher.work[2] = folder(30)
    many = [delete(number, refer(1), refer(2, to="mailbox_id")) for number in range(3, 9)]
    harness.send(operation(1), operation(2), *many)
    await harness.finish()
    assert harness.dispatcher.began == [1, 2] + [20] * 6
    assert not any(result.HasField("status") for result in harness.results.values())


async def test_a_stream_stops_reading_before_references_can_copy_more_than_its_bound() -> None:
    """Each of these small messages may copy a whole response into 15 requests."""
    harness = Harness(identity="")
    gate = asyncio.Event()
    harness.dispatcher.work[1] = lambda _: gate.wait()
    messages = MAX_REQUEST_OCTETS // MAX_BATCH_OCTETS + 3
    for message in range(messages):
        first = 100 * message + 2
        copies = [delete(first + n, refer(first - 1), session=b"%d" % message) for n in range(16)]
        source = Operation(
            operation_id=first - 1, session_token=b"%d" % message, get_folder=GetFolderRequest(folder_id=1)
        )
        harness.send(source, *copies)
    await harness.until(lambda: bool(harness.dispatcher.began))
    await asyncio.sleep(0.02)
    assert harness.dispatcher.began == [1] * (MAX_REQUEST_OCTETS // MAX_BATCH_OCTETS)
    gate.set()
    await harness.finish()
    assert len(harness.results) == 17 * messages


async def test_what_references_copy_beyond_their_reservation_counts_until_the_answers() -> None:
    """The answer to a write has no limit; the reservation of a reference has."""
    harness = Harness(identity="")
    gate = asyncio.Event()
    runs = [IdRange(first=number, last=number) for number in range(1_000_000, 1_070_000)]
    answer = CopyMessagesResponse(target_uids=runs)
    assert MAX_BATCH_OCTETS // 2 < answer.ByteSize() < MAX_BATCH_OCTETS
    harness.dispatcher.copies = lambda request: gate.wait() if request.messages.uids.ranges else answer
    messages = MAX_REQUEST_OCTETS // answer.ByteSize() + 1
    for message in range(messages):
        first = Operation(
            operation_id=10 * message + 1, session_token=b"%d" % message, copy_messages=CopyMessagesRequest()
        )
        second = Operation(
            operation_id=10 * message + 2,
            session_token=b"%d" % message,
            copy_messages=CopyMessagesRequest(),
            references=[
                Reference(
                    operation_id=10 * message + 1, response_field="target_uids", request_field="messages.uids.ranges"
                )
            ],
        )
        harness.send(first, second)
    await harness.until(lambda: harness.dispatcher.running == messages)
    harness.send(operation(1_000, b"b"))  # is taken: the stream waits for room only behind a message
    harness.send(operation(1_001, b"c"))
    await asyncio.sleep(0.02)
    assert 1_000 in harness.results and 1_001 not in harness.results
    gate.set()
    await harness.finish()
    assert 1_001 in harness.results
