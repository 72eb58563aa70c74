"""FETCH responses for facts in a view: one template for many adjacent messages, filled from columns. *Pure.*"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from restante_gateways.imap.grammar import sets
from restante_gateways.imap.grammar.sets import Span
from restante_gateways.imap.view.departed import Segment
from restante_mail.ranges import Range

_BLOCK = 1_024  # messages rendered at a time


def blocks(spans: Iterable[Span]) -> Iterator[Span]:
    """The same positions in blocks of at most _BLOCK messages."""
    for first, stop in spans:
        for start in range(first, stop, _BLOCK):
            yield start, min(stop, start + _BLOCK)


def flags(
    segment: Segment, uids: Sequence[int], recent: Sequence[Range], with_uid: bool, with_change_number: bool
) -> Iterator[bytes]:
    """FETCH responses with FLAGS of a segment, rendered separately for \\Recent and other messages.

    `uids` are the UIDs of the session's numbering, `recent` those that are \\Recent in it.
    """
    first, count, columns, _ = segment
    done, table = first, columns.table
    for begin, end in sets.positions(uids, first + count, recent) if recent else ():
        begin, end = max(begin, first), min(end, first + count)
        if begin < end:
            yield _render(segment, (done, begin), table.texts, with_uid, with_change_number)
            yield _render(segment, (begin, end), table.recent_texts, with_uid, with_change_number)
            done = end
    yield _render(segment, (done, first + count), table.texts, with_uid, with_change_number)


def numbers(segment: Segment, with_uid: bool, with_change_number: bool) -> list[bytes]:
    """FETCH responses with UID, MODSEQ or both of a segment."""
    first, count, columns, at = segment
    positions = range(first + 1, first + count + 1)
    uids, changes = columns.uids[at : at + count], columns.change_numbers[at : at + count]
    if with_uid and with_change_number:
        return [b"* %d FETCH (UID %d MODSEQ (%d))\r\n" % row for row in zip(positions, uids, changes, strict=True)]
    if with_uid:
        return [b"* %d FETCH (UID %d)\r\n" % row for row in zip(positions, uids, strict=True)]
    return [b"* %d FETCH (MODSEQ (%d))\r\n" % row for row in zip(positions, changes, strict=True)]


def _render(segment: Segment, span: Span, texts: Sequence[bytes], with_uid: bool, with_change_number: bool) -> bytes:
    """FETCH responses with FLAGS for a part of a segment: one template, filled from columns."""
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
