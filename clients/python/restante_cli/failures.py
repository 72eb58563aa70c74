"""The event loop of commands, and one line for each failure. Exit codes: 0 done, 1 not done, 2 wrong usage."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

import click

from restante import errors
from restante.retry import is_temporary
from restante.unreachable import ServerUnreachable
from restante_cli.groups import Failure

T = TypeVar("T")

HINTS: dict[type[errors.RestanteError], str] = {
    errors.StoreBusy: "try again shortly; if it fails again, look for the reason in the core's log",
    errors.DeadlineExceeded: "try again shortly; if it fails again, look for the reason in the core's log",
    errors.SessionExpired: "log in again with `restante mail login`",
    errors.SessionRevoked: "log in again with `restante mail login`",
    errors.InvalidSession: "log in again with `restante mail login`",
}


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine and return its result. Raises click.ClickException, whose exit code is 1."""
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
    """One line with the failure, the reason's name and, where known, a remedy."""
    if isinstance(error, errors.UnknownReason):
        text = " ".join(error.detail.split())
        if isinstance(error, ServerUnreachable):
            return text
        if is_temporary(error):
            return f"The server cannot be reached: {text}"
        return f"{text} [{error.name or error.status_code.name}]"
    hint = HINTS.get(type(error))
    return f"{' '.join(str(error).split())} [{error.reason}]" + (f": {hint}" if hint else "")
