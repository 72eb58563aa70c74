"""Restoration of a backup into a new store (docs/design.md "Backup and upgrade").

Restoration raises the epoch and every UIDVALIDITY: changes after the backup are lost, and clients must not take the
restored mail for the mail that they know.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import psycopg
from psycopg import sql
from sqlalchemy import URL, Connection, bindparam, delete, func, make_url, select, update

from restante_server.db import migrate, schema
from restante_server.db.backend import Backend
from restante_server.db.engine import open_backend
from restante_server.db.errors import UnknownSchema
from restante_server.upkeep import check, collector
from restante_server.upkeep.backup_files import FORMAT, BackupFailed, copy_statement, digest, emptied_on_failure, sync
from restante_server.upkeep.jobs import leases

SKIPPED = 1 << 16  # ids and UIDVALIDITYs that the old store may have assigned after the backup
SHORT_LIVED = (schema.maildrop_lease, schema.used_exchange, schema.login_failure)  # useless after a restore

_raise_validities = (
    update(schema.folder)
    .values(uid_validity=schema.folder.c.uid_validity + bindparam("by"))
    .execution_options(across_mailboxes=True)
)
_least_validity = select(func.min(schema.folder.c.uid_validity)).execution_options(across_mailboxes=True)


def restore(source: Path, url: str | URL, contents: Path) -> list[str]:
    """Restore a backup into a new store; returns the findings of `check`. Blocks.

    Raises BackupFailed if the backup is incomplete, has another kind of database or schema, or the store is not empty.
    """
    url = make_url(url)
    manifest = require_fitting(source, url)
    for name, expected in manifest["digests"].items():
        if digest(source / name) != expected:
            raise BackupFailed(f"{source / name} is damaged: its size or digest is not that of the manifest")
    if contents.exists() and any(contents.iterdir()):
        raise BackupFailed(f"{contents} is not empty; empty it, or name another store.contents")
    restoring = _place_sqlite if url.get_backend_name() == "sqlite" else _fill_tables
    with restoring(url, source) as (backend, tx), emptied_on_failure(contents):
        if (source / "contents").exists():
            shutil.copytree(source / "contents", contents, dirs_exist_ok=True)
            for path in (*contents.rglob("*"), contents):
                sync(path)
        with tx.begin():
            if backend.locks_rows:
                _load_tables(tx, source / "tables", manifest["tables"])
            begin_again(tx)
        return check.findings(tx, contents)


def require_fitting(source: Path, url: str | URL) -> dict[str, Any]:
    """The manifest of a backup. Raises BackupFailed if this program cannot restore it into a store of this kind."""
    try:
        manifest: dict[str, Any] = json.loads((source / "manifest.json").read_text())
    except (OSError, ValueError):
        raise BackupFailed(f"{source} is not a complete backup: its manifest cannot be read") from None
    if manifest.get("format") != FORMAT:
        raise BackupFailed(f"{source} is a backup in format {manifest.get('format')}, which this version cannot read")
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
    """Raise the epoch, every UIDVALIDITY and the next ids, and delete short-lived rows.

    The old store went on after the backup and assigned further numbers. The counters skip SKIPPED numbers, so that none
    is assigned again.
    """
    tx.execute(update(schema.store).values(epoch=schema.store.c.epoch + 1))
    # Every UIDVALIDITY rises above all that were ever assigned, by the same amount, so that all stay distinct.
    given = tx.execute(select(schema.store.c.uid_validity_next)).scalar_one() - 1 + SKIPPED
    by = given + 1 - (tx.execute(_least_validity).scalar() or 1)
    tx.execute(_raise_validities, {"by": by})
    tx.execute(update(schema.store).values(uid_validity_next=given + by + 1))
    for table in SHORT_LIVED:
        tx.execute(delete(table).execution_options(across_mailboxes=True))
    tx.execute(delete(schema.content_pin).where(schema.content_pin.c.content_id == collector.EVERYTHING))
    leases.begin_again(tx)
    if tx.dialect.name == "sqlite":
        tx.exec_driver_sql("UPDATE sqlite_sequence SET seq = seq + ?", (SKIPPED,))
    else:
        for table in schema.metadata.sorted_tables:
            for column in table.primary_key.columns:
                _skip(tx, table.name, column.name)


@contextlib.contextmanager
def _place_sqlite(url: URL, source: Path) -> Iterator[tuple[Backend, Connection]]:
    """Restore the database under a temporary name and rename it after the block: until then there is no store."""
    target = Path(str(url.database))
    beside = target.with_name(target.name + ".restoring")
    if target.exists():
        raise BackupFailed(f"{target} already exists; restore into a new store")
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
    sync(beside)
    beside.rename(target)
    sync(target.parent)


@contextlib.contextmanager
def _fill_tables(url: URL, _source: Path) -> Iterator[tuple[Backend, Connection]]:
    """Create the schema in an empty database. The transaction of `begin_again` loads the rows."""
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
            raise BackupFailed("the database is not empty; restore into a new one")
    for table in schema.metadata.sorted_tables:
        copying = copy_statement(table.name, columns[table.name], "FROM STDIN")
        with (
            open(source / f"{table.name}.copy", "rb") as file,
            driver.cursor() as cursor,
            cursor.copy(copying) as rows,
        ):
            while data := file.read(1 << 20):
                rows.write(data)


def _skip(tx: Connection, table: str, column: str) -> None:
    """Set the PostgreSQL sequence of a column, if it has one, to SKIPPED above the highest value of the rows."""
    driver = cast("psycopg.Connection[Any]", tx.connection.dbapi_connection)
    found = driver.execute("SELECT pg_get_serial_sequence(%s, %s)", (table, column)).fetchone()
    if found and found[0]:
        highest = sql.SQL("SELECT setval({}, COALESCE((SELECT max({}) FROM {}), 0) + {})")
        names = (sql.Literal(found[0]), sql.Identifier(column), sql.Identifier(table), sql.Literal(SKIPPED))
        driver.execute(highest.format(*names))
