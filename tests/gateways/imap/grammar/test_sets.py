"""Sets of numbers stay ranges, for any number of elements (RFC 3501 9)."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_gateways.imap.grammar import sets
from restante_gateways.imap.grammar.parser import ParseError, Parser
from restante_gateways.imap.grammar.sets import STAR, SequenceSet
from restante_mail import ranges

numbers = st.integers(1, 30)
small_sets = st.sets(st.integers(0, 40), max_size=20)


def parsed(text: bytes) -> SequenceSet:
    p = Parser(text)
    found = p.sequence_set()
    p.end()
    return found


def members(ranges: list[tuple[int, int]]) -> list[int]:
    return [n for low, high in ranges for n in range(low, high + 1)]


def half_open(values: set[int]) -> list[tuple[int, int]]:
    return [(low, high + 1) for low, high in ranges.compress(sorted(values))]


@pytest.mark.parametrize(
    ("text", "largest", "expected"),
    [
        (b"1:4294967295", 7, [(1, 4294967295)]),
        (b"1,1,1", 7, [(1, 1)]),
        (b"2:1", 7, [(1, 2)]),
        (b"*", 7, [(7, 7)]),
        (b"*:5", 7, [(5, 7)]),
        (b"5:*", 3, [(3, 5)]),
        (b"999999:*", 10, [(10, 999999)]),  # RFC 3501 6.4.8
        (b"*:*", 4, [(4, 4)]),
        (b"*", 0, []),  # RFC 3501 9
        (b"4,2:3,9", 9, [(2, 4), (9, 9)]),
    ],
)
def test_stars_and_order(text: bytes, largest: int, expected: list[tuple[int, int]]) -> None:
    assert parsed(text).resolve(largest) == expected


@pytest.mark.parametrize(
    ("text", "count", "all_exist", "expected"),
    [
        (b"1:3", 3, True, [(1, 3)]),
        (b"4", 3, False, []),  # RFC 3501 6.4.8
        (b"2,4:9", 3, False, [(2, 2)]),
        (b"1:4294967295", 3, False, [(1, 3)]),
        (b"*", 0, False, []),  # RFC 3501 9
        (b"1:*", 0, False, []),
        (b"4", 0, False, []),
        (b"2:*", 3, True, [(2, 3)]),
        (b"7:*", 3, True, [(3, 3)]),
        (b"3,1", 3, True, [(1, 1), (3, 3)]),
    ],
)
def test_which_sequence_numbers_exist(
    text: bytes, count: int, all_exist: bool, expected: list[tuple[int, int]]
) -> None:
    assert parsed(text).all_within(count) == all_exist
    assert parsed(text).numbers_within(count) == expected


@pytest.mark.parametrize(
    "text", [b"", b"0", b"1:0", b"1,", b",1", b"1::2", b"4294967296", b"01", b"1:2:3", b"1-2", b"**"]
)
def test_malformed_sets_are_refused(text: bytes) -> None:
    with pytest.raises(ParseError):
        parsed(text)


@given(st.lists(st.tuples(numbers, numbers | st.just(STAR)), min_size=1, max_size=10))
def test_sets_are_read_as_they_are_spelled(ranges: list[tuple[int, int]]) -> None:
    original = SequenceSet(tuple((min(r), max(r)) for r in ranges))
    assert parsed(original.encode()) == original


@given(st.lists(st.tuples(numbers, numbers | st.just(STAR)), min_size=1), st.integers(1, 40))
def test_resolving_finds_exactly_the_numbers(ranges: list[tuple[int, int]], largest: int) -> None:
    found = SequenceSet(tuple((min(r), max(r)) for r in ranges)).resolve(largest)
    wanted = set[int]()
    for low, high in ranges:
        ends = [largest if end == STAR else end for end in (low, high)]
        wanted |= set(range(min(ends), max(ends) + 1))
    assert members(found) == sorted(wanted)


@given(small_sets, small_sets)
def test_set_algebra_is_that_of_sets(first: set[int], second: set[int]) -> None:
    assert members(ranges.compress(sorted(first))) == sorted(first)
    assert sets.intersect(half_open(first), half_open(second)) == half_open(first & second)
    assert sets.unite(half_open(first), half_open(second)) == half_open(first | second)
    assert sets.without(half_open(first), half_open(second)) == half_open(first - second)
    assert members(ranges.subtract(ranges.compress(sorted(first)), ranges.compress(sorted(second)))) == sorted(
        first - second
    )
    assert all(ranges.contains(ranges.compress(sorted(first)), n) == (n in first) for n in range(42))


@given(st.sets(st.integers(1, 60), max_size=30), st.integers(0, 30), small_sets)
def test_positions_are_where_the_uids_are(uids: set[int], count: int, asked: set[int]) -> None:
    column = array("I", sorted(uids))
    count = min(count, len(column))
    found = sets.positions(column, count, ranges.compress(sorted(asked)))
    assert [at for low, stop in found for at in range(low, stop)] == [at for at in range(count) if column[at] in asked]


@given(st.sets(st.integers(0, 60)), st.integers(1, 9))
def test_pieces_have_every_position_once(positions: set[int], most: int) -> None:
    spans = [(first, last + 1) for first, last in ranges.compress(sorted(positions))]
    found = [[at for span in piece for at in range(*span)] for piece in sets.pieces(spans, most)]
    assert [at for piece in found for at in piece] == sorted(positions)
    assert all(len(piece) == most for piece in found[:-1]) and all(0 < len(piece) <= most for piece in found)


def test_a_huge_set_costs_nothing() -> None:
    column = array("I", range(1, 100_001))
    assert sets.positions(column, 100_000, parsed(b"1:4294967295").resolve(100_000)) == [(0, 100_000)]


def test_sets_are_told_in_runs() -> None:
    assert sets.encode_ranges(ranges.compress([1, 2, 3, 4, 5, 8])) == b"1:5,8"
