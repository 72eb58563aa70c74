"""Where the core of an installation is, for the administrator's tools on the same machine."""

from __future__ import annotations

import click

from restante.config import Config
from restante.link import CoreLink
from restante.target import ProcessIdentity, Target


def core_socket(settings: Config) -> str:
    """The address of the core's socket."""
    elsewhere = settings.directory / "core.address"
    path = elsewhere.read_text().strip() if elsewhere.exists() else (settings.directory / "core.sock").absolute()
    return f"unix:{path}"


async def admin_link(settings: Config) -> CoreLink:
    """A link with the administrator's identity. Raises click.ClickException when its secret cannot be read."""
    try:
        secret = (settings.directory / "secrets" / "admin.secret").read_text().strip()
    except OSError as error:
        raise click.ClickException(f"the administrator's secret cannot be read: {error}") from None
    return await CoreLink.connect(Target(core_socket(settings), ProcessIdentity("admin", secret)))
