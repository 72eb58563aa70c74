"""The last changes of flags in a folder, change by change. *Pure.*"""

from __future__ import annotations

from array import array
from bisect import bisect_right

MAX_UIDS = 8_192  # remembered one by one


class Journal:
    """Change numbers and the UIDs whose flags they changed, oldest first. The oldest are forgotten."""

    __slots__ = ("_entries", "_floor", "_size")

    def __init__(self, change_number: int) -> None:
        self._entries: list[tuple[int, array[int]]] = []
        self._size = 0  # UIDs in them
        self._floor = change_number  # changes up to here are not in the journal

    def write(self, change_number: int, uids: array[int]) -> None:
        """Note a change, the latest."""
        self._entries.append((change_number, uids))
        self._size += len(uids)
        drop = 0
        while self._size > MAX_UIDS:
            self._floor, dropped = self._entries[drop]
            self._size -= len(dropped)
            drop += 1
        del self._entries[:drop]

    def since(self, change_number: int) -> list[tuple[int, array[int]]] | None:
        """Changes above a change number.

        None when they reach too far back: then the change numbers of all messages must be looked at.
        """
        if change_number < self._floor:
            return None
        first = bisect_right(self._entries, change_number, key=lambda entry: entry[0])
        return self._entries[first:]
