"""The cost of choosing and making leases beside stuck mail: `python -m tests.bench.bench_lease [--postgres]`.

Each row has a queue with live mail for 50 destinations, and none, 1,000 or 100,000 messages stuck for one dead
destination, all due. Prints one JSON object with milliseconds of one round of leases, and of each lease in it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import tempfile
import time
from pathlib import Path

from sqlalchemy import Connection, text

from restante_server.db.engine import open_database
from restante_server.db.group import Locks
from restante_server.db.operation import Write
from restante_server.db.rowlocks import lock_rows
from restante_server.db.schema import content, mailbox, metadata
from restante_server.transport.outbound import queue
from restante_server.transport.outbound.turns import Turns
from tests.harness import stuck
from tests.harness.postgres import PostgresServer, running_cluster
from tests.server.transport.world import Clock, World, open_world

STUCK = (0, 1_000, 100_000)
LIVE = 2_000
ROOM = 25  # leases of one round: those of a busy relay with the default settings
ROUNDS = 40
LOCKS = Locks(lock_rows(mailbox.c.mailbox_id), lock_rows(content.c.content_id))
LETTER = b"To: eve@example.net\r\nSubject: Hello\r\n\r\nHi\r\n"


async def _row(world: World, stuck_count: int) -> dict[str, float]:
    like = (await world.submit("alice", LETTER, recipients=["eve@live.example"])).submission.submission_id
    alice, bob = (world.people[name].account_id for name in ("alice", "bob"))

    def fill(tx: Connection) -> None:
        now = world.clock(tx)
        if stuck_count:
            dead = stuck.one("dead.example")
            stuck.fill(tx, like, stuck_count, due_at=now - 10, destination=dead, sender=stuck.by(alice))
        live = stuck.many("live.example", 50)
        stuck.fill(tx, like, LIVE, due_at=now, destination=live, sender=stuck.by(bob))

    await world.db.write(Write(fill))
    await world.db.write(Write(lambda tx: tx.execute(text("ANALYZE"))))
    spent, leases = [], 0
    for _ in range(ROUNDS):
        began = time.perf_counter()
        found = await world.db.write(
            Write(lambda tx: queue.lease(tx, world.clock(tx), Turns(ROOM), 300, world.transport.forwarding))
        )
        spent.append(1_000 * (time.perf_counter() - began))
        leases += len(found.leases)
    round_ = statistics.median(spent)
    return {"round_ms": round(round_, 2), "lease_ms": round(round_ * ROUNDS / leases, 3)}


async def measure(server: PostgresServer | None) -> dict[str, dict[str, float]]:
    """All rows, each in a store of its own."""
    rows = {}
    for count in STUCK:
        with tempfile.TemporaryDirectory() as folder:
            url = server.create_database() if server is not None else f"sqlite:///{folder}/store.db"
            db = open_database(url, locks=LOCKS, clock=Clock())
            await db.write(Write(metadata.create_all))
            rows[f"{count} stuck"] = await _row(await open_world(db, Path(folder) / "contents", Clock()), count)
            await db.close()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--postgres", action="store_true", help="a PostgreSQL server of its own, for this run")
    with contextlib.ExitStack() as stack:
        wanted = parser.parse_args().postgres
        server = PostgresServer(stack.enter_context(running_cluster())) if wanted else None
        print(json.dumps(asyncio.run(measure(server)), indent=2))


if __name__ == "__main__":
    main()
