"""Operations of the write pipeline: their interface, and the forming of sets. *Pure* but for the Connection.

An operation is any object with the interface below, usually a frozen dataclass. Do not inherit from the protocol: a
dataclass would take its properties for field defaults.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar, runtime_checkable

from sqlalchemy import Connection

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Operation(Protocol[R_co]):
    """One all-or-nothing write.

    `run` gets an open transaction and changes nothing else, because it may run again: after a deadlock, and when the
    failure of another operation in the group ended the transaction. Its effects beyond the database go through
    `db.effects`. When it raises, its writes are undone and `write` raises the exception. An operation may also have
    `contents`, see `WithContents`.
    """

    @property
    def mailboxes(self) -> frozenset[int]:
        """All mailboxes that it may write; their rows are locked before any operation runs.

        Operations that share a mailbox keep their order of arrival. Empty for a write on no mailbox (directory, queue),
        which keeps its order relative to all other operations of its lane.
        """
        ...

    @property
    def rows(self) -> int:
        """The approximate number of rows that it writes."""
        ...

    @property
    def octets(self) -> int:
        """The approximate number of octets that it writes, and holds in memory while it waits."""
        ...

    def run(self, tx: Connection) -> R_co: ...


@runtime_checkable
class WithContents(Protocol):
    """An operation that names existing contents: their rows are locked after the mailboxes'."""

    @property
    def contents(self) -> frozenset[int]: ...


@runtime_checkable
class Mergeable(Protocol):
    """An operation whose class can run many operations at once: one read, one `executemany` for each table.

    A class with `one_a_mailbox = True` gets sets in which no two operations share a mailbox.
    """

    @classmethod
    def run_many(cls, tx: Connection, operations: Sequence[Self], /) -> list[Any]:
        """Run the operations; returns one result for each, in order. An exception in the list means that its operation
        wrote nothing.

        If this raises, the whole set is undone and its operations run one by one.
        """
        ...


@dataclass(frozen=True, slots=True)
class Write(Generic[R]):
    """A function of the transaction as an operation, for rare writes that need no class."""

    run: Callable[[Connection], R]
    mailboxes: frozenset[int] = frozenset()
    rows: int = 1
    octets: int = 0
    contents: frozenset[int] = frozenset()


def sets(operations: Sequence[tuple[type, frozenset[int]]]) -> list[list[int]]:
    """Group operations of one mergeable class into sets, keeping the order of operations that share a mailbox.

    Takes (class, mailboxes) of each operation in order of arrival; returns the sets in the order to run, each as
    indexes in order of arrival. An operation may join an earlier set of its class when no operation between the set and
    itself writes one of its mailboxes, because operations on disjoint mailboxes commute. It joins the latest set of its
    class, or, if the class has `one_a_mailbox`, the first behind all sets that write one of its mailboxes. An operation
    without mailboxes keeps its order relative to all others.
    """
    result: list[list[int]] = []
    of_class: dict[type, list[int]] = {}  # the sets of a mergeable class, ascending
    touched: dict[int, int] = {}  # mailbox: the latest set that writes it
    barrier = -1  # the latest set that names no mailbox
    for index, (kind, mailboxes) in enumerate(operations):
        mergeable = hasattr(kind, "run_many")
        known = of_class.setdefault(kind, []) if mergeable else []
        if mailboxes:
            floor = max(barrier, *(touched.get(mailbox, -1) for mailbox in mailboxes))
        else:
            floor = len(result) - 1
        if getattr(kind, "one_a_mailbox", False):
            first = bisect_right(known, floor)
            place = known[first] if first < len(known) else -1
        else:
            place = known[-1] if known and known[-1] >= floor else -1
        if place >= 0:
            result[place].append(index)
        else:
            place = len(result)
            result.append([index])
            known.append(place)
        for mailbox in mailboxes:
            touched[mailbox] = place
        if not mailboxes:
            barrier = place
    return result
