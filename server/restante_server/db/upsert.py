"""INSERT ... ON CONFLICT, which both databases support through different SQLAlchemy classes."""

from __future__ import annotations

from functools import cache

from sqlalchemy import Connection, Insert, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_into(tx: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An insert with `on_conflict_do_nothing` and `on_conflict_do_update`."""
    return insert_for(tx.dialect.name, table)


def insert_for(dialect: str, table: Table) -> postgresql.Insert | sqlite.Insert:
    """The same for a dialect."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


def insert_missing(tx: Connection, table: Table) -> Insert:
    """An insert that leaves rows that are there already unchanged. Always the same object, so it can be prepared."""
    return _insert_missing(table, tx.dialect.name)


@cache
def _insert_missing(table: Table, dialect: str) -> Insert:
    return insert_for(dialect, table).on_conflict_do_nothing()
