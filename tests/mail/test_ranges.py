"""Ranges agree with the sets of numbers that they contain."""

from __future__ import annotations

from array import array
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_mail.ranges import Range, compress, contains, merge, subtract

numbers = st.sets(st.integers(0, 40), max_size=20)
any_ranges = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 10)).map(lambda each: (each[0], sum(each))), max_size=9
)


def members(ranges: list[Range]) -> list[int]:
    return [number for low, high in ranges for number in range(low, high + 1)]


def is_disjoint(ranges: list[Range]) -> bool:
    return all(low <= high for low, high in ranges) and all(
        before[1] + 1 < after[0] for before, after in pairwise(ranges)
    )


@pytest.mark.parametrize(
    ("ascending", "ranges"),
    [
        ([], []),
        ([7], [(7, 7)]),
        ([1, 2, 3, 7], [(1, 3), (7, 7)]),
        ([1, 1, 3], [(1, 1), (3, 3)]),
        ([1, 1, 2, 2], [(1, 2)]),
        (array("I", [4, 5]), [(4, 5)]),
        (range(1, 1_000), [(1, 999)]),
        (iter((3, 5)), [(3, 3), (5, 5)]),
    ],
)
def test_ascending_numbers_become_ranges(ascending: list[int], ranges: list[Range]) -> None:
    assert compress(ascending) == ranges


@given(numbers)
def test_a_set_comes_back(values: set[int]) -> None:
    ranges = compress(sorted(values))
    assert is_disjoint(ranges)
    assert members(ranges) == sorted(values)


@given(any_ranges)
def test_merging_keeps_the_numbers(ranges: list[Range]) -> None:
    merged = merge(ranges)
    assert is_disjoint(merged)
    assert set(members(merged)) == set(members(ranges))


@given(numbers, numbers)
def test_difference_and_membership(first: set[int], second: set[int]) -> None:
    left = subtract(compress(sorted(first)), compress(sorted(second)))
    assert is_disjoint(left)
    assert members(left) == sorted(first - second)
    assert all(contains(left, number) == (number in first - second) for number in range(-1, 42))


def test_numbers_of_64_bits_are_found() -> None:
    assert contains([(1, 1), ((1 << 63) - 1, (1 << 63) - 1)], (1 << 63) - 1)
