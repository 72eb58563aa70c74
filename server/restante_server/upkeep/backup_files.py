"""The parts that writing and restoring a backup share: digests, COPY, and a directory that ends complete or empty."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import LiteralString

from psycopg import sql

FORMAT = 2
MARKER = "incomplete"  # a file with the name of the directory's owner, until the backup is complete
CONTENTS, TABLES = "contents", "tables"
DIGEST_OCTETS = 1 << 20  # read at once
_ALONE = frozenset({MARKER, "manifest.json", "store.db", "store.db-journal", "store.db-wal", "store.db-shm"})
_CONTENT = re.compile(r"[0-9a-f]{2}/[0-9a-f]{16,64}")
_TABLE = re.compile(r"[a-z_]+\.copy")


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


def new_owner() -> str:
    """A name for the work that a backup belongs to."""
    return secrets.token_hex(16)


def is_in_use(directory: Path) -> bool:
    """Whether there is something else than an absent or empty directory."""
    return directory.is_symlink() or (directory.exists() and (not directory.is_dir() or any(directory.iterdir())))


def claim_directory(directory: Path, owner: str) -> None:
    """Make a directory ready for a backup by `owner`, a unique name, and mark it as incomplete.

    An earlier attempt of the same owner may have left a part of the backup, which is removed. Raises BackupFailed if
    the directory has any other file: nothing is ever removed but the files that a backup writes.
    """
    if is_in_use(directory):
        if not owner or _owner_of(directory) != owner:
            raise BackupFailed(f"{directory} is not empty; name a new or an empty directory")
        remove_parts(directory)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(directory / MARKER, "x") as file:
        file.write(owner)
        file.flush()
        os.fsync(file.fileno())
    sync(directory)


def remove_parts(directory: Path) -> None:
    """Remove the files of an incomplete backup, the marker last. Follows no symbolic link.

    Raises BackupFailed, having removed nothing, if a file in the directory is not one that a backup writes.
    """
    files, folders = _parts(directory)
    for path in files:
        if path.name != MARKER:
            path.unlink()
    for folder in reversed(folders):  # what is inside a folder comes behind it
        folder.rmdir()
    (directory / MARKER).unlink(missing_ok=True)
    sync(directory)


def complete(directory: Path) -> None:
    """Take the mark off a directory whose backup is durable."""
    (directory / MARKER).unlink()
    sync(directory)


def _owner_of(directory: Path) -> str:
    """The owner in the marker, "" when there is none."""
    marker = directory / MARKER
    if directory.is_symlink() or marker.is_symlink() or not marker.is_file():
        return ""
    return marker.read_text(errors="replace")


def _parts(directory: Path) -> tuple[list[Path], list[Path]]:
    """The files and the directories of a backup. Raises BackupFailed if there is any other."""
    files: list[Path] = []
    folders: list[Path] = []
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.is_symlink():
            known = False
        elif path.is_dir():
            known = name in (CONTENTS, TABLES) or re.fullmatch(rf"{CONTENTS}/[0-9a-f]{{2}}", name) is not None
            folders.append(path)
        else:
            above, _, rest = name.partition("/")
            rule = {CONTENTS: _CONTENT, TABLES: _TABLE}.get(above)
            known = rule.fullmatch(rest) is not None if rule is not None and rest else name in _ALONE
            files.append(path)
        if not known:
            raise BackupFailed(f"{path} is not part of a backup: it is left, and so is the incomplete backup beside it")
    return files, folders


def copy_statement(table: str, columns: Iterable[str], direction: LiteralString) -> sql.Composed:
    """COPY of a table in binary form; `direction` is "TO STDOUT" or "FROM STDIN"."""
    names = sql.SQL(", ").join(sql.Identifier(name) for name in columns)
    return sql.SQL("COPY {} ({}) {} (FORMAT binary)").format(sql.Identifier(table), names, sql.SQL(direction))


def digest(path: Path, step: Callable[[], None] = lambda: None) -> str:
    """The SHA-256 digest of a file in hexadecimal, "" if there is no file.

    Calls `step` after each DIGEST_OCTETS, and raises what it raises.
    """
    found = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while octets := file.read(DIGEST_OCTETS):
                found.update(octets)
                step()
    except FileNotFoundError:
        return ""
    return found.hexdigest()


def sync(path: Path) -> None:
    """Make a file or directory durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
