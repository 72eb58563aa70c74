"""The operations of a database that pipeline and reads need; `sqlite.py` and `postgresql.py` have them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, Engine


class Verdict(Enum):
    """The consequence of an exception for its transaction."""

    OWN = "the operation's own error: roll back to its savepoint and go on"
    REPLAY = "a victim of other transactions: run the whole group again"
    LOST = "the connection is gone: run the whole group again on a fresh one"
    UNDONE = "the server ended the transaction and its connection, and nothing stands: run it again on a fresh one"
    BUSY = "the database is locked, or a statement took too long"
    FULL = "no room"


@dataclass(frozen=True, slots=True)
class Features:
    """Abilities of this database. `version`: three numbers of the server or library."""

    version: tuple[int, int, int]
    fts5: bool = False
    trigram: bool = False
    contentless_delete: bool = False  # FTS5 tables that allow DELETE without the old values


class Savepoint(Protocol):
    """One savepoint that moves through a group, set on the driver's own cursor."""

    def advance(self) -> None:
        """Sets it here; what the operation before wrote is then part of the group.

        Raises when the transaction is unusable, for instance because that operation hid a failed statement.
        """
        ...

    def rewind(self) -> None:
        """Undoes everything since `advance`; the savepoint stands as if just set."""
        ...


class Backend(Protocol):
    """One database by URL. Its methods are called on worker threads; a Connection stays on the thread that made it."""

    @property
    def name(self) -> str:
        """The SQLAlchemy name of the dialect: sqlite or postgresql."""
        ...

    @property
    def features(self) -> Features: ...

    @property
    def writer_engine(self) -> Engine: ...

    @property
    def lanes(self) -> int:
        """How many transactions may write at once."""
        ...

    @property
    def locks_rows(self) -> bool:
        """True when several transactions can write at once and rows must therefore be locked in order."""
        ...

    def writer(self) -> Connection: ...

    def reader(self) -> Connection: ...

    def savepoint(self, tx: Connection) -> Savepoint: ...

    def usable(self, tx: Connection) -> bool:
        """True while the transaction is open and would commit what it holds."""
        ...

    def open(self, tx: Connection) -> bool:
        """True while there is a transaction to roll back to a savepoint of."""
        ...

    def judge(self, error: BaseException, *, reading: bool = False) -> Verdict:
        """The verdict on this exception alone, without its causes."""
        ...

    def interrupt(self, tx: Connection) -> None:
        """Stops the statement that `tx` runs on another thread, if it runs one; may block for a round trip."""
        ...

    def committed(self, octets: int) -> None:
        """Told by a lane after each commit, with about how much it wrote."""
        ...

    def between_groups(self, tx: Connection) -> None:
        """Called by a lane outside any transaction, for the upkeep that only a writer can do."""
        ...

    @property
    def file(self) -> Path | None:
        """The database's file; None when another process keeps it."""
        ...

    @property
    def unused_octets(self) -> int:
        """Unused octets in the file, as of a second ago."""
        ...

    def give_back(self, tx: Connection, keep_octets: int, most_octets: int) -> bool:
        """Gives at most so many unused octets back to the file system, in a write transaction, and keeps the rest.

        False when there was nothing to give.
        """
        ...

    def close(self) -> None: ...


LockRows = Callable[[Connection, Sequence[int]], object]
"""Locks the rows of these ids, given in ascending order, in that order (SELECT ... ORDER BY id FOR UPDATE)."""
