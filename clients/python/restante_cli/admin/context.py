"""The connection of `restante admin`: the core's socket on the same machine, or the API as an administrator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from restante.calls import Calls
from restante.client import Client
from restante_cli.connect import admin_link, require_serving
from restante_cli.inputs import read_certificates, read_password
from restante_cli.one_command import for_one_command
from restante_process.options import read_config

TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Admin:
    """The command's context object."""

    config: Path | None = None
    data: Path | None = None
    server: str = ""
    server_name: str = ""
    ca: Path | None = None
    user: str = ""
    password_file: Path | None = None

    @asynccontextmanager
    async def calls(self) -> AsyncIterator[Calls]:
        """Calls with an administrator's rights. Raises click.ClickException."""
        if self.server:
            if not self.user:
                raise click.UsageError("--server needs --user ADDRESS, the account of an administrator.")
            password = read_password(f"Password of {self.user}", file=self.password_file)
            async with (
                Client.connect(
                    self.server,
                    user=self.user,
                    password=password,
                    root_certificates=read_certificates(self.ca),
                    server_name=self.server_name,
                    timeout_seconds=TIMEOUT_SECONDS,
                ) as client,
                for_one_command(client),
            ):
                yield client.calls
            return
        settings = read_config(self.config, self.data, ())
        link = await admin_link(settings)
        try:
            await require_serving(settings, link)
            yield Calls(link, timeout_seconds=TIMEOUT_SECONDS)
        finally:
            await link.close()


def octets(_context: click.Context, _option: click.Parameter, value: str | None) -> int | None:
    """A size such as 500MB, 2GiB or a number of octets; "none" is 0, which the API reads as no limit."""
    return size_octets(value) if value is not None else None


def size_octets(value: str) -> int:
    """The octets of a size such as 500MB or 2GiB, with 0 for "none". Raises click.BadParameter."""
    if value.strip().lower() == "none":
        return 0
    text = value.strip().lower().removesuffix("b")
    factor = 1
    for suffix, size in _SIZES.items():
        if text.endswith(suffix):
            text, factor = text.removesuffix(suffix), size
            break
    try:
        amount = float(text)
    except ValueError:
        amount = -1.0
    if not 0 <= amount * factor < 1 << 62:
        raise click.BadParameter(f"{value!r} is not a size; write one such as 500MB or 2GiB, or none")
    return int(amount * factor)


_SIZES = {
    f"{letter}{binary}": (1024 if binary else 1000) ** power
    for power, letter in enumerate("kmgt", 1)
    for binary in ("i", "")
}
