"""One session's view of a folder: its sequence numbers and its pending announcements. *Pure.*"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache

from restante_gateways.imap.grammar import encoder, sets
from restante_gateways.imap.grammar.fetch import FetchFact, FetchItem
from restante_gateways.imap.grammar.flags import SYSTEM_FLAG_NAMES
from restante_gateways.imap.grammar.responses import OK, permanent_flags, untagged
from restante_gateways.imap.grammar.sets import Span
from restante_gateways.imap.view.folder import FolderView
from restante_gateways.imap.view.numbering import Numbering, spans_of
from restante_gateways.imap.view.rendering import blocks, flags, numbers
from restante_mail import ranges
from restante_mail.ranges import Range


@lru_cache(maxsize=64)
def _flags_in_use(keywords: tuple[str, ...], read_only: bool) -> bytes:
    flags = [*SYSTEM_FLAG_NAMES.values(), *keywords]
    permanent = permanent_flags([] if read_only else [*flags, "\\*"])
    return untagged(b"FLAGS " + encoder.flag_list(flags)) + OK("Permanent flags.", permanent).encode()


class SessionView(Numbering):
    """A numbering, with a record of everything announced to the client."""

    __slots__ = (
        "_announced_keywords",
        "_own_changes",
        "announced_change_number",
        "read_only",
        "recent",
        "surprises",
        "with_change_numbers",
    )

    def __init__(self, folder: FolderView, read_only: bool, recent: Sequence[Range] = ()) -> None:
        super().__init__(folder)
        self.read_only = read_only
        self.announced_change_number = folder.change_number  # flag changes up to here are announced or need not be
        # Flag changes made by this session: change number to UIDs.
        self._own_changes: dict[int, Sequence[Range]] = {}
        self.surprises: set[int] = set()  # UIDs to announce although this session changed them itself
        self._announced_keywords = len(folder.table.keywords)
        self.recent: list[Range] = list(recent)  # UIDs that are \\Recent to this session
        self.with_change_numbers = False  # CONDSTORE is on: every FETCH response with FLAGS carries MODSEQ

    # --- announcements ---

    def announce(self, may_expunge: bool, with_uid: bool = False) -> list[bytes]:
        """The announcements that may be sent now, as encoded responses; the view records them as sent.

        EXPUNGE responses come first, from the highest number down, so that each number is right when the client reads
        it (RFC 3501 7.4.1). New messages wait for all removals, so that a number never means two messages
        (RFC 3501 7.3.1).
        """
        folder = self.folder
        if self.aligned and self.count == len(folder.uids) and self.announced_change_number == folder.change_number:
            return [] if not self.surprises else self._announce_flags(with_uid)
        told: list[bytes] = []
        if may_expunge:
            told += self._announce_removed()
        if self.aligned and self.count < len(folder.uids):
            told += self._announce_new()
        return told + self._announce_flags(with_uid)

    def _announce_removed(self) -> list[bytes]:
        return [
            b"".join([b"* %d EXPUNGE\r\n" % number for number in range(stop, first, -1)])
            for first, stop in reversed(self.forget_removed())
        ]

    def _announce_new(self) -> list[bytes]:
        folder = self.folder
        first_new = self.uids[self.count]
        self.count = len(folder.uids)
        if (claimable := max(folder.claimed_uid, first_new)) < folder.uid_next:
            self._add_recent((claimable, folder.uid_next - 1))
            if not self.read_only:
                folder.claimed_uid = folder.uid_next
        return [b"* %d EXISTS\r\n* %d RECENT\r\n" % (self.count, self.recent_count())]

    def _announce_flags(self, with_uid: bool) -> list[bytes]:
        changed = self._changed_positions()
        self.announced_change_number = self.folder.change_number
        self._own_changes = {
            number: uids for number, uids in self._own_changes.items() if number > self.announced_change_number
        }
        self.surprises.clear()
        if not changed:
            return []
        return list(self.flag_responses(spans_of(changed), with_uid, self.with_change_numbers))

    def announce_keywords(self) -> bytes:
        """FLAGS and PERMANENTFLAGS responses, if keywords in use are not announced yet (RFC 3501 7.2.6).

        Write them directly before the responses that may carry such a keyword, and render both without an await
        between: other sessions add keywords meanwhile.
        """
        if self._announced_keywords == len(self.folder.table.keywords):
            return b""
        self._announced_keywords = len(self.folder.table.keywords)
        return self.flags_in_use()

    def _changed_positions(self) -> list[int]:
        """Ascending positions of messages whose flags other sessions changed since the last announcement."""
        folder, own = self.folder, self._own_changes
        entries = folder.journal.since(self.announced_change_number)
        if entries is None:
            told = self.announced_change_number
            changed = {
                columns.uids[at]
                for _, count, columns, start in self.segments([(0, self.count)])
                for at, number in enumerate(columns.change_numbers[start : start + count], start=start)
                if number > told and not ranges.contains(own.get(number, ()), columns.uids[at])
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
        """FLAGS with system flags and all keywords seen in the folder, then PERMANENTFLAGS."""
        return _flags_in_use(tuple(self.folder.table.keywords.values()), self.read_only)

    def note_own_change(self, before: int, change_number: int, uids: Sequence[Range]) -> None:
        """Record a flag change of this session to these UIDs, which needs no announcement.

        `before` is the view's change number at the beginning of the command. A change number that is not above it
        belongs to another change: a command that changed nothing returns the latest number.
        """
        if change_number > max(before, self.announced_change_number):
            self._own_changes[change_number] = uids

    # --- recent ---

    def claim_recent(self) -> None:
        """At SELECT, make messages \\Recent that neither the core nor this process has reported as \\Recent yet."""
        folder = self.folder
        first = folder.claimed_uid
        if first < folder.uid_next:
            self._add_recent((first, folder.uid_next - 1))
            if not self.read_only:
                folder.claimed_uid = folder.uid_next

    def _add_recent(self, uids: Range) -> None:
        self.recent = ranges.merge([*self.recent, uids])

    def recent_count(self) -> int:
        """The number of known messages that are \\Recent in this session."""
        return sum(stop - first for first, stop in sets.positions(self.uids, self.count, self.recent))

    # --- rendering ---

    def flags_at(self, position: int) -> bytes:
        """`FLAGS (...)` of the message at a position, including \\Recent."""
        columns, at = self.place(position)
        table, state = columns.table, columns.states[at]
        return table.recent_texts[state] if ranges.contains(self.recent, self.uids[position]) else table.texts[state]

    def flags_of(self, span: Span) -> list[bytes]:
        """`FLAGS (...)` of each message at these positions, including \\Recent."""
        texts: list[bytes] = []
        for _, count, columns, at in self.segments((span,)):
            texts += map(columns.table.texts.__getitem__, columns.states[at : at + count])
        for first, stop in sets.positions(self.uids, self.count, self.recent):
            for position in range(max(first, span[0]), min(stop, span[1])):
                texts[position - span[0]] = self.flags_at(position)
        return texts

    def fact_responses(self, spans: Sequence[Span], facts: Collection[FetchItem]) -> Iterator[bytes]:
        """FETCH responses with the requested ones of FLAGS, UID and MODSEQ, in blocks."""
        with_uid, with_change_number = FetchFact.UID in facts, FetchFact.MODSEQ in facts
        if FetchFact.FLAGS in facts:
            return self.flag_responses(spans, with_uid, with_change_number)
        return self.number_responses(spans, with_uid, with_change_number)

    def flag_responses(self, spans: Sequence[Span], with_uid: bool, with_change_number: bool) -> Iterator[bytes]:
        """FETCH responses with FLAGS for the messages at these positions, in blocks."""
        for block in blocks(spans):
            pieces = [self.announce_keywords()]
            for segment in self.segments((block,)):
                pieces += flags(segment, self.uids, self.recent, with_uid, with_change_number)
            yield b"".join(pieces)

    def number_responses(self, spans: Sequence[Span], with_uid: bool, with_change_number: bool) -> Iterator[bytes]:
        """FETCH responses with UID, MODSEQ or both for the messages at these positions, in blocks."""
        for block in blocks(spans):
            pieces: list[bytes] = []
            for segment in self.segments((block,)):
                pieces += numbers(segment, with_uid, with_change_number)
            yield b"".join(pieces)
