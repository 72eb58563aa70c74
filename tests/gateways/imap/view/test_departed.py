"""Rows of removed messages are kept for sessions that lag, shared among them, and only as long (RFC 2180 4.1.2)."""

from __future__ import annotations

import gc
import weakref
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_gateways.imap.grammar.flags import SystemFlag
from restante_gateways.imap.values import Changes
from restante_gateways.imap.view.departed import Departed, Lapsed, Step
from restante_gateways.imap.view.folder import FolderView
from restante_gateways.imap.view.session import SessionView
from tests.gateways.imap.view.test_view import changes, folder, told

SEEN, FLAGGED = int(SystemFlag.SEEN), int(SystemFlag.FLAGGED)


def lines(session: SessionView, *, with_change_number: bool = False) -> list[bytes]:
    """The FETCH responses of all messages."""
    answer = b"".join(session.flag_responses([(0, session.count)], True, with_change_number))
    return [line for line in answer.split(b"\r\n") if b" FETCH " in line]


def test_what_left_keeps_its_flags_its_id_and_its_change_number() -> None:
    view = folder(1, 2, 3, 4)
    session = SessionView(view, False)
    view.apply(changes(view, [(2, SEEN, ("Work",))]))
    view.apply(changes(view, gone=[2, 3]))
    view.apply(changes(view, [(4, FLAGGED)], gone=[1]))
    assert lines(session, with_change_number=True) == [
        b"* 1 FETCH (UID 1 FLAGS () MODSEQ (100))",
        b"* 2 FETCH (UID 2 FLAGS (\\Seen Work) MODSEQ (101))",
        b"* 3 FETCH (UID 3 FLAGS () MODSEQ (100))",
        b"* 4 FETCH (UID 4 FLAGS (\\Flagged) MODSEQ (103))",
    ]
    assert session.message_ids([(0, 4)]) == {10: 0, 20: 1, 30: 2, 40: 3}
    assert session.changed_since([(0, 4)], 100) == [(1, 2), (3, 4)]
    assert session.highest_change_number([(0, 3)]) == 101
    assert session.without_flag(SystemFlag.SEEN, [(0, 4)]) == [(0, 1), (2, 4)]
    assert (session.flags_at(1), session.change_number_at(1)) == (b"FLAGS (\\Seen Work)", 101)


def test_states_that_the_folder_has_forgotten_are_still_those_of_what_left() -> None:
    view = folder(1, 2)
    session = SessionView(view, False)
    for number in range(600):
        view.apply(changes(view, [(1, 0, (f"k{number}",))]))
    view.apply(changes(view, gone=[1]))  # and with it the states that no message has any more
    view.apply(changes(view, [(3, 0, ("fresh",))]))
    view.apply(changes(view, gone=[2]))
    assert lines(session) == [b"* 1 FETCH (UID 1 FLAGS (k599))", b"* 2 FETCH (UID 2 FLAGS ())"]


def test_flags_that_became_known_later_than_the_removal_are_taken_over() -> None:
    view = folder(1, 2, 3)
    session = SessionView(view, False)
    answer = changes(view, [(2, SEEN, ("Work",)), (3, SEEN)], number=101)  # of a STORE, overtaken by the watch:
    view.apply(changes(view, [(3, SEEN)], gone=[2], number=102, since=100))
    assert lines(session)[1] == b"* 2 FETCH (UID 2 FLAGS ())"
    session.amend(answer)
    assert lines(session)[1] == b"* 2 FETCH (UID 2 FLAGS (\\Seen Work))"
    session.amend(changes(view, [(2, FLAGGED)], number=100))  # an older state
    assert lines(session)[1] == b"* 2 FETCH (UID 2 FLAGS (\\Seen Work))"


