"""The cost of accepting and delivering a message, from the Accept stream to the commit, on SQLite; prints JSON.

    python -m tests.bench.bench_delivery [messages]

`accept` uses the stream's handler without gRPC: header, scan, listing, resolution, one transaction for all waiting
messages. `set` is the transaction alone, for messages prepared before. CPU is that of the process.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from restante.v1.submission_pb2 import EnvelopeRecipient
from restante.v1.transport_pb2 import AcceptBegin, AcceptEnd, AcceptRequest
from restante_server.api.services import accept as accept_service
from restante_server.db import schema
from restante_server.db.engine import open_database
from restante_server.store.listing import listing_of
from restante_server.store.requests import Key, Request
from restante_server.store.staging import Form
from restante_server.transport.records import Incoming, Planned
from restante_server.transport.take import TakeMail
from tests.server.transport.world import FOREVER, TRACE, Clock, World, open_world

BODY = b"The quick brown fox jumps over the lazy dog, and then it does so again.\r\n" * 24
MESSAGE = (
    b"From: Dave <dave@example.org>\r\nTo: Alice <alice@example.test>\r\nSubject: Lunch at noon\r\n"
    b"Message-ID: <lunch@example.org>\r\nDate: Mon, 1 Jan 2029 10:00:00 +0000\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + BODY
)
PEOPLE = 50


@contextmanager
def measured(results: dict[str, Any], name: str, messages: int, recipients: int) -> Iterator[None]:
    """Measure the context and add its figures to the results."""
    cpu, wall = time.process_time(), time.perf_counter()
    yield
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    results[name] = {
        "messages_per_second": round(messages / wall),
        "deliveries_per_second": round(messages * recipients / wall),
        "cpu_ms_per_message": round(1_000 * cpu / messages, 3),
        "cpu_ms_per_delivery": round(1_000 * cpu / messages / recipients, 3),
        "ms_per_delivery": round(1_000 * wall / messages / recipients, 3),
    }


async def accept(world: World, messages: int, recipients: int, together: int) -> None:
    """Accept messages, `together` at a time on one stream."""
    finished = asyncio.Semaphore(together)
    paths = [
        [f"user{(number * 7 + at) % PEOPLE}@example.test" for at in range(recipients)] for number in range(messages)
    ]

    async def requests() -> AsyncIterator[AcceptRequest]:
        for number in range(1, messages + 1):
            await finished.acquire()
            begin = AcceptBegin(
                request_id=secrets.token_bytes(16),
                reverse_path="dave@example.org",
                recipients=[EnvelopeRecipient(forward_path=path) for path in paths[number - 1]],
                client_address="192.0.2.1",
                trace_field=TRACE,
            )
            yield AcceptRequest(acceptance_id=number, start=begin)
            yield AcceptRequest(acceptance_id=number, chunk=MESSAGE)
            yield AcceptRequest(acceptance_id=number, commit=AcceptEnd())

    async for response in accept_service.accept(world.call(world.gateway(), FOREVER), requests()):
        assert response.accepted, response.status
        finished.release()


async def prepared(world: World, messages: int, recipients: int) -> list[TakeMail]:
    """Messages prepared up to their transaction."""
    mailboxes = [world.people[f"user{number}"].mailbox_id for number in range(PEOPLE)]
    made = []
    for number in range(messages):
        staged = await world.core.contents.stage(MESSAGE, Form.CANONICAL)
        assert staged.facts is not None
        planned = tuple(
            Planned(f"user{at}@example.test", mailbox_id=mailboxes[(number * 7 + at) % PEOPLE])
            for at in range(recipients)
        )
        incoming = Incoming(
            "dave@example.org",
            staged,
            listing_of(staged.facts),
            planned,
            1_000_000 + number,
            TRACE.encode(),
            "192.0.2.1",
        )
        request = Request(Key(0, "gateway:smtp", secrets.token_bytes(16)), "AcceptBegin", b"", 1 << 60)
        made.append(TakeMail(world.transport.settings, incoming, request))
    return made


async def take(world: World, mails: list[TakeMail], together: int) -> None:
    """Write them, `together` at a time."""
    waiting = iter(mails)

    async def writer() -> None:
        for mail in waiting:
            await world.transport.take(mail)

    await asyncio.gather(*(writer() for _ in range(together)))


async def with_world(run: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    """Run on a fresh store with fifty accounts."""
    with tempfile.TemporaryDirectory() as directory:
        db = open_database(f"sqlite:///{Path(directory) / 'store.db'}")
        with db.engine.begin() as tx:
            schema.metadata.create_all(tx)
        world = await open_world(db, Path(directory) / "contents", Clock())
        for number in range(PEOPLE):
            await world.add_account(f"user{number}@example.test")
        await run(world)
        await db.close()


async def main(messages: int) -> None:
    """Run every workload on a separate store."""
    results: dict[str, Any] = {"octets": len(MESSAGE)}
    for recipients in (1, 10):
        for together in (1, 10, 32):

            async def through_stream(world: World, recipients: int = recipients, together: int = together) -> None:
                await accept(world, 20, recipients, together)
                with measured(results, f"accept_{recipients}_recipients_{together}_together", messages, recipients):
                    await accept(world, messages, recipients, together)

            await with_world(through_stream)
    for recipients, together in ((1, 1), (1, 16), (1, 64), (10, 16)):

        async def as_set(world: World, recipients: int = recipients, together: int = together) -> None:
            mails = await prepared(world, messages, recipients)
            with measured(results, f"set_{recipients}_recipients_{together}_together", messages, recipients):
                await take(world, mails, together)

        await with_world(as_set)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000))
