"""`restante admin greylist`."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import click

from restante.v1 import methods
from restante.v1.greylist_pb2 import (
    AllowGreylistPassRequest,
    ClearGreylistRequest,
    ClearGreylistResponse,
    GreylistPass,
    GreylistTriplet,
    ListGreylistPassesRequest,
    ListGreylistTripletsRequest,
)
from restante_cli.admin.context import Admin
from restante_cli.failures import run
from restante_cli.groups import Group
from restante_cli.output import output_option, say, show

COLUMNS = ("network", "reverse_path", "recipient", "state", "first_at", "used_at", "expires_at")
PASSES = ("subject", "state", "times", "used_at", "expires_at")


@click.group(cls=Group)
def greylist() -> None:
    """Clients, senders and recipients that greylisting remembers.

    `restante admin domain update DOMAIN --greylisting on` turns it on for the mail of a domain.
    """


@greylist.command("list")
@click.option(
    "--network", default="", metavar="CLIENT", help="List only this client's network: an address or NET/BITS."
)
@click.option("--recipient", default="", metavar="ADDRESS", help="List only mail to this address.")
@output_option
@click.pass_obj
def list_triplets(admin: Admin, network: str, recipient: str, form: str) -> None:
    """List the combinations of client network, sender and recipient: deferred or known."""
    run(_list(admin, ListGreylistTripletsRequest(network=network, recipient=recipient, page_size=500), form))


async def _list(admin: Admin, request: ListGreylistTripletsRequest, form: str) -> None:
    async with admin.calls() as calls:
        pages = calls.pages(methods.LIST_GREYLIST_TRIPLETS, request)
        rows = [_triplet(each) async for page in pages for each in page.triplets]
    show(form, COLUMNS, rows)


def _triplet(found: GreylistTriplet) -> dict[str, Any]:
    return {
        "network": found.network,
        "reverse_path": found.reverse_path or "<>",
        "recipient": found.recipient,
        "state": "known" if found.known else "deferred",
        "first_at": found.first_at.ToDatetime(UTC),
        "used_at": found.used_at.ToDatetime(UTC),
        "expires_at": found.expires_at.ToDatetime(UTC),
    }


@greylist.command("passes")
@output_option
@click.pass_obj
def list_passes(admin: Admin, form: str) -> None:
    """List the networks and recipients that pass, and networks that have begun to prove themselves."""
    run(_list_passes(admin, form))


async def _list_passes(admin: Admin, form: str) -> None:
    async with admin.calls() as calls:
        pages = calls.pages(methods.LIST_GREYLIST_PASSES, ListGreylistPassesRequest(page_size=500))
        rows = [_pass(each) async for page in pages for each in page.passes]
    show(form, PASSES, rows, right=("times",))


def _pass(found: GreylistPass) -> dict[str, Any]:
    state = "allowed" if found.allowed else "proven" if found.passes else "begun"
    return {
        "subject": found.subject,
        "state": state,
        "times": found.times,
        "used_at": found.used_at.ToDatetime(UTC),
        "expires_at": found.expires_at.ToDatetime(UTC) if found.HasField("expires_at") else "never",
    }


@greylist.command()
@click.argument("subject")
@output_option
@click.pass_obj
def allow(admin: Admin, subject: str, form: str) -> None:
    """Let the mail of a client (ADDRESS or NET/BITS), or for a recipient (USER@DOMAIN), pass without a delay."""
    run(_allow(admin, subject, form))


async def _allow(admin: Admin, subject: str, form: str) -> None:
    async with admin.calls() as calls:
        made = await calls.execute(methods.ALLOW_GREYLIST_PASS, AllowGreylistPassRequest(subject=subject))
    show(form, PASSES, [_pass(made.greylist_pass)], right=("times",))


@greylist.command()
@click.argument("subject", required=False)
@click.option("--all", "everything", is_flag=True, help="Forget everything, permissions too.")
@click.pass_obj
def clear(admin: Admin, subject: str | None, everything: bool) -> None:
    """Forget a client (ADDRESS or NET/BITS) or a recipient (USER@DOMAIN), and end a permission."""
    if (subject is not None) == everything:
        raise click.UsageError("Name one client or recipient, or give --all.")
    request = ClearGreylistRequest(all=True) if subject is None else ClearGreylistRequest(subject=subject)
    cleared = run(_clear(admin, request))
    say(f"{cleared.triplet_count} combinations and {cleared.pass_count} networks or recipients were forgotten.")


async def _clear(admin: Admin, request: ClearGreylistRequest) -> ClearGreylistResponse:
    async with admin.calls() as calls:
        return await calls.execute(methods.CLEAR_GREYLIST, request)
