"""Set operations on ranges of integers, both ends included, without expanding them. *Pure.*

A list of ranges is *disjoint* if its ranges ascend and neither overlap nor touch.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from operator import eq

__all__ = ["Range", "compress", "contains", "merge", "runs", "subtract"]

Range = tuple[int, int]  # lowest and highest, both included
_ABOVE = 1 << 64  # above every number


def merge(ranges: Iterable[Range]) -> list[Range]:
    """The same numbers as disjoint ranges. The input may be in any order and overlap."""
    merged: list[Range] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            if high > merged[-1][1]:
                merged[-1] = (merged[-1][0], high)
        else:
            merged.append((low, high))
    return merged


def compress(numbers: Iterable[int]) -> list[Range]:
    """Disjoint ranges of ascending numbers: 1 2 3 7 become (1, 3) and (7, 7). Repeats are allowed."""
    ranges: list[Range] = []
    following = iter(numbers)
    start = previous = next(following, None)
    if start is None or previous is None:
        return ranges
    for number in following:
        if number > previous + 1:
            ranges.append((start, previous))
            start = number
        previous = number
    ranges.append((start, previous))
    return ranges


def runs(numbers: Sequence[int]) -> list[Range]:
    """Runs of successive numbers in the given order, which need not ascend: 8 9 2 3 become (8, 9) and (2, 3)."""
    if not numbers:
        return []
    if numbers[-1] - numbers[0] == len(numbers) - 1 and all(map(eq, numbers, range(numbers[0], numbers[-1] + 1))):
        return [(numbers[0], numbers[-1])]
    found: list[Range] = []
    start = previous = numbers[0]
    for number in numbers[1:]:
        if number != previous + 1:
            found.append((start, previous))
            start = number
        previous = number
    found.append((start, previous))
    return found


def subtract(ranges: Iterable[Range], taken: Sequence[Range]) -> list[Range]:
    """The numbers of disjoint ranges that are not in the disjoint ranges `taken`, as disjoint ranges."""
    left: list[Range] = []
    at = 0
    for low, high in ranges:
        while at < len(taken) and taken[at][1] < low:
            at += 1
        over = at
        while low <= high and over < len(taken) and taken[over][0] <= high:
            if taken[over][0] > low:
                left.append((low, taken[over][0] - 1))
            low = taken[over][1] + 1
            over += 1
        if low <= high:
            left.append((low, high))
    return left


def contains(ranges: Sequence[Range], number: int) -> bool:
    """Whether disjoint ranges contain `number`. Takes one bisection."""
    at = bisect_right(ranges, (number, _ABOVE)) - 1
    return at >= 0 and number <= ranges[at][1]
