"""Data directories: Restante creates and marks them; one supervisor at a time uses each."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import click

MARKER = ".restante"
LOCK = "up.lock"

Kind = Literal["demo", "installation"]


def kind_of(directory: Path) -> Kind | None:
    """The kind of installation that Restante created in a directory; None when there is none. Raises OSError."""
    try:
        text = (directory / MARKER).read_text(encoding="ascii", errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return "installation" if text == "installation" else "demo"


def claim(directory: Path, kind: Kind) -> bool:
    """Create and mark the directory, and return whether it is new.

    Raises click.ClickException for a directory of the other kind, and for one with other content.
    """
    try:
        found = kind_of(directory)
        if found == kind:
            return False
        if found is not None:
            raise click.ClickException(
                f"{directory} holds {_NAMES[found]}, not {_NAMES[kind]}; nothing was changed there, "
                "name another directory"
            )
        if directory.exists() and any(directory.iterdir()):
            raise click.ClickException(
                f"{directory} is not empty and not a directory of restante; nothing was changed "
                "there, name another directory"
            )
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        marker = directory / MARKER
        marker.touch(mode=0o600)
        marker.write_text(f"{kind}\n", encoding="ascii")
    except OSError as error:
        raise click.ClickException(f"{error.filename or directory}: {error.strerror}") from None
    return True


def require_free(directory: Path) -> None:
    """Check that `claim` would create a new installation. Raises click.ClickException; changes nothing."""
    try:
        found = kind_of(directory)
        if found is not None:
            raise click.ClickException(f"{directory} already holds {_NAMES[found]}; nothing was changed there")
        if directory.exists() and any(directory.iterdir()):
            raise click.ClickException(
                f"{directory} is not empty and not a directory of restante; nothing was changed "
                "there, name another directory"
            )
    except OSError as error:
        raise click.ClickException(f"{error.filename or directory}: {error.strerror}") from None


_NAMES = {"demo": "a demo", "installation": "an installation"}


@contextlib.contextmanager
def supervised(directory: Path) -> Iterator[bool]:
    """Lock the directory for this supervisor; yields whether the last supervisor did not end properly.

    Raises click.ClickException while another supervisor holds the lock.
    """
    try:
        descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise click.ClickException(f"{directory}: {error.strerror}") from None
    try:
        holder = os.read(descriptor, 20).decode("ascii", "replace").strip()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise click.ClickException(f"restante is already running on {directory} (process {holder})") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        try:
            yield bool(holder)
        finally:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)
