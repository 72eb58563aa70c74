"""Backup of a running store, and its restoration (docs/design.md "Backup and upgrade").

    DIRECTORY/manifest.json    what it is; written last, so that a backup without it is not whole
    DIRECTORY/store.db         SQLite: the database, as of one moment
    DIRECTORY/tables/*.copy    PostgreSQL: every table as of one moment, in COPY's binary form
    DIRECTORY/contents/        the contents that lie in files

The database comes first and the files after it, while the collector rests: every file that the copy names is still
there. The manifest has the digests of the database's files; each content has its own in the database. Restoring raises
the epoch and every UIDVALIDITY, because what came after the backup is gone.

What is copied is what the database has, not what this program would have made: a store that waits for its migration is
backed up as it is, and the program that it was made by restores it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, LiteralString, NamedTuple, cast

import psycopg
from psycopg import sql
from sqlalchemy import URL, Connection, bindparam, delete, func, inspect, make_url, select, update

from restante_server.db import migrate, schema
from restante_server.db.backend import Backend
from restante_server.db.engine import open_backend
from restante_server.db.errors import UnknownSchema
from restante_server.store import check, garbage
from restante_server.store.contents import Place, State
from restante_server.transport import check as transport_check
from restante_server.upkeep import digests

FORMAT = 2
SCHEMA = "SELECT version_num FROM alembic_version"
SKIPPED = 1 << 16  # ids and UIDVALIDITYs that the store may have given out after the backup
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
    with _emptied_on_failure(target):
        _write(url, contents, target, moment, told)


def write_before_migration(url: str | URL, contents: Path, backups: Path, moment: int) -> Path | None:
    """A backup of a store that waits for its migration, in a fresh directory below `backups`, which is returned.

    None, and nothing is written, where the next migration changes nothing that exists: a store that is not there yet,
    one that is up to date, and one that will be refused. Blocks; SQLite's store must be locked by the caller. On
    PostgreSQL, where other cores may go on, it is the store of one moment before. Raises BackupFailed, having left no
    part of a backup.
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


