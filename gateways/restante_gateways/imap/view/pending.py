"""STORE commands in progress. *Pure.*"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from restante_mail.ranges import Range, contains


class PendingStore:
    """A STORE in progress. It collects arriving changes that another session must have made.

    After a .SILENT STORE the client must still receive other sessions' changes of the same messages (RFC 3501 6.4.6),
    even when both changes arrive merged into one.
    """

    __slots__ = ("expected", "ranges", "surprises")

    def __init__(self, ranges: Sequence[Range], expected: Callable[[int], int]) -> None:
        self.ranges, self.expected = ranges, expected
        self.surprises: set[int] = set()  # UIDs

    def check(self, uid: int, before: int, after: int) -> None:
        """Record the message if this STORE alone cannot have turned state `before` into state `after`."""
        if contains(self.ranges, uid) and self.expected(before) != after:
            self.surprises.add(uid)
