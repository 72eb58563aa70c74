"""The database's clock: leases and expiry on several cores are judged by one clock, never by each machine's own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

# Microseconds, since that is what both databases can tell exactly as an integer.
_QUESTION = {
    # julianday has milliseconds; it is a double, whose rounding stays far below one.
    "sqlite": "SELECT CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000",
    # Not now(): that is the start of the transaction, which may have waited for a lock since.
    "postgresql": "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KEY = "restante.clock"

Clock = Callable[[Connection], int]


def database_clock(tx: Connection) -> int:
    """Microseconds since 1970 by the database's clock, at this moment (on SQLite in steps of a millisecond)."""
    microseconds: int = tx.exec_driver_sql(_QUESTION[tx.dialect.name]).scalar_one()
    return microseconds


def now_microseconds(tx: Connection) -> int:
    """Microseconds since 1970 by the clock that `use` gave this connection, else by the database's."""
    clock: Clock = tx.info.get(_KEY, database_clock)
    return clock(tx)


def now(tx: Connection) -> datetime:
    """The same as an aware UTC datetime."""
    return _EPOCH + timedelta(microseconds=now_microseconds(tx))


def use(tx: Connection, clock: Clock) -> None:
    """Gives this connection another clock, as tests of leases and expiry do."""
    tx.info[_KEY] = clock
