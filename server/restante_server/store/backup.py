"""Backup of a running store, and its restoration (DESIGN section 5, "Backup and upgrade").

    DIRECTORY/manifest.json    what it is; written last, so that a backup without it is not whole
    DIRECTORY/store.db         SQLite: the database, as of one moment
    DIRECTORY/tables/*.copy    PostgreSQL: every table as of one moment, in COPY's binary form
    DIRECTORY/contents/        the contents that lie in files

The database comes first and the files after it, while the collector rests: every file that the copy names is still
there. Restoring raises the epoch and every UIDVALIDITY, because what came after the backup is gone.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from sqlalchemy import URL, Connection, bindparam, delete, func, make_url, select, update

from restante_server.db import migrate, schema
from restante_server.db.engine import open_backend
from restante_server.db.errors import UnknownSchema
from restante_server.store import check, digests
from restante_server.store.contents import Place, State
from restante_server.transport import check as transport_check

FORMAT = 1
PAGES = 1_024  # of SQLite, copied in one step
SHORT_LIVED = (schema.maildrop_lease, schema.used_exchange, schema.login_failure)  # of no use after a restore

_raise_validities = (
    update(schema.folder)
    .values(uid_validity=schema.folder.c.uid_validity + bindparam("by"))
    .execution_options(across_mailboxes=True)
)
_least_validity = select(func.min(schema.folder.c.uid_validity)).execution_options(across_mailboxes=True)

Told = Callable[[int, int], None]
"""Called with the octets written so far, and those to write as far as is known."""


class BackupFailed(Exception):
    """The backup or restoration cannot be made; the text says why."""


def write(url: str | URL, contents: Path, target: Path, moment: int, told: Told) -> None:
    """Write a backup of the store at `url` into `target`, which is absent or empty. Blocks. Raises BackupFailed."""
    url = make_url(url)
    if target.exists() and any(target.iterdir()):
        raise BackupFailed(f"{target} is not empty")
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    if url.get_backend_name() == "sqlite":
        names = _copy_sqlite(Path(str(url.database)), target / "store.db", told)
    else:
        names = _copy_tables(url, target / "tables", told)
    done = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    total = done + sum(size for _, size in names)
    for name, size in names:
        place = target / "contents" / name
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copyfile(contents / name, place)
        done += size
        told(done, total)
    manifest = {
        "format": FORMAT,
        "database": url.get_backend_name(),
        "schema": migrate.expected(),
        "made_at": moment,
        "files": len(names),
    }
    (target / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    for path in (*target.rglob("*"), target):
        _sync(path)


def _copy_sqlite(source: Path, target: Path, told: Told) -> list[tuple[str, int]]:
    with sqlite3.connect(f"file:{source}?mode=ro", uri=True, isolation_level=None) as live:
        live.execute("BEGIN")  # one snapshot: later commits neither appear nor make it begin again
        live.execute("SELECT count(*) FROM store").fetchone()
        size = live.execute("PRAGMA page_size").fetchone()[0]
        copy = sqlite3.connect(target)
        try:
            live.backup(
                copy, pages=PAGES, progress=lambda _, left, pages: told((pages - left) * size, pages * size), sleep=0
            )
            query = "SELECT file_name, size_octets FROM content WHERE place = ? AND state = ?"
            return [(name, octets) for name, octets in copy.execute(query, (int(Place.FILE), int(State.LIVE)))]
        finally:
            copy.close()


def _copy_tables(url: URL, target: Path, told: Told) -> list[tuple[str, int]]:
    target.mkdir(mode=0o700)
    written = 0
    with psycopg.connect(_address(url)) as live:
        live.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        total = live.execute("SELECT pg_database_size(current_database())").fetchone()
        for table in schema.metadata.sorted_tables:
            copying = _copy(table.name, [column.name for column in table.columns], "TO STDOUT")
            path = target / f"{table.name}.copy"
            with open(path, "wb") as file, live.cursor() as cursor, cursor.copy(copying) as rows:
                for data in rows:
                    written += file.write(data)
                    told(written, total[0] if total else written)
        query = "SELECT file_name, size_octets FROM content WHERE place = %s AND state = %s"
        return [(name, size) for name, size in live.execute(query, (int(Place.FILE), int(State.LIVE)))]


def restore(source: Path, url: str | URL, contents: Path) -> list[str]:
    """Bring a backup back into a store that is not there yet; returns what `check` finds wrong with it. Blocks.

    Raises BackupFailed when the backup is not whole, of another kind of database or schema, or the store is not empty.
    """
    url = make_url(url)
    try:
        manifest = json.loads((source / "manifest.json").read_text())
    except (OSError, ValueError):
        raise BackupFailed(f"{source} holds no whole backup: its manifest cannot be read") from None
    if manifest.get("format") != FORMAT or manifest.get("database") != url.get_backend_name():
        raise BackupFailed(f"{source} is a backup of {manifest.get('database')} in format {manifest.get('format')}")
    if manifest.get("schema") != migrate.expected():
        raise BackupFailed(f"{source} has schema {manifest.get('schema')}; this program has {migrate.expected()}")
    if contents.exists() and any(contents.iterdir()):
        raise BackupFailed(f"{contents} is not empty")
    if url.get_backend_name() == "sqlite":
        _place_sqlite(source / "store.db", Path(str(url.database)))
    else:
        _fill_tables(url, source / "tables")
    contents.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (source / "contents").exists():
        shutil.copytree(source / "contents", contents, dirs_exist_ok=True)
    backend = open_backend(url)
    try:
        with backend.writer() as tx:
            with tx.begin():
                begin_again(tx)
            return findings(tx, contents)
    finally:
        backend.close()


def begin_again(tx: Connection) -> None:
    """Raise the epoch and every UIDVALIDITY, and forget what was for the moment only."""
    tx.execute(update(schema.store).values(epoch=schema.store.c.epoch + 1))
    # Every one rises above all that were ever given, and no two become equal.
    given = tx.execute(select(schema.store.c.uid_validity_next)).scalar_one() - 1
    by = given + 1 - (tx.execute(_least_validity).scalar() or 1)
    tx.execute(_raise_validities, {"by": by})
    tx.execute(update(schema.store).values(uid_validity_next=given + by + 1))
    for table in SHORT_LIVED:
        tx.execute(delete(table).execution_options(across_mailboxes=True))


def findings(tx: Connection, contents: Path) -> list[str]:
    """Everything that is wrong with a store, digests included."""
    found = check.check(tx) + transport_check.check(tx)
    last: int | None = 0
    while last is not None:
        last, wrong = digests.compare(tx, contents, last, 500)
        found += wrong
    return found


def _place_sqlite(source: Path, target: Path) -> None:
    if target.exists():
        raise BackupFailed(f"{target} is there already")
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    _sync(target)


def _fill_tables(url: URL, source: Path) -> None:
    try:
        migrate.upgrade(url)
    except UnknownSchema as problem:
        raise BackupFailed(str(problem)) from None
    with psycopg.connect(_address(url)) as live:
        for table in schema.metadata.sorted_tables:
            query = sql.SQL("SELECT 1 FROM {} LIMIT 1").format(sql.Identifier(table.name))
            if live.execute(query).fetchone():
                raise BackupFailed("the database is not empty")
        for table in schema.metadata.sorted_tables:
            copying = _copy(table.name, [column.name for column in table.columns], "FROM STDIN")
            path = source / f"{table.name}.copy"
            with open(path, "rb") as file, live.cursor() as cursor, cursor.copy(copying) as rows:
                while data := file.read(1 << 20):
                    rows.write(data)
            for column in table.primary_key.columns:
                _follow(live, table.name, column.name)


def _follow(live: psycopg.Connection[Any], table: str, column: str) -> None:
    """A counter behind a column goes on where the rows end."""
    found = live.execute("SELECT pg_get_serial_sequence(%s, %s)", (table, column)).fetchone()
    if found and found[0]:
        highest = sql.SQL("SELECT setval({}, GREATEST((SELECT max({}) FROM {}), 1))")
        live.execute(highest.format(sql.Literal(found[0]), sql.Identifier(column), sql.Identifier(table)))


def _copy(table: str, columns: Iterable[str], direction: LiteralString) -> sql.Composed:
    names = sql.SQL(", ").join(sql.Identifier(name) for name in columns)
    return sql.SQL("COPY {} ({}) {} (FORMAT binary)").format(sql.Identifier(table), names, sql.SQL(direction))


def _address(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
