"""The Python program of `make bench-sdk`: ./sdk.py describes the arguments, the loads and the output line."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from restante import streams
from restante.client import Client
from restante.target import Target
from restante.v1 import batch_pb2_grpc, message_pb2_grpc, methods
from restante.v1.batch_pb2 import ExecuteRequest, ExecuteResponse, Operation
from restante.v1.message_pb2 import (
    BatchGetMessagesRequest,
    MessageColumn,
    MessageSet,
    QueryMessagesRequest,
    Section,
    SectionKind,
    StreamMessagesRequest,
)
from restante.v1.types_pb2 import MessageIdSet

BATCH_MESSAGES = 20  # of one BatchGetMessages in the load batch_get
WAITING = 32  # operations that wait together in the load execute, each for one message
PAGE_SIZE = 1_000
COLUMNS = (
    MessageColumn.MESSAGE_COLUMN_FLAGS,
    MessageColumn.MESSAGE_COLUMN_SIZE,
    MessageColumn.MESSAGE_COLUMN_SUMMARY,
)
SECTIONS = (Section(kind=SectionKind.SECTION_KIND_WHOLE),)

Load = Callable[[], Awaitable[int]]
"""A function that reads some messages and returns their number."""


class Ids:
    """The ids of the Inbox in an endless cycle."""

    def __init__(self, all_of_them: list[int]) -> None:
        self.first = all_of_them[:PAGE_SIZE]
        self._next = itertools.cycle(all_of_them)

    def request(self, count: int) -> BatchGetMessagesRequest:
        """A request for the next `count` messages."""
        return BatchGetMessagesRequest(
            messages=MessageSet(ids=MessageIdSet(message_ids=itertools.islice(self._next, count))), columns=COLUMNS
        )


def by_sdk(client: Client, ids: Ids) -> dict[str, Load]:
    """The loads by the SDK."""

    async def batch_get() -> int:
        answer = await client.execute(methods.BATCH_GET_MESSAGES, ids.request(BATCH_MESSAGES))
        return len(answer.rows.message_ids)

    async def execute() -> int:
        calls = (client.execute(methods.BATCH_GET_MESSAGES, ids.request(1), independent=True) for _ in range(WAITING))
        return sum(len(answer.rows.message_ids) for answer in await asyncio.gather(*calls))

    async def stream() -> int:
        return sum(
            [
                len(rows.message_ids)
                async for rows in client.messages.stream(ids.first, columns=COLUMNS, sections=SECTIONS)
            ]
        )

    return {"batch_get": batch_get, "execute": execute, "stream": stream}


@asynccontextmanager
async def by_stubs(target: Target, token: bytes, ids: Ids) -> AsyncIterator[dict[str, Load]]:
    """The loads by the generated stubs, on a separate connection."""
    metadata = streams.call_metadata((), token)
    async with target.open_channel() as channel:
        messages = message_pb2_grpc.MessageServiceStub(channel)
        call = batch_pb2_grpc.BatchServiceStub(channel).Execute(metadata=metadata)
        numbers = itertools.count(1)

        async def batch_get() -> int:
            answer = await messages.BatchGetMessages(ids.request(BATCH_MESSAGES), metadata=metadata)
            return len(answer.rows.message_ids)

        async def execute() -> int:
            operations = [
                Operation(
                    operation_id=next(numbers),
                    session_token=token,
                    independent=True,
                    timeout_milliseconds=30_000,
                    batch_get_messages=ids.request(1),
                )
                for _ in range(WAITING)
            ]
            await call.write(ExecuteRequest(operations=operations))
            answered = found = 0
            while answered < WAITING:
                response = await call.read()
                assert isinstance(response, ExecuteResponse), await call.details()
                for result in response.results:
                    answered += 1
                    found += len(result.batch_get_messages.rows.message_ids)
            return found

        async def stream() -> int:
            request = StreamMessagesRequest(
                messages=MessageSet(ids=MessageIdSet(message_ids=ids.first)), columns=COLUMNS, sections=SECTIONS
            )
            found = 0
            async for response in messages.StreamMessages(request, metadata=metadata):
                found += len(response.rows.message_ids)
            return found

        yield {"batch_get": batch_get, "execute": execute, "stream": stream}
        call.cancel()


async def during(load: Load, seconds: float) -> int:
    """The number of messages read in `seconds`."""
    until = time.perf_counter() + seconds
    messages = 0
    while time.perf_counter() < until:
        messages += await load()
    return messages


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("target", "user", "password"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--ca", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--mode", choices=("sdk", "bare"), required=True)
    parser.add_argument("--load", choices=("batch_get", "execute", "stream"), required=True)
    given = parser.parse_args()
    target = Target(given.target, root_certificates=given.ca.read_bytes())
    async with Client.connect(target, user=given.user, password=given.password) as client:
        inbox = await client.folders.get("INBOX")
        query = QueryMessagesRequest(folder_id=inbox.folder_id, page_size=PAGE_SIZE)
        ids = Ids([id async for page in client.pages(methods.QUERY_MESSAGES, query) for id in page.rows.message_ids])
        async with by_stubs(target, client.session.token, ids) as bare:
            load = (by_sdk(client, ids) if given.mode == "sdk" else bare)[given.load]
            await during(load, given.seconds / 5)  # warm-up
            cpu, began = time.process_time(), time.perf_counter()
            messages = await during(load, given.seconds)
            seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    measured = {"messages": messages, "seconds": round(seconds, 3), "cpu_seconds": round(cpu, 3)}
    print(json.dumps({"language": "Python", "mode": given.mode, "load": given.load} | measured))


if __name__ == "__main__":
    asyncio.run(main())
