"""`restante admin failed-address`."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import click

from restante.v1 import methods
from restante.v1.outcomes_pb2 import ClearFailedAddressesRequest, FailedAddress, ListFailedAddressesRequest
from restante_cli.admin.context import Admin
from restante_cli.failures import run
from restante_cli.groups import Group
from restante_cli.output import output_option, say, show

COLUMNS = ("address", "failed_at", "status", "diagnostic")


@click.group("failed-address", cls=Group)
def failed_address() -> None:
    """Addresses of other domains to which mail has failed because they do not exist; senders get a warning."""


def _described(found: FailedAddress) -> dict[str, Any]:
    return {
        "address": found.address,
        "failed_at": found.failed_at.ToDatetime(UTC),
        "status": found.status,
        "diagnostic": found.diagnostic,
    }


@failed_address.command("list")
@click.option("--domain", default="", help="List only addresses of this domain.")
@output_option
@click.pass_obj
def list_addresses(admin: Admin, domain: str, form: str) -> None:
    """List the addresses."""
    run(_list(admin, domain, form))


async def _list(admin: Admin, domain: str, form: str) -> None:
    async with admin.calls() as calls:
        request = ListFailedAddressesRequest(domain=domain, page_size=500)
        pages = calls.pages(methods.LIST_FAILED_ADDRESSES, request)
        rows = [_described(each) async for page in pages for each in page.addresses]
    show(form, COLUMNS, rows)


@failed_address.command()
@click.argument("address", required=False)
@click.option("--domain", help="Clear the addresses of this domain.")
@click.option("--all", "everything", is_flag=True, help="Clear all addresses.")
@click.pass_obj
def clear(admin: Admin, address: str | None, domain: str | None, everything: bool) -> None:
    """Clear ADDRESS, so that its senders get no warning."""
    if (address is not None) + (domain is not None) + everything != 1:
        raise click.UsageError("Name one address, or give --domain or --all.")
    if address is not None:
        request = ClearFailedAddressesRequest(address=address)
    elif domain is not None:
        request = ClearFailedAddressesRequest(domain=domain)
    else:
        request = ClearFailedAddressesRequest(all=True)
    say(f"{run(_clear(admin, request))} addresses were cleared.")


async def _clear(admin: Admin, request: ClearFailedAddressesRequest) -> int:
    async with admin.calls() as calls:
        return (await calls.execute(methods.CLEAR_FAILED_ADDRESSES, request)).address_count
