"""The manual page `restante(1)`, generated from the commands' help: `python -m restante_cli.manual FILE`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from restante_cli.main import main as root

HEAD = (
    '.TH RESTANTE 1 "" "Restante" "User Commands"',
    ".SH NAME",
    "restante \\- a mail platform: server, gateways and client",
    ".SH SYNOPSIS",
    ".B restante",
    "COMMAND [OPTIONS] [ARGUMENTS]",
    ".SH COMMANDS",
)
TAIL = (
    ".SH EXIT STATUS",
    "0: success. 1: failure, with the reason on standard error. 2: wrong usage.",
    ".SH FILES",
    ".TP",
    ".I /etc/restante/restante.toml",
    "The configuration, unless \\-\\-config or \\-\\-data names another.",
    "\\fBrestante config\\fR explains every key.",
)


def page() -> str:
    """The page in roff's manual macros, with the commands of the installed parts."""
    context = click.Context(root, info_name="restante")
    return "\n".join([*HEAD, *_commands(root, context), *TAIL]) + "\n"


def _commands(group: click.Group, context: click.Context) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        inner = click.Context(command, info_name=name, parent=context)
        if isinstance(command, click.Group):
            yield from _commands(command, inner)
        else:
            yield from _command(command, inner)


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    usage = " ".join(command.collect_usage_pieces(context))
    yield f".SS {escaped(context.command_path)} {escaped(usage)}"
    for paragraph in (command.help or "").split("\n\n"):
        if text := " ".join(paragraph.replace("\b", "").split()):
            yield escaped(text)
            yield ".PP"
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and record[1] and "--help" not in parameter.opts:
            yield ".TP"
            yield f".B {escaped(record[0])}"
            yield escaped(" ".join(record[1].split()))


def escaped(text: str) -> str:
    """Text that roff shows unchanged: no escape, no request at the beginning of a line, hyphens that can be copied."""
    shown = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{shown}" if shown.startswith((".", "'")) else shown


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
