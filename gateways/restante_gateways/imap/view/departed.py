"""Messages that left a folder, kept for sessions that have not been told of it (RFC 2180 4.1.2). *Pure.*

The steps in which messages left form a chain that points forward only: a session holds the step that it was told last,
and with it all later ones. A step that every session has been told of is held by none of them, and is forgotten.
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

MOST_KEPT = 65_536  # messages, about 2 MB: a session that lags behind more must end if it asks for one of them
_MANY = 16  # more than one in so many are added by sorting all anew


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
        """Add messages that are not among these: a few by themselves, many by sorting anew."""
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
        """These messages, to be added to."""
        return Departed(self.table, *(column[:] for column in self._columns()))

    def amend(self, uid: int, change_number: int, flags: Flags) -> bool:
        """Give a message the flags of a change that is later than the one known; False where there is nothing to do."""
        at = bisect_left(self.uids, uid)
        if at == len(self.uids) or self.uids[at] != uid or self.change_numbers[at] >= change_number:
            return False
        self.states[at] = self.table.index(int(flags.system), flags.keywords)
        self.change_numbers[at] = change_number
        return True

    def _columns(self) -> tuple[array[int], array[int], array[int], array[int]]:
        return self.uids, self.message_ids, self.states, self.change_numbers

    def _rows(self, table: StateTable) -> Iterator[tuple[int, int, int, int]]:
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
    """A moment between two removals. The next removal fills in the messages that leave and the step that follows."""

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

    def until(self, last: Step) -> list[Departed]:
        """The messages that left between this moment and a later one, oldest first."""
        parts: list[Departed] = []
        step: Step | None = self
        while step is not None and step is not last and step.departed is not None:
            parts.append(step.departed)
            step = step.following
        return parts


class Segment(NamedTuple):
    """Neighbours in a session's numbering that are neighbours in `columns`, too."""

    first: int  # position in the session's numbering
    length: int
    columns: Columns
    at: int  # position in the columns


class Lag:
    """Where the messages of an older numbering are now: still in the folder, or departed.

    A message that leaves costs a session about the same, however far it lags: departed messages are kept in one set
    of columns, shared with other sessions as long as one step holds them all.
    """

    __slots__ = ("_count", "_departed", "_folder", "_gone", "_shared", "_uids", "step")

    def __init__(self, folder: Columns, uids: Sequence[int], count: int, step: Step) -> None:
        """`uids` are those of the numbering, of which the first `count` matter, as they were at `step`."""
        self._folder, self._uids, self._count = folder, uids, count
        self.step = step  # where everything is, is known as of this moment
        self._departed: Departed | None = None
        self._shared = False
        self._gone = array("I")  # positions of departed messages, ascending: the n-th is the n-th of the departed

    @classmethod
    def lapsed(cls, folder: Columns, uids: Sequence[int], count: int, step: Step) -> Lag:
        """The same by comparing both, where nothing is kept of the departed messages."""
        lag = cls(folder, uids, count, step)
        kept = set(folder.uids)
        lag._gone = array("I", [at for at in range(count) if uids[at] not in kept])
        return lag

    def follow(self, last: Step, keep: bool) -> None:
        """Take in the messages that left up to a later moment, with their rows if they are to be kept."""
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
        """As of Departed."""
        return self._departed is not None and self._departed.amend(uid, change_number, flags)

    def runs(self) -> list[Span]:
        """The positions of all that left."""
        return [(first, last + 1) for first, last in ranges.compress(self._gone)]

    def segments(self, first: int, stop: int) -> Iterator[Segment]:
        """These positions in order. Raises Lapsed at a message of which nothing is kept."""
        for begin, end, at in self._pieces(first, stop):
            if at is None:
                lost = bisect_left(self._gone, begin)
                yield Segment(begin, end - begin, self._folder, begin - lost)
            elif self._departed is None:
                raise Lapsed
            else:
                yield Segment(begin, end - begin, self._departed, at)

    def there(self, first: int, stop: int) -> list[Span]:
        """Those of these positions whose messages are still in the folder."""
        return [(begin, end) for begin, end, at in self._pieces(first, stop) if at is None]

    def _pieces(self, first: int, stop: int) -> Iterator[tuple[int, int, int | None]]:
        """Runs of positions that are still there or not; of the latter where their first is among the departed."""
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
