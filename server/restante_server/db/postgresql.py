"""PostgreSQL by psycopg, synchronously: a writer connection for each lane, readers on REPEATABLE READ READ ONLY."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry

from restante_server.db.backend import Features, Verdict
from restante_server.db.errors import UnsupportedDatabase

OLDEST = (13, 0, 0)


@dataclass(frozen=True, slots=True)
class PostgresSettings:
    """How PostgreSQL is used."""

    write_lanes: int = 4
    write_statement_seconds: float = 60.0  # a statement, its wait for locks included, then it is given up
    write_idle_seconds: float = 5.0  # between two statements of a write: then the server ends it and frees its locks
    read_statement_seconds: float = 300.0  # the outermost bound; a read's deadline cancels it sooner


class PostgresBackend:
    """See Backend. `postgresql://` and `postgresql+psycopg://` mean the same."""

    name = "postgresql"
    locks_rows = True

    def __init__(self, url: URL, settings: PostgresSettings) -> None:
        url = url.set(drivername="postgresql+psycopg")
        self.lanes = settings.write_lanes
        # A core that is stopped in the midst of a write would hold the rows of its mailboxes against all other cores.
        self.writer_engine = _engine(
            url, "READ COMMITTED", settings.write_statement_seconds, settings.write_idle_seconds, reads=False
        )
        self._reader_engine = _engine(url, "REPEATABLE READ", settings.read_statement_seconds, 0, reads=True)
        self.features = _probe(self._reader_engine)

    def writer(self) -> Connection:
        return self.writer_engine.connect()

    def reader(self) -> Connection:
        return self._reader_engine.connect()

    def savepoint(self, tx: Connection) -> PostgresSavepoint:
        return PostgresSavepoint(_driver(tx))

    def usable(self, tx: Connection) -> bool:
        # An aborted transaction (INERROR) must never reach COMMIT: the server answers it with a silent ROLLBACK.
        # IDLE is fine: BEGIN goes out with the first statement.
        return _status(tx) in (TransactionStatus.INTRANS, TransactionStatus.IDLE)

    def open(self, tx: Connection) -> bool:
        return _status(tx) in (TransactionStatus.INTRANS, TransactionStatus.INERROR)

    def judge(self, error: BaseException, *, reading: bool = False) -> Verdict:
        cause = error.orig if isinstance(error, DBAPIError) else error
        if isinstance(cause, psycopg.errors.IdleInTransactionSessionTimeout):
            return Verdict.UNDONE
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            return Verdict.LOST
        if not isinstance(cause, psycopg.Error):
            return Verdict.OWN
        state = cause.sqlstate or ""
        if state in ("40001", "40P01"):  # serialization failure, deadlock
            return Verdict.REPLAY
        if state in ("55P03", "57014"):  # lock not available, statement cancelled by its timeout
            return Verdict.BUSY
        if state.startswith("53"):  # disk full, out of memory, too many connections
            return Verdict.FULL
        if state == "25006" and not reading:  # read-only: the primary has become a standby
            return Verdict.LOST
        if state.startswith(("08", "57P")):  # the connection itself; the server ends or starts
            return Verdict.LOST
        return Verdict.LOST if isinstance(cause, psycopg.OperationalError) and not state else Verdict.OWN

    def interrupt(self, tx: Connection) -> None:
        _driver(tx).cancel_safe(timeout=5.0)

    def committed(self, octets: int) -> None:
        pass  # the server makes its own checkpoints

    def between_groups(self, tx: Connection) -> None:
        pass

    @property
    def file(self) -> None:
        return None

    @property
    def unused_octets(self) -> int:
        return 0

    def give_back(self, tx: Connection, keep_octets: int, most_octets: int) -> bool:
        return False  # autovacuum's work

    def close(self) -> None:
        self.writer_engine.dispose()
        self._reader_engine.dispose()


class PostgresSavepoint:
    """See Savepoint. Each step is one round trip: statements without parameters may share a message."""

    def __init__(self, driver: psycopg.Connection[object]) -> None:
        self._cursor = driver.cursor()
        self._set = False

    def advance(self) -> None:
        step = "RELEASE operation; SAVEPOINT operation" if self._set else "SAVEPOINT operation"
        self._cursor.execute(step, prepare=False)
        self._set = True

    def rewind(self) -> None:
        self._cursor.execute("ROLLBACK TO operation", prepare=False)


def _driver(tx: Connection) -> psycopg.Connection[object]:
    return cast("psycopg.Connection[object]", tx.connection.dbapi_connection)


def _status(tx: Connection) -> TransactionStatus:
    if tx.invalidated:
        return TransactionStatus.UNKNOWN
    return TransactionStatus(_driver(tx).pgconn.transaction_status)


def _engine(url: URL, isolation: str, statement_seconds: float, idle_seconds: float, *, reads: bool) -> Engine:
    """An engine whose server ends statements, and transactions without a statement, after these times. 0: never."""
    bounds = {"statement_timeout": statement_seconds, "idle_in_transaction_session_timeout": idle_seconds}
    options = [f"-c {name}={round(seconds * 1_000)}" for name, seconds in bounds.items()]
    engine = create_engine(
        url,
        poolclass=NullPool,
        hide_parameters=True,  # they hold mail, and errors are logged
        isolation_level=isolation,
        connect_args={
            "application_name": "restante reader" if reads else "restante writer",
            "options": " ".join([*options, "-c timezone=UTC"]),
            "connect_timeout": 10,
        },
    )

    def tune(driver: psycopg.Connection[object], _record: ConnectionPoolEntry) -> None:
        driver.read_only = reads

    event.listen(engine, "connect", tune)
    return engine


def _probe(engine: Engine) -> Features:
    with engine.connect() as tx:
        number: int = tx.exec_driver_sql("SELECT current_setting('server_version_num')::int").scalar_one()
        version = (number // 10_000, number % 10_000, 0)
        if version < OLDEST:
            raise UnsupportedDatabase(f"PostgreSQL {version[0]} is too old: at least {OLDEST[0]} is needed")
        trigram = tx.exec_driver_sql("SELECT 1 FROM pg_available_extensions WHERE name = 'pg_trgm'").scalar()
    return Features(version=version, trigram=trigram is not None)
