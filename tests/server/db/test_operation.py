"""The grouping of waiting operations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_server.db.operation import sets


class Deliver:
    @classmethod
    def run_many(cls) -> None: ...


class Flag:
    @classmethod
    def run_many(cls) -> None: ...


class Append:
    one_a_mailbox = True

    @classmethod
    def run_many(cls) -> None: ...


class Rename:
    pass


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        ("", []),
        ("D1", [[0]]),
        ("D1 D1 D2", [[0, 1, 2]]),  # neighbours of one class
        ("R1 R1", [[0], [1]]),  # a class that cannot be merged
        ("D1 F2 D3", [[0, 2], [1]]),  # disjoint mailboxes commute
        ("D1 F1 D1", [[0], [1], [2]]),  # the flag change sees the first delivery and not the second
        ("D1 F2 D2", [[0], [1], [2]]),  # the operation between them touches the same mailbox
        ("D1 F2 D1", [[0, 2], [1]]),
        ("D1 R- D2", [[0], [1], [2]]),  # no operation passes one without a mailbox
        ("D1 D- D2", [[0, 1, 2]]),
        ("D1 F2 D-", [[0], [1], [2]]),  # one without a mailbox passes no other
        ("D1 F23 D4 F3 D3", [[0, 2], [1, 3], [4]]),
        ("A1 A2 A1 A3 A2", [[0, 1, 3], [2, 4]]),  # a class with one operation a mailbox
        ("A1 F1 A2 A1", [[0, 2], [1], [3]]),
    ],
)
def test_operations_of_a_class_run_as_one_unless_something_between_shares_a_mailbox(
    operations: str, expected: list[list[int]]
) -> None:
    kinds = {"D": Deliver, "F": Flag, "A": Append, "R": Rename}
    given_ones = [
        (kinds[word[0]], frozenset(int(digit) for digit in word[1:] if digit != "-")) for word in operations.split()
    ]
    assert sets(given_ones) == expected


@given(
    st.lists(
        st.tuples(
            st.sampled_from([Deliver, Flag, Append, Rename]),
            st.frozensets(st.integers(min_value=1, max_value=4), max_size=2),
        ),
        max_size=30,
    )
)
def test_no_operation_ever_passes_one_that_shares_a_mailbox(operations: list[tuple[type, frozenset[int]]]) -> None:
    order = [index for indexes in sets(operations) for index in indexes]
    assert sorted(order) == list(range(len(operations)))
    place = {index: at for at, index in enumerate(order)}
    for later, (_, mailboxes) in enumerate(operations):
        for earlier in range(later):
            others = operations[earlier][1]
            if mailboxes & others or not mailboxes or not others:
                assert place[earlier] < place[later]


@given(
    st.lists(st.tuples(st.sampled_from([Deliver, Flag, Append, Rename]), st.frozensets(st.integers(1, 9))), max_size=30)
)
def test_a_set_holds_one_class_and_only_mergeable_ones_share_it(
    operations: list[tuple[type, frozenset[int]]],
) -> None:
    for indexes in sets(operations):
        kinds = {operations[index][0] for index in indexes}
        assert len(kinds) == 1
        assert len(indexes) == 1 or kinds != {Rename}
        if kinds == {Append}:
            named = [mailbox for index in indexes for mailbox in operations[index][1]]
            assert len(named) == len(set(named))
