"""Rows read ahead for a client that fetches one message after another, as mbsync and Thunderbird do. *Pure.*

Contents never change, and neither do facts except flags and change number, which come from the view: rows read ahead
are never stale. From the second message in ascending order on, one operation reads the following messages, too: more
each time, within the octets of one answer. This bounds what a session keeps; an `AheadBudget` bounds the process.
"""

from __future__ import annotations

from collections import OrderedDict

from restante_gateways.imap.grammar.fetch import Layout
from restante_gateways.imap.values import Cells, Rows

MOST_MESSAGES = 32  # of one answer
ANSWER_OCTETS = 48 << 10  # aimed at; the core refuses an answer above 64 KiB
ROW_OCTETS = 300  # of a message besides its sections, estimated
KEPT_OCTETS = 8 << 20  # of a process


class AheadBudget:
    """Limits the octets that all sessions keep; the session that read ahead longest ago loses its rows first."""

    def __init__(self, most_octets: int = KEPT_OCTETS) -> None:
        self._most_octets, self.octets = most_octets, 0
        self._kept: OrderedDict[ReadAhead, int] = OrderedDict()

    def take(self, ahead: ReadAhead, octets: int) -> None:
        """Count the rows of a session in place of its earlier ones."""
        self.release(ahead)
        self._kept[ahead] = octets
        self.octets += octets
        while self.octets > self._most_octets:
            next(iter(self._kept)).forget()

    def release(self, ahead: ReadAhead) -> None:
        """Count nothing for a session any more."""
        self.octets -= self._kept.pop(ahead, 0)


class ReadAhead:
    """The rows that one session has read ahead in its selected folder, and the course of its FETCHes."""

    __slots__ = ("_budget", "_following", "_layout", "_octets", "_rows", "_steps")

    def __init__(self, budget: AheadBudget) -> None:
        self._budget = budget
        self._layout: Layout | None = None  # of the last FETCH of one message
        self._following = 0  # UID of the message after that one; 0: none
        self._steps = 0  # messages fetched one after another so far
        self._octets = 0  # of a message in the last answer, on average
        self._rows: dict[int, Rows] = {}  # read ahead, by UID

    def take(self, layout: Layout, uid: int, following: int) -> Rows | None:
        """The row of a message that was read ahead, or None. `following` is the UID of the next message; 0: none."""
        if layout is not self._layout or uid != self._following:
            self.forget()
            self._layout, self._steps, self._octets = layout, 0, 0
        self._following = following
        self._steps += 1
        row = self._rows.pop(uid, None)
        if not self._rows:
            self._budget.release(self)
        return row

    def window(self) -> int:
        """The number of messages to read now, beginning with the one that `take` did not have."""
        if self._steps < 2:
            return 1
        most = ANSWER_OCTETS // (self._octets + ROW_OCTETS)
        return max(1, min(MOST_MESSAGES, 2 * self._steps, most))

    def too_large(self) -> None:
        """Halve the window: the answer for several messages was too large."""
        self._octets = min(ANSWER_OCTETS, 2 * (self._octets + ROW_OCTETS))

    def keep(self, uid: int, rows: Rows) -> Rows:
        """Keep the rows of an answer apart from those of the message `uid`, which are returned."""
        sizes = [sum(cells.total_octets[at] for cells in rows.sections) for at in range(len(rows.uids))]
        self._octets = sum(sizes) // max(1, len(sizes))
        if len(rows.uids) <= 1:
            return rows
        split = {each: _row(rows, at) for at, each in enumerate(rows.uids)}
        first = split.pop(uid, Rows())
        self._rows = split
        self._budget.take(self, sum(sizes) + ROW_OCTETS * len(split))
        return first

    def forget(self) -> None:
        """Drop all rows: the client fetches others, or closes the folder."""
        self._rows = {}
        self._budget.release(self)


def _row(rows: Rows, at: int) -> Rows:
    """One row of a batch; columns that the batch lacks stay empty."""
    return Rows(
        rows.uids[at : at + 1],
        rows.message_ids[at : at + 1],
        rows.received_at_seconds[at : at + 1],
        rows.received_offset_minutes[at : at + 1],
        rows.size_octets[at : at + 1],
        rows.envelopes[at : at + 1],
        rows.bodies[at : at + 1],
        rows.body_structures[at : at + 1],
        [Cells(cells.octets[at : at + 1], cells.total_octets[at : at + 1]) for cells in rows.sections],
    )
