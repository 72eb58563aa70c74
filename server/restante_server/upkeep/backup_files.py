"""The parts that writing and restoring a backup share: digests, COPY, and a directory that ends complete or empty."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import LiteralString

from psycopg import sql

FORMAT = 2


class BackupFailed(Exception):
    """The backup or restoration cannot be made; the text gives the reason."""


@contextlib.contextmanager
def emptied_on_failure(directory: Path) -> Iterator[None]:
    """Fill an absent or empty directory in the block. A failure of the block empties it again."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for path in directory.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise


def copy_statement(table: str, columns: Iterable[str], direction: LiteralString) -> sql.Composed:
    """COPY of a table in binary form; `direction` is "TO STDOUT" or "FROM STDIN"."""
    names = sql.SQL(", ").join(sql.Identifier(name) for name in columns)
    return sql.SQL("COPY {} ({}) {} (FORMAT binary)").format(sql.Identifier(table), names, sql.SQL(direction))


def digest(path: Path) -> str:
    """The SHA-256 digest of a file in hexadecimal, "" if there is no file."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""


def sync(path: Path) -> None:
    """Make a file or directory durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
