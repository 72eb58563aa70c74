"""Operations of the write pipeline: their shape, and how waiting ones form sets. *Pure* but for the Connection.

An operation is any object of the shape below, usually a frozen dataclass. Do not inherit from the protocol: its
properties would be taken for field defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar, runtime_checkable

from sqlalchemy import Connection

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Operation(Protocol[R_co]):
    """One all-or-nothing write.

    `run` gets an open transaction and touches nothing else, since it may run again: after a deadlock, and when a
    neighbour's failure took the transaction with it. Its effects beyond the database go through `db.effects`. What it
    raises becomes the answer of `write`, and nothing it wrote stays. An operation may also have `contents`, see
    `WithContents`.
    """

    @property
    def mailboxes(self) -> frozenset[int]:
        """Every mailbox it may write: their rows are locked before anything runs.

        Operations sharing a mailbox keep their order of arrival. None named: a write on no mailbox (directory,
        queue), which keeps its order towards all others of its lane.
        """
        ...

    @property
    def rows(self) -> int:
        """About how many rows it writes."""
        ...

    @property
    def octets(self) -> int:
        """About how many octets it writes and holds in memory while it waits."""
        ...

    def run(self, tx: Connection) -> R_co: ...


@runtime_checkable
class WithContents(Protocol):
    """An operation that names existing contents: their rows are locked after the mailboxes'."""

    @property
    def contents(self) -> frozenset[int]: ...


@runtime_checkable
class Mergeable(Protocol):
    """An operation whose class can run many of its kind at once: one read, one `executemany` a table."""

    @classmethod
    def run_many(cls, tx: Connection, operations: Sequence[Self], /) -> list[Any]:
        """Returns one result for each operation, in order; an exception in the list means that operation wrote nothing.

        Raising undoes the whole set, and its operations then run one by one.
        """
        ...


@dataclass(frozen=True, slots=True)
class Write(Generic[R]):
    """A function of the transaction as an operation, for writes too rare to deserve a class."""

    run: Callable[[Connection], R]
    mailboxes: frozenset[int] = frozenset()
    rows: int = 1
    octets: int = 0
    contents: frozenset[int] = frozenset()


def sets(operations: Sequence[tuple[type, frozenset[int]]]) -> list[list[int]]:
    """Puts operations of one mergeable class together, without ever passing one that shares a mailbox.

    Takes (class, mailboxes) of each operation in order of arrival; returns the sets in the order to run, each as
    indexes in order of arrival. An operation may join an earlier set of its class when nothing between that set and
    itself writes one of its mailboxes: disjoint mailboxes commute. One that names no mailbox passes nothing and
    is passed by nothing.
    """
    result: list[list[int]] = []
    open_set: dict[type, int] = {}  # class: its latest set
    touched: dict[int, int] = {}  # mailbox: the latest set that writes it
    barrier = -1  # the latest set that names no mailbox
    for index, (kind, mailboxes) in enumerate(operations):
        mergeable = hasattr(kind, "run_many")
        place = open_set.get(kind, -1) if mergeable else -1
        if mailboxes:
            floor = max(barrier, *(touched.get(mailbox, -1) for mailbox in mailboxes))
        else:
            floor = len(result) - 1
        if place >= 0 and place >= floor:
            result[place].append(index)
        else:
            place = len(result)
            result.append([index])
            if mergeable:
                open_set[kind] = place
        for mailbox in mailboxes:
            touched[mailbox] = place
        if not mailboxes:
            barrier = place
    return result
