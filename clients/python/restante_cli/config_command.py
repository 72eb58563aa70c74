"""`restante config`: print every key with its default, or check a configuration file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from restante_cli import config_keys
from restante_cli.output import output_option, print_json, say
from restante_process import config, config_file


def _warnings(settings: config.Config) -> list[str]:
    """Warnings about a valid configuration: certificates that cannot be read, that expire soon or have expired."""
    from restante_process.certificates import expiry  # its dependencies belong to the server's part of the package

    found = []
    for each in settings.tls.certificates:
        try:
            warning = expiry(Path(each.certificate)).warning(datetime.now(UTC))
        except (OSError, ValueError) as error:
            warning = f"the certificate {each.certificate} cannot be read: {error}"
        found += [warning] if warning else []
    return found


@click.command("config")
@click.option(
    "--check",
    "file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Check this configuration file instead, and print errors and warnings.",
)
@output_option
def config_command(file: Path | None, form: str) -> None:
    """Print every key of restante.toml with its default and purpose.

    A key can also be set by the environment, as RESTANTE_SECTION__KEY, and by the option --set SECTION.KEY=VALUE.
    """
    if file is not None:
        try:
            problems = _warnings(config_file.load(file))
        except config.ConfigError as error:
            raise click.ClickException(str(error)) from None
        for problem in problems:
            click.echo(f"Warning: {problem}", err=True)
        say(f"{file} is valid{', with warnings' if problems else ''}.")
    elif form == "json":
        print_json(
            [
                {"key": key.path, "kind": key.kind, "default": key.default, "about": key.about}
                for key in config_keys.all_keys()
            ]
        )
    else:
        click.echo("\n".join(config_keys.document()))
