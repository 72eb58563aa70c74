"""One session's view of a folder: its own sequence numbers, which lag, and what it may be told when. *Pure.*

A session counts in an array of UIDs that it shares with the folder's view until something was removed that it has not
been told of; from then to the telling it keeps the older array, and what left is still there for it, with the flags
that it had. So a session costs a few hundred octets, whatever the folder holds, and numbers never shift under it
(RFC 3501 5.5, 7.4.1; RFC 2180).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import cache

from restante_gateways.imap.grammar import encoder, sets
from restante_gateways.imap.grammar.fetch import FetchFact, FetchItem
from restante_gateways.imap.grammar.flags import SYSTEM_FLAG_NAMES, Flags, SystemFlag
from restante_gateways.imap.grammar.responses import OK, permanent_flags, untagged
from restante_gateways.imap.grammar.sets import Range, SequenceSet, Span
from restante_gateways.imap.values import Changes
from restante_gateways.imap.view import departed
from restante_gateways.imap.view.departed import Columns, Lag, Segment, Step
from restante_gateways.imap.view.folder import FolderView

_BLOCK = 1_024  # messages rendered at a time


class SessionView:
    """Sequence numbers of one session in one folder. A span is of positions in them: numbers first + 1 to stop.

    Whatever asks about messages raises Lapsed where one was removed of which nothing is kept any more.
    """

    __slots__ = (
        "_lag",
        "_own_changes",
        "_step",
        "_told_keywords",
        "count",
        "folder",
        "read_only",
        "recent",
        "surprises",
        "told_change_number",
        "uids",
        "with_change_numbers",
    )

    def __init__(self, folder: FolderView, read_only: bool, recent: Sequence[Range] = ()) -> None:
        self.folder, self.read_only = folder, read_only
        self.uids: array[int] = folder.uids
        self.count = len(folder.uids)  # messages the client knows of
        self._step: Step | None = folder.step  # the last removal told; None: too much has left since to be kept
        self._lag: Lag | None = None  # once it is asked for
        self.told_change_number = folder.change_number  # flag changes up to here were told or need not be
        # Flag changes this session made and knows of: the change number, and the UIDs it was made to.
        self._own_changes: dict[int, Sequence[Range]] = {}
        self.surprises: set[int] = set()  # UIDs to be told although the session's own change touched them
        self._told_keywords = len(folder.table.keywords)
        self.recent: list[Range] = list(recent)  # UIDs that are \Recent to this session
        self.with_change_numbers = False  # CONDSTORE is on: every FETCH that tells of flags bears MODSEQ

    # --- numbers ---

    @property
    def aligned(self) -> bool:
        """Whether positions here are positions in the folder's columns."""
        return self.uids is self.folder.uids

    def spans(self, messages: SequenceSet, uid: bool) -> list[Span] | None:
        """Where the messages of a set are, ascending. None: a sequence number that does not exist (RFC 3501 6.4.8)."""
        return self.known_spans(messages, uid) if uid or messages.all_within(self.count) else None

    def known_spans(self, messages: SequenceSet, uid: bool) -> list[Span]:
        """Where those messages of a set are that the client knows of, ascending."""
        if uid:
            largest = self.uids[self.count - 1] if self.count else 0
            return sets.positions(self.uids, self.count, messages.resolve(largest))
        return [(low - 1, high) for low, high in messages.numbers_within(self.count)]

    def uid_ranges(self, spans: Iterable[Span]) -> list[Range]:
        """The UIDs at these positions: one range a span, since no other message known here lies between."""
        return [(self.uids[first], self.uids[stop - 1]) for first, stop in spans]

    def position(self, uid: int, at_least: int = 0) -> int | None:
        """The position of a UID in the session's numbering, None when the client does not know it."""
        at = bisect_left(self.uids, uid, at_least, self.count)
        return at if at < self.count and self.uids[at] == uid else None

    def numbers(self, uid_ranges: Iterable[Range]) -> list[Range]:
        """Ranges of sequence numbers for ascending UID ranges; UIDs the client does not know are left out."""
        return [(first + 1, stop) for first, stop in sets.positions(self.uids, self.count, uid_ranges)]

    def gone(self, spans: Sequence[Span]) -> bool:
        """Whether one of these messages was removed, though the client was not told yet."""
        return self.still_there(spans) != list(spans)

    def still_there(self, spans: Sequence[Span]) -> list[Span]:
        """These positions without those of messages that were removed, though the client was not told yet."""
        if self.aligned:
            return list(spans)
        lag = self._lagging()
        return [span for first, stop in spans for span in lag.there(first, stop)]

    def limit_lag(self) -> None:
        """Let go of what left the folder where that has become too much to be kept for a session that lags."""
        since = self._step or (self._lag.step if self._lag is not None else self.folder.step)
        if self.folder.step.before - since.before > departed.MOST_KEPT:
            self._step = self._lag = None

    def _lagging(self) -> Lag:
        """Where the messages of this numbering are, while it lags."""
        folder = self.folder
        if self._lag is None:
            known = folder, self.uids, self.count
            self._lag = Lag.lapsed(*known, folder.step) if self._step is None else Lag(*known, self._step)
        self._lag.follow(folder.step, keep=self._step is not None)
        return self._lag

    def amend(self, changes: Changes) -> None:
        """Take flags over that removed messages had, where the change became known later than the removal."""
        if self.aligned or self._step is None:
            return
        lag, table = self._lagging(), changes.keywords
        for row, (uid, number) in enumerate(zip(changes.uids, changes.change_numbers, strict=False)):
            keywords = table[changes.keyword_sets[row]] if changes.keyword_sets else ()
            flags = Flags(SystemFlag(changes.flags[row]), keywords)
            if lag.amend(uid, number, flags):
                for part in self._step.until(lag.step):
                    part.amend(uid, number, flags)

    # --- asking ---

    def _segments(self, spans: Iterable[Span]) -> Iterator[Segment]:
        """Where the messages at these positions are, in order."""
        for first, stop in spans:
            if self.aligned:
                yield Segment(first, stop - first, self.folder, first)
            else:
                yield from self._lagging().segments(first, stop)

    def _place(self, position: int) -> tuple[Columns, int]:
        """The columns and the position in them of the message at a position."""
        if self.aligned:
            return self.folder, position
        segment = next(self._lagging().segments(position, position + 1))
        return segment.columns, segment.at

    def message_ids(self, spans: Iterable[Span]) -> dict[int, int]:
        """The positions of these messages by message id."""
        return {
            message_id: first + at
            for first, count, columns, start in self._segments(spans)
            for at, message_id in enumerate(columns.message_ids[start : start + count])
        }

    def with_states(self, wanted: Callable[[Flags], bool], spans: Iterable[Span]) -> list[Span]:
        """Which of the messages at these positions have flags that satisfy `wanted`."""
        matching = cache(lambda table: table.matching(wanted))

        def found() -> Iterator[int]:
            for first, count, columns, start in self._segments(spans):
                states: set[int] = matching(columns.table)
                for at, state in enumerate(columns.states[start : start + count], start=first):
                    if state in states:
                        yield at

        return _spans(found())

    def with_flag(self, flag: SystemFlag | str, spans: Iterable[Span]) -> list[Span]:
        """Which of the messages at these positions have a system flag or a keyword."""
        if isinstance(flag, SystemFlag):
            return self.with_states(lambda flags: flag in flags.system, spans)
        name = flag.lower()
        return self.with_states(lambda flags: any(name == known.lower() for known in flags.keywords), spans)

    def without_flag(self, flag: SystemFlag, spans: Iterable[Span]) -> list[Span]:
        """Which of the messages at these positions lack a system flag."""
        return self.with_states(lambda flags: flag not in flags.system, spans)

    def changed_since(self, spans: Iterable[Span], change_number: int) -> list[Span]:
        """Which of the messages at these positions have a higher change number."""
        return _spans(
            at
            for first, count, columns, start in self._segments(spans)
            for at, number in enumerate(columns.change_numbers[start : start + count], start=first)
            if number > change_number
        )

    def highest_change_number(self, spans: Iterable[Span]) -> int:
        """The highest change number at these positions."""
        return max(
            (max(columns.change_numbers[at : at + count]) for _, count, columns, at in self._segments(spans)),
            default=1,
        )

    def change_number_at(self, position: int) -> int:
        """The change number of the message at a position."""
        columns, at = self._place(position)
        return columns.change_numbers[at]

    def flags_at(self, position: int) -> bytes:
        """`FLAGS (...)` of the message at a position, with \\Recent where it is so."""
        columns, at = self._place(position)
        table, state = columns.table, columns.states[at]
        return table.recent_texts[state] if sets.contains(self.recent, self.uids[position]) else table.texts[state]

    # --- telling ---

    def tell(self, may_expunge: bool, with_uid: bool = False) -> list[bytes]:
        """What the client may now be told, as finished responses; afterwards it has been told.

        EXPUNGE comes first, from the highest number down so that each is right when it is read (RFC 3501 7.4.1); new
        messages wait until all removals are told, so that a number never means two messages (RFC 3501 7.3.1).
        """
        folder = self.folder
        if self.aligned and self.count == len(folder.uids) and self.told_change_number == folder.change_number:
            return [] if not self.surprises else self._tell_flags(with_uid)
        told: list[bytes] = []
        if may_expunge and not self.aligned:
            told += self._tell_removed()
        if self.aligned and self.count < len(folder.uids):
            told += self._tell_new()
        return told + self._tell_flags(with_uid)

    def _tell_removed(self) -> list[bytes]:
        removed = self._lagging().runs()
        self.count -= sum(stop - first for first, stop in removed)
        self.uids, self._step, self._lag = self.folder.uids, self.folder.step, None
        return [
            b"".join([b"* %d EXPUNGE\r\n" % number for number in range(stop, first, -1)])
            for first, stop in reversed(removed)
        ]

    def _tell_new(self) -> list[bytes]:
        folder = self.folder
        first_new = self.uids[self.count]
        self.count = len(folder.uids)
        if (claimable := max(folder.claimed_uid, first_new)) < folder.uid_next:
            self._add_recent((claimable, folder.uid_next - 1))
            if not self.read_only:
                folder.claimed_uid = folder.uid_next
        return [b"* %d EXISTS\r\n* %d RECENT\r\n" % (self.count, self.recent_count())]

    def _tell_flags(self, with_uid: bool) -> list[bytes]:
        changed = self._changed_positions()
        self.told_change_number = self.folder.change_number
        self._own_changes = {
            number: uids for number, uids in self._own_changes.items() if number > self.told_change_number
        }
        self.surprises.clear()
        if not changed:
            return []
        return list(self.flag_responses(_spans(changed), with_uid, self.with_change_numbers))

    def tell_keywords(self) -> bytes:
        """FLAGS and PERMANENTFLAGS, if keywords are in use that the client was not told of (RFC 3501 7.2.6).

        They belong directly before the responses that may bear such a keyword, rendered in the same step: while a
        client takes what was written before, others add keywords.
        """
        if self._told_keywords == len(self.folder.table.keywords):
            return b""
        self._told_keywords = len(self.folder.table.keywords)
        return self.flags_in_use()

    def _changed_positions(self) -> list[int]:
        """Positions whose flags changed since the last telling, by others than this session; ascending."""
        folder, own = self.folder, self._own_changes
        entries = folder.flag_changes_since(self.told_change_number)
        if entries is None:
            told = self.told_change_number
            changed = {
                columns.uids[at]
                for _, count, columns, start in self._segments([(0, self.count)])
                for at, number in enumerate(columns.change_numbers[start : start + count], start=start)
                if number > told and not sets.contains(own.get(number, ()), columns.uids[at])
            }
        else:
            changed = set()
            for number, those in entries:
                spans = [(0, len(those))]
                if number in own:
                    spans = sets.without(spans, sets.positions(those, len(those), own[number]))
                for first, stop in spans:
                    changed.update(those[first:stop])
        changed |= self.surprises
        found = (self.position(uid) for uid in sorted(changed))
        return [at for at in found if at is not None]

    def flags_in_use(self) -> bytes:
        """The FLAGS response, with system flags and every keyword met in the folder, and which of them can be kept."""
        flags = [*SYSTEM_FLAG_NAMES.values(), *self.folder.table.keywords.values()]
        permanent = permanent_flags([] if self.read_only else [*flags, "\\*"])
        return untagged(b"FLAGS " + encoder.flag_list(flags)) + OK("These flags last.", permanent).encode()

    def note_own_change(self, before: int, change_number: int, uids: Sequence[Range]) -> None:
        """The session made this change itself, to these UIDs: what it did to their flags need not be told.

        `before` is the view's change number when the command began. A number that is not above it is another's: where
        there was nothing to change the answer has the latest that was given.
        """
        if change_number > max(before, self.told_change_number):
            self._own_changes[change_number] = uids

    # --- recent ---

    def claim_recent(self, recent_uid: int) -> None:
        """At SELECT: what no session was told of before, by the core's word and this process's, is \\Recent here."""
        folder = self.folder
        first = max(recent_uid, folder.claimed_uid)
        if first < folder.uid_next:
            self._add_recent((first, folder.uid_next - 1))
            if not self.read_only:
                folder.claimed_uid = folder.uid_next

    def _add_recent(self, uids: Range) -> None:
        self.recent = sets.merge([*self.recent, uids])

    def recent_count(self) -> int:
        """How many of the known messages are \\Recent to this session."""
        return sum(stop - first for first, stop in sets.positions(self.uids, self.count, self.recent))

    # --- rendering ---

    def fact_responses(self, spans: Sequence[Span], facts: Collection[FetchItem]) -> Iterator[bytes]:
        """FETCH responses with FLAGS, UID and MODSEQ, as far as they are asked for, in blocks."""
        with_uid, with_change_number = FetchFact.UID in facts, FetchFact.MODSEQ in facts
        if FetchFact.FLAGS in facts:
            return self.flag_responses(spans, with_uid, with_change_number)
        return self.number_responses(spans, with_uid, with_change_number)

    def flag_responses(self, spans: Sequence[Span], with_uid: bool, with_change_number: bool) -> Iterator[bytes]:
        """FETCH responses with FLAGS for the messages at these positions, in blocks."""
        for block in _blocks(spans):
            pieces = [self.tell_keywords()]
            for segment in self._segments((block,)):
                pieces += self._render_flags(segment, with_uid, with_change_number)
            yield b"".join(pieces)

    def _render_flags(self, segment: Segment, with_uid: bool, with_change_number: bool) -> Iterator[bytes]:
        """The responses of neighbours, those that are \\Recent among them apart from the others."""
        first, count, columns, _ = segment
        done, table = first, columns.table
        for begin, end in sets.positions(self.uids, first + count, self.recent) if self.recent else ():
            begin, end = max(begin, first), min(end, first + count)
            if begin < end:
                yield _render(segment, (done, begin), table.texts, with_uid, with_change_number)
                yield _render(segment, (begin, end), table.recent_texts, with_uid, with_change_number)
                done = end
        yield _render(segment, (done, first + count), table.texts, with_uid, with_change_number)

    def number_responses(self, spans: Sequence[Span], with_uid: bool, with_change_number: bool) -> Iterator[bytes]:
        """FETCH responses with UID, MODSEQ or both for the messages at these positions, in blocks."""
        for block in _blocks(spans):
            pieces: list[bytes] = []
            for first, count, columns, at in self._segments((block,)):
                numbers = range(first + 1, first + count + 1)
                uids, changes = columns.uids[at : at + count], columns.change_numbers[at : at + count]
                if with_uid and with_change_number:
                    rows = zip(numbers, uids, changes, strict=True)
                    pieces += [b"* %d FETCH (UID %d MODSEQ (%d))\r\n" % row for row in rows]
                elif with_uid:
                    pieces += [b"* %d FETCH (UID %d)\r\n" % row for row in zip(numbers, uids, strict=True)]
                else:
                    pieces += [b"* %d FETCH (MODSEQ (%d))\r\n" % row for row in zip(numbers, changes, strict=True)]
            yield b"".join(pieces)


