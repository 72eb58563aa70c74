"""`restante admin`: administration of an installation."""

from __future__ import annotations

from pathlib import Path

import click

from restante_cli.admin import (
    accounts,
    aliases,
    domains,
    failed,
    forwarding,
    greylist,
    jobs,
    queue,
    reports,
    store,
    trace,
)
from restante_cli.admin.context import Admin
from restante_cli.main import Commands

__all__ = ["admin"]

GROUP = "restante.admin"


class AdminCommands(Commands):
    """The group of `restante admin`, including commands of the server's part, such as those that open the store."""

    entry_point_group = GROUP


@click.group("admin", cls=AdminCommands)
@click.option(
    "--config", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Configuration file (TOML)."
)
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="The data directory.")
@click.option("--server", metavar="HOST:PORT", default="", help="API of a core on another machine; needs --user.")
@click.option("--server-name", default="", help="Host name in the server's certificate, if it differs from HOST.")
@click.option(
    "--ca",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="PEM file of the certificate authority to trust.",
)
@click.option("--user", metavar="ADDRESS", default="", help="Address of an administrator's account, for --server.")
@click.option(
    "--password-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Read the password of --user from the first line of this file.",
)
@click.pass_context
def admin(
    context: click.Context,
    config: Path | None,
    data: Path | None,
    server: str,
    server_name: str,
    ca: Path | None,
    user: str,
    password_file: Path | None,
) -> None:
    """Domains, accounts, aliases, quotas, the queue, jobs and the store.

    On the core's machine, --data or --config is enough for a user who may read the data directory; default:
    /etc/restante/restante.toml. Exit codes: 0 done, 1 not done (one line on standard error says why), 2 wrong usage.
    """
    context.obj = Admin(config, data, server, server_name, ca, user, password_file)


_COMMANDS: tuple[click.Command, ...] = (
    domains.domain,
    accounts.account,
    aliases.alias,
    accounts.quota,
    queue.queue,
    forwarding.forwarding,
    failed.failed_address,
    greylist.greylist,
    jobs.job_group,
    reports.reports,
    *trace.COMMANDS,
    *store.COMMANDS,
)
for _command in _COMMANDS:
    admin.add_command(_command)
