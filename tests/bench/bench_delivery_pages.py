"""The writes of one transaction of deliveries on SQLite: `python -m tests.bench.bench_delivery_pages [GROUP]`.

Prints one JSON object. For messages to one and to ten recipients: the pages of the log in a commit, by table and index,
and the microseconds of CPU a message in the function and in the commit. Pages are exact, apart from the splits of a
growing table; the least time of the rounds is shown. GROUP messages (4) are one transaction.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from restante_server.db import schema
from restante_server.db.effects import begin, take
from restante_server.db.engine import open_database
from restante_server.db.sqlite import SqliteBackend, SqliteSettings
from restante_server.transport.take import TakeMail
from tests.bench.bench_delivery import PEOPLE, prepared
from tests.server.transport.world import Clock, open_world

ROUNDS = 40
HEADER_OCTETS, FRAME_OCTETS = 32, 24  # of the log, and of each page in it


async def mails(directory: Path, url: str, count: int, recipients: int) -> list[TakeMail]:
    """Make a store with accounts, and messages prepared up to their transaction."""
    db = open_database(url)
    with db.engine.begin() as tx:
        schema.metadata.create_all(tx)
    world = await open_world(db, directory / "contents", Clock())
    for number in range(PEOPLE):
        await world.add_account(f"user{number}@example.test")
    made = await prepared(world, count, recipients)
    await db.close()
    return made


def pages(log: Path) -> list[int]:
    """The numbers of the pages in a log that a checkpoint had emptied before."""
    octets = log.read_bytes()
    step = int.from_bytes(octets[8:12], "big") + FRAME_OCTETS
    return [int.from_bytes(octets[at : at + 4], "big") for at in range(HEADER_OCTETS, len(octets), step)]


def measure(directory: Path, group: int, recipients: int) -> dict[str, Any]:
    url = f"sqlite:///{directory / 'store.db'}"
    waiting = asyncio.run(mails(directory, url, ROUNDS * group, recipients))
    backend = SqliteBackend(make_url(url), SqliteSettings())
    tx = backend.writer()
    driver: Any = tx.connection.dbapi_connection
    written: Counter[str] = Counter()
    times: list[tuple[int, int]] = []
    for at in range(0, len(waiting), group):
        driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        transaction = backend.begin(tx)
        began = time.thread_time_ns()
        begin(tx)
        TakeMail.run_many(tx, waiting[at : at + group])
        take(tx)
        done = time.thread_time_ns()
        transaction.commit()
        times.append((done - began, time.thread_time_ns() - done))
        owner = dict(driver.execute("SELECT pageno, name FROM dbstat").fetchall())
        written.update(owner.get(page, "map of pages, unused ones") for page in pages(directory / "store.db-wal"))
    tx.close()
    backend.close()
    return {
        "function_us": round(min(function for function, _ in times) / group / 1_000, 1),
        "commit_us": round(min(commit for _, commit in times) / group / 1_000, 1),
        "pages": round(written.total() / ROUNDS, 1),
        "pages_of": {name: round(count / ROUNDS, 2) for name, count in written.most_common()},
    }


def main(group: str = "4") -> None:
    found: dict[str, Any] = {}
    for recipients in (1, 10):
        with tempfile.TemporaryDirectory() as directory:
            found[f"{recipients} recipients"] = measure(Path(directory), int(group), recipients)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
