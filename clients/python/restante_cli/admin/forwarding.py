"""`restante admin forwarding`: mail that aliases send on to other servers."""

from __future__ import annotations

import click

from restante.v1 import methods
from restante.v1.forwarding_pb2 import ReplaceForwardingSecretRequest
from restante_cli.admin.context import Admin
from restante_cli.failures import run
from restante_cli.groups import Group
from restante_cli.output import say


@click.group(cls=Group)
def forwarding() -> None:
    """Mail that aliases send on to other servers, with reverse-paths of their own domains (SRS)."""


@forwarding.command("replace-secret")
@click.option("--revoke-earlier", is_flag=True, help="Refuse reports to the reverse-paths that were written so far.")
@click.pass_obj
def replace_secret(admin: Admin, revoke_earlier: bool) -> None:
    """Replace the secret of rewritten reverse-paths now. The server does so by itself every 30 days.

    Reports to earlier reverse-paths are accepted for 21 days. If somebody else has the secret, revoke them:
    with it, anybody can have reports sent to any address from here.
    """
    run(_replace(admin, ReplaceForwardingSecretRequest(revoke_earlier=revoke_earlier)))


async def _replace(admin: Admin, request: ReplaceForwardingSecretRequest) -> None:
    async with admin.calls() as calls:
        count = (await calls.execute(methods.REPLACE_FORWARDING_SECRET, request)).secret_count
    earlier = "no earlier one proves any" if count == 1 else f"earlier ones that still prove some: {count - 1}"
    say(f"The secret of rewritten reverse-paths was replaced; {earlier}.")
