"""INSERT ... ON CONFLICT, which both databases support through different SQLAlchemy classes."""

from __future__ import annotations

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_into(tx: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An insert with `on_conflict_do_nothing` and `on_conflict_do_update`."""
    return postgresql.insert(table) if tx.dialect.name == "postgresql" else sqlite.insert(table)
