"""`restante admin check`, `backup`, `stats`, `server`."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

import click

from restante.v1 import methods
from restante.v1.admin_pb2 import BackupStoreRequest, CheckStoreRequest, GetStatisticsRequest
from restante.v1.session_pb2 import GetServerRequest
from restante_cli.admin.context import Admin
from restante_cli.failures import run
from restante_cli.output import count_progress, output_option, print_json, say, show, size, transfer_progress


@click.command()
@click.option("--digests", is_flag=True, help="Also read every content and compare its digest.")
@output_option
@click.pass_obj
def check(admin: Admin, digests: bool, form: str) -> None:
    """Check every invariant of the running store; the exit code is 1 when one does not hold."""
    findings = run(_check(admin, digests))
    if form == "json":
        print_json({"findings": findings})
    else:
        for finding in findings:
            say(finding)
        if not findings:
            say("Everything holds.")
    if findings:
        raise click.ClickException(f"{len(findings)} findings")


async def _check(admin: Admin, digests: bool) -> list[str]:
    findings: list[str] = []
    finished = False
    with count_progress("Checks") as told:
        async with admin.calls() as calls:
            stream = calls.link.check_store(CheckStoreRequest(digests=digests), session=calls.token)
            async with aclosing(stream) as steps:  # type: ignore[type-var]
                async for step in steps:
                    told(step.done, step.total)
                    if step.finding:
                        findings.append(step.finding)
                    finished = finished or step.finished
    if not finished:
        raise click.ClickException("the check ended before it was done")
    return findings


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.pass_obj
def backup(admin: Admin, directory: Path) -> None:
    """Write a backup of the running store into DIRECTORY, new or empty, on the core's machine."""
    if admin.server and not directory.is_absolute():
        raise click.UsageError("On another machine the directory must be absolute.")
    say(f"{directory}: {size(run(_backup(admin, directory.absolute())))} written.")


async def _backup(admin: Admin, directory: Path) -> int:
    done, finished = 0, False
    with transfer_progress("Backup") as told:
        async with admin.calls() as calls:
            stream = calls.link.backup_store(BackupStoreRequest(directory=str(directory)), session=calls.token)
            async with aclosing(stream) as steps:  # type: ignore[type-var]
                async for step in steps:
                    done, finished = step.done_octets, finished or step.finished
                    told(done, max(step.total_octets, done))
    if not finished:
        raise click.ClickException("the backup ended before it was done and cannot be used")
    return done


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
