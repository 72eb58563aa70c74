"""Options common to many commands."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from restante_process import config, config_file

F = TypeVar("F", bound=Callable[..., Any])

READ = "restante.read_config"  # in the context of a command
CONFIG_FILE = Path("/etc/restante/restante.toml")


def reading() -> Callable[[], config.Config]:
    """A function that reads the running command's configuration again. It raises click.ClickException."""
    read: Callable[[], config.Config] = click.get_current_context().meta[READ]
    return read


def read_config(file: Path | None, data: Path | None, keys: tuple[str, ...]) -> config.Config:
    """The configuration of a given file, of the data directory or of the system; then environment and flags.

    Raises click.ClickException.
    """
    flags: dict[str, Any] = {}
    if data is not None:
        flags["data"] = str(data.absolute())
        if file is None and (data / "restante.toml").exists():
            file = data / "restante.toml"
    if file is None and data is None and CONFIG_FILE.exists():
        file = CONFIG_FILE
    for text in keys:
        key, equals, value = text.partition("=")
        if not equals:
            raise click.BadParameter(f"{text!r} is not of the form KEY=VALUE", param_hint="--set")
        flags[key.strip()] = config_file.from_text(value.strip())
    try:
        return config_file.load(file, flags=flags)
    except config.ConfigError as error:
        raise click.ClickException(str(error)) from None


def configured(command: F) -> F:
    """Add the options --config, --data and --set to a command, and pass the configuration as its argument `config`."""

    @click.option(
        "--config",
        "file",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="Configuration file (TOML).",
    )
    @click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="The data directory.")
    @click.option(
        "--set",
        "keys",
        multiple=True,
        metavar="KEY=VALUE",
        help="Set one key, such as core.api_port=0; may be repeated.",
    )
    @functools.wraps(command)
    def wrapper(file: Path | None, data: Path | None, keys: tuple[str, ...], **others: Any) -> Any:
        read = functools.partial(read_config, file, data, keys)
        click.get_current_context().meta[READ] = read
        return command(config=read(), **others)

    return wrapper  # type: ignore[return-value]
