"""Statements on libpq: answers, errors and the ends of connections, on PostgreSQL."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, cast

import psycopg
import pytest
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, make_url
from sqlalchemy.exc import OperationalError

from restante_server.db.libpq import Statements, statements_of
from restante_server.db.postgresql import PostgresBackend, PostgresSettings

INSERT = "INSERT INTO word (number, word) VALUES ($1::BIGINT, $2)"
COUNT = "SELECT count(*) FROM word"
VALUES = "SELECT $1::BIGINT, $2::BYTEA, $3::VARCHAR, $4::BOOLEAN, $5::BIGINT[], $6::FLOAT8, $7::VARCHAR"


@pytest.fixture
def backend(empty_postgres_url: str) -> Iterator[PostgresBackend]:
    backend = PostgresBackend(make_url(empty_postgres_url), PostgresSettings())
    with backend.writer_engine.begin() as tx:
        tx.exec_driver_sql("CREATE TABLE word (number BIGINT PRIMARY KEY, word VARCHAR NOT NULL)")
    yield backend
    backend.close()


@pytest.fixture
def tx(backend: PostgresBackend) -> Iterator[Connection]:
    with backend.writer() as tx:
        yield tx


def driver(tx: Connection) -> psycopg.Connection[Any]:
    return cast("psycopg.Connection[Any]", tx.connection.dbapi_connection)


def status(tx: Connection) -> TransactionStatus:
    return TransactionStatus(driver(tx).pgconn.transaction_status)


def test_values_of_each_type_return_as_they_were(tx: Connection) -> None:
    values = (-(2**63), bytes(range(256)), "50 % of 'Grüße' \\", True, [3, 2**40], 0.1, None)
    for _trial in ("prepared with the first call", "prepared before"):
        assert statements_of(tx).rows(VALUES, values) == [values]


def test_sums_of_integers_are_integers(tx: Connection) -> None:
    found = statements_of(tx).rows(
        "SELECT sum(n), sum(n) / 2.0, sum(n) - sum(n) FROM (VALUES (3::BIGINT), (4)) AS t(n)", ()
    )
    assert found == [(7, Decimal("3.5"), 0)]
    assert type(found[0][0]) is int


def test_a_transaction_begins_on_the_server_with_its_first_statement(tx: Connection) -> None:
    transaction = tx.begin()
    assert status(tx) is TransactionStatus.IDLE
    assert statements_of(tx).rows(COUNT, ()) == [(0,)]
    assert status(tx) is TransactionStatus.INTRANS
    transaction.commit()
    assert status(tx) is TransactionStatus.IDLE


def test_a_transaction_without_a_statement_never_reaches_the_server(tx: Connection) -> None:
    for end in ("commit", "rollback"):
        getattr(tx.begin(), end)()
        assert status(tx) is TransactionStatus.IDLE


def test_sqlalchemy_and_prepared_statements_share_a_transaction(backend: PostgresBackend, tx: Connection) -> None:
    transaction = tx.begin()
    statements_of(tx).run_many(INSERT, [(1, "one"), (2, "two")])
    assert tx.exec_driver_sql(COUNT).scalar_one() == 2
    statements_of(tx).run_many(INSERT, [(3, "three")])
    transaction.rollback()
    with tx.begin():
        tx.exec_driver_sql("INSERT INTO word VALUES (4, 'four')")
        statements_of(tx).run_many(INSERT, [(5, "five")])
    with backend.reader() as other, other.begin():
        assert statements_of(other).rows("SELECT number FROM word ORDER BY number", ()) == [(4,), (5,)]


def test_an_error_of_a_statement_without_an_answer_comes_with_the_next_answer(tx: Connection) -> None:
    transaction = tx.begin()
    statements_of(tx).run_many(INSERT, [(1, "one"), (1, "again"), (2, None)])
    with pytest.raises(psycopg.errors.UniqueViolation):
        statements_of(tx).rows(COUNT, ())
    assert status(tx) is TransactionStatus.INERROR
    transaction.rollback()
    assert statements_of(tx).rows(COUNT, ()) == [(0,)]


def test_settle_raises_the_error_of_a_statement_without_an_answer(backend: PostgresBackend, tx: Connection) -> None:
    with tx.begin() as transaction:
        statements_of(tx).run_many(INSERT, [(1, None)])
        with pytest.raises(psycopg.errors.NotNullViolation):
            backend.settle(tx)
        backend.settle(tx)  # the error came once
        transaction.rollback()


def test_a_statement_that_could_not_be_prepared_is_prepared_anew(tx: Connection) -> None:
    statements, late = statements_of(tx), "SELECT number FROM later"
    for _trial in range(2):
        with pytest.raises(psycopg.errors.UndefinedTable):
            statements.rows(late, ())
    tx.exec_driver_sql("CREATE TABLE later (number BIGINT)")
    assert statements.rows(late, ()) == []
    tx.commit()
    with pytest.raises(psycopg.errors.DivisionByZero):  # prepared, and failed when it ran
        statements.rows("SELECT 1 / $1::INTEGER", (0,))
    assert statements.rows("SELECT 1 / $1::INTEGER", (1,)) == [(1,)]


def test_each_set_of_values_has_its_rows_also_after_statements_without_an_answer(tx: Connection) -> None:
    with tx.begin():
        statements = statements_of(tx)
        statements.run_many(INSERT, [(1, "one"), (2, "two")])
        found = statements.rows_of_each(
            "SELECT word FROM word WHERE number >= $1::BIGINT ORDER BY number", [(2,), (3,), (1,)]
        )
        assert found == [[("two",)], [], [("one",), ("two",)]]
        assert statements.run_each("DELETE FROM word WHERE number >= $1::BIGINT", [(2,), (2,), (1,)]) == 2
        with pytest.raises(psycopg.errors.UniqueViolation):
            statements.run_each(INSERT, [(1, "one"), (1, "again")])
        tx.rollback()


def test_a_savepoint_undoes_what_an_operation_sent_without_waiting(backend: PostgresBackend, tx: Connection) -> None:
    with tx.begin():
        savepoint = backend.savepoint(tx)
        savepoint.advance()
        statements_of(tx).run_many(INSERT, [(1, "one")])
        savepoint.advance()
        statements_of(tx).run_many(INSERT, [(1, "again")])
        with pytest.raises(psycopg.errors.UniqueViolation):
            backend.settle(tx)
        savepoint.rewind()
        statements_of(tx).run_many(INSERT, [(2, "two")])
    assert statements_of(tx).rows(COUNT, ()) == [(2,)]


def test_other_threads_run_while_one_waits_for_an_answer(tx: Connection) -> None:
    waiting = threading.Thread(target=statements_of(tx).rows, args=("SELECT pg_sleep($1::FLOAT8)", (0.5,)))
    waiting.start()
    counted, until = 0, time.monotonic() + 0.25
    while time.monotonic() < until:
        counted += 1
        time.sleep(0.001)
    assert waiting.is_alive()
    assert counted > 10
    waiting.join()


@pytest.mark.parametrize("sent", ["alone", "after others"])
def test_the_error_of_a_connection_that_the_server_ended_says_why(
    backend: PostgresBackend, tx: Connection, sent: str
) -> None:
    (process,) = statements_of(tx).rows("SELECT pg_backend_pid()", ())[0]
    statements_of(tx).rows(COUNT, ())
    with backend.writer() as other:
        other.exec_driver_sql(f"SELECT pg_terminate_backend({process}, 5000)")
    if sent == "after others":
        tx.begin()
    with pytest.raises(psycopg.errors.AdminShutdown):
        statements_of(tx).rows(COUNT, ())
    with pytest.raises(psycopg.OperationalError):
        statements_of(tx).rows(COUNT, ())
    if sent == "after others":
        with pytest.raises(psycopg.OperationalError):
            tx.rollback()


def test_the_rollback_of_a_lost_connection_hides_no_error(backend: PostgresBackend) -> None:
    def lose() -> None:
        with backend.writer_engine.begin() as tx:
            (process,) = statements_of(tx).rows("SELECT pg_backend_pid()", ())[0]
            with backend.writer() as other:
                other.exec_driver_sql(f"SELECT pg_terminate_backend({process}, 5000)")
            tx.exec_driver_sql(COUNT)

    with pytest.raises(OperationalError, match="administrator command"):
        lose()


def test_a_statement_is_interrupted_from_another_thread(backend: PostgresBackend, tx: Connection) -> None:
    alarm = threading.Timer(0.2, backend.interrupt, [tx])
    alarm.start()
    with pytest.raises(psycopg.errors.QueryCanceled):
        statements_of(tx).rows("SELECT pg_sleep(30)", ())
    alarm.join()
    assert statements_of(tx).rows(COUNT, ()) == [(0,)]


def test_many_octets_are_sent_without_waiting_for_answers(tx: Connection) -> None:
    with tx.begin():
        statements_of(tx).run_many(INSERT, [(number, "x" * 20_000) for number in range(500)])
    assert statements_of(tx).rows("SELECT count(*), sum(length(word))::BIGINT FROM word", ()) == [(500, 10_000_000)]


def test_statements_are_made_for_each_connection(backend: PostgresBackend) -> None:
    with backend.writer() as one, backend.writer() as other:
        assert isinstance(statements_of(one), Statements)
        assert statements_of(one) is not statements_of(other)
