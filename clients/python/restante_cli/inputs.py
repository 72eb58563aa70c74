"""Passwords and certificates that a command reads."""

from __future__ import annotations

import sys
from pathlib import Path

import click


def read_password(
    prompt: str = "Password", *, from_stdin: bool = False, file: Path | None = None, confirm: bool = False
) -> str:
    """The password: the first line of a file or of standard input, or the answer to a prompt without echo.

    Raises click.ClickException.
    """
    if file is not None:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise click.ClickException(f"the password cannot be read: {error}") from None
    elif from_stdin:
        text = sys.stdin.readline()
    elif sys.stdin.isatty():
        typed: str = click.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True)
        return typed
    else:
        raise click.ClickException("there is no terminal to ask for the password; use --password-stdin or a file")
    password = text.split("\n", 1)[0].removesuffix("\r")
    if not password:
        raise click.ClickException("the password is empty")
    return password


password_stdin_option = click.option(
    "--password-stdin", is_flag=True, help="Read the password from the first line of standard input."
)
password_file_option = click.option(
    "--password-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Read the password from the first line of a file.",
)


def read_certificates(file: Path | None) -> bytes | None:
    """The content of the PEM file given by --ca. Raises click.ClickException."""
    if file is None:
        return None
    try:
        return file.read_bytes()
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from None
