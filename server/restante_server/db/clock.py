"""The database's clock, which decides about leases and expiry for all cores, instead of each machine's clock."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, literal_column, select

from restante_server.db import prepared

# Microseconds, because both databases return them exactly as an integer.
_QUESTION: dict[str, Select[Any]] = {
    # julianday() has a resolution of a millisecond; as a double it has a far smaller rounding error.
    "sqlite": select(literal_column("CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000")),
    # Not now(), which is the start of the transaction: the transaction may have waited for a lock since.
    "postgresql": select(literal_column("CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)")),
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KEY = "restante.clock"

Clock = Callable[[Connection], int]


def database_clock(tx: Connection) -> int:
    """The current time of the database's clock in microseconds since 1970 (on SQLite in steps of a millisecond)."""
    microseconds: int = prepared.rows(tx, _QUESTION[tx.dialect.name], {})[0][0]
    return microseconds


def now_microseconds(tx: Connection) -> int:
    """Microseconds since 1970 by the clock that `use` set for this connection, else by the database's clock."""
    clock: Clock = tx.info.get(_KEY, database_clock)
    return clock(tx)


def now(tx: Connection) -> datetime:
    """The time of `now_microseconds` as an aware UTC datetime."""
    return _EPOCH + timedelta(microseconds=now_microseconds(tx))


def use(tx: Connection, clock: Clock) -> None:
    """Set another clock for this connection, for tests of leases and expiry."""
    tx.info[_KEY] = clock
