"""Inserting many rows whose ids the database assigns."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, Insert, Text, bindparam, column, func, insert, select, table
from sqlalchemy.dialects.postgresql import REGCLASS

from restante_server.db import prepared

# AUTOINCREMENT: SQLite never reuses an id, and inserting a row with an explicit higher id raises the counter.
_sequence = table("sqlite_sequence", column("name", Text), column("seq", BigInteger))
_counter = select(_sequence.c.seq).where(_sequence.c.name == bindparam("table"))
_series = func.generate_series(1, bindparam("count", type_=BigInteger)).table_valued("number")
_drawn = select(func.nextval(bindparam("sequence", type_=REGCLASS))).select_from(_series)


def insert_numbered(tx: Connection, key: Column[int], rows: Sequence[dict[str, Any]]) -> list[int]:
    """Insert rows into the table of `key`, its integer primary key with AUTOINCREMENT; returns their ids in order.

    The ids are known before the rows are inserted, so that nobody waits for the answer to an INSERT. SQLite has one
    writer, and the next ids follow the last one. PostgreSQL draws them from the sequence of the key.
    """
    if not rows:
        return []
    if tx.dialect.name == "sqlite":
        last = prepared.first(tx, _counter, {"table": key.table.description})
        first = (last[0] if last is not None else 0) + 1
        ids = list(range(first, first + len(rows)))
    else:
        sequence = {"sequence": f"{key.table.description}_{key.name}_seq", "count": len(rows)}
        ids = [number for (number,) in prepared.rows(tx, _drawn, sequence)]
    prepared.run_many(tx, _insert(key), [{**row, key.name: number} for row, number in zip(rows, ids, strict=True)])
    return ids


@cache
def _insert(key: Column[int]) -> Insert:
    return insert(key.table)
