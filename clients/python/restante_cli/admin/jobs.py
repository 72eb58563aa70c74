"""`restante admin job`, and the following of a job that another command has started."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, aclosing
from datetime import UTC
from typing import Any

import click

from restante import errors
from restante.jobs import FINAL, Jobs, ended
from restante.v1.job_pb2 import Job, JobFinding, JobKind, JobState, JobUnit
from restante_cli.admin.context import Admin
from restante_cli.failures import described, run
from restante_cli.groups import Group
from restante_cli.output import count_progress, output_option, print_json, say, show, size, transfer_progress

COLUMNS = ("id", "kind", "state", "progress", "subject", "actor", "created_at")
KINDS = {
    "check": JobKind.JOB_KIND_CHECK_STORE,
    "backup": JobKind.JOB_KIND_BACKUP_STORE,
    "account-deletion": JobKind.JOB_KIND_DELETE_ACCOUNT,
}

Starter = Callable[[Jobs], Awaitable[Job]]

detach_option = click.option(
    "--detach", is_flag=True, help="Start the job without following it; `restante admin job` shows it later."
)


# --- Following ----------------------------------------------------------------------------------------------------


def start(admin: Admin, starter: Starter) -> Job:
    """Start a job and return it as it began. Raises click.ClickException."""
    return run(_start(admin, starter))


async def _start(admin: Admin, starter: Starter) -> Job:
    async with admin.calls() as calls:
        return await starter(Jobs(calls))


def follow(admin: Admin, starter: Starter) -> tuple[Job, list[JobFinding]]:
    """Start a job and follow it, with its progress on a terminal; returns it at its end, with its findings.

    Raises click.ClickException when the job failed or was cancelled, and when the user interrupts the command: the job
    then goes on.
    """
    begun: list[Job] = []
    try:
        return run(_follow(admin, starter, begun))
    except KeyboardInterrupt:
        if not begun:
            raise
        job_id = begun[0].job_id
        raise click.ClickException(
            f"interrupted; job {job_id} goes on. Watch it with `restante admin job watch {job_id}`, "
            f"end it with `restante admin job cancel {job_id}`"
        ) from None


async def _follow(admin: Admin, starter: Starter, begun: list[Job]) -> tuple[Job, list[JobFinding]]:
    findings: list[JobFinding] = []
    async with admin.calls() as calls:
        jobs = Jobs(calls)
        job = await starter(jobs)
        begun.append(job)
        with _progress(job) as advance:
            async with aclosing(jobs.watch(job.job_id)) as steps:  # type: ignore[type-var]
                async for step in steps:
                    job = step.job
                    findings += step.findings
                    advance(job.done, max(job.total, job.done))
    try:
        return ended(job), findings
    except errors.Cancelled:
        raise click.ClickException(f"job {job.job_id} was cancelled") from None


def _progress(job: Job) -> AbstractContextManager[Callable[[int, int], None]]:
    names = {JobUnit.JOB_UNIT_CHECKS: "Checks", JobUnit.JOB_UNIT_MESSAGES: "Messages"}
    if job.unit == JobUnit.JOB_UNIT_OCTETS:
        return transfer_progress("Backup")
    return count_progress(names.get(job.unit, "Job"))


# --- Showing ------------------------------------------------------------------------------------------------------


def facts(job: Job) -> dict[str, Any]:
    """A job for tables and JSON."""
    octets = job.unit == JobUnit.JOB_UNIT_OCTETS
    done, total = (size(job.done), size(job.total)) if octets else (str(job.done), str(job.total))
    return {
        "id": job.job_id,
        "kind": next((name for name, kind in KINDS.items() if kind == job.kind), "unknown"),
        "state": JobState.Name(job.state).removeprefix("JOB_STATE_").lower(),
        "progress": f"{done} of {total}" if job.total else done,
        "done": job.done,
        "total": job.total,
        "unit": JobUnit.Name(job.unit).removeprefix("JOB_UNIT_").lower(),
        "subject": job.subject,
        "actor": job.actor,
        "created_at": job.created_at.ToDatetime(UTC),
        "started_at": job.started_at.ToDatetime(UTC) if job.HasField("started_at") else None,
        "finished_at": job.finished_at.ToDatetime(UTC) if job.HasField("finished_at") else None,
        "findings": job.finding_count,
        "cancel_requested": job.cancel_requested,
        "error": described(errors.from_status(job.status)) if job.HasField("status") else None,
    }


def show_started(job: Job, form: str) -> None:
    """Print a job that the command does not follow."""
    if form == "json":
        print_json(facts(job))
    else:
        say(f"Job {job.job_id} has started. Watch it with `restante admin job watch {job.job_id}`.")


@click.group("job", cls=Group)
def job_group() -> None:
    """Work that takes long: checks, backups, deletions of accounts."""


@job_group.command("list")
@click.option("--kind", type=click.Choice(list(KINDS)), help="List only jobs of this kind.")
@click.option("--unfinished", is_flag=True, help="List only jobs that have not ended.")
@output_option
@click.pass_obj
def list_jobs(admin: Admin, kind: str | None, unfinished: bool, form: str) -> None:
    """The jobs of the last 30 days, latest first."""
    wanted = KINDS[kind] if kind else JobKind.JOB_KIND_UNSPECIFIED
    show(form, COLUMNS, run(_list(admin, wanted, unfinished)), right=("id",))


async def _list(admin: Admin, kind: JobKind.ValueType, unfinished: bool) -> list[dict[str, Any]]:
    async with admin.calls() as calls:
        return [facts(job) async for job in Jobs(calls).list(kind=kind, unfinished=unfinished)]


@job_group.command("show")
@click.argument("job_id", type=int)
@output_option
@click.pass_obj
def show_job(admin: Admin, job_id: int, form: str) -> None:
    """Everything about one job, with its findings."""
    job, findings = run(_show(admin, job_id))
    if form == "json":
        print_json({**facts(job), "findings": [finding.problem for finding in findings]})
        return
    show(form, ("what", "value"), [{"what": key, "value": value} for key, value in facts(job).items()])
    for finding in findings:
        say(finding.problem)


async def _show(admin: Admin, job_id: int) -> tuple[Job, list[JobFinding]]:
    async with admin.calls() as calls:
        jobs = Jobs(calls)
        return await jobs.get(job_id), [finding async for finding in jobs.findings(job_id)]


@job_group.command()
@click.argument("job_id", type=int)
@output_option
@click.pass_obj
def watch(admin: Admin, job_id: int, form: str) -> None:
    """Follow a job to its end; the exit code is 1 when it fails, is cancelled, or has findings."""
    job, findings = follow(admin, lambda jobs: jobs.get(job_id))
    if form == "json":
        print_json({**facts(job), "findings": [finding.problem for finding in findings]})
    else:
        for finding in findings:
            say(finding.problem)
        say(f"Job {job_id}: {facts(job)['state']}, {facts(job)['progress']}.")
    if job.finding_count:
        raise violations_found(job, len(findings))


def violations_found(job: Job, listed: int) -> click.ClickException:
    """The failure of a check with findings, of which the server keeps a bounded number."""
    which = "listed above" if listed == job.finding_count else f"the first {listed} of them listed above"
    return click.ClickException(f"the check found {job.finding_count} violations, {which}")


@job_group.command()
@click.argument("job_id", type=int)
@output_option
@click.pass_obj
def cancel(admin: Admin, job_id: int, form: str) -> None:
    """End a job; the work that it has done stays. Fails when the job ended before."""
    job = run(_cancel(admin, job_id))
    if form == "json":
        print_json(facts(job))
    else:
        say(f"Job {job_id}: {facts(job)['state']}.")
    if job.state != JobState.JOB_STATE_CANCELLED:
        raise click.ClickException(f"job {job_id} was not cancelled, because its work had ended")


async def _cancel(admin: Admin, job_id: int) -> Job:
    async with admin.calls() as calls:
        jobs = Jobs(calls)
        job = await jobs.cancel(job_id)
        if job.state in FINAL:
            return job
        async with aclosing(jobs.watch(job_id)) as steps:  # type: ignore[type-var]
            async for step in steps:
                job = step.job
        return job
