"""`restante admin check`, `backup`, `stats`, `server`."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path

import click

from restante.jobs import Jobs
from restante.v1 import methods
from restante.v1.admin_pb2 import GetStatisticsRequest
from restante.v1.job_pb2 import Job
from restante.v1.session_pb2 import GetServerRequest
from restante_cli.admin import jobs
from restante_cli.admin.context import Admin
from restante_cli.admin.jobs import detach_option
from restante_cli.failures import run
from restante_cli.output import output_option, print_json, say, show, size


@click.command()
@click.option("--digests", is_flag=True, help="Also read every content and compare it with its digest.")
@detach_option
@output_option
@click.pass_obj
def check(admin: Admin, digests: bool, detach: bool, form: str) -> None:
    """Check every invariant of the running store, as a job; the exit code is 1 when one does not hold."""

    def starter(of: Jobs) -> Awaitable[Job]:
        return of.check_store(digests=digests)

    if detach:
        jobs.show_started(jobs.start(admin, starter), form)
        return
    job, findings = jobs.follow(admin, starter)
    if form == "json":
        print_json({"job_id": job.job_id, "findings": [finding.problem for finding in findings]})
    else:
        for finding in findings:
            say(finding.problem)
        if not job.finding_count:
            say("The check found no violations.")
    if job.finding_count:
        raise jobs.violations_found(job, len(findings))


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@detach_option
@output_option
@click.pass_obj
def backup(admin: Admin, directory: Path, detach: bool, form: str) -> None:
    """Write a backup of the running store into DIRECTORY, new or empty, on the core's machine, as a job."""
    if admin.server and not directory.is_absolute():
        raise click.UsageError("With --server, DIRECTORY must be an absolute path on the core's machine.")

    def starter(of: Jobs) -> Awaitable[Job]:
        return of.back_up_store(str(directory.absolute()))

    if detach:
        jobs.show_started(jobs.start(admin, starter), form)
        return
    job, _ = jobs.follow(admin, starter)
    if form == "json":
        print_json({"job_id": job.job_id, "directory": job.subject, "octets": job.done})
    else:
        say(f"{directory}: {size(job.done)} written.")


@click.command()
@output_option
@click.pass_obj
def stats(admin: Admin, form: str) -> None:
    """Show counts and sizes of the installation."""
    run(_stats(admin, form))


async def _stats(admin: Admin, form: str) -> None:
    async with admin.calls() as calls:
        found = await calls.execute(methods.GET_STATISTICS, GetStatisticsRequest())
    values: dict[str, object] = {field.name: getattr(found, field.name) for field in found.DESCRIPTOR.fields}
    if form == "json":
        print_json(values)
        return
    for name in ("size_octets", "content_octets"):
        values[name] = size(int(getattr(found, name)))
    rows = [{"what": name.removesuffix("_octets").replace("_", " "), "value": value} for name, value in values.items()]
    show(form, ("what", "value"), rows, right=("value",))


@click.command()
@output_option
@click.pass_obj
def server(admin: Admin, form: str) -> None:
    """Show the version and limits of the server; in JSON also its RPCs."""
    run(_server(admin, form))


async def _server(admin: Admin, form: str) -> None:
    async with admin.calls() as calls:
        found = await calls.execute(methods.GET_SERVER, GetServerRequest())
    limits: dict[str, int] = {each.name: getattr(found.limits, each.name) for each in found.limits.DESCRIPTOR.fields}
    if form == "json":
        print_json({"version": found.version, "epoch": found.epoch, "limits": limits, "rpcs": list(found.rpcs)})
        return
    values: dict[str, object] = {"version": found.version, "epoch": found.epoch}
    for name, limit in limits.items():
        octets = name.endswith("_octets")
        values[name.removesuffix("_octets").replace("_", " ")] = size(limit) if octets else limit
    show(form, ("what", "value"), [{"what": each, "value": value} for each, value in values.items()], right=("value",))


COMMANDS = (check, backup, stats, server)
