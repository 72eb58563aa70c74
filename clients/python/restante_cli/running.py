"""How commands run: on an event loop, every failure one clear line. Exit codes: 0 done, 1 not done, 2 wrong usage."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click

from restante import errors
from restante.retry import is_temporary
from restante.unreachable import ServerUnreachable
from restante_cli.groups import Failure

T = TypeVar("T")

HINTS: dict[type[errors.RestanteError], str] = {
    errors.StoreBusy: "try again shortly; when it stays so, the core's log says why",
    errors.DeadlineExceeded: "try again shortly; when it stays so, the core's log says why",
    errors.SessionExpired: "log in again with `restante mail login`",
    errors.SessionRevoked: "log in again with `restante mail login`",
    errors.InvalidSession: "log in again with `restante mail login`",
}


def run(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine. Raises click.ClickException, whose exit code is 1."""
    logging.getLogger("restante").setLevel(logging.CRITICAL)
    try:
        return asyncio.run(work)
    except errors.RestanteError as error:
        raise Failure(described(error), error.reason) from None
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        raise click.ClickException(f"{name}{error.strerror or error}") from None
    except ValueError as error:
        raise click.ClickException(str(error)) from None


def described(error: errors.RestanteError) -> str:
    """One line: what went wrong, the reason's name, and what to do about it where that is known."""
    if isinstance(error, errors.UnknownReason):
        text = " ".join(error.detail.split())
        if isinstance(error, ServerUnreachable):
            return text
        if is_temporary(error):
            return f"The server cannot be reached: {text}"
        return f"{text} [{error.name or error.status_code.name}]"
    hint = HINTS.get(type(error))
    return f"{' '.join(error.detail.split())} [{error.reason}]" + (f": {hint}" if hint else "")


def read_password(
    prompt: str = "Password", *, from_stdin: bool = False, file: Path | None = None, confirm: bool = False
) -> str:
    """A password from a file or standard input (its first line), or typed unseen. Raises click.ClickException."""
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
        raise click.ClickException("there is no terminal to ask for the password: use --password-stdin or a file")
    password = text.split("\n", 1)[0].removesuffix("\r")
    if not password:
        raise click.ClickException("the password is empty")
    return password


password_stdin_option = click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input's first line."
)
password_file_option = click.option(
    "--password-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Read the password from a file's first line.",
)


def read_certificates(file: Path | None) -> bytes | None:
    """The PEM file that --ca names. Raises click.ClickException."""
    if file is None:
        return None
    try:
        return file.read_bytes()
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from None
