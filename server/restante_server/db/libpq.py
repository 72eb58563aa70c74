"""The frequent statements of one PostgreSQL connection, on psycopg's wrapper of libpq (`psycopg.pq`).

psycopg's cursors cost several times what the statement itself costs the process. Measured for a small SELECT: 0.031 ms
of CPU by a cursor, 0.008 ms here; for a transaction of eight INSERTs 0.26 ms and 0.03 ms. psycopg still connects,
converts values, raises errors, and runs all other statements of the connection.

A statement without an answer, such as BEGIN or an INSERT, is sent without waiting (libpq's pipeline mode). Its error
comes with the next answer, at the latest in `settle`.
"""

from __future__ import annotations

import select
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import psycopg
from psycopg import pq
from psycopg.abc import Buffer
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result
from psycopg.types.numeric import NumericBinaryLoader
from sqlalchemy import Connection

Row = tuple[Any, ...]
STATEMENTS = "restante.statements"
"""The key of a connection's Statements in `Connection.info`."""

_BINARY = 1  # the format of results
_DONE = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)


class _WholeNumber(NumericBinaryLoader):
    """Reads a sum of integers, which is NUMERIC for the server, as an integer."""

    def load(self, data: Buffer) -> int | Decimal:  # type: ignore[override]
        number = super().load(data)
        whole = int(number)
        return whole if whole == number else number


