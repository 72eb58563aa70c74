"""`restante admin domain key`: the keys that sign a domain's outbound mail."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click

from restante.calls import Calls
from restante.v1 import methods
from restante.v1.signing_pb2 import (
    ActivateDomainKeysRequest,
    CreateDomainKeysRequest,
    DeleteDomainKeyRequest,
    DomainKey,
    DomainKeyState,
    ListDomainKeysRequest,
    NewDomainKey,
    RevokeDomainKeyRequest,
    SigningAlgorithm,
)
from restante_cli.admin.context import Admin
from restante_cli.failures import run
from restante_cli.groups import Group
from restante_cli.output import output_option, say, show

COLUMNS = ("domain", "selector", "algorithm", "state", "activated_at", "publish_until")
CHECK_COLUMNS = ("domain", "selector", "algorithm", "state", "published", "problem")
ALGORITHMS = {
    "rsa-2048": SigningAlgorithm.SIGNING_ALGORITHM_RSA_2048,
    "ed25519": SigningAlgorithm.SIGNING_ALGORITHM_ED25519,
}
STATES = {
    DomainKeyState.DOMAIN_KEY_STATE_PREPARED: "prepared",
    DomainKeyState.DOMAIN_KEY_STATE_ACTIVE: "active",
    DomainKeyState.DOMAIN_KEY_STATE_RETIRED: "retired",
    DomainKeyState.DOMAIN_KEY_STATE_REVOKED: "revoked",
}


@click.group(cls=Group)
def key() -> None:
    """Keys that sign the outbound mail of a domain (DKIM), and their DNS records.

    A rotation has four steps: `rotate` makes new keys, you publish their records in the DNS, `check` finds them there,
    and `activate` signs with them. The records of the keys before stay published until mail that they signed has
    arrived.
    """


def quoted_strings(key: DomainKey) -> str:
    """The text of a key's TXT record as the character-strings of a zone file (RFC 1035 5.1)."""
    return " ".join(f'"{string}"' for string in key.record_strings)


def _described(found: DomainKey) -> dict[str, Any]:
    return {
        "domain": found.domain,
        "selector": found.selector,
        "algorithm": next((name for name, value in ALGORITHMS.items() if value == found.algorithm), ""),
        "state": STATES.get(found.state, ""),
        "record_name": found.record_name,
        "record_text": found.record_text,
        "record_strings": list(found.record_strings),
        **{
            name: getattr(found, name).ToDatetime(tzinfo=UTC) if found.HasField(name) else None
            for name in ("prepared_at", "activated_at", "retired_at", "publish_until", "revoked_at")
        },
    }


def _show_records(form: str, keys: Sequence[DomainKey], heading: str) -> None:
    """A table of keys, and below it the lines for the zone file; or JSON."""
    show(form, COLUMNS, [_described(each) for each in keys])
    if form == "table" and keys:
        say(f"\n{heading}\n")
        for each in keys:
            say(_zone_line(each))


def _zone_line(key: DomainKey) -> str:
    """The record of a key as a line of a zone file."""
    return f"{key.record_name}. IN TXT ( {quoted_strings(key)} )"


async def _all(calls: Calls, domain: str) -> list[DomainKey]:
    request = ListDomainKeysRequest(domain=domain, page_size=500)
    return [each async for page in calls.pages(methods.LIST_DOMAIN_KEYS, request) for each in page.keys]


@key.command()
@click.argument("domain")
@click.option(
    "--algorithm",
    "algorithms",
    type=click.Choice(tuple(ALGORITHMS)),
    multiple=True,
    help="Algorithm of the new key; may be repeated. Default: one key of each.",
)
@click.option(
    "--selector", metavar="NAME", help="Name of the new key, for one --algorithm. Default: algorithm and date."
)
@click.option("--only-prepare", is_flag=True, help="Sign nothing until `activate`, even if the domain has no key yet.")
@output_option
@click.pass_obj
def create(
    admin: Admin, domain: str, algorithms: tuple[str, ...], selector: str | None, only_prepare: bool, form: str
) -> None:
    """Create keys for DOMAIN and print the DNS records to publish.

    The first key of an algorithm signs at once; later ones wait for `activate`.
    """
    if selector is not None and len(algorithms) != 1:
        raise click.UsageError("--selector needs exactly one --algorithm.")
    keys = [NewDomainKey(algorithm=ALGORITHMS[name], selector=selector or "") for name in algorithms]
    run(_create(admin, CreateDomainKeysRequest(domain=domain, keys=keys, only_prepare=only_prepare), form))


async def _create(admin: Admin, request: CreateDomainKeysRequest, form: str) -> None:
    async with admin.calls() as calls:
        made = (await calls.execute(methods.CREATE_DOMAIN_KEYS, request)).keys
    _show_records(form, made, "Publish in the DNS:")


@key.command("list")
@click.argument("domain", required=False, default="")
@output_option
@click.pass_obj
def list_keys(admin: Admin, domain: str, form: str) -> None:
    """List the keys of DOMAIN, or of all domains."""
    run(_list(admin, domain, form))


async def _list(admin: Admin, domain: str, form: str) -> None:
    async with admin.calls() as calls:
        found = await _all(calls, domain)
    show(form, COLUMNS, [_described(each) for each in found])


