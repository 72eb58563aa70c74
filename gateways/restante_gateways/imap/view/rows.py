"""Conversion of the core's rows to FETCH responses, column by column, one batch at a time. *Pure.*"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from restante_gateways.imap.grammar import encoder, sets
from restante_gateways.imap.grammar.fetch import FetchFact, Layout
from restante_gateways.imap.grammar.sets import Span
from restante_gateways.imap.values import Rest, Rows
from restante_gateways.imap.view.session import SessionView
from restante_mail import ranges
from restante_mail.ranges import Range


class BrokenRows(Exception):
    """The core's stream does not continue its unfinished cell."""


class RowWriter:
    """Renders the rows of one FETCH. `continued` completes a cell that its batch has only in part.

    A response has facts first, then sections, regardless of the requested order. So only sections follow an incomplete
    section of a batch's last message.
    """

    def __init__(self, view: SessionView, layout: Layout, seen_now: Sequence[Range], condstore: bool) -> None:
        self._view, self._seen_now = view, seen_now
        self._facts, self._labels = layout.facts, layout.labels
        self._condstore = condstore
        self._next_position = 0
        self._by_message_id: Mapping[int, int] | None = None
        self._answered: list[Span] = []
        self._open: Rows | None = None  # the batch whose last message is incomplete
        self._open_section = 0
        self._open_seen = b""  # its FLAGS, rendered at its beginning: newer keywords are not announced yet
        self._missing = 0  # octets of the incomplete cell not received yet

    @property
    def unfinished(self) -> bool:
        """Whether the client is reading an incomplete literal: only its octets may follow."""
        return self._missing > 0

    def batch(self, rows: Rows) -> bytes:
        """The responses of a batch; the last may be incomplete. Raises BrokenRows."""
        if self._missing:
            raise BrokenRows("a cell was left unfinished")
        count = len(rows.uids)
        if not count:
            return b""
        has_flags = FetchFact.FLAGS in self._facts or self._seen_now
        # Without an await before the flags are rendered.
        keywords = self._view.announce_keywords() if has_flags else b""
        positions = self._positions(rows)
        cut = any(len(cells.octets[-1]) < cells.total_octets[-1] for cells in rows.sections)
        whole = count - 1 if cut else count
        lines = self._lines(rows, positions, whole)
        if not cut:
            return keywords + b"".join(lines)
        at = positions[-1]
        if at is None:
            raise BrokenRows("a message that was not asked for is cut")
        self._open, self._open_section, self._open_seen = rows, 0, self._seen_cell(at)
        head = b" ".join(self._fact_cells(rows, count - 1, at))
        lines.append(b"* %d FETCH (%b%b" % (at + 1, head, b" " if head else b""))
        lines.append(self._open_cells())
        return keywords + b"".join(lines)

    def continued(self, rest: Rest) -> bytes:
        """More octets of the incomplete cell, with the rest of the response after its end. Raises BrokenRows."""
        if self._open is None or rest.section_index != self._open_section or len(rest.octets) > self._missing:
            raise BrokenRows("octets that belong to no unfinished cell")
        self._missing -= len(rest.octets)
        if self._missing:
            return rest.octets
        self._open_section += 1
        return rest.octets + self._open_cells()

    def finish(self) -> None:
        """Check at the end of the stream that no cell is incomplete. Raises BrokenRows."""
        if self._missing:
            raise BrokenRows("the last cell is unfinished")

    def _open_cells(self) -> bytes:
        """Sections of the incomplete message from the current one on, up to the next incomplete one."""
        rows, pieces = self._open, list[bytes]()
        assert rows is not None
        while self._open_section < len(self._labels):
            cells = rows.sections[self._open_section]
            octets, total = cells.octets[-1], cells.total_octets[-1]
            separator = b" " if self._open_section else b""
            label = self._labels[self._open_section]
            if len(octets) < total:
                pieces.append(b"%b%b {%d}\r\n%b" % (separator, label, total, octets))
                self._missing = total - len(octets)
                return b"".join(pieces)
            pieces.append(b"%b%b %b" % (separator, label, _cell(octets, total)))
            self._open_section += 1
        self._open = None
        pieces.append(self._open_seen + b")\r\n")
        return b"".join(pieces)

    def expect(self, positions: Mapping[int, int]) -> None:
        """Expect rows requested by message id, in any order; `positions` has the position of each id."""
        self._by_message_id = positions

    def missing(self, spans: Sequence[Span]) -> list[Span]:
        """The positions among these without a row so far."""
        if self._answered == spans:
            return []
        return sets.without(spans, sets.unite(self._answered, ()))

    def _positions(self, rows: Rows) -> Sequence[int | None]:
        """Positions of the rows in the session's numbering, by message id if `expect` was called, else by UID."""
        if self._by_message_id is None:
            positions: Sequence[int | None] = self._positions_of_uids(rows.uids)
            first, last = positions[0], positions[-1]
            if first is not None and last is not None and last - first == len(positions) - 1:
                self._answered.append((first, last + 1))
                return positions
        else:
            positions = [self._by_message_id.get(message_id) for message_id in rows.message_ids]
        self._answered += [(at, at + 1) for at in positions if at is not None]
        return positions

    def _positions_of_uids(self, uids: Sequence[int]) -> Sequence[int | None]:
        """Positions of ascending UIDs, a range if they are adjacent; None for a UID unknown to the client."""
        view = self._view
        known, count, positions = view.uids, view.count, list[int | None]()
        at = view.position(uids[0], self._next_position)
        if at is not None and at + len(uids) <= count and list(known[at : at + len(uids)]) == list(uids):
            self._next_position = at + len(uids)
            return range(at, self._next_position)
        at = self._next_position
        for uid in uids:
            if at < count and known[at] == uid:
                positions.append(at)
                at += 1
                continue
            found = view.position(uid, at)
            positions.append(found)
            if found is not None:
                at = found + 1
        self._next_position = at
        return positions

    def _lines(self, rows: Rows, positions: Sequence[int | None], count: int) -> list[bytes]:
        """The responses of the first `count` rows: one template, filled from columns."""
        columns: list[Iterable[object]] = [
            range(positions.start + 1, positions.stop + 1)
            if isinstance(positions, range)
            else (at + 1 if at is not None else 0 for at in positions[:count])
        ]
        pieces = []
        for fact in self._facts:
            piece, column = self._fact_column(fact, rows, positions, count)
            pieces.append(piece)
            columns.append(column)
        for label, cells in zip(self._labels, rows.sections, strict=True):
            pieces.append(label.replace(b"%", b"%%") + b" %b")
            columns.append(map(_cell, cells.octets[:count], cells.total_octets))
        template = b"* %d FETCH (" + b" ".join(pieces) + b"%b)\r\n"
        if self._seen_now and FetchFact.FLAGS not in self._facts:
            columns.append(map(self._seen_cell, positions[:count]))
        else:
            columns.append((b"",) * count)
        filled = [template % row for row in zip(*columns, strict=False)]
        if not isinstance(positions, range) and None in positions:
            return [line for line, at in zip(filled, positions, strict=False) if at is not None]
        return filled

    def _fact_column(
        self, fact: FetchFact, rows: Rows, positions: Sequence[int | None], count: int
    ) -> tuple[bytes, Iterable[object]]:
        """A fact's piece of the template, and its column."""
        match fact:
            case FetchFact.UID:
                if isinstance(positions, range):
                    return b"UID %d", self._view.uids[positions.start : positions.stop]
                return b"UID %d", (0 if at is None else self._view.uids[at] for at in positions[:count])
            case FetchFact.FLAGS:
                if isinstance(positions, range):
                    return b"%b", self._view.flags_of((positions.start, positions.start + count))
                return b"%b", map(self._flags, positions[:count])
            case FetchFact.MODSEQ:
                return b"MODSEQ (%d)", map(self._change_number, positions[:count])
            case FetchFact.INTERNALDATE:
                dates = map(encoder.date_time, rows.received_at_seconds, rows.received_offset_minutes)
                return b"INTERNALDATE %b", dates
            case FetchFact.SIZE:
                return b"RFC822.SIZE %d", rows.size_octets
            case FetchFact.ENVELOPE:
                return b"ENVELOPE %b", rows.envelopes
            case FetchFact.BODY:
                return b"BODY %b", rows.bodies
            case FetchFact.BODYSTRUCTURE:
                return b"BODYSTRUCTURE %b", rows.body_structures

    def _fact_cells(self, rows: Rows, row: int, at: int) -> list[bytes]:
        """The encoded facts of one row."""
        cells = []
        for fact in self._facts:
            piece, column = self._fact_column(fact, rows, (at,) * (row + 1), row + 1)
            cells.append(piece % (list(column)[row],))
        return cells

    def _flags(self, position: int | None) -> bytes:
        return b"" if position is None else self._view.flags_at(position)

    def _change_number(self, position: int | None) -> int:
        return 0 if position is None else self._view.change_number_at(position)

    def _seen_cell(self, position: int | None) -> bytes:
        """FLAGS of a message that this FETCH marked \\Seen; empty if the client requested FLAGS anyway."""
        if position is None or FetchFact.FLAGS in self._facts:
            return b""
        if not ranges.contains(self._seen_now, self._view.uids[position]):
            return b""
        text = b" " + self._flags(position)
        return text + b" MODSEQ (%d)" % self._change_number(position) if self._condstore else text


def _cell(octets: bytes, total: int) -> bytes:
    """A section's octets: NIL for a missing part, a quoted empty string for an empty range (RFC 3501 6.4.5)."""
    if total < 0:
        return b"NIL"
    return b"{%d}\r\n%b" % (total, octets) if total else b'""'
