"""Sequence numbers of one session in one folder, which may lag behind the folder. *Pure.*

A session shares its array of UIDs with the folder's view. When a message is removed, the session keeps the older array
until it has announced the removal, and meanwhile can still read the removed message with its last flags. A session
costs a few hundred octets for a folder of any size, and its numbers never shift between announcements
(RFC 3501 5.5, 7.4.1; RFC 2180).
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import cache

from restante_gateways.imap.grammar import sets
from restante_gateways.imap.grammar.flags import Flags, SystemFlag
from restante_gateways.imap.grammar.sets import SequenceSet, Span
from restante_gateways.imap.values import Changes
from restante_gateways.imap.view import departed
from restante_gateways.imap.view.departed import Columns, Lag, Segment, Step
from restante_gateways.imap.view.folder import FolderView
from restante_gateways.imap.view.states import StateTable
from restante_mail import ranges
from restante_mail.ranges import Range

_MARKED = re.compile(rb"\x01+")
_FEW = 16  # states; more are looked through as octets, without a step of the interpreter for each


class Numbering:
    """The messages known to a client. A span has positions among them: sequence numbers first + 1 to stop.

    Methods that read facts of messages raise Lapsed at a removed message whose row is no longer kept.
    """

    __slots__ = ("_lag", "_step", "count", "folder", "uids")

    def __init__(self, folder: FolderView) -> None:
        self.folder = folder
        self.uids: array[int] = folder.uids
        self.count = len(folder.uids)  # messages known to the client
        self._step: Step | None = folder.step  # the last announced removal; None: too many removals since
        self._lag: Lag | None = None  # built on first use

    # --- numbers ---

    @property
    def aligned(self) -> bool:
        """Whether positions here equal positions in the folder's columns."""
        return self.uids is self.folder.uids

    def spans(self, messages: SequenceSet, uid: bool) -> list[Span] | None:
        """The positions of a set, ascending; None if a sequence number in it does not exist (RFC 3501 6.4.8)."""
        return self.known_spans(messages, uid) if uid or messages.all_within(self.count) else None

    def known_spans(self, messages: SequenceSet, uid: bool) -> list[Span]:
        """The positions of the set's messages that the client knows, ascending."""
        if uid:
            largest = self.uids[self.count - 1] if self.count else 0
            return sets.positions(self.uids, self.count, messages.resolve(largest))
        return [(low - 1, high) for low, high in messages.numbers_within(self.count)]

    def uid_ranges(self, spans: Iterable[Span]) -> list[Range]:
        """The UIDs at these positions: one range for each span, since no other known message lies between."""
        return [(self.uids[first], self.uids[stop - 1]) for first, stop in spans]

    def position(self, uid: int, at_least: int = 0) -> int | None:
        """The position of a UID in the session's numbering; None if the client does not know it."""
        at = bisect_left(self.uids, uid, at_least, self.count)
        return at if at < self.count and self.uids[at] == uid else None

    def numbers(self, uid_ranges: Iterable[Range]) -> list[Range]:
        """Ranges of sequence numbers for ascending UID ranges, without UIDs unknown to the client."""
        return [(first + 1, stop) for first, stop in sets.positions(self.uids, self.count, uid_ranges)]

    def gone(self, spans: Sequence[Span]) -> bool:
        """Whether one of these messages has a removal that is not announced yet."""
        return self.still_there(spans) != list(spans)

    def still_there(self, spans: Sequence[Span]) -> list[Span]:
        """These positions without messages whose removal is not announced yet."""
        if self.aligned:
            return list(spans)
        lag = self._lagging()
        return [span for first, stop in spans for span in lag.there(first, stop)]

    def limit_lag(self, most_kept: int = departed.MOST_KEPT) -> None:
        """Release the rows of removed messages if this session lags by more than `most_kept` of them."""
        since = self._step or (self._lag.step if self._lag is not None else self.folder.step)
        if self.folder.step.before - since.before > most_kept:
            self._step = self._lag = None

    def _lagging(self) -> Lag:
        """The places of this numbering's messages while it lags behind the folder."""
        folder = self.folder
        if self._lag is None:
            known = folder, self.uids, self.count
            self._lag = Lag.lapsed(*known, folder.step) if self._step is None else Lag(*known, self._step)
        self._lag.follow(folder.step, keep=self._step is not None)
        return self._lag

    def amend(self, changes: Changes) -> None:
        """Apply flag changes of removed messages that became known after the removal."""
        if self.aligned or self._step is None:
            return
        lag, table = self._lagging(), changes.keywords
        for row, (uid, number) in enumerate(zip(changes.uids, changes.change_numbers, strict=False)):
            keywords = table[changes.keyword_sets[row]] if changes.keyword_sets else ()
            flags = Flags(SystemFlag(changes.flags[row]), keywords)
            if lag.amend(uid, number, flags):
                for part in self._step.until(lag.step):
                    part.amend(uid, number, flags)

    def forget_removed(self) -> list[Span]:
        """Adopt the folder's current numbering; return the old positions of removed messages, to announce now."""
        if self.aligned:
            return []
        removed = self._lagging().runs()
        self.count -= sum(stop - first for first, stop in removed)
        self.uids, self._step, self._lag = self.folder.uids, self.folder.step, None
        return removed

    # --- facts ---

    def segments(self, spans: Iterable[Span]) -> Iterator[Segment]:
        """The segments of the messages at these positions, in order."""
        for first, stop in spans:
            if self.aligned:
                yield Segment(first, stop - first, self.folder, first)
            else:
                yield from self._lagging().segments(first, stop)

    def place(self, position: int) -> tuple[Columns, int]:
        """The columns and the position in them of the message at a position."""
        if self.aligned:
            return self.folder, position
        segment = next(self._lagging().segments(position, position + 1))
        return segment.columns, segment.at

    def message_ids(self, spans: Iterable[Span]) -> dict[int, int]:
        """The positions of these messages by message id."""
        return {
            message_id: first + at
            for first, count, columns, start in self.segments(spans)
            for at, message_id in enumerate(columns.message_ids[start : start + count])
        }

    def in_states(self, states_of: Callable[[StateTable], Collection[int]], spans: Iterable[Span]) -> list[Span]:
        """The positions among these whose states are in `states_of` of their table."""
        chosen = cache(states_of)
        found: list[Span] = []
        for first, count, columns, start in self.segments(spans):
            runs = _runs_in(columns.states[start : start + count], chosen(columns.table))
            if first:
                runs = [(first + begin, first + stop) for begin, stop in runs]
            if found and runs and found[-1][1] == runs[0][0]:
                runs[0] = (found.pop()[0], runs[0][1])
            found += runs
        return found

    def with_flag(self, flag: SystemFlag | str, spans: Iterable[Span]) -> list[Span]:
        """The positions among these with a system flag or a keyword."""
        if isinstance(flag, SystemFlag):
            return self.in_states(lambda table: table.having(flag), spans)
        name = flag.lower()
        return self.in_states(
            lambda table: table.matching(lambda flags: any(name == known.lower() for known in flags.keywords)), spans
        )

    def without_flag(self, flag: SystemFlag, spans: Iterable[Span]) -> list[Span]:
        """The positions among these without a system flag."""
        return self.in_states(lambda table: table.lacking(flag), spans)

    def changed_since(self, spans: Iterable[Span], change_number: int) -> list[Span]:
        """The positions among these with a higher change number."""
        return spans_of(
            at
            for first, count, columns, start in self.segments(spans)
            for at, number in enumerate(columns.change_numbers[start : start + count], start=first)
            if number > change_number
        )

    def highest_change_number(self, spans: Iterable[Span]) -> int:
        """The highest change number at these positions."""
        return max(
            (max(columns.change_numbers[at : at + count]) for _, count, columns, at in self.segments(spans)),
            default=1,
        )

    def change_number_at(self, position: int) -> int:
        """The change number of the message at a position."""
        columns, at = self.place(position)
        return columns.change_numbers[at]


def _runs_in(states: Sequence[int], chosen: Collection[int]) -> list[Span]:
    """The index ranges of the states that are among the chosen ones."""
    if len(states) < _FEW or max(states) > 255:
        return spans_of(at for at, state in enumerate(states) if state in chosen)
    marks = bytearray(256)
    for state in chosen:
        if state < 256:
            marks[state] = 1
    return [found.span() for found in _MARKED.finditer(bytes(list(states)).translate(marks))]


def spans_of(ascending: Iterable[int]) -> list[Span]:
    """Ascending positions as spans."""
    return [(first, last + 1) for first, last in ranges.compress(ascending)]
