"""Failures of the database layer; the exceptions of an operation pass through unchanged.

The layer raises a class of `restante.errors` where one fits: DeadlineExceeded (a write was not started, a read was
interrupted), StoreBusy (locked, unreachable, or too many wait), StoreFull (no room for this write), Draining (closing).
A write that raises one of these has written nothing. Their texts hold no SQL and no path; the cause is chained.
"""

from __future__ import annotations

from restante.errors import StoreBusy


class DatabaseError(Exception):
    """Base class of failures that do not concern clients: program errors, and errors in opening the store."""


class CommitFailed(StoreBusy):
    """The commit failed, or its answer was lost: only the database knows whether the write was committed.

    Clients see StoreBusy; a retry with the same request id gives a certain outcome.
    """


class StoreLocked(DatabaseError):
    """Another process holds the store. `holder` is its process id, or None when the lock file has none."""

    def __init__(self, message: str, holder: int | None) -> None:
        super().__init__(message)
        self.holder = holder


class UnsupportedDatabase(DatabaseError):
    """The URL names an unsupported database, or one that is too old; the text names the problem."""


class NoStore(DatabaseError):
    """The configured place has no store yet."""


class NoSealingKey(DatabaseError):
    """The store has lost its sealing keys; the text says what to do."""


class UnknownSchema(DatabaseError):
    """The store's schema is not the one this program was built for. `found` and `expected` are Alembic revisions.

    `migratable`: this program's migration can bring the schema to `expected`.
    """

    def __init__(self, message: str, found: str | None, expected: str, *, migratable: bool = False) -> None:
        super().__init__(message)
        self.migratable = migratable
        self.found = found
        self.expected = expected
