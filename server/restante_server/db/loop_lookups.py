"""Lookups on the event loop's own connection, without a hop to a reader thread. PostgreSQL only.

A Lookup is one statement, so that it needs no transaction, and nobody has to wait between two round trips. Each is sent
at once (libpq's pipeline mode), and the event loop takes the answers as they come. What finds no usable connection goes
to a reader thread, whose connection judges and mends the trouble.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import psycopg
from psycopg import pq
from sqlalchemy import Connection

from restante_server.db.backend import Backend, Verdict
from restante_server.db.hooks import Observer
from restante_server.db.libpq import statements_of
from restante_server.db.prepared import Lookup
from restante_server.db.reader import Job

log = logging.getLogger(__name__)

SILENT_SECONDS: Final = 10.0  # after so long without an answer the connection is given up
RETRY_SECONDS: Final = 1.0  # before the next attempt to connect


class LoopLookups:
    """One connection of the event loop, opened when first needed. Call it on the loop's thread only."""

    def __init__(
        self,
        backend: Backend,
        loop: asyncio.AbstractEventLoop,
        done: Callable[[list[Job]], object],
        left: Callable[[list[Job]], object],
        observer: Observer,
    ) -> None:
        """`done` gets each job with its outcome, `left` those that belong on a thread."""
        self._backend, self._loop, self._observer = backend, loop, observer
        self._done, self._left = done, left
        self._opening: asyncio.Future[Connection] | None = None
        self._retry_at = 0.0
        self._closed = False
        self._tx: Connection | None = None
        self._socket = -1  # libpq closes the connection's socket itself when the server ends it
        self._names: dict[str, bytes] = {}  # of the statements that this connection has been asked to prepare
        self._made = 0
        self._sent: deque[tuple[Job, float]] = deque()  # jobs without an answer, and when they were sent
        self._results: list[pq.abc.PGresult] = []  # of the first of these

    def put(self, job: Job) -> bool:
        """Send a job whose function is a Lookup. Returns False if there is no usable connection now."""
        now = time.perf_counter()
        if self._sent and now - self._sent[0][1] > SILENT_SECONDS:
            self._give_up("the server does not answer")
        if self._tx is None:
            self._open()
            return False
        try:
            self._send(self._tx, job)
        except psycopg.OperationalError as error:
            self._give_up(str(error))
            return False
        self._sent.append((job, now))
        return True

    def close(self) -> None:
        """Close the connection. Jobs without an answer go to `left`."""
        self._closed = True
        self._give_up("")

    # --- The connection ---------------------------------------------------------------------------------------------

    def _open(self) -> None:
        if self._opening is None and not self._closed and self._loop.time() >= self._retry_at:
            self._opening = self._loop.run_in_executor(None, self._backend.reader)
            self._opening.add_done_callback(self._opened)

    def _opened(self, opening: asyncio.Future[Connection]) -> None:
        self._opening = None
        if opening.cancelled() or (error := opening.exception()) is not None:
            log.debug("lookups stay on threads: %s", None if opening.cancelled() else error)
            self._retry_at = self._loop.time() + RETRY_SECONDS
            return
        self._tx = opening.result()
        connection = statements_of(self._tx).connection
        connection.enter_pipeline_mode()
        self._socket = connection.socket
        self._loop.add_reader(self._socket, self._take)
        if self._closed:
            self._give_up("")

    def _give_up(self, reason: str) -> None:
        tx, self._tx = self._tx, None
        if tx is None:
            return
        if reason:
            log.warning("lookups go to threads until there is another connection: %s", reason)
        self._retry_at = self._loop.time() + RETRY_SECONDS
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        tx.invalidate()
        tx.close()
        left = [job for job, _began in self._sent]
        self._sent.clear()
        self._names.clear()
        self._results.clear()
        if left:
            self._left(left)

    # --- Statements -------------------------------------------------------------------------------------------------

    def _send(self, tx: Connection, job: Job) -> None:
        (lookup,) = job.functions
        assert isinstance(lookup, Lookup)
        sql, values = lookup.for_server(tx)
        statements = statements_of(tx)
        connection = statements.connection
        name = self._names.get(sql)
        if name is None:
            self._made += 1
            name = self._names[sql] = b"lookup_%d" % self._made
            connection.send_prepare(name, sql.encode())
        statements.send_prepared(name, values)
        connection.pipeline_sync()
        self._flush(connection)

    def _flush(self, connection: pq.abc.PGconn) -> None:
        """Send what is left, now or as soon as the socket takes it. Raises OperationalError."""
        if connection.flush():
            self._loop.add_writer(self._socket, self._flush_later, connection)

    def _flush_later(self, connection: pq.abc.PGconn) -> None:
        try:
            if not connection.flush():
                self._loop.remove_writer(self._socket)
        except psycopg.OperationalError as error:
            self._give_up(str(error))

    def _take(self) -> None:
        """Take the answers that have arrived."""
        if self._tx is None:
            return
        connection = statements_of(self._tx).connection
        try:
            connection.consume_input()
        except psycopg.OperationalError as error:
            self._give_up(str(error))
            return
        while self._sent and not connection.is_busy():
            result = connection.get_result()
            if result is None:  # the end of a statement's results
                if connection.status != pq.ConnStatus.OK:
                    self._give_up(connection.get_error_message())
                    return
            elif result.status == pq.ExecStatus.PIPELINE_SYNC:
                self._answered(self._tx)
            else:
                self._results.append(result)

    def _answered(self, tx: Connection) -> None:
        job, began = self._sent.popleft()
        results, self._results = self._results, []
        (lookup,) = job.functions
        assert isinstance(lookup, Lookup)
        outcome: Any
        try:
            outcome = lookup.answer(tx, statements_of(tx).rows_of(results))
        except Exception as error:  # noqa: BLE001 - the outcome of this lookup, or judged again on a thread
            if self._backend.judge(error, reading=True) is not Verdict.OWN:
                log.debug("a lookup is repeated on a thread: %s", error)
                self._left([job])
                return
            self._names.pop(lookup.for_server(tx)[0], None)  # it may be the preparation that failed
            outcome = error
        job.outcomes = [outcome]
        self._observer.read(1, began - job.came, time.perf_counter() - began)
        self._done([job])
