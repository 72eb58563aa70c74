"""The runner of one core: it claims jobs, runs a bounded number of them, and keeps their leases.

Every second it looks at the rows of its own jobs, because another core may have taken a cancellation, and another
administrator the actor's right.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from grpc import StatusCode
from sqlalchemy import Connection

from restante.errors import Internal, PermissionDenied, RestanteError, to_status
from restante_server.db import turns
from restante_server.db.engine import Database
from restante_server.db.operation import Write
from restante_server.db.turns import Party
from restante_server.upkeep.jobs import leases
from restante_server.upkeep.jobs.hooks import Figures
from restante_server.upkeep.jobs.leases import CancelRequested, Lease, Rule, Standing, Superseded
from restante_server.upkeep.jobs.records import JobKind, JobState
from restante_server.upkeep.jobs.signals import JobSignals
from restante_server.upkeep.jobs.work import JobHandler, Work

log = logging.getLogger(__name__)

AT_ONCE: Final = 4  # jobs of one core
LOOK_SECONDS: Final = 1.0  # between two looks at the rows
RENEW_SECONDS: Final = 4.0  # between two renewals of a lease
PUT_OFF_SECONDS: Final = 2.0  # after a temporary failure, before this core tries the job again
MOST_ATTEMPTS: Final = 5  # runs of a job without a committed step
PARTY: Final = Party("jobs")  # jobs share one turn: they wait for users no less than users wait for them


class Exhausted(Exception):
    """The cores that ran the job have died each time, before it committed a step."""


class _Run:
    """A job that runs here."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.task: asyncio.Task[None] | None = None
        self.working = True  # the handler is at work; False: only the end is left to store
        self.why: Exception | None = None  # the reason of a cancelled task; None: the core stops
        self.stored = (work.done, work.total)
        self.stored_at = time.monotonic()

    def stop(self, why: Exception) -> None:
        """Cancel the work for this reason, unless it has ended meanwhile."""
        if self.why is None and self.working and self.task is not None:
            self.why = why
            self.task.cancel()


