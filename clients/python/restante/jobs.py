"""Jobs: work that takes long, which administrators start, follow and cancel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from restante import errors
from restante.calls import Calls
from restante.v1 import methods
from restante.v1.admin_pb2 import BackupStoreRequest, CheckStoreRequest, DeleteAccountRequest
from restante.v1.job_pb2 import (
    CancelJobRequest,
    GetJobRequest,
    Job,
    JobFinding,
    JobKind,
    JobState,
    ListJobFindingsRequest,
    ListJobsRequest,
    WatchJobRequest,
    WatchJobResponse,
)

PAGE_SIZE = 200
FINAL = frozenset((JobState.JOB_STATE_SUCCEEDED, JobState.JOB_STATE_FAILED, JobState.JOB_STATE_CANCELLED))


class Jobs:
    """The jobs of an installation. Every method raises PermissionDenied for anybody but an administrator."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def check_store(self, *, digests: bool = False) -> Job:
        """Start a check of the store's invariants, and of the digest of every content."""
        return (await self._calls.execute(methods.CHECK_STORE, CheckStoreRequest(digests=digests))).job

    async def back_up_store(self, directory: str) -> Job:
        """Start a backup into a new or empty directory of the core's machine. Raises InvalidArgument."""
        return (await self._calls.execute(methods.BACKUP_STORE, BackupStoreRequest(directory=directory))).job

    async def delete_account(self, address: str) -> Job:
        """Remove an account at once, and start the removal of its mailbox. Raises AccountNotFound."""
        return (await self._calls.execute(methods.DELETE_ACCOUNT, DeleteAccountRequest(address=address))).job

    async def get(self, job_id: int) -> Job:
        """One job. Raises JobNotFound."""
        return (await self._calls.execute(methods.GET_JOB, GetJobRequest(job_id=job_id))).job

    async def list(
        self, *, kind: JobKind.ValueType = JobKind.JOB_KIND_UNSPECIFIED, unfinished: bool = False
    ) -> AsyncIterator[Job]:
        """The jobs, latest first: all, or those of one kind, or those that have not ended."""
        request = ListJobsRequest(kind=kind, unfinished=unfinished, page_size=PAGE_SIZE)
        async for page in self._calls.pages(methods.LIST_JOBS, request):
            for job in page.jobs:
                yield job

    async def findings(self, job_id: int) -> AsyncIterator[JobFinding]:
        """The kept findings of a job so far, in order. Raises JobNotFound."""
        request = ListJobFindingsRequest(job_id=job_id, page_size=PAGE_SIZE)
        async for page in self._calls.pages(methods.LIST_JOB_FINDINGS, request):
            for finding in page.findings:
                yield finding

    async def watch(self, job_id: int, *, after_finding: int = 0) -> AsyncIterator[WatchJobResponse]:
        """The job now, and after each change until its end, with each finding once.

        A broken stream is opened again after the last finding. Leaving the iterator leaves the job running. Raises
        JobNotFound, SessionExpired, SessionRevoked.
        """

        def opened() -> AsyncIterator[WatchJobResponse]:
            request = WatchJobRequest(job_id=job_id, after_finding=after_finding)
            return self._calls.link.watch_job(request, session=self._calls.token)

        async with aclosing(self._calls.resumed(opened)) as steps:
            async for step in steps:
                if step.findings:
                    after_finding = step.findings[-1].finding_number
                yield step

    async def wait(self, job_id: int) -> Job:
        """The job after its end. Raises the error of a job that failed, Cancelled for one that was cancelled."""
        job = Job()
        async with aclosing(self.watch(job_id)) as steps:  # type: ignore[type-var]
            async for step in steps:
                job = step.job
        return ended(job)

    async def cancel(self, job_id: int) -> Job:
        """Cancel a job, which ends within about a second. Raises JobNotFound."""
        return (await self._calls.execute(methods.CANCEL_JOB, CancelJobRequest(job_id=job_id))).job


def ended(job: Job) -> Job:
    """A job that succeeded. Raises the error of one that failed, and Cancelled for one that was cancelled."""
    if job.state == JobState.JOB_STATE_FAILED:
        raise errors.from_status(job.status)
    if job.state == JobState.JOB_STATE_CANCELLED:
        raise errors.Cancelled(f"Job {job.job_id} was cancelled.")
    return job
