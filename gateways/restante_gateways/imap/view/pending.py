"""STOREs under way. *Pure.*"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from restante_mail.ranges import Range, contains


class PendingStore:
    """A STORE under way: collects the arriving changes that it does not explain.

    A client that said .SILENT must still learn of changes that others made to the same messages (RFC 3501 6.4.6), even
    when their change and its own arrive as one.
    """

    __slots__ = ("expected", "ranges", "surprises")

    def __init__(self, ranges: Sequence[Range], expected: Callable[[int], int]) -> None:
        self.ranges, self.expected = ranges, expected
        self.surprises: set[int] = set()  # UIDs

    def check(self, uid: int, before: int, after: int) -> None:
        """Notes the message if this STORE alone cannot have made `after` from `before`."""
        if contains(self.ranges, uid) and self.expected(before) != after:
            self.surprises.add(uid)
