"""Failures of the database layer itself; exceptions of an operation pass through unchanged.

Where `restante.errors` has the reason, its class is raised: DeadlineExceeded (a write was not started, a read was
interrupted), StoreBusy (locked, away, or too many wait), StoreFull (no room for this write), Draining (closing). None
of these has written anything, and none carries SQL or a path in its text; the cause is chained.
"""

from __future__ import annotations

from restante.errors import StoreBusy


class DatabaseError(Exception):
    """Base of the rest, which is no client's business: a fault of ours, or of how the store was opened."""


class CommitFailed(StoreBusy):
    """The commit failed, or its answer was lost: the write may stand or not, and only the database can tell.

    Clients see StoreBusy: asking again under the same request id settles it.
    """


class StoreLocked(DatabaseError):
    """Another process holds the store. `holder` is its process id, or None when the lock file does not tell."""

    def __init__(self, message: str, holder: int | None) -> None:
        super().__init__(message)
        self.holder = holder


class UnsupportedDatabase(DatabaseError):
    """The URL names a database we do not speak to, or one that is too old; the text names what is missing."""


class NoStore(DatabaseError):
    """There is no store yet where the configuration says that it is."""


class UnknownSchema(DatabaseError):
    """The store's schema is not the one this program was built for. `found` and `expected` are Alembic revisions.

    `migratable`: the migration of this program makes it so.
    """

    def __init__(self, message: str, found: str | None, expected: str, *, migratable: bool = False) -> None:
        super().__init__(message)
        self.migratable = migratable
        self.found = found
        self.expected = expected
