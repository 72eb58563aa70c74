"""Messages that left a folder, kept for the sessions that have not been told of it (RFC 2180 4.1.2). *Pure.*

The steps in which messages left form a chain that points forward only: a session holds the step that it was told last,
and with it all later ones. What every session has been told of is held by nobody and so forgotten.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Final, NamedTuple, Protocol

from restante.v1.types_pb2 import FolderChanges
from restante_gateways.imap import sets
from restante_gateways.imap.sets import Range, Span
from restante_gateways.imap.states import StateTable

MOST_KEPT: Final = 262_144  # messages of one folder, about 6 MB: a session that lags behind more must end


class Lapsed(Exception):
    """A message left so long ago, or so many left since, that nothing of it is kept: the session must end."""


class Columns(Protocol):
    """Messages in ascending UID order, one entry of each column for each."""

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
        """Indices into the table."""
        ...

    @property
    def change_numbers(self) -> Sequence[int]:
        """Change numbers."""
        ...

    @property
    def table(self) -> StateTable:
        """The states."""
        ...


class Departed:
    """Messages that left, as they were then."""

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
            return array(typecode, chain.from_iterable(column[first:stop] for first, stop in cuts))

        return cls(
            columns.table,
            taken("I", columns.uids),
            taken("q", columns.message_ids),
            taken("I", columns.states),
            taken("q", columns.change_numbers),
        )

    @classmethod
    def united(cls, parts: Sequence[Departed]) -> Departed:
        """The messages of all parts, of which no two have one in common."""
        if len(parts) == 1:
            return parts[0]
        table = parts[-1].table
        rows = sorted(row for part in parts for row in part.rows(table))
        uids, message_ids, states, numbers = zip(*rows, strict=True)
        return cls(table, array("I", uids), array("q", message_ids), array("I", states), array("q", numbers))

    def rows(self, table: StateTable) -> Iterator[tuple[int, int, int, int]]:
        """(UID, message id, state, change number) of each message, the states by another table."""
        states: Sequence[int] = self.states
        if table is not self.table:
            moved = {
                state: table.index(int(self.table.flags[state].system), self.table.flags[state].keywords)
                for state in set(states)
            }
            states = [moved[state] for state in states]
        return zip(self.uids, self.message_ids, states, self.change_numbers, strict=True)


class Step:
    """A moment between two removals. What leaves next, and the step that follows, are filled in when it leaves."""

    __slots__ = ("before", "departed", "following")

    def __init__(self, before: int = 0) -> None:
        self.before = before  # messages that left the folder before this moment
        self.departed: Departed | None = None
        self.following: Step | None = None

    def leave(self, departed: Departed) -> Step:
        """These messages leave; returns the step that follows."""
        self.departed = departed
        self.following = Step(self.before + len(departed.uids))
        return self.following

    def since(self) -> list[Departed]:
        """What left after this moment, oldest first."""
        parts: list[Departed] = []
        step: Step | None = self
        while step is not None and step.departed is not None:
            parts.append(step.departed)
            step = step.following
        return parts

    def amend(self, changes: FolderChanges) -> None:
        """Give what left after this moment the flags that a change has which became known later than the removal."""
        rows = {uid: row for row, uid in enumerate(changes.uids)}
        sets_of, keyword_table = changes.keyword_sets, changes.keyword_table
        for part in self.since():
            for at, uid in enumerate(part.uids):
                row = rows.get(uid)
                if row is not None and part.change_numbers[at] < changes.change_numbers[row]:
                    keywords = tuple(keyword_table[sets_of[row]].keywords) if sets_of else ()
                    part.states[at] = part.table.index(changes.flags[row], keywords)
                    part.change_numbers[at] = changes.change_numbers[row]


class Segment(NamedTuple):
    """Neighbours in a session's numbering that are neighbours in `columns`, too."""

    first: int  # position in the session's numbering
    length: int
    columns: Columns
    at: int  # position in the columns


class Lag:
    """Where the messages of an older numbering are now: still in the folder, or departed."""

    __slots__ = ("_departed", "_folder", "_lost", "runs")

    def __init__(self, folder: Columns, departed: Departed | None, runs: list[Span]) -> None:
        """`runs` are the positions of what left; `departed` has it in that order, None when it is not kept."""
        self._folder, self._departed, self.runs = folder, departed, runs
        self._lost = [0]  # messages that left before each run, and in all
        for first, stop in runs:
            self._lost.append(self._lost[-1] + stop - first)

    def segments(self, first: int, stop: int) -> Iterator[Segment]:
        """The positions from `first` to `stop`, in order. Raises Lapsed at a message of which nothing is kept."""
        at = bisect_right(self.runs, (first, sets.STAR)) - 1  # the last run that begins here or before
        if at >= 0 and self.runs[at][1] <= first:
            at += 1
        at = max(at, 0)
        while first < stop:
            begin, end = self.runs[at] if at < len(self.runs) else (stop, stop)
            if first < begin:
                until = min(begin, stop)
                yield Segment(first, until - first, self._folder, first - self._lost[at])
            else:
                until = min(end, stop)
                if self._departed is None:
                    raise Lapsed
                yield Segment(first, until - first, self._departed, self._lost[at] + first - begin)
                at += 1
            first = until


def positions_of(departed: Departed, uids: Sequence[int], count: int) -> list[Span]:
    """Where departed messages are among the first `count` of the ascending `uids`, which may lack the latest."""
    ranges: list[Range] = sets.compress(departed.uids)
    return sets.positions(uids, count, ranges)
