"""JobService: jobs are shown, watched and cancelled."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Final

from google.rpc.status_pb2 import Status
from sqlalchemy import Connection

from restante.errors import Draining, InvalidArgument
from restante.v1 import job_pb2 as v1
from restante.v1 import methods
from restante_server.api.engine.access import administrators
from restante_server.api.engine.call import Call
from restante_server.api.engine.registry import Handlers
from restante_server.api.services import convert, pages
from restante_server.db.operation import Write
from restante_server.upkeep.jobs import records
from restante_server.upkeep.jobs.records import FINAL, Finding, Job, JobKind

handlers = Handlers()

LOOK_SECONDS: Final = 1.0  # between two looks of a watcher at the rows
FINDINGS_AT_ONCE: Final = 500  # in one response of WatchJob
UNITS: Final = {
    JobKind.CHECK_STORE: v1.JobUnit.JOB_UNIT_CHECKS,
    JobKind.BACKUP_STORE: v1.JobUnit.JOB_UNIT_OCTETS,
    JobKind.DELETE_ACCOUNT: v1.JobUnit.JOB_UNIT_MESSAGES,
}


@handlers.read(methods.GET_JOB, rule=administrators)
def get_job(tx: Connection, call: Call, request: v1.GetJobRequest) -> v1.GetJobResponse:
    """See JobService.GetJob."""
    return v1.GetJobResponse(job=described(records.get(tx, request.job_id)))


@handlers.read(methods.LIST_JOBS, rule=administrators)
def list_jobs(tx: Connection, call: Call, request: v1.ListJobsRequest) -> v1.ListJobsResponse:
    """See JobService.ListJobs."""
    page = pages.Page.asked(f"jobs {request.kind} {request.unfinished}", request, call.result_octets)
    (last,) = page.key
    before = pages.number(last) if last else pages.HIGHEST - 1
    found = records.listing(tx, request.kind, request.unfinished, before, page.most)
    answer = v1.ListJobsResponse()
    return page.fill(answer, answer.jobs, found, described, lambda job: (str(job.job_id),))


@handlers.read(methods.LIST_JOB_FINDINGS, rule=administrators)
def list_job_findings(tx: Connection, call: Call, request: v1.ListJobFindingsRequest) -> v1.ListJobFindingsResponse:
    """See JobService.ListJobFindings."""
    page = pages.Page.asked(f"job findings {request.job_id}", request, call.result_octets)
    (last,) = page.key
    records.get(tx, request.job_id)
    found = records.findings(tx, request.job_id, pages.number(last) if last else 0, page.most)
    answer = v1.ListJobFindingsResponse()
    return page.fill(answer, answer.findings, found, _finding, lambda finding: (str(finding.number),))


@handlers.direct(methods.CANCEL_JOB, rule=administrators)
async def cancel_job(call: Call, request: v1.CancelJobRequest) -> v1.CancelJobResponse:
    """See JobService.CancelJob."""
    job = await call.core.db.write(Write(partial(records.cancel, job_id=request.job_id)), deadline=call.deadline)
    call.core.job_signals.started()  # the runner looks at its jobs at once
    call.core.job_signals.changed(request.job_id)
    return v1.CancelJobResponse(job=described(job))


@handlers.stream("JobService", "WatchJob", rule=administrators)
async def watch_job(call: Call, request: v1.WatchJobRequest) -> AsyncIterator[v1.WatchJobResponse]:
    """See JobService.WatchJob. The rows are looked at every second, whichever core runs the job."""
    if request.after_finding < 0:
        raise InvalidArgument(field="after_finding", problem="must not be negative")
    core, after, shown = call.core, request.after_finding, None
    draining = False

    def drain() -> None:
        nonlocal draining
        draining = True
        event.set()

    with core.job_signals.watching(request.job_id) as event:
        stop_draining = core.tasks.on_drain(drain)
        try:
            while True:
                event.clear()
                job, found = await core.db.read(_look, request.job_id, after)
                if job != shown or found:
                    yield v1.WatchJobResponse(job=described(job), findings=map(_finding, found))
                    shown = job
                if found:
                    after = found[-1].number
                if len(found) == FINDINGS_AT_ONCE:
                    continue
                if job.state in FINAL:
                    return
                if draining:
                    raise Draining
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await event.wait()
        finally:
            stop_draining()


def _look(tx: Connection, job_id: int, after: int) -> tuple[Job, list[Finding]]:
    return records.get(tx, job_id), records.findings(tx, job_id, after, FINDINGS_AT_ONCE)


def described(job: Job) -> v1.Job:
    """The contract's form of a job."""
    made = v1.Job(
        job_id=job.job_id,
        kind=v1.JobKind.ValueType(job.kind),
        state=v1.JobState.ValueType(job.state),
        actor=job.actor,
        subject=job.subject,
        created_at=convert.timestamp(job.created_at),
        done=job.done,
        total=job.total,
        unit=UNITS[job.kind],
        finding_count=job.finding_count,
        cancel_requested=job.cancel_requested,
    )
    if job.started_at is not None:
        made.started_at.CopyFrom(convert.timestamp(job.started_at))
    if job.finished_at is not None:
        made.finished_at.CopyFrom(convert.timestamp(job.finished_at))
    if job.status is not None:
        made.status.CopyFrom(Status.FromString(job.status))
    return made


def _finding(finding: Finding) -> v1.JobFinding:
    return v1.JobFinding(finding_number=finding.number, problem=finding.problem)
