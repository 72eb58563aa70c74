"""The connection of the administrator's tools to the core on the same machine."""

from __future__ import annotations

import click

from restante.link import CoreLink
from restante.target import ProcessIdentity, Target
from restante_process.config import Config


def core_socket(settings: Config) -> str:
    """The address of the core's socket. Raises click.ClickException when the directory cannot be read."""
    elsewhere = settings.directory / "core.address"
    try:
        path = elsewhere.read_text().strip() if elsewhere.exists() else (settings.directory / "core.sock").absolute()
    except OSError as error:
        raise unreadable(settings, error) from None
    return f"unix:{path}"


async def admin_link(settings: Config) -> CoreLink:
    """A link with the administrator's identity. Raises click.ClickException when its secret cannot be read."""
    try:
        secret = (settings.directory / "secrets" / "admin.secret").read_text().strip()
    except OSError as error:
        raise unreadable(settings, error) from None
    return await CoreLink.connect(Target(core_socket(settings), ProcessIdentity("admin", secret)))


def unreadable(settings: Config, error: OSError) -> click.ClickException:
    """The failure for a data directory, or a file in it, that cannot be read."""
    directory = settings.directory
    if isinstance(error, PermissionError):
        return click.ClickException(
            f"{error.filename or directory} cannot be read. Run this as the user that owns {directory}."
        )
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return click.ClickException(
            f"the installation in {directory} does not exist or has never run. Name another by --data or --config, "
            "make one with `restante init`, or start it with `restante up`."
        )
    return click.ClickException(f"{error.filename or directory}: {error.strerror or error}")


async def require_serving(settings: Config, link: CoreLink) -> None:
    """Check that the core is ready. Raises click.ClickException with a remedy, without waiting, when it is not."""
    problem = await link.why_not_serving()
    if not problem:
        return
    hint = f"Start it with `restante up --data {settings.directory}`, or as its service"
    if "cannot be reached" not in problem:
        hint = "Look for the reason in its log"
        if settings.health.core > 0:
            hint += f", and so does http://{settings.health.host}:{settings.health.core}/readyz"
    raise click.ClickException(f"{problem}. {hint}.")
