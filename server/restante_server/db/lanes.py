"""The choice of a lane for each write."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from restante_server.db.group import Item
from restante_server.db.lane import Lane

PATIENCE_SECONDS: Final = 0.02
"""A lane whose group has run for so long takes no further mailbox: its database is slow, or waits for a lock."""


class _Stay:
    """The number of the lane of a mailbox with writes that are not answered, and the number of these."""

    __slots__ = ("lane", "writes")

    def __init__(self, lane: int) -> None:
        self.lane = lane
        self.writes = 0


class Lanes:
    """All lanes of a pipeline. Call the methods on the event loop only."""

    def __init__(self, lanes: Iterable[Lane]) -> None:
        self.all = tuple(lanes)
        self._stays: dict[int, _Stay] = {}  # by mailbox

    def put(self, item: Item) -> None:
        """Queue a write in the lane of its mailboxes, else in the first lane that is free or soon will be."""
        lane = item.lane = self._choose(item.mailboxes)
        if len(self.all) > 1:
            for mailbox_id in item.mailboxes:
                stay = self._stays.get(mailbox_id)
                if stay is None:
                    stay = self._stays[mailbox_id] = _Stay(lane)
                stay.writes += 1
        self.all[lane].put(item)

    def drop(self, item: Item) -> bool:
        """Withdraw a write, as `Lane.drop`."""
        if not self.all[item.lane].drop(item):
            return False
        self.answered(item)
        return True

    def answered(self, item: Item) -> None:
        """Note that a write is answered or withdrawn."""
        if len(self.all) > 1:
            for mailbox_id in item.mailboxes:
                stay = self._stays[mailbox_id]
                stay.writes -= 1
                if not stay.writes:
                    del self._stays[mailbox_id]

    def _choose(self, mailboxes: frozenset[int]) -> int:
        if len(self.all) == 1 or not mailboxes:
            return 0
        for mailbox_id in sorted(mailboxes):
            if (stay := self._stays.get(mailbox_id)) is not None:
                return stay.lane
        for number, lane in enumerate(self.all):
            if lane.is_free_soon(PATIENCE_SECONDS):
                return number
        return min(mailboxes) % len(self.all)