@key.command("show")
@click.argument("domain")
@output_option
@click.pass_obj
def show_keys(admin: Admin, domain: str, form: str) -> None:
    """Show the keys of DOMAIN with the DNS records that must be published."""
    run(_show(admin, domain, form))


async def _show(admin: Admin, domain: str, form: str) -> None:
    async with admin.calls() as calls:
        found = await _all(calls, domain)
    _show_records(form, found, "Records in the DNS:")


@key.command()
@click.argument("domain", required=False, default="")
@click.option(
    "--nameserver",
    "nameservers",
    multiple=True,
    metavar="ADDRESS[:PORT]",
    help="Ask this name server; may be repeated. Default: those of the system.",
)
@output_option
@click.pass_obj
def check(admin: Admin, domain: str, nameservers: tuple[str, ...], form: str) -> None:
    """Compare the DNS records of the keys of DOMAIN, or of all domains, with the keys in the store.

    The exit code is 1 if a record is missing or wrong, or the DNS gives no answer. The record of a key that only waits
    for `activate` must be there, too.
    """
    run(_check(admin, domain, nameservers, form))


async def _check(admin: Admin, domain: str, nameservers: tuple[str, ...], form: str) -> None:
    try:
        from restante_cli.admin import key_check  # dnspython belongs to the gateways' part of the package
    except ImportError:
        raise click.ClickException("this command needs dnspython: install restante[gateways]") from None
    servers = key_check.endpoints(nameservers)
    async with admin.calls() as calls:
        now = datetime.now(UTC)
        keys = [each for each in await _all(calls, domain) if key_check.is_expected(each, now)]
    checked = await key_check.check(keys, servers)
    show(form, CHECK_COLUMNS, [{**_described(each.key), **key_check.described(each)} for each in checked])
    bad = [each.key for each in checked if each.problems]
    if bad and form == "table":
        say("\nThe records as they must be in the DNS:\n")
        for each in bad:
            say(_zone_line(each))
    if bad:
        raise click.ClickException(f"{len(bad)} of {len(checked)} records are not as they must be in the DNS.")


@key.command()
@click.argument("domain")
@output_option
@click.pass_obj
def rotate(admin: Admin, domain: str, form: str) -> None:
    """Prepare a new key for each active key of DOMAIN, and print the DNS records to publish.

    The keys before go on signing until `activate`.
    """
    run(_rotate(admin, domain, form))


async def _rotate(admin: Admin, domain: str, form: str) -> None:
    async with admin.calls() as calls:
        active = [each for each in await _all(calls, domain) if each.state == DomainKeyState.DOMAIN_KEY_STATE_ACTIVE]
        if not active:
            raise click.ClickException(f"{domain} has no active key; `create` makes its first ones")
        keys = [NewDomainKey(algorithm=each.algorithm) for each in active]
        request = CreateDomainKeysRequest(domain=domain, keys=keys, only_prepare=True)
        made = (await calls.execute(methods.CREATE_DOMAIN_KEYS, request)).keys
    _show_records(form, made, f"Publish in the DNS, and then run `restante admin domain key activate {domain}`:")


@key.command()
@click.argument("domain")
@click.argument("selectors", nargs=-1, metavar="[SELECTOR]...")
@click.option(
    "--publish-days",
    type=click.IntRange(1, 90),
    default=14,
    show_default=True,
    help="Days for which the records of the keys before must stay in the DNS.",
)
@output_option
@click.pass_obj
def activate(admin: Admin, domain: str, selectors: tuple[str, ...], publish_days: int, form: str) -> None:
    """Sign the mail of DOMAIN with the keys SELECTOR from now on; default: its latest prepared keys.

    The active keys of the same algorithms are retired. A retired key may be activated again.
    """
    run(
        _activate(admin, ActivateDomainKeysRequest(domain=domain, selectors=selectors, publish_days=publish_days), form)
    )


async def _activate(admin: Admin, request: ActivateDomainKeysRequest, form: str) -> None:
    async with admin.calls() as calls:
        changed = await calls.execute(methods.ACTIVATE_DOMAIN_KEYS, request)
    show(form, COLUMNS, [_described(each) for each in (*changed.activated, *changed.retired)])


@key.command()
@click.argument("domain")
@click.argument("selector")
@output_option
@click.pass_obj
def revoke(admin: Admin, domain: str, selector: str, form: str) -> None:
    """Revoke the key SELECTOR of DOMAIN for good, and print the record that says so in the DNS."""
    run(_revoke(admin, RevokeDomainKeyRequest(domain=domain, selector=selector), form))


async def _revoke(admin: Admin, request: RevokeDomainKeyRequest, form: str) -> None:
    async with admin.calls() as calls:
        revoked = (await calls.execute(methods.REVOKE_DOMAIN_KEY, request)).key
    _show_records(form, [revoked], "Publish in the DNS:")


@key.command()
@click.argument("domain")
@click.argument("selector")
@click.pass_obj
def delete(admin: Admin, domain: str, selector: str) -> None:
    """Delete the key SELECTOR of DOMAIN, which must not be active."""
    run(_delete(admin, DeleteDomainKeyRequest(domain=domain, selector=selector)))
    say(f"The key {selector} of {domain} was deleted.")


async def _delete(admin: Admin, request: DeleteDomainKeyRequest) -> None:
    async with admin.calls() as calls:
        await calls.execute(methods.DELETE_DOMAIN_KEY, request)
