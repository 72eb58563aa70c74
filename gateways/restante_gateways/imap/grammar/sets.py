"""Sets of message numbers as ranges (RFC 3501 9 `sequence-set`), never expanded. *Pure.*"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from restante_mail.ranges import Range, merge, subtract

MAX_NUMBER = 0xFFFF_FFFF
STAR = MAX_NUMBER + 1  # `*`, above every valid number

Span = tuple[int, int]  # half-open positions in a session's numbering: message numbers first + 1 to stop


@dataclass(frozen=True, slots=True)
class SequenceSet:
    """A client's set: ranges in the client's order, each with the lower end first, `*` as STAR."""

    ranges: tuple[Range, ...]

    def encode(self) -> bytes:
        """The set in IMAP syntax; the parser reads it back as an equal value."""
        return b",".join(_encode_range(low, high) for low, high in self.ranges)

    def resolve(self, largest: int) -> list[Range]:
        """Ascending disjoint ranges, with `largest` for `*`.

        `5:*` with 3 as the largest number is 3:5: the ends change places (RFC 3501 6.4.8). The result is empty if
        `largest` is 0 and the set is only `*`.
        """
        resolved = []
        for low, high in self.ranges:
            if high == STAR:
                low, high = (largest, largest) if low == STAR else (min(low, largest), max(low, largest))
            if high:
                resolved.append((max(low, 1), high))
        return merge(resolved)

    def all_within(self, count: int) -> bool:
        """Whether every number is a sequence number among `count` messages.

        `7:*` among 3 messages is valid and means the last one: clients poll for new messages like that.
        """
        return all(low and (count if high == STAR else high <= count) for low, high in self.ranges)

    def numbers_within(self, count: int) -> list[Range]:
        """Ascending ranges of the numbers that are sequence numbers among `count` messages."""
        return [(low, min(high, count)) for low, high in self.resolve(count) if low <= count]


def _encode_range(low: int, high: int) -> bytes:
    if low == high:
        return b"*" if low == STAR else b"%d" % low
    return b"%d:*" % low if high == STAR else b"%d:%d" % (low, high)


def intersect(first: Sequence[Range], second: Sequence[Range]) -> list[Range]:
    """The intersection of two ascending lists of half-open ranges."""
    common: list[Range] = []
    at = other = 0
    while at < len(first) and other < len(second):
        low, high = max(first[at][0], second[other][0]), min(first[at][1], second[other][1])
        if low < high:
            common.append((low, high))
        if first[at][1] <= second[other][1]:
            at += 1
        else:
            other += 1
    return common


def unite(first: Iterable[Range], second: Iterable[Range]) -> list[Range]:
    """The union of two lists of half-open ranges."""
    return [(low, high + 1) for low, high in merge([(low, stop - 1) for low, stop in (*first, *second)])]


def without(ranges: Iterable[Range], taken: Sequence[Range]) -> list[Range]:
    """The difference of two ascending lists of half-open ranges."""
    closed = [(low, stop - 1) for low, stop in taken]
    return [(low, high + 1) for low, high in subtract([(low, stop - 1) for low, stop in ranges], closed)]


def pieces(spans: Iterable[Span], most: int) -> Iterator[list[Span]]:
    """The spans in groups of `most` positions, the last perhaps fewer."""
    group: list[Span] = []
    room = most
    for first, stop in spans:
        while first < stop:
            end = min(stop, first + room)
            group.append((first, end))
            first, room = end, room - (end - first)
            if not room:
                yield group
                group, room = [], most
    if group:
        yield group


def encode_ranges(ranges: Iterable[Range]) -> bytes:
    """A set in the syntax of COPYUID, ESEARCH and MODIFIED: `1:5,8`."""
    return b",".join(_encode_range(low, high) for low, high in ranges)


def positions(uids: Sequence[int], count: int, ranges: Iterable[Range]) -> list[Range]:
    """The half-open index ranges of these UID ranges among the first `count` of the ascending `uids`.

    Takes two bisections for each range. Ranges without a message are left out. If `ranges` is ascending, so is the
    result, with adjacent ranges joined.
    """
    found: list[Range] = []
    for low, high in ranges:
        first = bisect_left(uids, low, 0, count)
        stop = bisect_right(uids, high, first, count)
        if first == stop:
            continue
        if found and found[-1][1] == first:
            found[-1] = (found[-1][0], stop)
        else:
            found.append((first, stop))
    return found