def _render(segment: Segment, span: Span, texts: Sequence[bytes], with_uid: bool, with_change_number: bool) -> bytes:
    """FETCH responses with FLAGS for some of the neighbours: one template, filled from columns."""
    columns, first, stop = segment.columns, span[0] - segment.first + segment.at, span[1] - segment.first + segment.at
    numbers, states = range(span[0] + 1, span[1] + 1), columns.states[first:stop]
    if with_change_number:
        changes = columns.change_numbers[first:stop]
        rows = zip(numbers, columns.uids[first:stop], map(texts.__getitem__, states), changes, strict=True)
        if with_uid:
            return b"".join([b"* %d FETCH (UID %d %b MODSEQ (%d))\r\n" % row for row in rows])
        return b"".join([b"* %d FETCH (%b MODSEQ (%d))\r\n" % (n, text, change) for n, _, text, change in rows])
    if with_uid:
        uids = columns.uids[first:stop]
        return b"".join(
            [b"* %d FETCH (UID %d %b)\r\n" % (n, u, texts[s]) for n, u, s in zip(numbers, uids, states, strict=True)]
        )
    return b"".join([b"* %d FETCH (%b)\r\n" % (n, texts[s]) for n, s in zip(numbers, states, strict=True)])


def _blocks(spans: Iterable[Span]) -> Iterator[Span]:
    """The same positions, so many at a time as are rendered at once."""
    for first, stop in spans:
        for start in range(first, stop, _BLOCK):
            yield start, min(stop, start + _BLOCK)


def _spans(ascending: Iterable[int]) -> list[Span]:
    return [(first, last + 1) for first, last in sets.compress(ascending)]
