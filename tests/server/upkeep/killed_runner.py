"""A program that runs the jobs of a store slowly, until a test kills it.

    python -m tests.server.upkeep.killed_runner URL CONTENTS

Each step is one content or a few messages, and the program prints a line after each.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from restante_server.db import schema
from restante_server.db.engine import open_database
from restante_server.db.group import Locks
from restante_server.db.rowlocks import lock_rows
from restante_server.upkeep.jobs.runner import Runner
from restante_server.upkeep.jobs.signals import JobSignals
from restante_server.upkeep.jobs.work import Work
from restante_server.upkeep.kinds.account_deletion import AccountDeletion
from restante_server.upkeep.kinds.store_check import StoreCheck

PAUSE_SECONDS = 0.03


class Told(Work):
    """Work that prints a line after each step."""

    async def step(self, run: Any, **options: Any) -> Any:
        def slow(tx: Connection) -> Any:
            time.sleep(PAUSE_SECONDS)
            return run(tx)

        reached = await super().step(slow, **options)
        print(reached.done, flush=True)
        return reached


async def main(url: str, contents: Path) -> None:
    """Run the jobs for ever."""
    locks = Locks(lock_rows(schema.mailbox.c.mailbox_id), lock_rows(schema.content.c.content_id))
    database = open_database(url, locks=locks)
    kinds = (_Slowly(StoreCheck(contents, at_once=1, step_seconds=0.0)), _Slowly(AccountDeletion(at_once=5)))
    await Runner(database, kinds, "the core that is killed", JobSignals()).run_for_ever()


class _Slowly:
    """A kind whose work prints its steps."""

    def __init__(self, kind: StoreCheck | AccountDeletion) -> None:
        self._kind, self.kind, self.alone = kind, kind.kind, kind.alone

    async def run(self, work: Work) -> None:
        told = Told(work._db, work.job, work.lease)
        await self._kind.run(told)
        work.progress(told.done, told.total)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
