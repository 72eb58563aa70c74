"""The latest flag changes of a folder. *Pure.*"""

from __future__ import annotations

from array import array
from bisect import bisect_right

MAX_UIDS = 8_192  # in all entries together


class Journal:
    """Change numbers with the UIDs whose flags they changed, oldest first. The oldest entries are dropped."""

    __slots__ = ("_entries", "_floor", "_most_uids", "_size")

    def __init__(self, change_number: int, most_uids: int = MAX_UIDS) -> None:
        self._most_uids = most_uids
        self._entries: list[tuple[int, array[int]]] = []
        self._size = 0  # UIDs in all entries
        self._floor = change_number  # changes up to here are not in the journal

    def write(self, change_number: int, uids: array[int]) -> None:
        """Append the latest change."""
        self._entries.append((change_number, uids))
        self._size += len(uids)
        drop = 0
        while self._size > self._most_uids:
            self._floor, dropped = self._entries[drop]
            self._size -= len(dropped)
            drop += 1
        del self._entries[:drop]

    def since(self, change_number: int) -> list[tuple[int, array[int]]] | None:
        """Changes above a change number, oldest first.

        None if the journal does not reach back so far: then the caller must compare the change numbers of all messages.
        """
        if change_number < self._floor:
            return None
        first = bisect_right(self._entries, change_number, key=lambda entry: entry[0])
        return self._entries[first:]
