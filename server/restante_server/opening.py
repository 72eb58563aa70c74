"""Finding, opening and creating the store of a configuration."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from sqlalchemy import Connection, insert, make_url, select

from restante_process.config import Config
from restante_server.db import schema
from restante_server.db.engine import Database, Settings, open_database
from restante_server.db.errors import NoStore
from restante_server.db.group import Locks
from restante_server.db.hooks import Observer
from restante_server.db.postgresql import PostgresSettings
from restante_server.db.rowlocks import lock_rows
from restante_server.directory import keys

WRITE_IDLE_SECONDS = 5.0
"""A stopped core would otherwise hold the rows of a write against the other cores. Tools have no such limit: a restore
reads files between two statements."""


def database_settings(settings: Config) -> Settings:
    """The database settings of a core process."""
    postgres = PostgresSettings(write_lanes=settings.store.write_lanes, write_idle_seconds=WRITE_IDLE_SECONDS)
    return Settings(readers=settings.store.readers, postgres=postgres)


def open_store(settings: Config, observer: Observer | None = None) -> Database:
    """The database of a configuration, with the locks that several writers need."""
    locks = Locks(mailboxes=lock_rows(schema.mailbox.c.mailbox_id), contents=lock_rows(schema.content.c.content_id))
    return open_database(settings.store_url, settings=database_settings(settings), locks=locks, observer=observer)


def require_store(settings: Config) -> None:
    """Raises NoStore if SQLite would create an empty database, and OSError if the data directory does not exist."""
    url = make_url(settings.store_url)
    if url.get_backend_name() == "sqlite" and url.database and not Path(url.database).exists():
        os.stat(settings.directory)  # an error about a missing data directory is more helpful
        raise NoStore(f"the store {url.database} does not exist yet")


def create_store(tx: Connection, moment: int) -> None:
    """Insert a new store's one row and its first sealing key. A second call changes nothing."""
    if tx.execute(select(schema.store.c.store_id)).first() is None:
        tx.execute(
            insert(schema.store).values(
                store_id=1, store_uuid=secrets.token_hex(16), epoch=1, uid_validity_next=1, created_at=moment
            )
        )
        keys.create(tx, moment)
