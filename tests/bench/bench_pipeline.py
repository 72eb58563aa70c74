"""The cost of a write through the pipeline: alone, in groups, in sets; and of a read alone and shared.

    python -m tests.bench.bench_pipeline [--seconds 3] [--postgres URL] [--folder DIR]

One JSON object a line. `cpu_ms` is processor time of this process for each operation, `server_cpu_ms` that of the
PostgreSQL processes if they can be seen. A "delivery" makes the writes of a delivery of one message: mailbox and folder
counters, content with 2 kB of octets, message, listing and delivery key.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    bindparam,
    insert,
    select,
    update,
)
from typing_extensions import override

from restante_server.db.engine import Database, open_database
from restante_server.db.group import Locks
from restante_server.db.hooks import Observer
from restante_server.db.operation import Write
from restante_server.db.rowlocks import lock_rows
from tests.harness.postgres import running_cluster

MAILBOXES = 64
OCTETS = b"x" * 2_000
metadata = MetaData()
ROW_ID = BigInteger().with_variant(Integer(), "sqlite")


def _column(name: str, key: bool = False) -> Column[int]:
    return Column(name, BigInteger, primary_key=key, autoincrement=False, nullable=False)


mailbox = Table(
    "mailbox", metadata, Column("mailbox_id", ROW_ID, primary_key=True), _column("change_number"), _column("next_id")
)
folder = Table("folder", metadata, _column("mailbox_id", True), _column("folder_id", True), _column("uid_next"))
content = Table("content", metadata, Column("content_id", ROW_ID, primary_key=True), Column("digest", LargeBinary))
octets = Table("octets", metadata, Column("content_id", ROW_ID, primary_key=True), Column("octets", LargeBinary))
message = Table(
    "message",
    metadata,
    _column("mailbox_id", True),
    _column("message_id", True),
    _column("folder_id"),
    _column("uid"),
    _column("flags"),
    _column("change_number"),
    _column("content_id"),
    Column("head", LargeBinary),
    Index("place", "mailbox_id", "folder_id", "uid", unique=True),
    Index("change", "mailbox_id", "folder_id", "change_number"),
)
listing = Table(
    "listing",
    metadata,
    _column("mailbox_id", True),
    _column("message_id", True),
    Column("envelope", LargeBinary),
    Column("subject", Text),
)
delivered = Table("delivered", metadata, _column("mailbox_id", True), _column("transport_id", True))

RAISE_MAILBOX = (
    update(mailbox)
    .where(mailbox.c.mailbox_id == bindparam("box"))
    .values(change_number=mailbox.c.change_number + bindparam("count"), next_id=mailbox.c.next_id + bindparam("count"))
    .returning(mailbox.c.change_number, mailbox.c.next_id)
)
RAISE_FOLDER = (
    update(folder)
    .where(folder.c.mailbox_id == bindparam("box"), folder.c.folder_id == 1)
    .values(uid_next=folder.c.uid_next + bindparam("count"))
    .returning(folder.c.uid_next)
)
NEW_CONTENT = insert(content).returning(content.c.content_id, sort_by_parameter_order=True)
SET_FLAGS = (
    update(message)
    .where(message.c.mailbox_id == bindparam("box"), message.c.message_id == bindparam("id"))
    .values(flags=1 - message.c.flags, change_number=bindparam("change"))
)
next_transport_id = iter(range(1, 1 << 60))


@dataclass(frozen=True)
class Deliver:
    """One delivery; `Merged` below makes the same deliveries in sets."""

    mailbox_id: int
    transport_id: int
    rows: int = 7
    octets: int = len(OCTETS)

    @property
    def mailboxes(self) -> frozenset[int]:
        return frozenset({self.mailbox_id})

    def run(self, tx: Connection) -> int:
        return place(tx, [self])[0]


class Merged(Deliver):
    @classmethod
    def run_many(cls, tx: Connection, operations: Sequence[Deliver]) -> list[int]:
        return place(tx, operations)


def place(tx: Connection, deliveries: Sequence[Deliver]) -> list[int]:
    """Read each counter once, assign the numbers here, and run one statement for each table. Returns the UIDs."""
    counts: dict[int, int] = {}
    for one in deliveries:
        counts[one.mailbox_id] = counts.get(one.mailbox_id, 0) + 1
    following: dict[int, list[int]] = {}  # mailbox: change number, message id, UID
    for box, count in counts.items():
        change, next_id = tx.execute(RAISE_MAILBOX, {"box": box, "count": count}).one()
        uid = tx.execute(RAISE_FOLDER, {"box": box, "count": count}).scalar_one()
        following[box] = [change - count, next_id - count, uid - count]
    contents = tx.execute(NEW_CONTENT, [{"digest": b"d" * 32} for _ in deliveries]).scalars().all()
    messages, listings, uids = [], [], []
    for one, content_id in zip(deliveries, contents, strict=True):
        numbers = following[one.mailbox_id] = [number + 1 for number in following[one.mailbox_id]]
        change, message_id, uid = numbers
        key = {"mailbox_id": one.mailbox_id, "message_id": message_id}
        messages.append(
            key
            | {"folder_id": 1, "uid": uid, "flags": 0, "change_number": change, "content_id": content_id}
            | {"head": b"h" * 200}
        )
        listings.append(key | {"envelope": b"e" * 350, "subject": "a subject"})
        uids.append(uid)
    tx.execute(insert(octets), [{"content_id": content_id, "octets": OCTETS} for content_id in contents])
    tx.execute(insert(message), messages)
    tx.execute(insert(listing), listings)
    tx.execute(
        insert(delivered),
        [{"mailbox_id": one.mailbox_id, "transport_id": one.transport_id} for one in deliveries],
    )
    return uids


@dataclass(frozen=True)
class Flag:
    mailbox_id: int
    message_id: int
    rows: int = 2
    octets: int = 0

    @property
    def mailboxes(self) -> frozenset[int]:
        return frozenset({self.mailbox_id})

    def run(self, tx: Connection) -> None:
        change, _ = tx.execute(RAISE_MAILBOX, {"box": self.mailbox_id, "count": 1}).one()
        tx.execute(SET_FLAGS, {"box": self.mailbox_id, "id": self.message_id, "change": change})


@dataclass(frozen=True)
class Nothing:
    """An operation without work, to measure the pipeline alone."""

    mailbox_id: int
    rows: int = 1
    octets: int = 0

    @property
    def mailboxes(self) -> frozenset[int]:
        return frozenset({self.mailbox_id})

    def run(self, tx: Connection) -> None:
        pass


class NothingMerged(Nothing):
    @classmethod
    def run_many(cls, tx: Connection, operations: Sequence[Nothing]) -> list[None]:
        return [None] * len(operations)


class Groups(Observer):
    def __init__(self) -> None:
        self.groups = self.operations = 0

    @override
    def group(self, lane: int, operations: int, seconds: float, replays: int) -> None:
        self.groups += 1
        self.operations += operations


def server_seconds() -> float:
    """Processor time of all visible PostgreSQL processes, without those that have ended."""
    total = 0.0
    for process in psutil.process_iter(["name", "cpu_times"]):
        times = process.info["cpu_times"]
        if process.info["name"] == "postgres" and times is not None:
            total += times.user + times.system
    return total


async def measure(
    what: str, db: Database, groups: Groups, at_once: int, seconds: float, step: Callable[[int, int], Awaitable[object]]
) -> None:
    """Run `step(client, turn)` again and again by `at_once` clients, for the measured seconds."""
    count = 0

    async def client(number: int, until: float) -> None:
        nonlocal count
        turn = 0
        while time.perf_counter() < until:
            await step(number, turn)
            turn += 1
            count += 1

    await asyncio.gather(*(client(number, time.perf_counter() + 0.3) for number in range(at_once)))  # to warm up
    count = groups.groups = groups.operations = 0
    server, cpu, began = server_seconds(), time.process_time(), time.perf_counter()
    await asyncio.gather(*(client(number, began + seconds) for number in range(at_once)))
    spent, cpu, server = time.perf_counter() - began, time.process_time() - cpu, server_seconds() - server
    record: dict[str, Any] = {
        "what": what,
        "database": db.dialect,
        "at_once": at_once,
        "per_second": round(count / spent, 1),
        "cpu_ms": round(cpu / count * 1_000, 4),
    }
    if groups.groups:
        record["group"] = round(groups.operations / groups.groups, 1)
        record["commits_per_second"] = round(groups.groups / spent, 1)
    if db.dialect == "postgresql":
        record["server_cpu_ms"] = round(server / count * 1_000, 4)
    print(json.dumps(record), flush=True)


async def bench(url: str, seconds: float) -> None:
    groups = Groups()
    db = open_database(url, observer=groups, locks=Locks(mailboxes=lock_rows(mailbox.c.mailbox_id)))
    metadata.create_all(db.engine)
    with db.engine.begin() as tx:
        boxes = [{"mailbox_id": box, "change_number": 0, "next_id": 0} for box in range(1, MAILBOXES + 1)]
        tx.execute(insert(mailbox), boxes)
        tx.execute(insert(folder), [{"mailbox_id": row["mailbox_id"], "folder_id": 1, "uid_next": 0} for row in boxes])

    def box(client: int, turn: int) -> int:
        return 1 + (client * 7 + turn) % MAILBOXES

    def deliver(kind: type[Deliver], client: int, turn: int) -> Awaitable[object]:
        return db.write(kind(box(client, turn), next(next_transport_id)))

    run = partial(measure, db=db, groups=groups, seconds=seconds)
    await run("delivery, alone", at_once=1, step=partial(deliver, Deliver))
    await run("delivery, one by one in groups", at_once=16, step=partial(deliver, Deliver))
    await run("delivery, set at a time", at_once=16, step=partial(deliver, Merged))
    await run("delivery, set at a time", at_once=64, step=partial(deliver, Merged))
    for at_once in (1, 20):
        await run("flag change", at_once=at_once, step=lambda client, turn: db.write(Flag(box(client, turn), 1)))
    for at_once in (1, 20, 200):
        await run("pipeline alone, one by one", at_once=at_once, step=lambda c, t: db.write(Nothing(box(c, t))))
    await run("pipeline alone, as a set", at_once=200, step=lambda c, t: db.write(NothingMerged(box(c, t))))

    one = select(mailbox).where(mailbox.c.mailbox_id == bindparam("box"))

    def point(number: int, tx: Connection) -> object:
        return tx.execute(one, {"box": number}).one()

    for at_once in (1, 20):
        await run("point read", at_once=at_once, step=lambda c, t: db.read(partial(point, box(c, t))))
    await run(
        "20 point reads in one hop",
        at_once=1,
        step=lambda c, t: db.read_many([partial(point, 1 + n) for n in range(20)]),
    )
    await db.write(Write(lambda _tx: None))
    await db.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--postgres", help="URL of an empty database; default: a cluster of our own, without fsync")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where SQLite's file is made")
    parser.add_argument("--only", choices=["sqlite", "postgresql"])
    given = parser.parse_args()
    if given.only != "postgresql":
        with tempfile.TemporaryDirectory(dir=given.folder) as place_:
            asyncio.run(bench(f"sqlite:///{Path(place_) / 'bench.db'}", given.seconds))
    if given.only != "sqlite":
        if given.postgres or os.environ.get("RESTANTE_TEST_POSTGRES"):
            asyncio.run(bench(given.postgres or os.environ["RESTANTE_TEST_POSTGRES"], given.seconds))
        else:
            with running_cluster() as url:
                asyncio.run(bench(url.render_as_string(False), given.seconds))


if __name__ == "__main__":
    main()
