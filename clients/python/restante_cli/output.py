"""The output of commands: tables for people, JSON for programs, progress on standard error."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

F = TypeVar("F", bound=Callable[..., Any])

WIDTH_WITHOUT_TERMINAL = 160
PROGRESS_OCTETS = 1 << 20  # smaller transfers show no progress

_ABBREVIATIONS = frozenset(("dkim", "dmarc", "id", "smtputf8", "spf", "tls"))

# A terminal could show a false text for control characters and characters that change the direction of text.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

output_option = click.option(
    "--output",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="Format of the output.",
)


def safe(text: str) -> str:
    """Foreign text without the characters that are unsafe on a terminal."""
    return _UNSAFE.sub("\ufffd", text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """Foreign text as `safe` returns it, on one line."""
    return " ".join(safe(text).split())


def console() -> Console:
    """A console on standard output, as wide as the terminal."""
    return Console(width=None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL, highlight=False)


def say(text: str) -> None:
    """Print one line for people."""
    click.echo(safe(text))


def print_json(value: object) -> None:
    """Print one JSON value, with times in ISO 8601."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2, default=_plain))


def print_json_line(value: object) -> None:
    """Print one JSON value on one line, and flush: for streams of values."""
    click.echo(json.dumps(value, ensure_ascii=False, default=_plain))
    sys.stdout.flush()


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def show(form: str, columns: Sequence[str], rows: Iterable[dict[str, Any]], *, right: Iterable[str] = ()) -> None:
    """Print rows as a table of `columns` (keys, shown by `heading`), or with all keys as JSON."""
    if form == "json":
        print_json(list(rows))
        return
    numbers = set(right)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        justify: Any = "right" if column in numbers else "left"
        table.add_column(heading(column), justify=justify, no_wrap=column in numbers, overflow="ellipsis")
    for row in rows:
        table.add_row(*(Text(cell(row.get(column))) for column in columns))
    console().print(table)


def heading(key: str) -> str:
    """A lower-case key in words for people: "failed_dmarc" is "Failed DMARC"."""
    first, *others = (word.upper() if word in _ABBREVIATIONS else word for word in key.split("_"))
    return " ".join((first[:1].upper() + first[1:], *others))


def cell(value: object) -> str:
    """A value in words for people."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M")
    if isinstance(value, list | tuple):
        return ", ".join(cell(item) for item in value)
    return one_line(str(value))


def size(octets: int) -> str:
    """A size in words for people."""
    amount, units = float(octets), ["B", "kB", "MB", "GB", "TB"]
    while amount >= 1_000 and len(units) > 1:
        amount /= 1_000
        units.pop(0)
    return f"{amount:.0f} {units[0]}" if units[0] == "B" or amount >= 100 else f"{amount:.1f} {units[0]}"


@contextlib.contextmanager
def transfer_progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A function to call with the octets done and in all. Shows a bar on a terminal, for a large transfer."""
    screen = Console(stderr=True)
    if not screen.is_terminal:
        yield lambda done, total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, transient=True) as progress:
        task = progress.add_task(one_line(what), total=None, visible=False)

        def show(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, visible=total >= PROGRESS_OCTETS)

        yield show


@contextlib.contextmanager
def count_progress(what: str, total: int | None = None) -> Iterator[Callable[[int, int | None], None]]:
    """A function to call with the number done and the total. Shows a bar on a terminal."""
    screen = Console(stderr=True)
    if not screen.is_terminal:
        yield lambda done, total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, transient=True) as progress:
        task = progress.add_task(one_line(what), total=total)
        yield lambda done, of: progress.update(task, completed=done, total=of)