def _write(url: URL, contents: Path, target: Path, moment: int, told: Told) -> None:
    copying = _copy_sqlite if url.get_backend_name() == "sqlite" else _copy_tables
    copied = copying(url, target, told)
    done = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    total = done + sum(size for _, size in copied.files)
    for name, size in copied.files:
        place = target / "contents" / name
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copyfile(contents / name, place)
        done += size
        told(done, total)
    whole = [f"tables/{name}.copy" for name in copied.tables] or ["store.db"]
    manifest = {
        "format": FORMAT,
        "database": url.get_backend_name(),
        "schema": copied.schema,
        "made_at": moment,
        "files": len(copied.files),
        "tables": copied.tables,
        "digests": {name: _digest(target / name) for name in whole},
    }
    (target / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    for path in (*target.rglob("*"), target):
        _sync(path)


class _Copied(NamedTuple):
    """What a copied database holds."""

    schema: str | None  # the step that its schema is at
    tables: dict[str, list[str]]  # PostgreSQL: the columns of each table, in the order of its file
    files: list[tuple[str, int]]  # name and octets of each content that lies in a file


@contextlib.contextmanager
def _emptied_on_failure(directory: Path) -> Iterator[None]:
    """A directory that was absent or empty, and is empty again when its filling fails."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for path in directory.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise


def _copy_sqlite(url: URL, target: Path, told: Told) -> _Copied:
    with (
        contextlib.closing(sqlite3.connect(f"file:{url.database}?mode=ro", uri=True, isolation_level=None)) as live,
        contextlib.closing(sqlite3.connect(target / "store.db")) as copy,
    ):
        live.execute("BEGIN")  # one snapshot: later commits neither appear nor make it begin again
        live.execute("SELECT count(*) FROM store").fetchone()
        size = live.execute("PRAGMA page_size").fetchone()[0]
        live.backup(
            copy, pages=PAGES, progress=lambda _, left, pages: told((pages - left) * size, pages * size), sleep=0
        )
        query = "SELECT file_name, size_octets FROM content WHERE place = ? AND state = ?"
        files = copy.execute(query, (int(Place.FILE), int(State.LIVE))).fetchall()
        return _Copied(_schema_of(copy.execute(SCHEMA).fetchone()), {}, files)


def _copy_tables(url: URL, target: Path, told: Told) -> _Copied:
    (target / "tables").mkdir(mode=0o700)
    written = 0
    backend = open_backend(url)
    try:
        with backend.reader() as tx, tx.begin():  # one snapshot
            tx.exec_driver_sql("SET LOCAL statement_timeout = 0")
            live = cast("psycopg.Connection[tuple[Any, ...]]", tx.connection.dbapi_connection)
            tables = _columns_of(tx)
            total = live.execute("SELECT pg_database_size(current_database())").fetchone()
            for name, columns in tables.items():
                copying = _copy(name, columns, "TO STDOUT")
                path = target / "tables" / f"{name}.copy"
                with open(path, "wb") as file, live.cursor() as cursor, cursor.copy(copying) as rows:
                    for data in rows:
                        written += file.write(data)
                        told(written, total[0] if total else written)
            query = "SELECT file_name, size_octets FROM content WHERE place = %s AND state = %s"
            files = list(live.execute(query, (int(Place.FILE), int(State.LIVE))))
            return _Copied(_schema_of(live.execute(SCHEMA).fetchone()), tables, files)
    finally:
        backend.close()


def _columns_of(tx: Connection) -> dict[str, list[str]]:
    """The columns of each table that the database has, but for the one that says where its schema stands."""
    inspected = inspect(tx)
    names = sorted(set(inspected.get_table_names()) - {"alembic_version"})
    return {name: [column["name"] for column in inspected.get_columns(name)] for name in names}


def _schema_of(row: tuple[Any, ...] | None) -> str | None:
    return None if row is None else str(row[0])


def restore(source: Path, url: str | URL, contents: Path) -> list[str]:
    """Bring a backup back into a store that is not there yet; returns what `check` finds wrong with it. Blocks.

    Raises BackupFailed when the backup is not whole, of another kind of database or schema, or the store is not empty.
    """
    url = make_url(url)
    manifest = require_fitting(source, url)
    for name, digest in manifest["digests"].items():
        if _digest(source / name) != digest:
            raise BackupFailed(f"{source / name} is damaged")
    if contents.exists() and any(contents.iterdir()):
        raise BackupFailed(f"{contents} is not empty")
    restoring = _place_sqlite if url.get_backend_name() == "sqlite" else _fill_tables
    with restoring(url, source) as (backend, tx), _emptied_on_failure(contents):
        if (source / "contents").exists():
            shutil.copytree(source / "contents", contents, dirs_exist_ok=True)
        with tx.begin():
            if backend.locks_rows:
                _load_tables(tx, source / "tables", manifest["tables"])
            begin_again(tx)
        return findings(tx, contents)


def require_fitting(source: Path, url: str | URL) -> dict[str, Any]:
    """The manifest of a backup that this program can bring back into a store of this kind. Raises BackupFailed."""
    try:
        manifest: dict[str, Any] = json.loads((source / "manifest.json").read_text())
    except (OSError, ValueError):
        raise BackupFailed(f"{source} holds no whole backup: its manifest cannot be read") from None
    if manifest.get("format") != FORMAT:
        raise BackupFailed(f"{source} is a backup in format {manifest.get('format')}, which this program cannot read")
    made_of, wanted = manifest.get("database"), make_url(url).get_backend_name()
    if made_of != wanted:
        raise BackupFailed(
            f"{source} is a backup of a {made_of} store, and store.url names a {wanted} one: "
            f"restore it with a store.url of {made_of}; a backup never changes the kind of database"
        )
    if manifest.get("schema") != migrate.expected():
        raise BackupFailed(
            f"{source} has schema {manifest.get('schema')}; this program has {migrate.expected()}: "
            "restore with the program that made the store, then upgrade"
        )
    return manifest


def begin_again(tx: Connection) -> None:
    """Raise the epoch, every UIDVALIDITY and the ids to come, and forget what was for the moment only.

    The store went on after the backup was made, so what it gave out then must not be given again: the counters skip.
    """
    tx.execute(update(schema.store).values(epoch=schema.store.c.epoch + 1))
    # Every one rises above all that were ever given, and no two become equal.
    given = tx.execute(select(schema.store.c.uid_validity_next)).scalar_one() - 1 + SKIPPED
    by = given + 1 - (tx.execute(_least_validity).scalar() or 1)
    tx.execute(_raise_validities, {"by": by})
    tx.execute(update(schema.store).values(uid_validity_next=given + by + 1))
    for table in SHORT_LIVED:
        tx.execute(delete(table).execution_options(across_mailboxes=True))
    tx.execute(delete(schema.content_pin).where(schema.content_pin.c.content_id == garbage.EVERYTHING))
    if tx.dialect.name == "sqlite":
        tx.exec_driver_sql("UPDATE sqlite_sequence SET seq = seq + ?", (SKIPPED,))
    else:
        for table in schema.metadata.sorted_tables:
            for column in table.primary_key.columns:
                _skip(tx, table.name, column.name)


def findings(tx: Connection, contents: Path) -> list[str]:
    """Everything that is wrong with a store, digests included."""
    found = check.check(tx) + transport_check.check(tx)
    last: int | None = 0
    while last is not None:
        last, wrong = digests.compare(tx, contents, last, 500)
        found += wrong
    return found


@contextlib.contextmanager
def _place_sqlite(url: URL, source: Path) -> Iterator[tuple[Backend, Connection]]:
    """The copied database beside its place, to which it comes when all is done: until then there is no store."""
    target = Path(str(url.database))
    beside = target.with_name(target.name + ".restoring")
    if target.exists():
        raise BackupFailed(f"{target} is there already")
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside.unlink(missing_ok=True)
    shutil.copyfile(source / "store.db", beside)
    backend = open_backend(url.set(database=str(beside)))
    try:
        with backend.writer() as tx:
            yield backend, tx
    except BaseException:
        backend.close()
        for suffix in ("", "-wal", "-shm"):
            beside.with_name(beside.name + suffix).unlink(missing_ok=True)
        raise
    backend.close()
    _sync(beside)
    beside.rename(target)
    _sync(target.parent)


@contextlib.contextmanager
def _fill_tables(url: URL, _source: Path) -> Iterator[tuple[Backend, Connection]]:
    """An empty database with the schema; its rows come in the transaction that begins again."""
    try:
        migrate.upgrade(url)
    except UnknownSchema as problem:
        raise BackupFailed(str(problem)) from None
    backend = open_backend(url)
    try:
        with backend.writer() as tx:
            yield backend, tx
    finally:
        backend.close()


def _load_tables(tx: Connection, source: Path, columns: dict[str, list[str]]) -> None:
    tx.exec_driver_sql("SET LOCAL statement_timeout = 0")
    driver = cast("psycopg.Connection[Any]", tx.connection.dbapi_connection)
    for table in schema.metadata.sorted_tables:
        query = sql.SQL("SELECT 1 FROM {} LIMIT 1").format(sql.Identifier(table.name))
        if driver.execute(query).fetchone():
            raise BackupFailed("the database is not empty")
    for table in schema.metadata.sorted_tables:
        copying = _copy(table.name, columns[table.name], "FROM STDIN")
        with (
            open(source / f"{table.name}.copy", "rb") as file,
            driver.cursor() as cursor,
            cursor.copy(copying) as rows,
        ):
            while data := file.read(1 << 20):
                rows.write(data)


def _skip(tx: Connection, table: str, column: str) -> None:
    """A counter of PostgreSQL behind a column goes on well behind where the rows end."""
    driver = cast("psycopg.Connection[Any]", tx.connection.dbapi_connection)
    found = driver.execute("SELECT pg_get_serial_sequence(%s, %s)", (table, column)).fetchone()
    if found and found[0]:
        highest = sql.SQL("SELECT setval({}, COALESCE((SELECT max({}) FROM {}), 0) + {})")
        names = (sql.Literal(found[0]), sql.Identifier(column), sql.Identifier(table), sql.Literal(SKIPPED))
        driver.execute(highest.format(*names))


def _copy(table: str, columns: Iterable[str], direction: LiteralString) -> sql.Composed:
    names = sql.SQL(", ").join(sql.Identifier(name) for name in columns)
    return sql.SQL("COPY {} ({}) {} (FORMAT binary)").format(sql.Identifier(table), names, sql.SQL(direction))


def _address(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def _digest(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