class Runner:
    """Runs the jobs that have a handler. `place` names this core among the cores of the store."""

    def __init__(
        self,
        db: Database,
        handlers: Sequence[JobHandler],
        place: str,
        signals: JobSignals,
        figures: Figures | None = None,
    ) -> None:
        self._db, self._place, self._signals = db, place, signals
        self._handlers = {handler.kind: handler for handler in handlers}
        self._rules = tuple(Rule(handler.kind, handler.alone) for handler in handlers)
        self._figures = figures or Figures()
        self._runs: dict[int, _Run] = {}
        self._put_off: dict[int, float] = {}  # by job id: the monotonic time until which this core leaves it alone

    async def run_for_ever(self) -> None:
        """Run jobs until this task is cancelled. Then the jobs stop and their leases end, so that others go on."""
        begun = not self._db.alone
        try:
            while True:
                try:
                    if not begun:
                        await self._db.write(Write(leases.release_all))
                        begun = True
                    await self._keep()
                    await self._fill()
                except RestanteError as error:  # the database is away or busy; readiness reports it
                    log.debug("jobs are put off: %s", error.detail)
                except Exception:
                    log.exception("a run of the jobs failed")
                await self._signals.wait_started(LOOK_SECONDS)
        finally:
            await self._stop()

    async def _fill(self) -> None:
        """Claim and begin jobs while there is room."""
        while len(self._runs) < AT_ONCE:
            now = time.monotonic()
            self._put_off = {job_id: until for job_id, until in self._put_off.items() if until > now}
            # A job that runs here may have an expired lease, after a renewal that failed. It goes on all the same.
            without = {*self._runs, *self._put_off}
            look = partial(leases.claimable, rules=self._rules, place=self._place, without=without)
            if await self._db.read_short(look) is None:
                return
            lease_id = secrets.randbits(62)
            claim = partial(leases.claim, rules=self._rules, place=self._place, lease_id=lease_id, without=without)
            job = await self._db.write(Write(claim))
            if job is None:
                return
            run = _Run(Work(self._db, job, Lease(job.job_id, lease_id)))
            self._runs[job.job_id] = run
            run.task = asyncio.create_task(self._run(run), name=f"job {job.job_id}")
            self._count(job.kind)
            self._signals.changed(job.job_id)

    async def _keep(self) -> None:
        """Stop runs that may not go on; store the progress and renew the leases of the others."""
        runs = [run for run in self._runs.values() if run.working]
        if not runs:
            return
        for run, found in zip(runs, await self._db.read_short(partial(_look, runs=runs)), strict=True):
            if found is None:
                run.stop(Superseded())
            elif found.cancel_requested:
                run.stop(CancelRequested())
            elif not found.permitted:
                run.stop(PermissionDenied(permission="administrator"))
        now = time.monotonic()
        due = [
            (run, (run.work.done, run.work.total))
            for run in runs
            if run.working and ((run.work.done, run.work.total) != run.stored or now - run.stored_at > RENEW_SECONDS)
        ]
        if not due:
            return
        rows = [(run.work.lease, *progress) for run, progress in due]
        await self._db.write(Write(partial(_store, due=rows), rows=len(rows)))
        for run, progress in due:
            run.stored, run.stored_at = progress, now

    async def _run(self, run: _Run) -> None:
        """Run one job to its end, and store the end."""
        turns.party.set(PARTY)
        work = run.work
        job = work.job
        log.info("job %d started: %s %s, for %s", job.job_id, job.kind.name.lower(), job.subject, job.actor)
        try:
            failure = await self._work(run)
            await self._settle(run, failure)
        finally:
            del self._runs[job.job_id]
            self._count(job.kind)
        self._signals.started()

    async def _work(self, run: _Run) -> Exception | None:
        """Let the handler work; returns the reason when it did not come to its end."""
        job = run.work.job
        try:
            if job.attempts > MOST_ATTEMPTS:
                raise Exhausted(f"{MOST_ATTEMPTS} runs ended without a step")
            await self._handlers[job.kind].run(run.work)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if run.why is None or task is None:
                await asyncio.shield(self._release(run))
                raise
            task.uncancel()
            return run.why
        except Exception as error:  # noqa: BLE001 - every failure ends the job or postpones it
            return error
        finally:
            run.working = False
        return None

    async def _settle(self, run: _Run, failure: Exception | None) -> None:
        """Store the end of a run: a final state, or, after a temporary failure, the end of its lease."""
        job = run.work.job
        if isinstance(failure, Superseded):
            log.info("job %d goes on at another core, or was ended there", job.job_id)
            return
        if isinstance(failure, RestanteError) and failure.code is StatusCode.UNAVAILABLE:
            log.warning("job %d is put off: %s", job.job_id, failure.detail)
            self._put_off[job.job_id] = time.monotonic() + PUT_OFF_SECONDS
            await self._release(run)
            return
        state, status = JobState.SUCCEEDED, None
        if isinstance(failure, CancelRequested):
            state = JobState.CANCELLED
        elif failure is not None:
            state, status = JobState.FAILED, to_status(_translated(failure, job.job_id)).SerializeToString()
        end = partial(_end, work=run.work, state=state, status=status)
        try:
            ended = await self._db.write(Write(end))
        except RestanteError as error:  # the lease expires, and a later run ends the job
            log.warning("the end of job %d was not stored: %s", job.job_id, error.detail)
            return
        if ended:
            log.info("job %d ended: %s", job.job_id, state.name.lower())
            self._figures.ended(job.kind, state)
        self._signals.changed(job.job_id)

    async def _release(self, run: _Run) -> None:
        try:
            await self._db.write(Write(partial(leases.release, lease=run.work.lease)))
        except RestanteError as error:
            log.debug("job %d goes on after the end of its lease: %s", run.work.job.job_id, error.detail)

    async def _stop(self) -> None:
        """End all runs, because the core stops."""
        tasks = []
        for run in self._runs.values():
            if run.task is not None:
                tasks.append(run.task)
                if run.working:
                    run.task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _count(self, kind: JobKind) -> None:
        self._figures.running(kind, sum(run.work.job.kind == kind for run in self._runs.values()))


def _look(tx: Connection, runs: Sequence[_Run]) -> list[Standing | None]:
    found: list[Standing | None] = []
    for run in runs:
        try:
            found.append(leases.standing(tx, run.work.lease))
        except Superseded:
            found.append(None)
    return found


def _store(tx: Connection, due: Sequence[tuple[Lease, int, int]]) -> None:
    for lease, done, total in due:
        leases.keep(tx, lease, done, total)


def _end(tx: Connection, work: Work, state: JobState, status: bytes | None) -> bool:
    leases.keep(tx, work.lease, work.done, work.total)
    return leases.finish(tx, work.lease, state, status)


def _translated(failure: Exception, job_id: int) -> RestanteError:
    """The error for the job's status. Anything but a RestanteError is a fault of this program."""
    if isinstance(failure, RestanteError):
        return failure
    incident = secrets.token_hex(6)
    log.error(
        "job %d failed by a fault of this server; the job's status has incident number %s",
        job_id,
        incident,
        exc_info=failure,
    )
    return Internal(incident=incident)
