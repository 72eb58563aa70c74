"""Seams: where tests put faults, and where metrics listen. Both do nothing unless given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from restante_server.db.operation import Operation


class FaultHooks:
    """Points of a group's way where a test may raise, block or end the process. Called on the lane's thread.

    What is raised from the first three is handled as if the database had raised it.
    """

    def begun(self, tx: Connection) -> None:
        """The transaction is open, nothing is written yet."""

    def before_operation(self, tx: Connection, operations: Sequence[Operation[Any]]) -> None:
        """In the savepoint of these operations, just before they run."""

    def before_commit(self, tx: Connection) -> None:
        """All have run; the next step is COMMIT."""

    def after_commit(self, tx: Connection) -> None:
        """The commit is durable and nobody has been told. Raising here looks like a commit whose answer was lost."""


class Observer:
    """Figures, as they arise. Called on worker threads: must be quick, thread-safe, and must not raise."""

    def group(self, lane: int, operations: int, seconds: float, replays: int) -> None:
        """One group was committed or failed: how many operations it held, and how long its transaction took."""

    def read(self, functions: int, waited_seconds: float, seconds: float) -> None:
        """One snapshot was read by this many functions."""

    def checkpoint(self, seconds: float, pages: int) -> None:
        """One checkpoint of SQLite's log was made; the log then held this many pages."""
