"""A core is killed in the midst of a job; the next one goes on at the cursor and does nothing twice."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, func, insert, select, update

from restante_server.db import schema
from restante_server.db.clock import now_microseconds
from restante_server.db.engine import Database
from restante_server.db.operation import Write
from restante_server.store import mailboxes
from restante_server.store.contents import Location
from restante_server.upkeep.jobs import records
from restante_server.upkeep.jobs.check import check
from restante_server.upkeep.jobs.records import ADMIN, FINAL, Actor, Job, JobKind, JobState, NewJob
from restante_server.upkeep.jobs.runner import Runner
from restante_server.upkeep.jobs.signals import JobSignals
from restante_server.upkeep.jobs.work import JobHandler, Work
from restante_server.upkeep.kinds.account_deletion import AccountDeletion
from restante_server.upkeep.kinds.store_check import StoreCheck
from tests.server.store.material import Box

ROOT = Actor(ADMIN, None)
STEPS = 8  # of the core that is killed
CHECK_DIGESTS = b"\x08\x01"  # CheckStoreRequest(digests=True)


async def killed_after_some_steps(database_url: str, contents: Path) -> None:
    """Let another process run the store's jobs, and kill it after some steps."""
    command = [sys.executable, "-m", "tests.server.upkeep.killed_runner", database_url, str(contents)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            for _ in range(STEPS):
                assert (await process.stdout.readline()).strip().isdigit()
    finally:
        process.kill()
        await process.wait()


@asynccontextmanager
async def another_core(database: Database, kind: JobHandler) -> AsyncIterator[None]:
    """The core that is started next. On PostgreSQL it has to wait until the lease expires."""

    def lapse(tx: Connection) -> None:
        past = now_microseconds(tx) - 1
        tx.execute(update(schema.job).where(schema.job.c.state == JobState.RUNNING).values(lease_expires_at=past))

    if not database.alone:
        await database.write(Write(lapse))
    task = asyncio.create_task(Runner(database, (kind,), "the next core", JobSignals()).run_for_ever())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def finished(database: Database, job_id: int) -> Job:
    async with asyncio.timeout(60):
        while (job := await database.read(records.get, job_id)).state not in FINAL:
            await asyncio.sleep(0.05)
        return job


class Noting:
    """A kind that notes the cursor and the progress with which a run begins."""

    def __init__(self, kind: JobHandler) -> None:
        self._kind, self.kind, self.alone = kind, kind.kind, kind.alone
        self.began: list[tuple[bytes, int]] = []

    async def run(self, work: Work) -> None:
        self.began.append((work.job.cursor, work.job.done))
        await self._kind.run(work)


async def test_a_check_goes_on_at_its_cursor(box: Box, database_url: str, tmp_path: Path) -> None:
    lost, database = 30, box.database

    def damage(tx: Connection) -> None:
        for number in range(lost):
            facts = {"digest": hashlib.sha256(b"").digest(), "size_octets": 6, "place": Location.FILE, "state": 1}
            row = {**facts, "file_name": f"00/{number:032x}", "structure": b"", "created_at": 1}
            tx.execute(insert(schema.content).values(row))

    await database.write(Write(damage))
    new = NewJob(JobKind.CHECK_STORE, ROOT, request=CHECK_DIGESTS)
    job = await database.write(Write(partial(records.start, new=new)))
    try:
        await killed_after_some_steps(database_url, tmp_path)
        left = await database.read(records.get, job.job_id)
        assert left.state is JobState.RUNNING and left.done >= STEPS
        kind = Noting(StoreCheck(tmp_path))
        async with another_core(database, kind):
            end = await finished(database, job.job_id)
        assert kind.began == [(left.cursor, left.done)]
        assert (end.state, end.done, end.total) == (JobState.SUCCEEDED, left.total, left.total)
        found = [finding.problem for finding in await database.read(records.findings, job.job_id, 0, 1_000)]
        unread = [problem for problem in found if "cannot be read" in problem]
        assert len(unread) == len(set(unread)) == lost
        assert await database.read(check) == []
    finally:
        await database.write(Write(lambda tx: tx.execute(schema.content.delete())))


async def test_a_deletion_goes_on_until_the_mailbox_is_gone(
    box: Box, other: Box, database_url: str, tmp_path: Path
) -> None:
    database, messages = box.database, 120
    await box.fill(box.inbox, messages)
    await other.fill(other.inbox, 3)
    await box.write(mailboxes.assign, None)
    new = NewJob(JobKind.DELETE_ACCOUNT, ROOT, mailbox_id=box.id, total=messages)
    job = await database.write(Write(partial(records.start, new=new)))
    await killed_after_some_steps(database_url, tmp_path)
    left = await database.read(records.get, job.job_id)
    count = select(func.count()).select_from(schema.message).where(schema.message.c.mailbox_id == box.id)
    rows = await database.read(lambda tx: int(tx.execute(count).scalar_one()))
    assert left.state is JobState.RUNNING
    assert (left.done, rows) == (messages - rows, messages - left.done) and STEPS * 5 <= left.done < messages
    async with another_core(database, AccountDeletion()):
        end = await finished(database, job.job_id)
    assert (end.state, end.done, end.total) == (JobState.SUCCEEDED, messages, messages)
    assert await database.read(lambda tx: int(tx.execute(count).scalar_one())) == 0
    assert (await other.read(mailboxes.get)).message_count == 3
    assert await database.read(check) == []
