"""PostgreSQL through synchronous psycopg: a writer connection for each lane; readers use REPEATABLE READ READ ONLY.

The connections are in autocommit mode, and `libpq.Statements` begins and ends their transactions: so BEGIN goes to the
server together with the first statement.
"""

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
from restante_server.db.libpq import STATEMENTS, Statements, statements_of

OLDEST = (13, 0, 0)


@dataclass(frozen=True, slots=True)
class PostgresSettings:
    """The settings of PostgreSQL."""

    write_lanes: int = 4
    write_statement_seconds: float = 60.0  # limit of a statement, including its wait for locks
    write_idle_seconds: float = 0.0  # limit between two statements of a write; the server then ends it; 0: no limit
    read_statement_seconds: float = 300.0  # upper limit; the deadline of a read cancels it sooner


class PostgresBackend:
    """See Backend. `postgresql://` and `postgresql+psycopg://` are equivalent."""

    name = "postgresql"
    locks_rows = True
    reads_on_loop = False
    has_server = True

    def __init__(self, url: URL, settings: PostgresSettings) -> None:
        url = url.set(drivername="postgresql+psycopg")
        self.lanes = settings.write_lanes
        # Without the idle limit, a core that stops in the middle of a write would keep its mailboxes locked for all.
        self.writer_engine = _engine(url, settings.write_statement_seconds, settings.write_idle_seconds, reads=False)
        self._reader_engine = _engine(url, settings.read_statement_seconds, 0, reads=True)
        self.features = _probe(self._reader_engine)

    def writer(self) -> Connection:
        return self.writer_engine.connect()

    def reader(self) -> Connection:
        return self._reader_engine.connect()

    def begin(self, tx: Connection) -> PostgresTransaction:
        statements = statements_of(tx)
        if tx.in_transaction():
            statements.begin()
        else:
            tx.begin()
        return PostgresTransaction(statements)

    def savepoint(self, tx: Connection) -> PostgresSavepoint:
        return PostgresSavepoint(statements_of(tx))

    def settle(self, tx: Connection) -> None:
        statements_of(tx).settle()

    def usable(self, tx: Connection) -> bool:
        # An aborted transaction (INERROR) must never reach COMMIT: the server would silently roll back.
        # IDLE is usable: BEGIN goes with the first statement.
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
        if state.startswith(("08", "57P")):  # connection failure; the server shuts down or starts
            return Verdict.LOST
        return Verdict.LOST if isinstance(cause, psycopg.OperationalError) and not state else Verdict.OWN

    def interrupt(self, tx: Connection) -> None:
        _driver(tx).cancel_safe(timeout=5.0)

    def committed(self, octets: int) -> None:
        pass  # the server makes the checkpoints

    def between_groups(self, tx: Connection) -> None:
        pass

    @property
    def file(self) -> None:
        return None

    @property
    def unused_octets(self) -> int:
        return 0

    def give_back(self, tx: Connection, keep_octets: int, most_octets: int) -> bool:
        return False  # autovacuum does this

    def close(self) -> None:
        self.writer_engine.dispose()
        self._reader_engine.dispose()


class PostgresTransaction:
    """See Transaction. As on SQLite, SQLAlchemy sees one transaction for the life of the connection."""

    def __init__(self, statements: Statements) -> None:
        self.commit, self.rollback = statements.commit, statements.rollback


class PostgresSavepoint:
    """See Savepoint. No step waits for its answer."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements
        self._set = False

    def advance(self) -> None:
        if self._set:
            self._statements.run_text(b"RELEASE operation")
        self._statements.run_text(b"SAVEPOINT operation")
        self._set = True

    def rewind(self) -> None:
        self._statements.run_text(b"ROLLBACK TO operation")


def _driver(tx: Connection) -> psycopg.Connection[object]:
    return cast("psycopg.Connection[object]", tx.connection.dbapi_connection)


def _status(tx: Connection) -> TransactionStatus:
    if tx.invalidated:
        return TransactionStatus.UNKNOWN
    return TransactionStatus(_driver(tx).pgconn.transaction_status)


def _engine(url: URL, statement_seconds: float, idle_seconds: float, *, reads: bool) -> Engine:
    """An engine whose server ends statements, and idle transactions, after these times. 0: never."""
    bounds = {"statement_timeout": statement_seconds, "idle_in_transaction_session_timeout": idle_seconds}
    options = [f"-c {name}={round(seconds * 1_000)}" for name, seconds in bounds.items()]
    engine = create_engine(
        url,
        poolclass=NullPool,
        hide_parameters=True,  # parameters hold mail, and errors are logged
        isolation_level="AUTOCOMMIT",
        connect_args={
            "application_name": "restante reader" if reads else "restante writer",
            "options": " ".join([*options, "-c timezone=UTC"]),
            "connect_timeout": 10,
        },
    )

    begin = b"BEGIN ISOLATION LEVEL " + (b"REPEATABLE READ READ ONLY" if reads else b"READ COMMITTED READ WRITE")

    def connected(driver: psycopg.Connection[object], record: ConnectionPoolEntry) -> None:
        record.info[STATEMENTS] = Statements(driver, begin)

    def roll_back(tx: Connection) -> None:
        if not tx.invalidated:  # otherwise the server has rolled back, and the error that said so goes on
            statements_of(tx).rollback()

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", lambda tx: statements_of(tx).begin())
    event.listen(engine, "before_cursor_execute", lambda tx, *_statement: statements_of(tx).settle())
    event.listen(engine, "commit", lambda tx: statements_of(tx).commit())
    event.listen(engine, "rollback", roll_back)
    return engine


def _probe(engine: Engine) -> Features:
    with engine.connect() as tx:
        number: int = tx.exec_driver_sql("SELECT current_setting('server_version_num')::int").scalar_one()
        version = (number // 10_000, number % 10_000, 0)
        if version < OLDEST:
            raise UnsupportedDatabase(f"PostgreSQL {version[0]} is too old; Restante needs {OLDEST[0]} or newer")
        trigram = tx.exec_driver_sql("SELECT 1 FROM pg_available_extensions WHERE name = 'pg_trgm'").scalar()
    return Features(version=version, trigram=trigram is not None)
