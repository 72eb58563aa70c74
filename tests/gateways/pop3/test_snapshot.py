"""The snapshot of the maildrop at login."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_gateways.pop3.snapshot import NoSuchMessage, Snapshot


def uids_of(runs: list[tuple[int, int]]) -> list[int]:
    return [uid for first, last in runs for uid in range(first, last + 1)]


def test_deleted_messages_keep_their_numbers_and_leave_the_sums() -> None:  # RFC 1939 5, 11
    drop = Snapshot(9, [3, 5, 6], [31, 11, 61], [100, 20, 3])
    assert (len(drop), drop.left_count, drop.left_octets) == (3, 3, 123)
    drop.delete(2)
    assert (len(drop), drop.left_count, drop.left_octets) == (3, 2, 103)
    assert list(drop.sizes()) == [b"1 100", b"3 3"]
    assert list(drop.unique_ids()) == [b"1 9.3", b"3 9.6"]
    assert [drop.message_id(n) for n in (1, 2, 3)] == [31, 11, 61]
    with pytest.raises(NoSuchMessage):
        drop.delete(2)
    drop.reset()
    assert (drop.left_count, drop.left_octets) == (3, 123)
    drop.check(2)


@pytest.mark.parametrize("number", [0, -1, 4, 10**9])
def test_numbers_outside_are_no_messages(number: int) -> None:
    with pytest.raises(NoSuchMessage):
        Snapshot(9, [3, 5, 6], [31, 11, 61], [1, 1, 1]).check(number)


def test_unique_ids_fit_the_grammar() -> None:  # RFC 1939 7
    drop = Snapshot(2**32 - 1, [1, 2**32 - 1], [1, 2**63 - 1], [0, 0])
    for unique_id in (drop.unique_id(1), drop.unique_id(2)):
        assert 1 <= len(unique_id) <= 70
        assert all(0x21 <= octet <= 0x7E for octet in unique_id)


@given(st.sets(st.integers(1, 60)), st.data())
def test_runs_name_exactly_what_was_marked(uids: set[int], data: st.DataObject) -> None:
    ordered = sorted(uids)
    drop = Snapshot(1, ordered, ordered, [1] * len(ordered))
    marked = [n for n in range(1, len(ordered) + 1) if data.draw(st.booleans())]
    seen = [n for n in range(1, len(ordered) + 1) if data.draw(st.booleans())]
    for n in seen:
        drop.see(n)
    for n in marked:
        drop.delete(n)
    assert uids_of(drop.deleted_uids()) == [ordered[n - 1] for n in marked]
    assert uids_of(drop.seen_uids()) == [ordered[n - 1] for n in seen if n not in marked]
    for n in set(range(1, len(ordered) + 1)) - set(marked):
        following = set(uids_of(drop.following(n, 5)))
        window = [k for k in range(n, min(n + 5, len(ordered) + 1)) if k not in marked]
        assert following & uids == {ordered[k - 1] for k in window}
