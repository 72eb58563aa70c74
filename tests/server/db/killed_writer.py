"""A process that writes twice and is killed at a point of its second commit: `killed_writer URL POINT`."""

from __future__ import annotations

import asyncio
import sys

from restante_server.db.engine import open_database
from restante_server.db.group import Locks
from restante_server.db.rowlocks import lock_rows
from tests.harness.faults import DatabaseFaults, kill_process
from tests.server.db.conftest import Add, box


async def main(url: str, point: str) -> None:
    faults = DatabaseFaults()
    database = open_database(url, faults=faults, locks=Locks(lock_rows(box.c.box_id)))
    await database.write(Add(1, "before"))
    getattr(faults, point).append(kill_process)
    await database.write(Add(1, "killed"))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
