"""`restante admin domain`."""

from __future__ import annotations

from typing import Any

import click

from restante.v1 import methods
from restante.v1.admin_pb2 import (
    CreateDomainRequest,
    DeleteDomainRequest,
    Domain,
    ListDomainsRequest,
    ResendingPolicy,
    UpdateDomainRequest,
)
from restante.v1.checks_pb2 import FailedCheckPolicy
from restante_cli.admin import domain_keys
from restante_cli.admin.context import Admin
from restante_cli.failures import run
from restante_cli.groups import Group
from restante_cli.output import output_option, say, show

COLUMNS = ("name", "accounts", "aliases", "catch_all", "resending", "failed_dmarc", "forged_sender", "greylisting")
RESENDING = {
    "never": ResendingPolicy.RESENDING_POLICY_NEVER,
    "within-domain": ResendingPolicy.RESENDING_POLICY_WITHIN_DOMAIN,
    "anywhere": ResendingPolicy.RESENDING_POLICY_ANYWHERE,
}
ON_FAILURE = {
    "none": FailedCheckPolicy.FAILED_CHECK_POLICY_NONE,
    "quarantine": FailedCheckPolicy.FAILED_CHECK_POLICY_QUARANTINE,
    "reject": FailedCheckPolicy.FAILED_CHECK_POLICY_REJECT,
}

SWITCHED = ("off", "on")


@click.group(cls=Group)
def domain() -> None:
    """Domains whose mail this installation receives."""


domain.add_command(domain_keys.key)


def _described(found: Domain) -> dict[str, Any]:
    return {
        "name": found.name,
        "ascii_name": found.ascii_name,
        "accounts": found.account_count,
        "aliases": found.alias_count,
        "catch_all": found.catch_all,
        "resending": next((name for name, policy in RESENDING.items() if policy == found.resending), ""),
        "failed_dmarc": _on_failure(found.failed_dmarc),
        "forged_sender": _on_failure(found.forged_sender),
        "greylisting": SWITCHED[found.greylisting],
    }


def _on_failure(given: int) -> str:
    return next((name for name, policy in ON_FAILURE.items() if policy == given), "")


@domain.command()
@click.argument("name")
@output_option
@click.pass_obj
def create(admin: Admin, name: str, form: str) -> None:
    """Create the domain NAME."""
    run(_create(admin, name, form))


async def _create(admin: Admin, name: str, form: str) -> None:
    async with admin.calls() as calls:
        made = (await calls.execute(methods.CREATE_DOMAIN, CreateDomainRequest(name=name))).domain
    show(form, COLUMNS, [_described(made)])


@domain.command("list")
@output_option
@click.pass_obj
def list_domains(admin: Admin, form: str) -> None:
    """List all domains."""
    run(_list(admin, form))


async def _list(admin: Admin, form: str) -> None:
    async with admin.calls() as calls:
        request = ListDomainsRequest(page_size=500)
        rows = [_described(each) async for page in calls.pages(methods.LIST_DOMAINS, request) for each in page.domains]
    show(form, COLUMNS, rows, right=("accounts", "aliases"))


@domain.command()
@click.argument("name")
@click.option(
    "--catch-all", metavar="ADDRESS", help="Address that receives mail for unknown recipients; none: refuse such mail."
)
@click.option(
    "--resending",
    type=click.Choice(tuple(RESENDING)),
    help="Recipients to whom accounts may resend messages of other authors: none, those of the domain, or all.",
)
@click.option(
    "--dmarc",
    type=click.Choice(tuple(ON_FAILURE)),
    help="Mail that fails DMARC, when its domain asks for quarantine or reject: deliver it, put it into Junk, or "
    "refuse it where its domain asks for reject.",
)
@click.option(
    "--forged",
    type=click.Choice(tuple(ON_FAILURE)),
    help="Mail from outside that claims a domain of this installation, and no check confirms it: deliver it, put it "
    "into Junk, or refuse it.",
)
@click.option(
    "--greylisting",
    type=click.Choice(SWITCHED),
    help="Defer the first mail of clients that are new here (RFC 6647); their servers come again.",
)
@output_option
@click.pass_obj
def update(
    admin: Admin,
    name: str,
    catch_all: str | None,
    resending: str | None,
    dmarc: str | None,
    forged: str | None,
    greylisting: str | None,
    form: str,
) -> None:
    """Change the given settings of the domain NAME."""
    if all(given is None for given in (catch_all, resending, dmarc, forged, greylisting)):
        raise click.UsageError(
            "No change was requested: give --catch-all, --resending, --dmarc, --forged or --greylisting."
        )
    request = UpdateDomainRequest(name=name)
    if dmarc is not None:
        request.failed_dmarc = ON_FAILURE[dmarc]
    if forged is not None:
        request.forged_sender = ON_FAILURE[forged]
    if greylisting is not None:
        request.greylisting = bool(SWITCHED.index(greylisting))
    if catch_all is not None:
        request.catch_all = "" if catch_all.lower() == "none" else catch_all
    if resending is not None:
        request.resending = RESENDING[resending]
    run(_update(admin, request, form))


async def _update(admin: Admin, request: UpdateDomainRequest, form: str) -> None:
    async with admin.calls() as calls:
        changed = (await calls.execute(methods.UPDATE_DOMAIN, request)).domain
    show(form, COLUMNS, [_described(changed)])


@domain.command()
@click.argument("name")
@click.pass_obj
def delete(admin: Admin, name: str) -> None:
    """Delete the domain NAME, which must not have accounts or aliases."""
    run(_delete(admin, name))
    say(f"The domain {name} was deleted.")


async def _delete(admin: Admin, name: str) -> None:
    async with admin.calls() as calls:
        await calls.execute(methods.DELETE_DOMAIN, DeleteDomainRequest(name=name))
