"""The interface of a database for the pipeline and the reads; `sqlite.py` and `postgresql.py` implement it."""

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


class Transaction(Protocol):
    """One transaction of a Connection, begun by `Backend.begin`."""

    def commit(self) -> None: ...

    def rollback(self) -> None:
        """Roll back. Does nothing when the transaction has ended."""
        ...


class Savepoint(Protocol):
    """One savepoint that moves through a group, set on the driver's cursor."""

    def advance(self) -> None:
        """Set the savepoint here; the writes of the operation before then belong to the group.

        Raises when the transaction is unusable, for instance because that operation hid a failed statement.
        """
        ...

    def rewind(self) -> None:
        """Undo all writes since `advance`; the savepoint stays set."""
        ...


class Backend(Protocol):
    """One database. Call its methods on worker threads; a Connection stays on the thread that made it."""

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
        """The number of transactions that may write concurrently."""
        ...

    @property
    def reads_on_loop(self) -> bool:
        """Whether a read of few rows never waits, so that the event loop's thread may do it."""
        ...

    @property
    def has_server(self) -> bool:
        """Whether statements go to a PostgreSQL server, so that their answers can be awaited."""
        ...

    @property
    def locks_rows(self) -> bool:
        """Whether several transactions can write concurrently, so that rows must be locked in order."""
        ...

    def writer(self) -> Connection: ...

    def reader(self) -> Connection: ...

    def begin(self, tx: Connection) -> Transaction:
        """Begin a transaction on a connection that `writer` or `reader` made and nothing else uses."""
        ...

    def savepoint(self, tx: Connection) -> Savepoint: ...

    def settle(self, tx: Connection) -> None:
        """Wait for the answers of statements that were sent without waiting. Raises the first error among them."""
        ...

    def usable(self, tx: Connection) -> bool:
        """Whether the transaction is open and a commit would keep its writes."""
        ...

    def open(self, tx: Connection) -> bool:
        """Whether the transaction still exists, so that it can roll back to a savepoint."""
        ...

    def judge(self, error: BaseException, *, reading: bool = False) -> Verdict:
        """The verdict on this exception alone, without its causes."""
        ...

    def interrupt(self, tx: Connection) -> None:
        """Stop the statement that `tx` runs on another thread, if any; may block for a round trip."""
        ...

    def committed(self, octets: int) -> None:
        """Note a commit of about so many octets. A lane calls this after each commit."""
        ...

    def between_groups(self, tx: Connection) -> None:
        """Do the upkeep that only a writer can do. A lane calls this outside any transaction."""
        ...

    @property
    def file(self) -> Path | None:
        """The database's file; None for a database server."""
        ...

    @property
    def unused_octets(self) -> int:
        """Unused octets in the file, measured at most about a second ago."""
        ...

    def give_back(self, tx: Connection, keep_octets: int, most_octets: int) -> bool:
        """Return at most `most_octets` unused octets to the file system, in a write transaction, and keep the rest.

        Returns False when no more than `keep_octets` are unused.
        """
        ...

    def close(self) -> None: ...


LockRows = Callable[[Connection, Sequence[int]], object]
"""Locks the rows of these ids, which are ascending, in this order (SELECT ... ORDER BY id FOR UPDATE)."""
