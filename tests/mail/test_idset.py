"""IdSet equals Python's sets, and survives packing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_mail.idset import EMPTY, IdSet

numbers = st.sets(st.integers(1, 60))
large = st.sets(st.integers(1, 2**40))


@given(numbers, numbers)
def test_operations_are_those_of_sets(left: set[int], right: set[int]) -> None:
    one, two = IdSet.of(left), IdSet.of(right)
    assert set(one.union(two)) == left | right
    assert set(one.intersect(two)) == left & right
    assert len(one) == len(left)
    assert [number in one for number in range(62)] == [number in left for number in range(62)]


@given(large)
def test_packed_sets_come_back(values: set[int]) -> None:
    packed = IdSet.of(values).pack()
    assert IdSet.unpack(packed) == IdSet.of(values)
    if packed:
        with pytest.raises(ValueError):
            IdSet.unpack(packed + b"\x01")
        with pytest.raises(ValueError):
            IdSet.unpack(packed + b"\x80")


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 9))))
def test_runs_in_any_order_are_merged(runs: list[tuple[int, int]]) -> None:
    found = IdSet.from_runs((first, first + length) for first, length in runs)
    assert set(found) == {number for first, length in runs for number in range(first, first + length + 1)}
    assert all(second[0] - first[1] > 1 for first, second in zip(found.ranges(), found.ranges()[1:], strict=False))


def test_ascending_numbers_become_runs() -> None:
    assert IdSet.from_ascending([1, 2, 3, 7, 9, 10]).ranges() == ((1, 3), (7, 7), (9, 10))
    assert IdSet.from_ascending(range(5, 1_000_000)).ranges() == ((5, 999_999),)
    assert (IdSet.of([4, 2]).first, IdSet.of([4, 2]).last) == (2, 4)
    assert EMPTY.pack() == b""


@pytest.mark.parametrize("run", [(0, 3), (5, 4), (-1, 1)])
def test_runs_below_one_or_upside_down_are_refused(run: tuple[int, int]) -> None:
    with pytest.raises(ValueError):
        IdSet.from_runs([run])
