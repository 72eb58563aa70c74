"""Removed messages, kept for sessions that have not announced the removal yet (RFC 2180 4.1.2). *Pure.*

Removals form a chain of steps that point forward only. A session references the last step that it announced, and so all
later ones. Python frees a step once every session has announced it.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple, Protocol

from restante_gateways.imap.grammar.flags import Flags
from restante_gateways.imap.grammar.sets import Span
from restante_gateways.imap.view.states import StateTable
from restante_mail import ranges

MOST_KEPT = 65_536  # messages, about 2 MB; a session behind by more must end if it reads one of them
_MANY = 16  # above 1/16 of the size, additions are merged by a sort instead of insertions


class Lapsed(Exception):
    """The row of a removed message is no longer kept, so the session must end."""


class Columns(Protocol):
    """Messages in ascending UID order; each column has one entry for each message."""

    @property
    def uids(self) -> Sequence[int]:
        """UIDs."""
        ...

    @property
    def message_ids(self) -> Sequence[int]:
        """Message ids."""
        ...

    @property
    def states(self) -> Sequence[int]:
        """Indices into `table`."""
        ...

    @property
    def change_numbers(self) -> Sequence[int]:
        """Change numbers."""
        ...

    @property
    def table(self) -> StateTable:
        """The states of the messages."""
        ...


class Departed:
    """The rows of removed messages at the time of removal."""

    __slots__ = ("change_numbers", "message_ids", "states", "table", "uids")

    def __init__(
        self,
        table: StateTable,
        uids: array[int],
        message_ids: array[int],
        states: array[int],
        change_numbers: array[int],
    ) -> None:
        self.table = table
        self.uids, self.message_ids, self.states, self.change_numbers = uids, message_ids, states, change_numbers

    @classmethod
    def of(cls, columns: Columns, cuts: Sequence[Span]) -> Departed:
        """A copy of the messages at these positions."""

        def taken(typecode: str, column: Sequence[int]) -> array[int]:
            cells = array(typecode)
            for first, stop in cuts:
                cells.extend(column[first:stop])
            return cells

        return cls(
            columns.table,
            taken("I", columns.uids),
            taken("q", columns.message_ids),
            taken("I", columns.states),
            taken("q", columns.change_numbers),
        )

    def take_in(self, others: Sequence[Departed]) -> None:
        """Add other removed messages: a few by insertion, many by a sort."""
        count = sum(len(other.uids) for other in others)
        if count * _MANY > len(self.uids):
            rows = sorted(chain(self._rows(self.table), *(other._rows(self.table) for other in others)))
            for column, cells in zip(self._columns(), zip(*rows, strict=True), strict=True):
                column[:] = array(column.typecode, cells)
            return
        for other in others:
            for row in other._rows(self.table):
                at = bisect_left(self.uids, row[0])
                for column, cell in zip(self._columns(), row, strict=True):
                    column.insert(at, cell)

    def copy(self) -> Departed:
        """A copy that can be extended."""
        return Departed(self.table, *(column[:] for column in self._columns()))

    def amend(self, uid: int, change_number: int, flags: Flags) -> bool:
        """Give a message the flags of a later change. Return False if it is absent or has that change already."""
        at = bisect_left(self.uids, uid)
        if at == len(self.uids) or self.uids[at] != uid or self.change_numbers[at] >= change_number:
            return False
        self.states[at] = self.table.index(int(flags.system), flags.keywords)
        self.change_numbers[at] = change_number
        return True

    def _columns(self) -> tuple[array[int], array[int], array[int], array[int]]:
        return self.uids, self.message_ids, self.states, self.change_numbers

    def _rows(self, table: StateTable) -> Iterator[tuple[int, int, int, int]]:
        """(UID, message id, state, change number) of each message, with states as indices into `table`."""
        states: Sequence[int] = self.states
        if table is not self.table:
            moved = {
                state: table.index(int(self.table.flags[state].system), self.table.flags[state].keywords)
                for state in set(states)
            }
            states = [moved[state] for state in states]
        return zip(self.uids, self.message_ids, states, self.change_numbers, strict=True)


class Step:
    """A moment between two removals. The next removal sets `departed` and `following`."""

    __slots__ = ("before", "departed", "following")

    def __init__(self, before: int = 0) -> None:
        self.before = before  # number of messages removed before this moment
        self.departed: Departed | None = None
        self.following: Step | None = None

    def leave(self, departed: Departed) -> Step:
        """Record a removal; return the step after it."""
        self.departed = departed
        self.following = Step(self.before + len(departed.uids))
        return self.following

    def until(self, last: Step) -> list[Departed]:
        """The messages removed between this moment and a later one, oldest first."""
        parts: list[Departed] = []
        step: Step | None = self
        while step is not None and step is not last and step.departed is not None:
            parts.append(step.departed)
            step = step.following
        return parts


class Segment(NamedTuple):
    """Adjacent messages in a session's numbering that are adjacent in `columns`, too."""

    first: int  # position in the session's numbering
    length: int
    columns: Columns
    at: int  # position in the columns