class Statements:
    """The statements of one connection. Use it on the connection's thread only.

    A connection in pipeline mode refuses psycopg's own statements: `settle` comes before each of these.
    """

    def __init__(self, driver: psycopg.Connection[Any], begin: bytes) -> None:
        """`begin` is the statement that begins a transaction of this connection, which is in autocommit mode."""
        self._connection, self._begin = driver.pgconn, begin
        driver.adapters.register_loader("numeric", _WholeNumber)
        self._values = Transformer(driver)
        self._readable, self._ready = select.poll(), select.poll()
        self._readable.register(driver.pgconn.socket, select.POLLIN)
        self._ready.register(driver.pgconn.socket, select.POLLIN | select.POLLOUT)
        self._names: dict[str, bytes] = {}  # of the prepared statements, by text
        self._made = 0
        self._piped = False  # answers are awaited
        self._preparing: dict[str, bytes] = {}  # sent, but not answered yet
        self._begins = False  # BEGIN is sent with the next statement

    def begin(self) -> None:
        """Begin a transaction; the server hears of it with the first statement."""
        self._begins = True

    def rows(self, sql: str, values: Sequence[Any]) -> list[Row]:
        """The rows that a statement returns. `sql` has its values as $1, $2 and so on."""
        return self._loaded(self._ask(sql, values))

    def run(self, sql: str, values: Sequence[Any]) -> int:
        """Run a statement; returns the number of changed rows."""
        return self._ask(sql, values).command_tuples or 0

    def rows_of_each(self, sql: str, many: Sequence[Sequence[Any]]) -> list[list[Row]]:
        """The rows that a statement returns for each set of values, in one round trip."""
        return [self._loaded(result) for result in self._ask_each(sql, many)]

    def run_each(self, sql: str, many: Sequence[Sequence[Any]]) -> int:
        """Run a statement for each set of values, in one round trip; returns the number of changed rows in all."""
        return sum(result.command_tuples or 0 for result in self._ask_each(sql, many))

    def run_many(self, sql: str, many: Iterable[Sequence[Any]]) -> None:
        """Send a statement once for each set of values, without waiting for the answers."""
        for values in many:
            self._send(sql, values)

    def run_text(self, sql: bytes) -> None:
        """Send one statement without values, without waiting for its answer."""
        self._pipe()
        self._connection.send_query_params(sql, None)

    def settle(self) -> None:
        """Send BEGIN if it is still to be sent, and wait for all answers. Raises the first error among them."""
        if self._begins:
            self._pipe()
        if self._piped:
            self._answers()

    def commit(self) -> None:
        """Commit the transaction, if one has begun. Raises psycopg's errors."""
        if self._begins:
            self._begins = False
        else:
            self.settle()
            self._end(b"COMMIT")

    def rollback(self) -> None:
        """Undo the transaction, if one has begun; errors of its statements do not matter any more."""
        if self._begins:
            self._begins = False
            return
        try:
            self.settle()
        except psycopg.Error:
            if self._connection.status != pq.ConnStatus.OK:
                raise
        self._end(b"ROLLBACK")

    @property
    def connection(self) -> pq.abc.PGconn:
        """libpq's connection, for a caller that awaits the answers to `send_prepared` itself, in pipeline mode."""
        return self._connection

    def send_prepared(self, name: bytes, values: Sequence[Any]) -> None:
        """Send a prepared statement of the caller's, without waiting for its answer."""
        sent, formats = self._dump(values)
        self._connection.send_query_prepared(name, sent, formats, _BINARY)

    def rows_of(self, results: Sequence[pq.abc.PGresult]) -> list[Row]:
        """The rows of the last of these results, if all are right. Raises psycopg's error of the first other one."""
        for result in results:
            if result.status not in _DONE:
                raise self._error(result)
        return self._loaded(results[-1])

    def _loaded(self, result: pq.abc.PGresult) -> list[Row]:
        self._values.set_pgresult(result)
        return self._values.load_rows(0, result.ntuples, tuple)

    def _end(self, sql: bytes) -> None:
        if self._connection.transaction_status != pq.TransactionStatus.IDLE:
            self._connection.send_query(sql)
            self._answer()

    def _ask(self, sql: str, values: Sequence[Any]) -> pq.abc.PGresult:
        name = self._names.get(sql)
        if name is None or self._piped or self._begins:
            self._send(sql, values)
            return self._answers()[-1]
        self.send_prepared(name, values)
        return self._answer()

    def _ask_each(self, sql: str, many: Sequence[Sequence[Any]]) -> list[pq.abc.PGresult]:
        if not many:
            return []
        for values in many:
            self._send(sql, values)
        return self._answers()[-len(many) :]

    def _send(self, sql: str, values: Sequence[Any]) -> None:
        self._pipe()
        name = self._names.get(sql) or self._preparing.get(sql)
        if name is None:
            self._made += 1
            name = self._preparing[sql] = b"restante_%d" % self._made
            self._connection.send_prepare(name, sql.encode())
        self.send_prepared(name, values)

    def _pipe(self) -> None:
        if not self._piped:
            self._connection.enter_pipeline_mode()
            self._piped = True
        if self._begins:
            self._begins = False
            self._connection.send_query_params(self._begin, None)

    def _dump(self, values: Sequence[Any]) -> tuple[Sequence[Buffer | None], Sequence[pq.Format] | None]:
        # The server takes the type of a value from the statement: a number as text fits each integer type.
        if not values:
            return (), None
        wanted = [PyFormat.BINARY if isinstance(value, bytes) else PyFormat.TEXT for value in values]
        sent = self._values.dump_sequence(values, wanted)
        return sent, self._values.formats

    def _answer(self) -> pq.abc.PGresult:
        """Wait for the answer to the only statement that is on its way. Raises its error."""
        self._flush()
        result = self._next()
        # The first result says why the server ends a connection; libpq's own exec functions return the last one.
        while self._next() is not None:
            pass
        if result is None or result.status not in _DONE:
            raise self._error(result)
        return result

    def _answers(self) -> list[pq.abc.PGresult]:
        """Wait for all answers and return them. Raises the first error among them."""
        connection = self._connection
        connection.pipeline_sync()
        self._flush()
        first_error: pq.abc.PGresult | None = None
        answers: list[pq.abc.PGresult] = []
        while True:
            result = self._next()
            if result is None:  # between the results of two statements, or after the end of the connection
                if connection.status != pq.ConnStatus.OK:
                    break
                continue
            if result.status == pq.ExecStatus.PIPELINE_SYNC:
                break
            if result.status == pq.ExecStatus.FATAL_ERROR and first_error is None:
                first_error = result
            answers.append(result)
        preparing, self._preparing = self._preparing, {}
        if connection.status == pq.ConnStatus.OK:
            connection.exit_pipeline_mode()
            self._piped = False
            if first_error is None:
                self._names |= preparing
                return answers
        raise self._error(first_error)

    def _flush(self) -> None:
        """Send everything: the connection is nonblocking, and its buffer may hold what the socket did not take."""
        connection = self._connection
        try:
            while connection.flush():
                if self._ready.poll()[0][1] & select.POLLIN:  # the server waits until we take its answers
                    connection.consume_input()
        except psycopg.OperationalError:
            pass  # the connection has ended: the results say why

    def _next(self) -> pq.abc.PGresult | None:
        """The next result. The thread gives up the interpreter's lock while it waits, which `get_result` does not."""
        connection = self._connection
        while connection.is_busy():
            self._readable.poll()
            try:
                connection.consume_input()
            except psycopg.OperationalError:
                break  # as above
        return connection.get_result()

    def _error(self, result: pq.abc.PGresult | None) -> psycopg.Error:
        if result is not None and (result.error_field(pq.DiagnosticField.SQLSTATE) is not None):
            return error_from_result(result)
        return psycopg.OperationalError(self._connection.get_error_message())


def statements_of(tx: Connection) -> Statements:
    """The Statements of a PostgreSQL connection."""
    found: Statements = tx.info[STATEMENTS]
    return found
