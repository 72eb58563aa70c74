"""Faults of the database: a failed commit, a lost answer, a stopped write lane, a full disk, a lock.

`open_database(faults=...)` takes a `DatabaseFaults`; nothing is patched. The full disk and the lock are real ones.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection
from typing_extensions import override

from restante_server.db.hooks import FaultHooks
from restante_server.db.operation import Operation

Fault = Callable[[Connection], object]


def kill_process(_tx: Connection) -> None:
    """A fault: the process dies at this point by SIGKILL."""
    os.kill(os.getpid(), signal.SIGKILL)


def raising(error: BaseException) -> Fault:
    """A fault that raises an error."""

    def fault(_tx: Connection) -> None:
        raise error

    return fault


def fill_disk(tx: Connection) -> None:
    """A fault of SQLite: the database of this connection may not grow until `free_disk`."""
    pages: int = tx.exec_driver_sql("PRAGMA page_count").scalar_one()
    tx.exec_driver_sql(f"PRAGMA max_page_count={pages}")


def free_disk(tx: Connection) -> None:
    """The end of the fault of `fill_disk`."""
    tx.exec_driver_sql("PRAGMA max_page_count=4294967294")


@contextmanager
def write_lock(path: Path) -> Iterator[None]:
    """Hold SQLite's write lock, as another process might, for the time of the context."""
    other = sqlite3.connect(path, isolation_level=None, timeout=10)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


class DatabaseFaults(FaultHooks):
    """Each list has the faults of the next passages of its point, one for each passage."""

    def __init__(self) -> None:
        self.at_begin: list[Fault | None] = []
        self.at_commit: list[Fault | None] = []
        self.after: list[Fault | None] = []
        self.before: list[Callable[[Sequence[Operation[Any]]], object]] = []  # called with every set of operations
        self._gate = threading.Event()
        self._gate.set()
        self.reached = threading.Event()

    @contextmanager
    def lanes_stopped(self) -> Iterator[None]:
        """Stop every transaction at its begin for the time of the context, so that writes must wait.

        The first group to arrive sets `reached`; it holds the operations that had been waiting until then.
        """
        self.reached.clear()
        self._gate.clear()
        try:
            yield
        finally:
            self._gate.set()

    @override
    def begun(self, tx: Connection) -> None:
        if not self._gate.is_set():
            self.reached.set()
            assert self._gate.wait(30), "the lanes were stopped and never let go"
        _next(self.at_begin, tx)

    @override
    def before_operation(self, tx: Connection, operations: Sequence[Operation[Any]]) -> None:
        for told in self.before:
            told(operations)

    @override
    def before_commit(self, tx: Connection) -> None:
        _next(self.at_commit, tx)

    @override
    def after_commit(self, tx: Connection) -> None:
        _next(self.after, tx)


def _next(faults: list[Fault | None], tx: Connection) -> None:
    if faults and (fault := faults.pop(0)) is not None:
        fault(tx)
