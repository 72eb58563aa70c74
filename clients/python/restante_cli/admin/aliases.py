"""`restante admin alias`."""

from __future__ import annotations

from typing import Any

import click

from restante.v1 import methods
from restante.v1.admin_pb2 import Alias, CreateAliasRequest, DeleteAliasRequest, ListAliasesRequest
from restante_cli.admin.context import Admin
from restante_cli.failures import run
from restante_cli.groups import Group
from restante_cli.output import output_option, say, show

COLUMNS = ("address", "targets")


@click.group(cls=Group)
def alias() -> None:
    """Aliases: addresses whose mail goes to other addresses."""


def _described(found: Alias) -> dict[str, Any]:
    return {"address": found.address, "targets": list(found.targets)}


@alias.command()
@click.argument("address")
@click.argument("targets", nargs=-1, required=True)
@output_option
@click.pass_obj
def create(admin: Admin, address: str, targets: tuple[str, ...], form: str) -> None:
    """Create the alias ADDRESS, which forwards mail to TARGETS: local or remote addresses."""
    run(_create(admin, address, targets, form))


async def _create(admin: Admin, address: str, targets: tuple[str, ...], form: str) -> None:
    async with admin.calls() as calls:
        request = CreateAliasRequest(address=address, targets=targets)
        made = (await calls.execute(methods.CREATE_ALIAS, request)).created
    show(form, COLUMNS, [_described(made)])


@alias.command("list")
@click.option("--domain", default="", help="List only aliases of this domain.")
@output_option
@click.pass_obj
def list_aliases(admin: Admin, domain: str, form: str) -> None:
    """List all aliases."""
    run(_list(admin, domain, form))


async def _list(admin: Admin, domain: str, form: str) -> None:
    async with admin.calls() as calls:
        request = ListAliasesRequest(domain=domain, page_size=500)
        rows = [_described(each) async for page in calls.pages(methods.LIST_ALIASES, request) for each in page.aliases]
    show(form, COLUMNS, rows)


@alias.command()
@click.argument("address")
@click.pass_obj
def delete(admin: Admin, address: str) -> None:
    """Delete the alias ADDRESS."""
    run(_delete(admin, address))
    say(f"The alias {address} was deleted.")


async def _delete(admin: Admin, address: str) -> None:
    async with admin.calls() as calls:
        await calls.execute(methods.DELETE_ALIAS, DeleteAliasRequest(address=address))