def test_what_every_session_was_told_of_is_forgotten() -> None:
    view = folder(*range(1, 12))
    slow, quick = SessionView(view, False), SessionView(view, False)
    columns: list[weakref.ref[array[int]]] = []

    def kept() -> int:
        gc.collect()
        return sum(column() is not None for column in columns)

    step = view.step
    for uid in range(1, 11):
        view.apply(changes(view, gone=[uid]))
        assert step.departed is not None and step.following is not None
        columns.append(weakref.ref(step.departed.uids))
        step = step.following
        told(quick)
    assert kept() == 10, "one session lags"
    told(slow, may_expunge=False)
    assert kept() == 10
    assert told(slow) == [b"* %d EXPUNGE" % number for number in range(10, 0, -1)]
    assert kept() == 0


def test_a_long_chain_is_forgotten_without_harm() -> None:
    first = step = Step()
    view = FolderView(7, 100)
    view.load(changes(view, [(1, 0)], number=100))
    for _ in range(200_000):
        step = step.leave(Departed.of(view, [(0, 1)]))
    assert len(first.until(step)) == 200_000
    del first, step
    gc.collect()


def test_flags_are_taken_over_by_sessions_that_count_alike() -> None:
    view = folder(1, 2, 3, 4)
    one, other = SessionView(view, False), SessionView(view, False)
    answer = changes(view, [(1, SEEN), (2, SEEN)], number=101)
    for number, uid in enumerate((1, 2, 3), start=102):
        view.apply(changes(view, gone=[uid], number=number, since=100))
        assert len(lines(one)) == 4
    one.amend(answer)
    for session in (one, other):
        assert [line.partition(b"FLAGS ")[2] for line in lines(session)] == [b"(\\Seen))", b"(\\Seen))", b"())", b"())"]


def test_beyond_the_bound_the_session_ends_instead_of_reporting_wrong_flags() -> None:
    view = folder(1, 2, 3, 4, 5)
    slow = SessionView(view, False)
    for uid in (1, 2):
        view.apply(changes(view, gone=[uid]))
        slow.limit_lag(2)
    prompt = SessionView(view, False)
    assert len(lines(slow)) == 5
    view.apply(changes(view, [(5, SEEN)], gone=[4]))
    for session in (slow, prompt):
        session.limit_lag(2)
    for ask in (slow.flags_at, slow.change_number_at):
        with pytest.raises(Lapsed):
            ask(1)
        ask(2)
    with pytest.raises(Lapsed):
        slow.message_ids([(0, 5)])
    slow.amend(Changes(uids=[1], change_numbers=[300], flags=[SEEN]))
    assert slow.gone([(3, 4)]) and slow.still_there([(0, 5)]) == [(2, 3), (4, 5)]
    assert len(lines(prompt)) == 3
    assert told(slow) == [b"* 4 EXPUNGE", b"* 2 EXPUNGE", b"* 1 EXPUNGE", b"* 2 FETCH (FLAGS (\\Seen))"]


@given(
    st.lists(st.tuples(st.sets(st.integers(1, 44), max_size=8), st.booleans()), max_size=8),
    st.integers(0, 39),
    st.integers(1, 40),
)
def test_every_position_is_found_wherever_its_message_is(
    removals: list[tuple[set[int], bool]], first: int, stop: int
) -> None:
    view = folder(*range(1, 41))
    session = SessionView(view, False)
    view.apply(changes(view, [(uid, 0) for uid in range(41, 45)]))  # not yet reported to the client
    removed: set[int] = set()
    for gone, asked in removals:
        view.apply(changes(view, gone=gone))
        removed |= gone
        if asked:  # known removals are collected now, or later together
            assert len(lines(session)) == 40
    spans = [(first, stop)] if first < stop else []
    assert session.gone(spans) == any(first < uid <= stop for uid in removed)
    left = session.still_there(spans)
    assert {at + 1 for low, high in left for at in range(low, high)} == set(range(first + 1, stop + 1)) - removed
    told_uids = [line.split()[4] for line in lines(session)[first:stop]]
    assert told_uids == [b"%d" % uid for uid in range(first + 1, stop + 1)]
    assert list(session.message_ids(spans)) == [10 * uid for uid in range(first + 1, stop + 1)]
    expunges = [line for line in told(session) if line.endswith(b"EXPUNGE")]
    assert expunges == [b"* %d EXPUNGE" % uid for uid in sorted(removed, reverse=True) if uid <= 40]
