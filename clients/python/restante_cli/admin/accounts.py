"""`restante admin account` and `restante admin quota`."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import UTC
from pathlib import Path
from typing import Any

import click

from restante.jobs import Jobs
from restante.v1 import methods
from restante.v1.admin_pb2 import (
    Account,
    CreateAccountRequest,
    GetAccountRequest,
    ListAccountsRequest,
    SentCopyPolicy,
    SetPasswordRequest,
    UpdateAccountRequest,
)
from restante.v1.job_pb2 import Job
from restante_cli.admin import account_import, jobs
from restante_cli.admin.context import Admin, octets
from restante_cli.failures import run
from restante_cli.groups import Group
from restante_cli.inputs import password_file_option, password_stdin_option, read_password
from restante_cli.output import output_option, print_json, say, show, size

COLUMNS = ("address", "name", "enabled", "administrator", "messages", "used", "quota")
RIGHT = ("messages", "used", "quota")
SENT_COPIES = {
    "api": SentCopyPolicy.SENT_COPY_POLICY_API,
    "always": SentCopyPolicy.SENT_COPY_POLICY_ALWAYS,
    "never": SentCopyPolicy.SENT_COPY_POLICY_NEVER,
}

quota_option = click.option(
    "--quota", callback=octets, metavar="SIZE", help="Quota of the mailbox, such as 2GB; none: no limit."
)
sent_copy_option = click.option(
    "--sent-copy",
    type=click.Choice(list(SENT_COPIES)),
    help="Submissions whose message is also stored in the Sent folder: by the API, all or none.",
)


@click.group(cls=Group)
def account() -> None:
    """Accounts: persons and roles with a mailbox."""


def described(found: Account) -> dict[str, Any]:
    """An account for tables and JSON."""
    quota_octets = found.quota_octets if found.HasField("quota_octets") else None
    sent_copy = next((name for name, policy in SENT_COPIES.items() if policy == found.sent_copy), "")
    return {
        "address": found.address,
        "name": found.display_name,
        "enabled": found.enabled,
        "administrator": found.administrator,
        "messages": found.message_count,
        "used": size(found.used_octets),
        "used_octets": found.used_octets,
        "quota": size(quota_octets) if quota_octets is not None else "none",
        "quota_octets": quota_octets,
        "sent_copy": sent_copy,
        "account_id": found.account_id,
        "mailbox_id": found.mailbox_id,
        "created_at": found.created_at.ToDatetime(UTC),
    }


@account.command()
@click.argument("address")
@click.option("--name", default="", help="Display name, which others see.")
@quota_option
@sent_copy_option
@click.option("--administrator", is_flag=True, help="Whether the account may administer the whole installation.")
@password_stdin_option
@password_file_option
@output_option
@click.pass_obj
def create(
    admin: Admin,
    address: str,
    name: str,
    quota: int | None,
    sent_copy: str | None,
    administrator: bool,
    password_stdin: bool,
    password_file: Path | None,
    form: str,
) -> None:
    """Create an account with its mailbox."""
    password = read_password(f"Password for {address}", from_stdin=password_stdin, file=password_file, confirm=True)
    request = CreateAccountRequest(
        address=address,
        display_name=name,
        password=password,
        quota_octets=quota or None,
        sent_copy=SENT_COPIES[sent_copy or "api"],
        administrator=administrator,
    )
    run(_create(admin, request, form))


async def _create(admin: Admin, request: CreateAccountRequest, form: str) -> None:
    async with admin.calls() as calls:
        made = (await calls.execute(methods.CREATE_ACCOUNT, request)).account
    show(form, COLUMNS, [described(made)], right=RIGHT)


@account.command("list")
@click.option("--domain", default="", help="List only accounts of this domain.")
@output_option
@click.pass_obj
def list_accounts(admin: Admin, domain: str, form: str) -> None:
    """List all accounts."""
    run(_list(admin, domain, form))


async def _list(admin: Admin, domain: str, form: str) -> None:
    async with admin.calls() as calls:
        request = ListAccountsRequest(domain=domain, page_size=200)
        pages = calls.pages(methods.LIST_ACCOUNTS, request)
        rows = [described(each) async for page in pages for each in page.accounts]
    show(form, COLUMNS, rows, right=RIGHT)


@account.command("show")
@click.argument("address")
@output_option
@click.pass_obj
def show_account(admin: Admin, address: str, form: str) -> None:
    """Show an account with its settings and its mailbox."""
    run(_show(admin, address, form))


async def _show(admin: Admin, address: str, form: str) -> None:
    async with admin.calls() as calls:
        found = (await calls.execute(methods.GET_ACCOUNT, GetAccountRequest(address=address))).account
    if form == "json":
        show(form, (), [described(found)])
    else:
        show(form, ("what", "value"), [{"what": key, "value": value} for key, value in described(found).items()])


@account.command()
@click.argument("address")
@click.option("--name", help="Display name, which others see.")
@quota_option
@sent_copy_option
@click.option(
    "--enabled/--disabled", default=None, help="Whether the account can log in; --disabled also ends its sessions."
)
@click.option(
    "--administrator/--no-administrator",
    default=None,
    help="Whether the account may administer the whole installation.",
)
@output_option
@click.pass_obj
def update(
    admin: Admin,
    address: str,
    name: str | None,
    quota: int | None,
    sent_copy: str | None,
    enabled: bool | None,
    administrator: bool | None,
    form: str,
) -> None:
    """Change the given settings of an account."""
    if all(given is None for given in (name, quota, sent_copy, enabled, administrator)):
        raise click.UsageError(
            "No change was requested: give --name, --quota, --sent-copy, --enabled or --administrator."
        )
    request = UpdateAccountRequest(
        address=address,
        display_name=name,
        enabled=enabled,
        administrator=administrator,
        sent_copy=SENT_COPIES.get(sent_copy or ""),
        quota_octets=quota,
    )
    run(_update(admin, request, form))


async def _update(admin: Admin, request: UpdateAccountRequest, form: str) -> None:
    async with admin.calls() as calls:
        changed = (await calls.execute(methods.UPDATE_ACCOUNT, request)).account
    show(form, COLUMNS, [described(changed)], right=RIGHT)


@account.command()
@click.argument("address")
@password_stdin_option
@password_file_option
@click.pass_obj
def password(admin: Admin, address: str, password_stdin: bool, password_file: Path | None) -> None:
    """Set an account's password and end its sessions."""
    new = read_password(f"New password for {address}", from_stdin=password_stdin, file=password_file, confirm=True)
    run(_password(admin, address, new))
    say(f"The password of {address} was changed; its sessions end.")