class Lag:
    """The places of an older numbering's messages: in the folder's columns, or among the removed messages.

    A removal costs a session about the same time, however far it lags. The rows of removed messages are kept in one set
    of columns, which sessions share as long as a single step holds them all.
    """

    __slots__ = ("_count", "_departed", "_folder", "_gone", "_shared", "_uids", "step")

    def __init__(self, folder: Columns, uids: Sequence[int], count: int, step: Step) -> None:
        """The numbering is the first `count` of `uids`, as of `step`."""
        self._folder, self._uids, self._count = folder, uids, count
        self.step = step  # removals up to here are included
        self._departed: Departed | None = None
        self._shared = False
        self._gone = array("I")  # positions of removed messages, ascending; the n-th belongs to row n of _departed

    @classmethod
    def lapsed(cls, folder: Columns, uids: Sequence[int], count: int, step: Step) -> Lag:
        """Build a Lag by comparing numbering and folder, when the rows of removed messages are no longer kept."""
        lag = cls(folder, uids, count, step)
        kept = set(folder.uids)
        lag._gone = array("I", [at for at in range(count) if uids[at] not in kept])
        return lag

    def follow(self, last: Step, keep: bool) -> None:
        """Include the removals up to a later moment; with `keep` also the rows of the removed messages."""
        parts, self.step = self.step.until(last), last
        if parts and keep:
            self._keep(parts)
        found: list[int] = []
        for part in parts:
            for uid in part.uids:
                at = bisect_left(self._uids, uid, 0, self._count)
                if at < self._count and self._uids[at] == uid:
                    found.append(at)
        if len(found) * _MANY > len(self._gone):
            self._gone = array("I", sorted(chain(self._gone, found)))
        else:
            for at in found:
                insort(self._gone, at)

    def _keep(self, parts: Sequence[Departed]) -> None:
        if self._departed is None:
            self._departed, self._shared, parts = parts[0], True, parts[1:]
        if parts:
            if self._shared:
                self._departed, self._shared = self._departed.copy(), False
            self._departed.take_in(parts)

    def amend(self, uid: int, change_number: int, flags: Flags) -> bool:
        """Give a removed message the flags of a later change, as Departed.amend does."""
        return self._departed is not None and self._departed.amend(uid, change_number, flags)

    def runs(self) -> list[Span]:
        """The positions of all removed messages."""
        return [(first, last + 1) for first, last in ranges.compress(self._gone)]

    def segments(self, first: int, stop: int) -> Iterator[Segment]:
        """The segments of these positions, in order. Raises Lapsed at a removed message whose row is not kept."""
        for begin, end, at in self._pieces(first, stop):
            if at is None:
                lost = bisect_left(self._gone, begin)
                yield Segment(begin, end - begin, self._folder, begin - lost)
            elif self._departed is None:
                raise Lapsed
            else:
                yield Segment(begin, end - begin, self._departed, at)

    def there(self, first: int, stop: int) -> list[Span]:
        """The subset of these positions whose messages are still in the folder."""
        return [(begin, end) for begin, end, at in self._pieces(first, stop) if at is None]

    def _pieces(self, first: int, stop: int) -> Iterator[tuple[int, int, int | None]]:
        """Runs (first, stop, row) of positions: row is None for present messages, else the first row in _departed."""
        gone, at = self._gone, bisect_left(self._gone, first)
        while first < stop:
            if at == len(gone) or gone[at] > first:
                end = stop if at == len(gone) else min(gone[at], stop)
                yield first, end, None
            else:
                begun = at
                while at < len(gone) and gone[at] == first + at - begun and gone[at] < stop:
                    at += 1
                end = first + at - begun
                yield first, end, begun
            first = end
