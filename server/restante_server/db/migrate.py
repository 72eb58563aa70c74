"""Migrating a store's schema to the one this program was built for, and checking its state.

Steps only go forward and only add; a later release removes obsolete parts. To make a step, change `schema`, run
`python -m restante_server.db.revision "what it adds"`, and review the written step.
"""

from __future__ import annotations

from enum import Enum
from functools import cache

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, MetaData, inspect

from restante_server.db import schema
from restante_server.db.engine import open_backend
from restante_server.db.errors import UnknownSchema

_LOCK = 0x72657374616E7465  # PostgreSQL advisory lock, so that only one core migrates at a time


class SchemaState(Enum):
    CURRENT = "as this program expects it"
    EMPTY = "without a schema"
    BEHIND = "older than this program's; `upgrade` migrates it"
    UNKNOWN = "of a newer version, or of another program"


def upgrade(url: str | URL, revision: str = "head") -> None:
    """Run the missing steps in one transaction; on an empty database they make the schema.

    Blocks. The caller must hold the StoreLock of a SQLite store. Raises UnknownSchema, and changes nothing, when the
    database has a revision that this program does not know.
    """
    backend = open_backend(url)
    try:
        with backend.writer() as tx, tx.begin():
            if backend.locks_rows:
                tx.exec_driver_sql("SET LOCAL statement_timeout = 0")
                tx.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
            if state(tx) is SchemaState.UNKNOWN:
                raise _refusal(tx)
            command.upgrade(config(tx), revision)
    finally:
        backend.close()


@cache
def expected() -> str:
    """The revision this program was built for."""
    head = ScriptDirectory.from_config(config(None)).get_current_head()
    assert head is not None, "the first step is part of the program"
    return head


def current(tx: Connection) -> str | None:
    """The revision of the database's schema; None when it has no Restante schema."""
    return MigrationContext.configure(tx).get_current_revision()


def state(tx: Connection) -> SchemaState:
    found = current(tx)
    if found is None:
        return SchemaState.UNKNOWN if inspect(tx).get_table_names() else SchemaState.EMPTY
    if found == expected():
        return SchemaState.CURRENT
    known = {step.revision for step in ScriptDirectory.from_config(config(None)).walk_revisions()}
    return SchemaState.BEHIND if found in known else SchemaState.UNKNOWN


def require_current(tx: Connection) -> None:
    """Raise UnknownSchema, with a text for the operator, unless the schema is the expected one."""
    if state(tx) is not SchemaState.CURRENT:
        raise _refusal(tx)


def config(tx: Connection | None, metadata: MetaData | None = None) -> Config:
    """Alembic's configuration, which needs no file."""
    made = Config()
    made.set_main_option("script_location", "restante_server.db:migrations")
    made.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    made.attributes["connection"] = tx
    made.attributes["metadata"] = metadata if metadata is not None else schema.metadata
    return made


def defaults_differ(
    _context: object,
    _inspected: object,
    _column: object,
    inspected_default: str | None,
    _metadata_default: object,
    rendered_default: str | None,
) -> bool | None:
    """Compare defaults for Alembic, which on SQLite takes equal empty-string defaults for different ones."""
    return False if _bare(inspected_default) == _bare(rendered_default) else None  # None: Alembic decides


def _bare(default: str | None) -> str | None:
    return None if default is None else default.strip("()'").removesuffix("'::text")


def _refusal(tx: Connection) -> UnknownSchema:
    found = current(tx)
    match state(tx):
        case SchemaState.EMPTY:
            text = "the database has no schema yet"
        case SchemaState.BEHIND:
            text = f"the database has schema {found}, and this version needs {expected()}"
        case _ if found is None:
            text = "the database has tables of another program; name another database in store.url"
        case _:
            text = f"the database has schema {found} of a newer version; this version knows schemas up to {expected()}"
    migratable = state(tx) in (SchemaState.EMPTY, SchemaState.BEHIND)
    return UnknownSchema(text, found, expected(), migratable=migratable)
