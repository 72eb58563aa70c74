"""The cost of an operation between the Execute stream and the store: `python -m tests.bench.bench_execute` prints JSON.

A whole core in this process, without gRPC's framing. CPU microseconds of an operation, the least of five rounds, by the
number of operations that wait together: of the process, of the event loop's thread and of the write lane's.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import uvloop

from restante.v1 import folder_pb2, message_pb2
from restante.v1.batch_pb2 import ExecuteRequest, Operation
from restante.v1.message_pb2 import MessageSet
from restante.v1.types_pb2 import IdRange, UidSet
from restante_server.api.engine.batch import Batch
from restante_server.api.engine.caller import Caller
from restante_server.api.engine.execute import Execution, Executor
from tests.server.api.served import Served, request_id, served

MESSAGES = 500
ROUNDS = 5
OPERATIONS = 1_000
TOGETHER = (1, 4, 20)
BODY = b"From: alice@example.test\r\nSubject: hello\r\n\r\n" + b"The quick brown fox jumps over the lazy dog.\r\n" * 40


def one(number: int) -> MessageSet:
    return MessageSet(
        uids=UidSet(folder_id=1, ranges=[IdRange(first=1 + number % MESSAGES, last=1 + number % MESSAGES)])
    )


def get_folder(number: int) -> Operation:
    return Operation(get_folder=folder_pb2.GetFolderRequest(folder_id=1))


def get_message(number: int) -> Operation:
    columns = [message_pb2.MESSAGE_COLUMN_ENVELOPE, message_pb2.MESSAGE_COLUMN_SIZE]
    return Operation(batch_get_messages=message_pb2.BatchGetMessagesRequest(messages=one(number), columns=columns))


def update(number: int) -> Operation:
    operation = message_pb2.FLAG_OPERATION_REMOVE if number // MESSAGES % 2 else message_pb2.FLAG_OPERATION_ADD
    return Operation(
        update_messages=message_pb2.UpdateMessagesRequest(messages=one(number), operation=operation, flags=2)
    )


def copy(number: int) -> Operation:
    request = message_pb2.CopyMessagesRequest(messages=one(number), target_folder_id=2, request_id=request_id())
    return Operation(copy_messages=request)


def append(number: int) -> Operation:
    request = message_pb2.AppendMessageRequest(folder_id=1, content=BODY, request_id=request_id())
    return Operation(append_message=request)


class Stream:
    """The client's side of an Execute stream."""

    def __init__(self, executor: Executor, token: bytes) -> None:
        caller = Caller(identity="", encrypted=True)
        self._execution = Execution(executor, caller)
        self._requests: asyncio.Queue[Batch] = asyncio.Queue()
        self._token, self._ids = token, itertools.count(1)
        self._feeding = asyncio.create_task(self._execution.feed(self._taken()))
        self._answers = self._execution.answers()

    async def _taken(self) -> AsyncIterator[Batch]:
        while True:
            yield await self._requests.get()

    async def run(self, operations: list[Operation]) -> None:
        """Send all operations at once and wait for all answers."""
        for operation in operations:
            operation.operation_id, operation.session_token, operation.independent = next(self._ids), self._token, True
        self._requests.put_nowait(Batch(ExecuteRequest(operations=operations), octets=0))
        left = len(operations)
        while left:
            for result in (await anext(self._answers)).results:
                assert not result.HasField("status"), result.status
                left -= 1

    async def close(self) -> None:
        self._feeding.cancel()
        await asyncio.gather(self._feeding, return_exceptions=True)


def clocks() -> tuple[float, float, float]:
    """Seconds of CPU of the process, of this thread and of the write lane."""
    lane = next(thread for thread in threading.enumerate() if thread.name == "restante-write-0")
    assert lane.ident is not None  # it runs
    return time.process_time(), time.thread_time(), time.clock_gettime(time.pthread_getcpuclockid(lane.ident))


async def measure(stream: Stream, make: Callable[[int], Operation], together: int) -> dict[str, float]:
    numbers = itertools.count()
    rounds = []
    for _ in range(ROUNDS):
        batches = [[make(next(numbers)) for _ in range(together)] for _ in range(OPERATIONS // together)]
        began = clocks()
        for batch in batches:
            await stream.run(batch)
        count = len(batches) * together
        rounds.append([(now - then) / count * 1e6 for now, then in zip(clocks(), began, strict=True)])
    return dict(
        zip(("process", "loop", "lane"), (round(min(one), 1) for one in zip(*rounds, strict=True)), strict=True)
    )


async def run() -> dict[str, dict[int, dict[str, float]]]:
    with tempfile.TemporaryDirectory() as scratch:
        async with served(Path(scratch)) as box:
            return await _measured(box)


async def _measured(box: Served) -> dict[str, dict[int, dict[str, float]]]:
    stream = Stream(box.process.server.executor, (await box.session("bob")).session_token)
    for start in range(0, MESSAGES, 50):
        await stream.run([append(number) for number in range(start, start + 50)])
    found = {}
    for make in (get_folder, get_message, update, copy, append):
        found[make.__name__] = {together: await measure(stream, make, together) for together in TOGETHER}
    await stream.close()
    return found


if __name__ == "__main__":
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(run()), indent=2))
