"""Marks on a transaction: something in memory is out of date once this is committed.

A function of a transaction says `mark(tx, name)`; who keeps something in memory asks `Database.when_committed` to be
told as soon as the commit is durable, before its writers are answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from sqlalchemy import Connection

DIRECTORY: Final = "directory"
"""What an address stands for has changed, or a quota."""

IN_DOUBT: Final = "in doubt"
"""It is not known whether a commit stands: what memory has of any mailbox may be behind. No transaction marks this
itself; the group tells it when the answer to a commit is lost."""

_KEY: Final = "restante.marks"


def mark(tx: Connection, name: str) -> None:
    """Have those who asked for this mark told after the commit; they may be told for nothing, too."""
    tx.info.setdefault(_KEY, set()).add(name)


def take(tx: Connection) -> frozenset[str]:
    """The marks of a transaction, which it then has no longer: for who is about to commit it."""
    return frozenset(tx.info.pop(_KEY, ()))


class Marks:
    """Who is told of which mark, on the lane's thread: it must be quick, thread-safe, and not raise."""

    def __init__(self) -> None:
        self._told: dict[str, list[Callable[[], object]]] = {}

    def when_committed(self, name: str, tell: Callable[[], object]) -> None:
        self._told.setdefault(name, []).append(tell)

    def tell(self, names: Iterable[str]) -> None:
        """A transaction with these marks stands, or may stand."""
        for name in names:
            for tell in self._told.get(name, ()):
                tell()