async def _password(admin: Admin, address: str, new: str) -> None:
    async with admin.calls() as calls:
        await calls.execute(methods.SET_PASSWORD, SetPasswordRequest(address=address, password=new))


@account.command()
@click.argument("address")
@click.option("--yes", is_flag=True, help="Do not ask.")
@jobs.detach_option
@output_option
@click.pass_obj
def delete(admin: Admin, address: str, yes: bool, detach: bool, form: str) -> None:
    """Remove an account at once, and all its mail by a job."""
    if not yes:
        click.confirm(f"Remove {address} and all its mail for good?", abort=True, err=True)

    def starter(of: Jobs) -> Awaitable[Job]:
        return of.delete_account(address)

    if detach:
        jobs.show_started(jobs.start(admin, starter), form)
        return
    job, _ = jobs.follow(admin, starter)
    if form == "json":
        print_json(jobs.facts(job))
    else:
        say(f"{address} is removed.")


@account.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@output_option
@click.pass_obj
def import_accounts(admin: Admin, file: Path, form: str) -> None:
    """Create the accounts of a CSV file: address, password or argon2id hash, name, quota such as 2GB.

    May be repeated: existing accounts stay as they are. A failed line is printed with its number and does not stop the
    others; the exit code is then 1.
    """
    lines, bad = account_import.read_lines(file)
    run(account_import.run_import(admin, lines, bad, form))


@click.group(cls=Group)
def quota() -> None:
    """Quotas: the size limits of mailboxes."""


@quota.command("show")
@click.argument("address")
@output_option
@click.pass_obj
def show_quota(admin: Admin, address: str, form: str) -> None:
    """Show the quota of an account and the octets in use."""
    run(_show_quota(admin, address, form))


async def _show_quota(admin: Admin, address: str, form: str) -> None:
    async with admin.calls() as calls:
        found = (await calls.execute(methods.GET_ACCOUNT, GetAccountRequest(address=address))).account
    show(form, ("address", "used", "quota"), [described(found)], right=("used", "quota"))


@quota.command("set")
@click.argument("address")
@click.argument("limit", metavar="SIZE", callback=octets)
@output_option
@click.pass_obj
def set_quota(admin: Admin, address: str, limit: int, form: str) -> None:
    """Set the quota of an account, such as 2GB; none: no limit."""
    run(_update(admin, UpdateAccountRequest(address=address, quota_octets=limit), form))
