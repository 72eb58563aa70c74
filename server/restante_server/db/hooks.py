"""Interfaces for fault injection by tests and for metrics. The defaults do nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from restante_server.db.operation import Operation


class FaultHooks:
    """Points in the processing of a group at which a test may raise, block or end the process.

    The lane calls them on its thread. It handles an exception from the first three like one of the database.
    """

    def begun(self, tx: Connection) -> None:
        """The transaction is open and has written nothing yet."""

    def before_operation(self, tx: Connection, operations: Sequence[Operation[Any]]) -> None:
        """The savepoint of these operations is set; they run next."""

    def before_commit(self, tx: Connection) -> None:
        """All operations have run; COMMIT is next."""

    def after_commit(self, tx: Connection) -> None:
        """The commit is durable, and no writer has its answer yet. Raising here simulates a lost answer."""


class Observer:
    """Receives figures for metrics, on worker threads: it must be quick and thread-safe, and must not raise."""

    def group(self, lane: int, operations: int, seconds: float, replays: int) -> None:
        """One group of `operations` was committed or failed; its transaction took `seconds`, with `replays` replays."""

    def read(self, functions: int, waited_seconds: float, seconds: float) -> None:
        """So many functions read in one snapshot, after `waited_seconds` in the queue."""

    def checkpoint(self, seconds: float, pages: int) -> None:
        """A checkpoint of SQLite's log took `seconds`; the log then held so many pages."""
