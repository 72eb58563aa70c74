"""One session's view of a folder: its own sequence numbers, which lag, and what it may be told when. *Pure.*

A session counts in an array of UIDs that it shares with the folder's view until something was removed that it has not
been told of; from then to the telling it keeps the older array. So a session costs a few hundred octets, whatever the
folder holds, and numbers never shift under it (RFC 3501 5.5, 7.4.1; RFC 2180).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from restante_gateways.imap import encoder, sets
from restante_gateways.imap.folder_view import FolderView
from restante_gateways.imap.responses import OK, permanent_flags, untagged
from restante_gateways.imap.sets import Range, SequenceSet
from restante_gateways.imap.values import SYSTEM_FLAG_NAMES, SystemFlag

_BLOCK: Final = 1_024  # messages rendered at a time

Span = tuple[int, int]  # positions in the session's own numbering, half-open: message numbers first + 1 to stop


class SessionView:
    """Sequence numbers of one session in one folder."""

    __slots__ = (
        "_generation",
        "_own_changes",
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
        self._generation = folder.generation
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
        """Where the messages of a set are, ascending. None: a sequence number that does not exist (behaviour 7)."""
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
        """Whether one of these messages was removed, though the client was not told yet (behaviour 62)."""
        if self.aligned:
            return False
        return sets.overlap(spans, self._removed_positions())

    def still_there(self, spans: list[Span]) -> list[Span]:
        """These positions without those of messages that were removed, though the client was not told yet."""
        return spans if self.aligned else sets.without(spans, self._removed_positions())

    def _removed_positions(self) -> list[Span]:
        """Positions of what was removed and not told."""
        removed = self.folder.removed_since(self._generation)
        if removed is not None:
            return sets.positions(self.uids, self.count, removed)
        kept = set(self.folder.uids)
        lost = (at for at, uid in enumerate(self.uids[: self.count]) if uid not in kept)
        return _spans(lost)

    # --- asking ---

    def _places(self, spans: Iterable[Span]) -> Iterator[tuple[int, int]]:
        """(position here, position in the folder) of the messages that are still there."""
        if self.aligned:
            for first, stop in spans:
                yield from zip(range(first, stop), range(first, stop), strict=True)
            return
        for first, stop in spans:
            for at in range(first, stop):
                if (place := self.folder.position(self.uids[at])) is not None:
                    yield at, place

    def with_states(self, wanted: set[int], spans: Iterable[Span]) -> list[Span]:
        """Which of the messages at these positions are in one of the states (indices of the folder's table)."""
        states = self.folder.states
        return _spans(at for at, place in self._places(spans) if states[place] in wanted)

    def with_flag(self, flag: SystemFlag | str, spans: Iterable[Span] | None = None) -> list[Span]:
        """Which messages, of those at these positions or of all, have a system flag or a keyword."""
        if isinstance(flag, SystemFlag):
            wanted = self.folder.table.matching(lambda flags: flag in flags.system)
        else:
            name = flag.lower()
            wanted = self.folder.table.matching(lambda flags: any(name == known.lower() for known in flags.keywords))
        return self.with_states(wanted, [(0, self.count)] if spans is None else spans)

    def without_flag(self, flag: SystemFlag, spans: Iterable[Span]) -> list[Span]:
        """Which of the messages at these positions lack a system flag."""
        return self.with_states(self.folder.table.matching(lambda flags: flag not in flags.system), spans)

    def changed_since(self, spans: Iterable[Span], change_number: int) -> list[Span]:
        """Which of the messages at these positions have a higher change number."""
        numbers = self.folder.change_numbers
        return _spans(at for at, place in self._places(spans) if numbers[place] > change_number)

    def highest_change_number(self, spans: Iterable[Span]) -> int:
        """The highest change number at these positions."""
        numbers = self.folder.change_numbers
        return max((numbers[place] for _, place in self._places(spans)), default=1)

    # --- telling ---

    def tell(self, may_expunge: bool, with_uid: bool = False) -> list[bytes]:
        """What the client may now be told, as finished responses; afterwards it has been told.

        EXPUNGE comes first, from the highest number down so that each is right when it is read (behaviour 3); new
        messages wait until all removals are told, so that a number never means two messages (behaviour 4).
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
        removed = self._removed_positions()
        self.count -= sum(stop - first for first, stop in removed)
        self.uids, self._generation = self.folder.uids, self.folder.generation
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
            told, uids, known = self.told_change_number, folder.uids, self.uids[self.count - 1] if self.count else 0
            changed = {
                uids[at]
                for at, number in enumerate(folder.change_numbers)
                if number > told and uids[at] <= known and not sets.contains(own.get(number, ()), uids[at])
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

    def flag_responses(self, spans: Sequence[Span], with_uid: bool, with_change_number: bool) -> Iterator[bytes]:
        """FETCH responses with FLAGS for the messages at these positions, in blocks; those removed are left out."""
        for first, stop in spans:
            for start in range(first, stop, _BLOCK):
                block = (start, min(stop, start + _BLOCK))
                yield self.tell_keywords() + self._flag_block(block, with_uid, with_change_number)

    def _flag_block(self, block: Span, with_uid: bool, with_change_number: bool) -> bytes:
        if not self.aligned:
            return self._render_apart(block, with_uid, with_change_number)
        if self.recent and sets.positions(self.uids, block[1], self.recent):
            return self._render_mixed(block, with_uid, with_change_number)
        return self._render(block, self.folder.table.texts, with_uid, with_change_number)

    def _render(self, span: Span, texts: Sequence[bytes], with_uid: bool, with_change_number: bool) -> bytes:
        """The fast way: positions are the folder's own, and nothing is recent or everything is."""
        first, stop = span
        folder, numbers = self.folder, range(first + 1, stop + 1)
        states = folder.states[first:stop]
        if with_change_number:
            changes = folder.change_numbers[first:stop]
            rows = zip(numbers, folder.uids[first:stop], map(texts.__getitem__, states), changes, strict=True)
            if with_uid:
                return b"".join([b"* %d FETCH (UID %d %b MODSEQ (%d))\r\n" % row for row in rows])
            return b"".join([b"* %d FETCH (%b MODSEQ (%d))\r\n" % (n, text, change) for n, _, text, change in rows])
        if with_uid:
            uids = folder.uids[first:stop]
            return b"".join(
                [
                    b"* %d FETCH (UID %d %b)\r\n" % (n, u, texts[s])
                    for n, u, s in zip(numbers, uids, states, strict=True)
                ]
            )
        return b"".join([b"* %d FETCH (%b)\r\n" % (n, texts[s]) for n, s in zip(numbers, states, strict=True)])

    def _render_mixed(self, span: Span, with_uid: bool, with_change_number: bool) -> bytes:
        """Some messages are \\Recent."""
        table, rendered, at = self.folder.table, [], span[0]
        for first, stop in sets.positions(self.uids, span[1], self.recent):
            first, stop = max(first, span[0]), min(stop, span[1])
            if first >= stop:
                continue
            rendered.append(self._render((at, first), table.texts, with_uid, with_change_number))
            rendered.append(self._render((first, stop), table.recent_texts, with_uid, with_change_number))
            at = stop
        rendered.append(self._render((at, span[1]), table.texts, with_uid, with_change_number))
        return b"".join(rendered)

    def _render_apart(self, span: Span, with_uid: bool, with_change_number: bool) -> bytes:
        """Removals are untold: each message is looked up in the folder, and left out when it is gone."""
        folder, table, rendered = self.folder, self.folder.table, []
        for at in range(*span):
            uid = self.uids[at]
            place = folder.position(uid)
            if place is None:
                continue
            texts = table.recent_texts if sets.contains(self.recent, uid) else table.texts
            head = b"UID %d " % uid if with_uid else b""
            tail = b" MODSEQ (%d)" % folder.change_numbers[place] if with_change_number else b""
            rendered.append(b"* %d FETCH (%b%b%b)\r\n" % (at + 1, head, texts[folder.states[place]], tail))
        return b"".join(rendered)

    def number_responses(self, spans: Sequence[Span], with_uid: bool, with_change_number: bool) -> Iterator[bytes]:
        """FETCH responses with UID, MODSEQ or both, in blocks; those removed are left out."""
        for first, stop in spans:
            for start in range(first, stop, _BLOCK):
                uids, numbers = self.folder.uids, self.folder.change_numbers  # others, where something was removed
                places = self._places([(start, min(stop, start + _BLOCK))])
                if with_uid and with_change_number:
                    lines = [b"* %d FETCH (UID %d MODSEQ (%d))\r\n" % (a + 1, uids[p], numbers[p]) for a, p in places]
                elif with_uid:
                    lines = [b"* %d FETCH (UID %d)\r\n" % (a + 1, uids[p]) for a, p in places]
                else:
                    lines = [b"* %d FETCH (MODSEQ (%d))\r\n" % (a + 1, numbers[p]) for a, p in places]
                yield b"".join(lines)

    def flags_text(self, uid: int, state: int) -> bytes:
        """`FLAGS (...)` for a state of a message, with \\Recent where it is so."""
        table = self.folder.table
        return table.recent_texts[state] if sets.contains(self.recent, uid) else table.texts[state]


def _spans(ascending: Iterable[int]) -> list[Span]:
    return [(first, last + 1) for first, last in sets.compress(ascending)]
