"""Groups of commands that suggest a name for a mistyped one, and failures as JSON with `--output json`."""

from __future__ import annotations

import difflib
import itertools
import json
from collections.abc import Sequence
from typing import Any

import click


class Failure(click.ClickException):
    """A failure with the name of its reason in `restante.errors`, or "" for a failure of the command line."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class Group(click.Group):
    """A group that suggests the nearest command for an unknown name."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """See click.Group."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), 1)
            if near and "did you mean" not in error.message.lower():
                raise click.UsageError(f"{error.message.rstrip('.')}; did you mean {near[0]!r}?", ctx) from None
            raise


class Root(Group):
    """The outermost group. It shows failures as JSON with `--output json`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See click.Command."""
        ctx.meta[_JSON] = wants_json(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """See click.Command."""
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            if ctx.meta[_JSON]:
                _show_json(error)
                ctx.exit(error.exit_code)
            raise


_JSON = "restante.json"


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for JSON."""
    return "--output=json" in arguments or any(pair == ("--output", "json") for pair in itertools.pairwise(arguments))


def _show_json(failure: click.ClickException) -> None:
    """A failure as one JSON value on standard error."""
    reason = failure.reason if isinstance(failure, Failure) else ""
    told = {"message": failure.format_message(), "reason": reason or None, "exit_code": failure.exit_code}
    click.echo(json.dumps({"error": told}, ensure_ascii=False), err=True)
