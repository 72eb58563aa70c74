"""Jobs: their leases, the runner, and the end of a job whose actor, core or patience is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
from google.rpc.status_pb2 import Status
from sqlalchemy import Connection, insert, update

from restante.errors import FolderNotFound, JobNotFound, PermissionDenied, RestanteError, StoreBusy, from_status
from restante_server.db.clock import now_microseconds
from restante_server.db.engine import Database, open_database
from restante_server.db.group import Locks
from restante_server.db.operation import Write
from restante_server.db.schema import account, domain
from restante_server.db.schema import job as job_table
from restante_server.upkeep import sweeps
from restante_server.upkeep.jobs import leases, records
from restante_server.upkeep.jobs.check import check
from restante_server.upkeep.jobs.hooks import Figures
from restante_server.upkeep.jobs.leases import CancelRequested, Checkpoint, Lease, Rule, Superseded
from restante_server.upkeep.jobs.records import ADMIN, FINAL, Actor, Job, JobKind, JobState, NewJob
from restante_server.upkeep.jobs.runner import MOST_ATTEMPTS, Runner
from restante_server.upkeep.jobs.signals import JobSignals
from restante_server.upkeep.jobs.work import JobHandler, Work

ROOT = Actor(ADMIN, None)
RULES = (Rule(JobKind.CHECK_STORE, True), Rule(JobKind.BACKUP_STORE, True), Rule(JobKind.DELETE_ACCOUNT, False))
CHECK = NewJob(JobKind.CHECK_STORE, ROOT)
SECONDS = 20.0


@pytest.fixture(autouse=True)
async def _sound(database: Database) -> AsyncIterator[None]:
    """Every test leaves rows that hold the invariants."""
    yield
    assert await database.read(check) == []


async def start(database: Database, new: NewJob = CHECK) -> Job:
    return await database.write(Write(partial(records.start, new=new)))


async def claim(database: Database, lease_id: int, place: str = "here") -> Job | None:
    return await database.write(Write(partial(leases.claim, rules=RULES, place=place, lease_id=lease_id)))


async def get(database: Database, job_id: int) -> Job:
    return await database.read(records.get, job_id)


async def let_lapse(database: Database, job_id: int, microseconds: int = 1) -> None:
    """Let the lease of a job expire, as when its core has died."""

    def lapse(tx: Connection) -> None:
        past = now_microseconds(tx) - microseconds
        tx.execute(update(job_table).where(job_table.c.job_id == job_id).values(lease_expires_at=past))

    await database.write(Write(lapse))


async def administrator(database: Database) -> Actor:
    def make(tx: Connection) -> int:
        tx.execute(insert(domain).values(ascii_name="example.test", name="example.test", resending=1, created_at=1))
        facts = {"domain_id": 1, "address": "alice@example.test", "address_key": "alice@example.test"}
        state = {"enabled": True, "administrator": True, "sent_copy": 1, "credential_version": 1}
        row = insert(account).values(**facts, **state, mailbox_id=77, created_at=1).returning(account.c.account_id)
        made: int = tx.execute(row).scalar_one()
        return made

    return Actor("alice@example.test", await database.write(Write(make)))


async def demote(database: Database) -> None:
    await database.write(Write(lambda tx: tx.execute(update(account).values(administrator=False))))


# --- Leases ---------------------------------------------------------------------------------------------------------


async def test_a_job_is_claimed_once_and_by_another_core_when_its_lease_has_expired(database: Database) -> None:
    job = await start(database)
    assert (await get(database, job.job_id)).state is JobState.QUEUED
    first = await claim(database, 1)
    assert first is not None and (first.state, first.job_id) == (JobState.RUNNING, job.job_id)
    assert await claim(database, 2) is None
    await let_lapse(database, job.job_id)
    assert await claim(database, 2) is not None
    advance = partial(leases.advance, lease=Lease(job.job_id, 1), step=Checkpoint(b"late"))
    with pytest.raises(Superseded):
        await database.write(Write(advance))
    assert not await database.write(Write(partial(leases.finish, lease=Lease(job.job_id, 1), state=JobState.SUCCEEDED)))
    assert (await get(database, job.job_id)).cursor == b""
    assert await database.write(Write(partial(leases.finish, lease=Lease(job.job_id, 2), state=JobState.SUCCEEDED)))


async def test_one_job_runs_of_a_kind_where_two_would_hurt(database: Database) -> None:
    checks = [await start(database) for _ in range(2)]
    deletions = [await start(database, NewJob(JobKind.DELETE_ACCOUNT, ROOT, mailbox_id=n)) for n in (1, 2)]
    claimed = [await claim(database, number) for number in range(1, 5)]
    ids = [job.job_id for job in claimed if job is not None]
    assert ids == [checks[0].job_id, deletions[0].job_id, deletions[1].job_id]
    await database.write(Write(partial(leases.finish, lease=Lease(checks[0].job_id, 1), state=JobState.SUCCEEDED)))
    following = await claim(database, 5)
    assert following is not None and following.job_id == checks[1].job_id


async def test_a_job_of_one_core_is_left_to_it_and_fails_when_that_stays_away(database: Database) -> None:
    job = await start(database, NewJob(JobKind.BACKUP_STORE, ROOT, place="there"))
    assert await claim(database, 1) is None
    assert await claim(database, 1, "there") is not None
    await let_lapse(database, job.job_id)
    assert await claim(database, 2) is None
    end = Write(partial(leases.end_abandoned, here="here"))
    assert await database.write(end) == 0
    await let_lapse(database, job.job_id, leases.AWAY_MICROSECONDS + 1_000_000)
    assert await database.write(Write(partial(leases.end_abandoned, here="there"))) == 0
    assert await database.write(end) == 1
    assert (await get(database, job.job_id)).state is JobState.FAILED


async def test_a_job_of_one_core_waits_for_that_core_also_when_it_has_stopped_in_order(database: Database) -> None:
    job = await start(database, NewJob(JobKind.BACKUP_STORE, ROOT, place="there"))
    await claim(database, 1, "there")
    await database.write(Write(partial(leases.release, lease=Lease(job.job_id, 1))))
    assert await database.write(Write(partial(leases.end_abandoned, here="here"))) == 0
    assert await claim(database, 2, "there") is not None


async def test_a_job_that_waits_for_a_core_that_stays_away_fails_too(database: Database) -> None:
    job = await start(database, NewJob(JobKind.BACKUP_STORE, ROOT, place="there"))
    end = Write(partial(leases.end_abandoned, here="here"))
    assert await database.write(end) == 0  # it has not waited for long
    long_ago = {"created_at": job.created_at - leases.AWAY_MICROSECONDS - 1_000_000}
    await database.write(Write(lambda tx: tx.execute(update(job_table).values(long_ago))))
    other = await start(database)
    assert await claim(database, 1) is not None
    assert await database.write(end) == 0  # its core may be the one that runs the other job
    finish = partial(leases.finish, lease=Lease(other.job_id, 1), state=JobState.SUCCEEDED)
    await database.write(Write(finish))
    assert await database.write(end) == 0
    earlier = update(job_table).where(job_table.c.finished_at.is_not(None)).values(finished_at=1)
    await database.write(Write(lambda tx: tx.execute(earlier)))
    assert await database.write(Write(partial(leases.end_abandoned, here="there"))) == 0
    assert await database.write(end) == 1
    assert (await get(database, job.job_id)).state is JobState.FAILED


async def test_a_step_that_may_not_go_on_writes_nothing(database: Database) -> None:
    job = await start(database, NewJob(JobKind.CHECK_STORE, await administrator(database)))
    await claim(database, 1)
    work = Work(database, job, Lease(job.job_id, 1))

    def step(tx: Connection) -> Checkpoint:
        tx.execute(update(domain).values(name="changed"))
        return Checkpoint(b"1", 1, 2, ["a finding"])

    await work.step(lambda tx: Checkpoint(b"0", 0, 2))
    await demote(database)
    with pytest.raises(PermissionDenied):
        await work.step(step)
    await database.write(Write(lambda tx: tx.execute(update(account).values(administrator=True))))
    asked = await database.write(Write(partial(records.cancel, job_id=job.job_id)))
    assert (asked.state, asked.cancel_requested) == (JobState.RUNNING, True)
    with pytest.raises(CancelRequested):
        await work.step(step)
    found = await get(database, job.job_id)
    assert (found.cursor, found.finding_count) == (b"0", 0)
    names = await database.read(lambda tx: list(tx.scalars(domain.select().with_only_columns(domain.c.name))))
    assert names == ["example.test"]


async def test_a_job_that_no_core_runs_is_cancelled_at_once(database: Database) -> None:
    job = await start(database)
    assert (await database.write(Write(partial(records.cancel, job_id=job.job_id)))).state is JobState.CANCELLED
    assert await claim(database, 1) is None
    again = await database.write(Write(partial(records.cancel, job_id=job.job_id)))
    assert again.state is JobState.CANCELLED
    with pytest.raises(JobNotFound):
        await database.write(Write(partial(records.cancel, job_id=99)))
    orphan = await start(database)
    await claim(database, 2)
    await let_lapse(database, orphan.job_id)
    assert (await database.write(Write(partial(records.cancel, job_id=orphan.job_id)))).state is JobState.CANCELLED


async def test_findings_are_kept_up_to_a_bound_and_all_counted(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "MOST_FINDINGS", 5)
    job = await start(database)
    await claim(database, 1)
    work = Work(database, job, Lease(job.job_id, 1))
    for at in (0, 3, 6):
        await work.step(lambda tx, at=at: Checkpoint(b"", at, 9, [f"finding {at + n}" for n in (1, 2, 3)]))  # type: ignore[misc]
    kept = await database.read(records.findings, job.job_id, 0, 100)
    assert [(each.number, each.problem) for each in kept] == [(n, f"finding {n}") for n in range(1, 6)]
    assert [each.number for each in await database.read(records.findings, job.job_id, 3, 1)] == [4]
    assert (await get(database, job.job_id)).finding_count == 9


async def test_finished_jobs_are_forgotten_after_30_days_and_others_never(database: Database) -> None:
    old, young, waiting = [await start(database) for _ in range(3)]
    for lease_id, job in enumerate((old, young), 1):
        await claim(database, lease_id)
        work = Work(database, job, Lease(job.job_id, lease_id))
        await work.step(lambda tx: Checkpoint(findings=["one"]))
        await database.write(Write(partial(leases.finish, lease=work.lease, state=JobState.SUCCEEDED)))

    def age(tx: Connection) -> None:
        for job, days in ((old, 31), (young, 29)):
            past = now_microseconds(tx) - days * sweeps.DAY
            tx.execute(update(job_table).where(job_table.c.job_id == job.job_id).values(finished_at=past))
        tx.execute(update(job_table).where(job_table.c.job_id == waiting.job_id).values(created_at=1))

    await database.write(Write(age))
    assert await sweeps.forget_jobs(database) == 1
    left = await database.read(records.listing, 0, False, 1 << 62, 9)
    assert [job.job_id for job in left] == [waiting.job_id, young.job_id]
    assert await database.read(records.findings, old.job_id, 0, 9) == []


async def test_a_restored_store_goes_on_with_deletions_alone(database: Database) -> None:
    backup = await start(database, NewJob(JobKind.BACKUP_STORE, ROOT))
    deletion = await start(database, NewJob(JobKind.DELETE_ACCOUNT, ROOT, mailbox_id=1))
    await claim(database, 1)
    await claim(database, 2)
    await database.write(Write(leases.begin_again))
    assert (await get(database, backup.job_id)).state is JobState.CANCELLED
    following = await claim(database, 3)
    assert following is not None and following.job_id == deletion.job_id


# --- The runner -----------------------------------------------------------------------------------------------------


class Counting:
    """A kind that counts to `most` in steps of one, and remembers where each run began."""

    alone = False

    def __init__(
        self, most: int = 3, pause: float = 0.0, then: Callable[[Work], Awaitable[None]] | None = None
    ) -> None:
        self.kind, self.most, self.pause, self.then = JobKind.CHECK_STORE, most, pause, then
        self.began: list[int] = []
        self.at = asyncio.Event()

    async def run(self, work: Work) -> None:
        count = int(work.job.cursor or b"0")
        self.began.append(count)
        while count < self.most:
            count += 1
            reached = Checkpoint(str(count).encode(), count, self.most, [f"finding {count}"])
            await work.step(lambda tx, reached=reached: reached)  # type: ignore[misc]
            self.at.set()
            if self.then is not None:
                await self.then(work)
            await asyncio.sleep(self.pause)


class Noted(Figures):
    def __init__(self) -> None:
        self.ends: list[JobState] = []
        self.most = 0

    def running(self, kind: JobKind, jobs: int) -> None:
        self.most = max(self.most, jobs)

    def ended(self, kind: JobKind, state: JobState) -> None:
        self.ends.append(state)


@asynccontextmanager
async def running(
    database: Database, kind: JobHandler, place: str = "here", figures: Figures | None = None
) -> AsyncIterator[JobSignals]:
    signals = JobSignals()
    task = asyncio.create_task(Runner(database, (kind,), place, signals, figures).run_for_ever())
    try:
        yield signals
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def finished(database: Database, job_id: int, seconds: float = SECONDS) -> Job:
    async with asyncio.timeout(seconds):
        while (job := await get(database, job_id)).state not in FINAL:
            await asyncio.sleep(0.05)
        return job


async def test_jobs_run_to_their_end_a_bounded_number_at_once(database: Database) -> None:
    jobs, noted = [await start(database) for _ in range(9)], Noted()
    async with running(database, Counting(pause=0.02), figures=noted):
        ends = [await finished(database, job.job_id) for job in jobs]
        await asyncio.sleep(0.1)
    assert {(job.state, job.done, job.total, job.finding_count) for job in ends} == {(JobState.SUCCEEDED, 3, 3, 3)}
    assert (noted.most, noted.ends) == (4, [JobState.SUCCEEDED] * 9)


async def test_a_core_that_stops_leaves_its_job_to_the_next_one_at_its_cursor(database: Database) -> None:
    job, kind = await start(database), Counting(most=200, pause=0.02)
    async with running(database, kind):
        await asyncio.wait_for(kind.at.wait(), SECONDS)
        await asyncio.sleep(0.2)
    left = await get(database, job.job_id)
    assert left.state is JobState.RUNNING and int(left.cursor) > 1
    following = Counting(most=int(left.cursor) + 2)
    async with running(database, following, "elsewhere"):
        end = await finished(database, job.job_id, 5)  # sooner than a lease expires
    assert following.began == [int(left.cursor)]
    found = await database.read(records.findings, job.job_id, 0, 10_000)
    assert [each.problem for each in found] == [f"finding {n}" for n in range(1, end.done + 1)]


@pytest.mark.parametrize("asked_at", ["the core that runs it", "another core"])
async def test_a_running_job_is_cancelled_within_about_a_second(database: Database, asked_at: str) -> None:
    job, kind = await start(database), Counting(most=10_000, pause=60)
    async with running(database, kind) as signals:
        await asyncio.wait_for(kind.at.wait(), SECONDS)
        await database.write(Write(partial(records.cancel, job_id=job.job_id)))
        if asked_at != "another core":
            signals.started()
        end = await finished(database, job.job_id, 3)
    assert (end.state, end.done, end.status) == (JobState.CANCELLED, 1, None)


async def test_a_job_whose_actor_has_lost_the_right_fails(database: Database) -> None:
    job = await start(database, NewJob(JobKind.CHECK_STORE, await administrator(database)))
    kind = Counting(most=10_000, pause=60)
    async with running(database, kind):
        await asyncio.wait_for(kind.at.wait(), SECONDS)
        await demote(database)
        end = await finished(database, job.job_id, 5)
    assert end.state is JobState.FAILED and end.status is not None
    assert isinstance(_error(end), PermissionDenied)


async def test_a_temporary_failure_postpones_a_job_and_any_other_ends_it(database: Database) -> None:
    failures: list[Exception] = [StoreBusy("once"), FolderNotFound(folder_id=7)]

    async def fail(work: Work) -> None:
        if failures:
            raise failures.pop(0)

    job, kind = await start(database), Counting(most=5, then=fail)
    async with running(database, kind):
        end = await finished(database, job.job_id)
        broken = await start(database)
        failures.append(ZeroDivisionError())
        fault = await finished(database, broken.job_id)
    assert (kind.began[:2], end.state) == ([0, 1], JobState.FAILED)
    assert isinstance(_error(end), FolderNotFound)
    assert (fault.state, _error(fault).reason) == (JobState.FAILED, "INTERNAL")


async def test_a_job_whose_core_dies_in_every_run_ends_after_a_bounded_number_of_runs(database: Database) -> None:
    job = await start(database)
    for lease_id in range(1, MOST_ATTEMPTS + 1):
        taken = await claim(database, lease_id)
        assert taken is not None and taken.attempts == lease_id
        await let_lapse(database, job.job_id)
    kind = Counting()
    async with running(database, kind):
        end = await finished(database, job.job_id)
    assert (end.state, _error(end).reason, kind.began) == (JobState.FAILED, "INTERNAL", [])


async def test_only_runs_without_a_step_count_as_attempts(database: Database) -> None:
    job = await start(database)
    for lease_id in range(1, 2 * MOST_ATTEMPTS):
        taken = await claim(database, lease_id)
        assert taken is not None and taken.attempts == 1
        lease = Lease(job.job_id, lease_id)
        if lease_id % 2:  # a step, and its core dies
            await database.write(Write(partial(leases.advance, lease=lease, step=Checkpoint(b"1", 1, 2))))
            await let_lapse(database, job.job_id)
        else:  # its core stops
            await database.write(Write(partial(leases.release, lease=lease)))


async def test_a_core_does_not_claim_its_own_job_after_its_lease_has_expired(database: Database) -> None:
    job, kind = await start(database), Counting(most=3, pause=60)
    runner = Runner(database, (kind,), "here", JobSignals())
    await runner._fill()
    await asyncio.wait_for(kind.at.wait(), SECONDS)
    await let_lapse(database, job.job_id)
    await runner._fill()
    assert kind.began == [0]
    await runner._stop()


async def test_a_job_that_is_put_off_waits_before_its_next_run(database: Database) -> None:
    async def fail(work: Work) -> None:
        raise StoreBusy("always")

    await start(database)
    kind = Counting(most=100_000, then=fail)
    async with running(database, kind):
        await asyncio.wait_for(kind.at.wait(), SECONDS)
        await asyncio.sleep(1.0)
    assert len(kind.began) == 1


async def test_progress_between_steps_is_stored_about_once_a_second(database: Database) -> None:
    writes: list[int] = []

    async def look(work: Work) -> None:
        for done in range(100):
            work.progress(done, 100)
            await asyncio.sleep(0.03)
            writes.append((await get(database, work.job.job_id)).done)

    job = await start(database)
    async with running(database, Counting(most=1, then=look)):
        await finished(database, job.job_id)
    assert 3 <= len(set(writes)) <= 7


@pytest.mark.postgres
@pytest.mark.slow
@pytest.mark.parametrize("dialect", ["postgresql"])
async def test_another_core_goes_on_when_a_lease_expires(database: Database, database_url: str, locks: Locks) -> None:
    """The first core neither stops nor renews: it hangs, as a process that was stopped."""
    job, kind = await start(database), Counting(most=1_000, pause=60)
    hung = Runner(database, (kind,), "first", JobSignals())
    await hung._fill()
    await asyncio.wait_for(kind.at.wait(), SECONDS)
    await let_lapse(database, job.job_id)
    second = open_database(database_url, locks=locks)
    following = Counting(most=3)
    try:
        async with running(second, following, "second"):
            end = await finished(second, job.job_id)
    finally:
        await hung._stop()
        await second.close()
    assert (end.state, following.began) == (JobState.SUCCEEDED, [1])


def _error(job: Job) -> RestanteError:
    assert job.status is not None
    return from_status(Status.FromString(job.status))
