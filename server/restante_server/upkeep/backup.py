"""Backup of a running store (docs/design.md "Backup and upgrade").

    DIRECTORY/manifest.json    format, schema and digests; written last: a backup without it is incomplete
    DIRECTORY/store.db         SQLite: the database, as of one moment
    DIRECTORY/tables/*.copy    PostgreSQL: every table as of one moment, in COPY's binary form
    DIRECTORY/contents/        the contents that are stored in files
    DIRECTORY/incomplete       the owner of a backup that is being written

The database is copied first and the files after it. Collection is paused meanwhile, so every file that the database
copy names still exists. The manifest holds the digests of the database's files, the database those of the contents.

A backup copies the tables that the database has, not those that this program knows. A store that waits for its
migration is backed up unchanged, and the program version that made it can restore it.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, cast

import psycopg
from sqlalchemy import URL, Connection, inspect, make_url

from restante_server.db import migrate
from restante_server.db.engine import open_backend
from restante_server.store.contents import ContentState, Location
from restante_server.upkeep.backup_files import (
    CONTENTS,
    FORMAT,
    MARKER,
    TABLES,
    BackupFailed,
    claim_directory,
    complete,
    copy_statement,
    digest,
    remove_parts,
    sync,
)

SCHEMA = "SELECT version_num FROM alembic_version"
PAGES = 1_024  # of SQLite, copied in one step

Progress = Callable[[int, int], None]
"""Called with the octets written so far, and the known total."""


def write(url: str | URL, contents: Path, target: Path, moment: int, progress: Progress, owner: str = "") -> None:
    """Write a backup of the store at `url` into `target`, which is absent or empty. Blocks.

    `owner` is a unique name of the work that the backup belongs to. Work that was interrupted may begin anew with the
    same name: the part that it has written is removed first. Raises BackupFailed, and what `progress` raises; the
    directory is empty then, unless somebody else has put files there.
    """
    url = make_url(url)
    claim_directory(target, owner)
    try:
        _write(url, contents, target, moment, progress)
    except BaseException:
        remove_parts(target)
        raise


def write_before_migration(url: str | URL, contents: Path, backups: Path, moment: int) -> Path | None:
    """Back up a store that waits for its migration into a fresh directory below `backups`. Returns the directory.

    Returns None, having written nothing, if the next migration changes no existing data: the store does not exist yet,
    is up to date, or will be refused. Blocks. The caller must hold the lock of a SQLite store. On PostgreSQL other
    cores may go on writing: the backup shows one moment before. Raises BackupFailed, having left no part of a backup.
    """
    url = make_url(url)
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists():
        return None
    backend = open_backend(url)
    try:
        with backend.reader() as tx, tx.begin():
            state, found = migrate.state(tx), migrate.current(tx)
    finally:
        backend.close()
    if state is not migrate.SchemaState.BEHIND:
        return None
    made = datetime.fromtimestamp(moment // 1_000_000, UTC)
    target = backups / f"{made:%Y%m%dT%H%M%SZ}-schema-{found}"
    try:
        write(url, contents, target, moment, lambda *_: None)
    except (OSError, sqlite3.Error, psycopg.Error) as problem:
        raise BackupFailed(f"{target}: {getattr(problem, 'strerror', None) or problem}") from problem
    return target


def _write(url: URL, contents: Path, target: Path, moment: int, progress: Progress) -> None:
    copying = _copy_sqlite if url.get_backend_name() == "sqlite" else _copy_tables
    copied = copying(url, target, progress)
    written = [path for path in target.rglob("*") if path.is_file() and path.name != MARKER]
    done = sum(path.stat().st_size for path in written)
    total = done + sum(size for _, size in copied.files)
    for name, size in copied.files:
        place = target / CONTENTS / name
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copyfile(contents / name, place)
        done += size
        progress(done, total)
    whole = [f"tables/{name}.copy" for name in copied.tables] or ["store.db"]
    manifest = {
        "format": FORMAT,
        "database": url.get_backend_name(),
        "schema": copied.schema,
        "made_at": moment,
        "files": len(copied.files),
        "tables": copied.tables,
        "digests": {name: digest(target / name, lambda: progress(done, total)) for name in whole},
    }
    (target / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    for path in (*target.rglob("*"), target):
        progress(done, total)
        sync(path)
    complete(target)


class _Copied(NamedTuple):
    """The contents of a copied database."""

    schema: str | None  # its migration step
    tables: dict[str, list[str]]  # PostgreSQL: the columns of each table, in the order of its file
    files: list[tuple[str, int]]  # name and octets of each content that is stored in a file


def _copy_sqlite(url: URL, target: Path, progress: Progress) -> _Copied:
    with (
        contextlib.closing(sqlite3.connect(f"file:{url.database}?mode=ro", uri=True, isolation_level=None)) as live,
        contextlib.closing(sqlite3.connect(target / "store.db")) as copy,
    ):
        live.execute("BEGIN")  # one snapshot: later commits neither appear nor restart the backup
        live.execute("SELECT count(*) FROM store").fetchone()
        size = live.execute("PRAGMA page_size").fetchone()[0]
        live.backup(
            copy, pages=PAGES, progress=lambda _, left, pages: progress((pages - left) * size, pages * size), sleep=0
        )
        query = "SELECT file_name, size_octets FROM content WHERE place = ? AND state = ?"
        files = copy.execute(query, (int(Location.FILE), int(ContentState.LIVE))).fetchall()
        return _Copied(_schema_of(copy.execute(SCHEMA).fetchone()), {}, files)


def _copy_tables(url: URL, target: Path, progress: Progress) -> _Copied:
    (target / TABLES).mkdir(mode=0o700)
    written = 0
    backend = open_backend(url)
    try:
        with backend.reader() as tx, tx.begin():  # one snapshot
            tx.exec_driver_sql("SET LOCAL statement_timeout = 0")
            live = cast("psycopg.Connection[tuple[Any, ...]]", tx.connection.dbapi_connection)
            tables = _columns_of(tx)
            total = live.execute("SELECT pg_database_size(current_database())").fetchone()
            for name, columns in tables.items():
                copying = copy_statement(name, columns, "TO STDOUT")
                path = target / TABLES / f"{name}.copy"
                with open(path, "wb") as file, live.cursor() as cursor, cursor.copy(copying) as rows:
                    for data in rows:
                        written += file.write(data)
                        progress(written, total[0] if total else written)
            query = "SELECT file_name, size_octets FROM content WHERE place = %s AND state = %s"
            files = list(live.execute(query, (int(Location.FILE), int(ContentState.LIVE))))
            return _Copied(_schema_of(live.execute(SCHEMA).fetchone()), tables, files)
    finally:
        backend.close()


def _columns_of(tx: Connection) -> dict[str, list[str]]:
    """The columns of each table of the database, except for the table of the migration step."""
    inspected = inspect(tx)
    names = sorted(set(inspected.get_table_names()) - {"alembic_version"})
    return {name: [column["name"] for column in inspected.get_columns(name)] for name in names}


def _schema_of(row: tuple[Any, ...] | None) -> str | None:
    return None if row is None else str(row[0])
