"""The moments of a session's reports; a number never means two messages (RFC 3501 5.5, 7.4.1; RFC 2180)."""

from __future__ import annotations

import itertools
import re
import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from restante_gateways.imap.grammar.flags import Flags, SystemFlag
from restante_gateways.imap.grammar.sets import MAX_NUMBER, STAR, SequenceSet
from restante_gateways.imap.values import Changes
from restante_gateways.imap.view.departed import Lapsed
from restante_gateways.imap.view.folder import FolderView, Gap
from restante_gateways.imap.view.journal import Journal
from restante_gateways.imap.view.pending import PendingStore
from restante_gateways.imap.view.session import SessionView
from restante_mail.ranges import compress

SEEN, DELETED = int(SystemFlag.SEEN), int(SystemFlag.DELETED)


def changes(
    view: FolderView,
    upserts: Iterable[tuple[int, int] | tuple[int, int, tuple[str, ...]]] = (),
    gone: Iterable[int] = (),
    number: int | None = None,
    since: int | None = None,
) -> Changes:
    """Changes from the view's number to the next: (uid, flags[, keywords]) and removed UIDs."""
    number = view.change_number + 1 if number is None else number
    rows = [(uid, flags, rest[0] if rest else ()) for uid, flags, *rest in sorted(upserts)]
    table: list[tuple[str, ...]] = [(), *(keywords for _, _, keywords in rows if keywords)]
    places = itertools.count(1)
    return Changes(
        since_change_number=view.change_number if since is None else since,
        change_number=number,
        uids=[uid for uid, _, _ in rows],
        message_ids=[uid * 10 for uid, _, _ in rows],
        flags=[flags for _, flags, _ in rows],
        change_numbers=[number] * len(rows),
        keyword_sets=[next(places) if keywords else 0 for _, _, keywords in rows],
        keywords=table,
        vanished=compress(sorted(gone)),
        uid_next=max([view.uid_next, *(uid + 1 for uid, _, _ in rows)]),
    )


def folder(*uids: int, flags: int = 0) -> FolderView:
    view = FolderView(7, 100)
    view.load(changes(view, [(uid, flags) for uid in uids], number=100))
    view.note_folder(max(uids, default=0) + 1, max(uids, default=0) + 1)
    return view


def flags_of(view: FolderView, position: int) -> Flags:
    return view.table.flags[view.states[position]]


def told(session: SessionView, may_expunge: bool = True, with_uid: bool = False) -> list[bytes]:
    return b"".join(session.announce(may_expunge, with_uid)).split(b"\r\n")[:-1]


def fetched(session: SessionView, *, uid: bool = True) -> list[bytes]:
    return b"".join(session.flag_responses([(0, session.count)], uid, False)).split(b"\r\n")[:-1]


# --- the folder ---


def test_changes_are_applied_once() -> None:
    view = folder(1, 2, 3)
    step = changes(view, [(2, SEEN), (4, 0)], gone=[1])
    assert view.apply(step)
    assert not view.apply(step)
    assert list(view.uids) == [2, 3, 4] and list(view.message_ids) == [20, 30, 40]
    assert flags_of(view, 0) == Flags(SystemFlag.SEEN)


def test_changes_that_overlap_what_is_known_do_no_harm() -> None:
    view = folder(1, 2)
    view.apply(changes(view, [(1, SEEN)], number=101))
    view.apply(changes(view, [(1, SEEN | DELETED)], number=105, since=100))
    assert flags_of(view, 0).system == SystemFlag.SEEN | SystemFlag.DELETED
    late = changes(view, [(1, 0)], number=106)
    late.change_numbers = [103]  # an old state of a message that has a newer one here
    view.apply(late)
    assert flags_of(view, 0).system == SystemFlag.SEEN | SystemFlag.DELETED


def test_a_gap_changes_nothing() -> None:
    view = folder(1, 2)
    with pytest.raises(Gap):
        view.apply(changes(view, [(1, SEEN)], gone=[2], number=120, since=110))
    assert list(view.uids) == [1, 2] and view.change_number == 100


def test_an_own_message_may_come_before_the_changes_that_tell_of_it() -> None:
    view = folder(1, 2)
    session = SessionView(view, False)
    assert view.add(3, 30, Flags(SystemFlag.SEEN, ("Work",)), 105, 0)
    assert told(session)[0] == b"* 3 EXISTS" and view.change_number == 100
    view.apply(changes(view, [(2, SEEN), (3, SEEN, ("Work",))], number=105))
    assert list(view.uids) == [1, 2, 3]
    assert told(session) == [
        b"* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft Work)",
        b"* OK [PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft Work \\*)] Permanent flags.",
        b"* 2 FETCH (FLAGS (\\Seen))",
    ]
    assert view.add(3, 30, Flags(SystemFlag.SEEN), 105, 0)  # reported already
    assert not view.add(5, 50, Flags(), 107, 0)  # number 4 may be on its way
    view.apply(changes(view, gone=[3], number=106))
    assert not view.add(3, 30, Flags(SystemFlag.SEEN), 105, 0)  # delivered and removed meanwhile


def test_an_own_message_that_nothing_lies_before_makes_the_view_current() -> None:
    view = folder(1, 2)
    session = SessionView(view, False)
    assert view.add(3, 30, Flags(), 105, since=100)
    assert view.change_number == 105
    assert view.add(4, 40, Flags(), 108, since=107)  # flags changed between
    assert view.change_number == 105
    assert told(session)[0] == b"* 4 EXISTS"
    view.apply(changes(view, [(1, SEEN), (4, 0)], number=108))
    assert view.change_number == 108 and told(session) == [b"* 1 FETCH (FLAGS (\\Seen))"]


def test_vanished_uids_may_be_any() -> None:
    view = folder(5, 6, 9)
    step = changes(view)
    step.vanished = [(1, 6), (8, 1 << 40)]
    view.apply(step)
    assert list(view.uids) == []


def test_a_snapshot_replaces_what_is_known() -> None:
    view = folder(1, 2, 3)
    session = SessionView(view, read_only=False)
    first, second = changes(view, [(1, 0), (3, SEEN)], number=140), changes(view, [(4, 0)], number=140)
    assert view.apply_snapshot([first, second], 140)
    assert list(view.uids) == [1, 3, 4] and view.change_number == 140
    assert told(session) == [
        b"* 2 EXPUNGE",
        b"* 3 EXISTS",
        b"* 1 RECENT",
        b"* 1 FETCH (FLAGS ())",
        b"* 2 FETCH (FLAGS (\\Seen))",
    ]


def pieces_of_a_large_folder(view: FolderView) -> list[Changes]:
    """The core's stream of a large folder: pieces, each as of its moment, then the changes since the first."""
    rows = [
        changes(view, [(1, 0), (2, 0), (3, 0)], number=100, since=0),
        changes(view, [(4, 0), (5, 0), (6, 0)], number=102, since=0),
        changes(view, [(7, 0)], number=104, since=0),  # came meanwhile
        changes(view, [(1, SEEN), (4, SEEN)], gone=[2], number=104, since=100),
        changes(view, [(7, 0), (8, SEEN)], number=104, since=100),
    ]
    rows[1].change_numbers = [101, 100, 100]
    rows[3].change_numbers = [103, 104]
    return rows


def test_a_snapshot_read_in_pieces_ends_with_what_changed_meanwhile() -> None:
    view = FolderView(7, 100)
    for rows in pieces_of_a_large_folder(view):
        view.load(rows)
    assert list(view.uids) == [1, 3, 4, 5, 6, 7, 8]
    assert [flags_of(view, at).system for at in range(7)] == [SEEN, 0, SEEN, 0, 0, 0, SEEN]
    assert view.change_number == 104 and view.uid_next == 9
    session = SessionView(view, False)
    assert session.count == 7 and told(session) == []


def test_a_view_is_compared_with_a_snapshot_read_in_pieces() -> None:
    view = folder(1, 2, 3, 4, 5, 6)
    session = SessionView(view, False)
    view.apply(changes(view, gone=[5]))
    assert view.add(7, 70, Flags(), 103, 0)
    rows = pieces_of_a_large_folder(view)
    del rows[1].uids[1], rows[1].message_ids[1], rows[1].flags[1], rows[1].change_numbers[1], rows[1].keyword_sets[1]
    assert view.apply_snapshot(rows, 102)
    assert list(view.uids) == [1, 3, 4, 6, 7, 8]
    assert view.change_number == 104
    assert [line for line in told(session) if b"EXPUNGE" in line] == [b"* 5 EXPUNGE", b"* 2 EXPUNGE"]
    assert fetched(session) == [
        b"* %d FETCH (UID %d FLAGS (%b))" % (number, uid, flags)
        for number, uid, flags in [
            (1, 1, b"\\Seen"),
            (2, 3, b""),
            (3, 4, b"\\Seen"),
            (4, 6, b""),
            (5, 7, b"\\Recent"),
            (6, 8, b"\\Seen \\Recent"),
        ]
    ]


def test_what_was_added_since_the_snapshot_was_read_stays() -> None:
    view = folder(1, 2, 3)
    session = SessionView(view, read_only=False)
    snapshot = changes(view, [(1, 0), (3, 0)], number=140)
    assert view.add(4, 40, Flags(), 141, 0)  # its answer arrived before the snapshot
    assert told(session)[0] == b"* 4 EXISTS"
    assert view.apply_snapshot([snapshot], 140)
    assert list(view.uids) == [1, 3, 4]
    assert [line for line in told(session) if b"FETCH" not in line] == [b"* 2 EXPUNGE"]
    view.apply(changes(view, [(4, 0)], number=141))
    assert told(session) == []


def test_a_claim_of_messages_still_to_come_makes_no_gap() -> None:
    view = folder(1, 2)
    session = SessionView(view, False)
    view.note_claim(4)  # the core has number 3 already
    assert not view.add(4, 40, Flags(), 102, 0)  # number 3 comes first
    view.apply(changes(view, [(3, 0)]))
    assert list(view.uids) == [1, 2, 3]
    assert told(session) == [b"* 3 EXISTS", b"* 1 RECENT"]  # claimed for this process and first reported here
    assert view.add(4, 40, Flags(), 102, 0)


def test_keywords_compare_without_letter_case_and_keep_their_first_spelling() -> None:
    view = folder(1, 2)
    view.apply(changes(view, [(1, 0, ("Work",)), (2, SEEN, ("work", "Home"))]))
    assert view.table.texts[view.states[0]] == b"FLAGS (Work)"
    assert view.table.texts[view.states[1]] == b"FLAGS (\\Seen Work Home)"
    assert SessionView(view, False).with_flag("WORK", [(0, 2)]) == [(0, 2)]


@pytest.mark.parametrize("keywords", [(), *[[f"k{number}" for number in range(count)] for count in (10, 400)]])
def test_messages_are_found_by_flag_among_few_states_and_many(keywords: list[str]) -> None:
    view = folder(*range(1, 1_001))
    view.apply(changes(view, [(uid, SEEN) for uid in range(100, 901, 4)]))
    view.apply(changes(view, [(uid, SEEN, (name,)) for uid, name in enumerate(keywords, start=2)]))
    session = SessionView(view, False)
    view.apply(changes(view, gone=[500, 501, 999]))
    spans = [(0, 301), (400, 1_000)]
    those = [at for first, stop in spans for at in range(first, stop)]
    flags = {
        at: table.flags[columns.states[place]]
        for at in those
        for columns, place in [session.place(at)]
        for table in [columns.table]
    }
    seen = [at for at in those if SystemFlag.SEEN in flags[at].system]
    assert [at for first, stop in session.with_flag(SystemFlag.SEEN, spans) for at in range(first, stop)] == seen
    unseen = [at for at in those if at not in seen]
    assert [at for first, stop in session.without_flag(SystemFlag.SEEN, spans) for at in range(first, stop)] == unseen


def test_states_without_messages_are_forgotten() -> None:
    view = folder(*range(1, 700))
    for uid in range(1, 600):
        view.apply(changes(view, [(uid, 0, (f"k{uid}",))]))
    assert len(view.table) > 600
    view.apply(changes(view, gone=range(1, 590)))
    assert len(view.table) < 60
    assert view.table.texts[view.states[0]] == b"FLAGS (k590)"


def test_removing_many_is_one_pass() -> None:
    view = folder(*range(1, 20_001))
    view.apply(changes(view, gone=range(1, 20_001, 2)))
    assert list(view.uids) == list(range(2, 20_001, 2)) and view.step.before == 10_000


# --- telling ---


def test_expunges_are_told_from_the_highest_down() -> None:  # RFC 3501 7.4.1
    view = folder(1, 2, 3, 4, 5)
    session = SessionView(view, read_only=False)
    view.apply(changes(view, gone=[1, 2, 4]))
    assert told(session) == [b"* 4 EXPUNGE", b"* 2 EXPUNGE", b"* 1 EXPUNGE"]
    assert fetched(session) == [b"* 1 FETCH (UID 3 FLAGS ())", b"* 2 FETCH (UID 5 FLAGS ())"]


def test_numbers_stand_until_an_expunge_may_be_told() -> None:  # RFC 3501 5.2, 7.4.1, RFC 2180 4.1
    view = folder(1, 2, 3)
    session = SessionView(view, read_only=False)
    view.apply(changes(view, [(3, SEEN)], gone=[2]))
    assert told(session, may_expunge=False) == [b"* 3 FETCH (FLAGS (\\Seen))"]
    assert fetched(session) == [
        b"* 1 FETCH (UID 1 FLAGS ())",
        b"* 2 FETCH (UID 2 FLAGS ())",
        b"* 3 FETCH (UID 3 FLAGS (\\Seen))",
    ]
    assert session.gone([(0, 3)]) and not session.gone([(0, 1), (2, 3)])
    assert told(session) == [b"* 2 EXPUNGE"]
    assert not session.gone([(0, 2)])


def test_new_messages_wait_for_removals_to_be_told() -> None:  # RFC 3501 7.3.1
    view = folder(1, 2)
    session = SessionView(view, read_only=False)
    view.apply(changes(view, [(3, 0)], gone=[1]))
    assert told(session, may_expunge=False) == []
    assert session.count == 2
    assert told(session) == [b"* 1 EXPUNGE", b"* 2 EXISTS", b"* 1 RECENT"]


def test_exists_comes_before_anything_about_the_new_message() -> None:  # RFC 3501 7.3.1
    view = folder(1)
    session = SessionView(view, read_only=False)
    view.apply(changes(view, [(2, 0)]))
    view.apply(changes(view, [(2, SEEN)]))
    assert told(session) == [b"* 2 EXISTS", b"* 1 RECENT", b"* 2 FETCH (FLAGS (\\Seen \\Recent))"]


def test_a_message_that_came_and_went_was_never_there() -> None:
    view = folder(1)
    session = SessionView(view, read_only=False)
    view.apply(changes(view, [(2, 0)]))
    view.apply(changes(view, gone=[2]))
    assert told(session) == []


def test_flag_changes_are_told_once() -> None:  # RFC 3501 5.2
    view = folder(1, 2)
    sessions = [SessionView(view, read_only=False) for _ in range(2)]
    view.apply(changes(view, [(2, DELETED)]))
    for session in sessions:
        assert told(session) == [b"* 2 FETCH (FLAGS (\\Deleted))"]
        assert told(session) == []


def test_with_condstore_the_change_number_is_told() -> None:  # RFC 7162 3.1
    view = folder(1)
    session = SessionView(view, read_only=False)
    session.with_change_numbers = True
    view.apply(changes(view, [(1, SEEN)]))
    assert told(session, with_uid=True) == [b"* 1 FETCH (UID 1 FLAGS (\\Seen) MODSEQ (101))"]


def test_own_changes_are_not_told_again() -> None:  # RFC 3501 6.4.6
    view = folder(1, 2)
    mine, other = SessionView(view, False), SessionView(view, False)
    view.apply(changes(view, [(1, SEEN)]))
    mine.note_own_change(100, 101, [(1, 1)])
    view.apply(changes(view, [(2, SEEN)]))
    assert told(mine) == [b"* 2 FETCH (FLAGS (\\Seen))"]
    assert len(told(other)) == 2


def test_an_own_change_that_is_still_to_come_is_not_reported_either() -> None:
    view = folder(1)
    session = SessionView(view, False)
    session.note_own_change(100, 102, [(1, 1)])
    view.apply(changes(view, [(1, SEEN)], number=101))
    assert len(told(session)) == 1
    view.apply(changes(view, [(1, SEEN | DELETED)], number=102))
    assert told(session) == []


def test_a_change_of_ours_that_changed_nothing_hides_none_of_others() -> None:
    for most in (8_192, 0):
        view = folder(1, 2, 3)
        view.journal = Journal(view.change_number, most)
        session = SessionView(view, False)
        view.apply(changes(view, [(1, DELETED)]))
        session.note_own_change(101, 101, [(1, 2)])  # the latest number, which is another's
        assert told(session) == [b"* 1 FETCH (FLAGS (\\Deleted))"]
        session.note_own_change(101, 102, [(2, 2)])  # another session's too, without an earlier notice
        view.apply(changes(view, [(2, SEEN), (3, SEEN)]))
        assert told(session) == [b"* 3 FETCH (FLAGS (\\Seen))"]


def test_a_change_of_another_within_a_silent_store_is_reported() -> None:  # RFC 3501 6.4.6
    view = folder(1, 2)
    session = SessionView(view, False)
    pending = PendingStore([(1, 2)], view.table.changed(lambda flags: Flags(flags.system | SystemFlag.SEEN)))
    view.pending.append(pending)
    view.apply(changes(view, [(1, SEEN), (2, SEEN | DELETED)], number=105))  # one of them was also marked deleted
    session.note_own_change(100, 105, [(1, 2)])
    session.surprises |= pending.surprises
    assert told(session) == [b"* 2 FETCH (FLAGS (\\Deleted \\Seen))"]


def test_a_new_keyword_is_announced_before_it_is_used() -> None:  # RFC 3501 7.2.6
    view = folder(1)
    session = SessionView(view, False)
    view.apply(changes(view, [(1, 0, ("$Work",))]))
    first, second, third = told(session)
    assert first.startswith(b"* FLAGS (") and b"$Work" in first
    assert second.startswith(b"* OK [PERMANENTFLAGS (") and b"$Work \\*)]" in second
    assert third == b"* 1 FETCH (FLAGS ($Work))"


def test_a_folder_opened_to_read_has_no_permanent_flags_though_keywords_come() -> None:  # RFC 3501 7.1
    view = folder(1)
    session = SessionView(view, True)
    view.apply(changes(view, [(1, 0, ("$Work",))]))
    assert told(session)[1].startswith(b"* OK [PERMANENTFLAGS ()] ")


def test_a_keyword_that_comes_amid_a_long_fetch_is_announced_before_it_is_used() -> None:  # RFC 3501 7.2.6
    view = folder(*range(1, 3_001))
    session = SessionView(view, False)
    blocks = session.flag_responses([(0, 3_000)], with_uid=False, with_change_number=False)
    assert b"FLAGS ()" in next(blocks)
    view.apply(changes(view, [(2_000, 0, ("$Work",)), (3_000, 0, ("$Late",))]))  # while the client takes the block
    second = next(blocks)
    assert second.startswith(b"* FLAGS (") and b"* 2000 FETCH (FLAGS ($Work))\r\n" in second
    assert second.index(b"PERMANENTFLAGS") < second.index(b"FETCH")
    view.apply(changes(view, [(1, 0, ("$Later",)), (2_999, 0, ("$Later",))], gone=[5]))  # and not aligned any more
    third = next(blocks)
    assert third.startswith(b"* FLAGS (") and b"$Later" in third.partition(b" FETCH ")[0]
    assert b"* 2999 FETCH (FLAGS ($Later))\r\n" in third and not list(blocks)


def test_what_the_journal_has_forgotten_is_found_by_change_number() -> None:
    view = folder(1, 2, 3, 4)
    view.journal = Journal(view.change_number, 2)
    session = SessionView(view, False)
    for uid in (1, 2, 4):
        view.apply(changes(view, [(uid, SEEN)]))
    assert view.journal.since(100) is None
    assert [line.split()[1] for line in told(session)] == [b"1", b"2", b"4"]


def test_removals_too_long_ago_are_found_by_comparing() -> None:
    view = folder(1, 2, 3, 4)
    session = SessionView(view, False)
    for uid in (1, 3):
        view.apply(changes(view, gone=[uid]))
        session.limit_lag(1)
    with pytest.raises(Lapsed):
        fetched(session)
    assert session.still_there([(0, 4)]) == [(1, 2), (3, 4)]
    assert b"".join(session.flag_responses([(1, 2), (3, 4)], True, False)).count(b"FETCH") == 2
    assert told(session) == [b"* 3 EXPUNGE", b"* 1 EXPUNGE"]


@pytest.mark.parametrize(("with_uid", "with_change_number"), [(True, False), (False, True), (True, True)])
def test_removals_while_a_long_answer_is_written_mix_nothing_up(with_uid: bool, with_change_number: bool) -> None:
    view = folder(*range(1, 3_001))
    view.apply(changes(view, [(uid, SEEN) for uid in range(2_001, 3_001)]))
    session = SessionView(view, False)
    blocks = session.number_responses([(0, 3_000)], with_uid, with_change_number)
    lines = next(blocks)
    view.apply(changes(view, gone=[1, 2_500]))  # while the client takes the first block
    lines += b"".join(blocks)
    answers = re.findall(rb"\* (\d+) FETCH \((?:UID (\d+))? ?(?:MODSEQ \((\d+)\))?\)\r\n", lines)
    assert len(answers) == 3_000
    for number, uid, modified in answers:
        assert not with_uid or uid == number
        assert not with_change_number or modified == (b"101" if int(number) > 2_000 else b"100")


# --- recent ---


def test_recent_belongs_to_the_session_that_is_told_first() -> None:  # RFC 3501 2.3.2
    view = folder(1)
    first, second, watcher = SessionView(view, False), SessionView(view, False), SessionView(view, read_only=True)
    view.apply(changes(view, [(2, 0)]))
    assert told(watcher) == [b"* 2 EXISTS", b"* 1 RECENT"]  # read-only sees it and claims nothing
    assert told(first) == [b"* 2 EXISTS", b"* 1 RECENT"]
    assert told(second) == [b"* 2 EXISTS", b"* 0 RECENT"]
    assert fetched(first)[1] == b"* 2 FETCH (UID 2 FLAGS (\\Recent))"
    assert fetched(second)[1] == b"* 2 FETCH (UID 2 FLAGS ())"


@pytest.mark.parametrize("gone", [(), (3, 8)])
def test_the_flags_of_a_run_are_those_of_each_message(gone: tuple[int, ...]) -> None:
    view = folder(*range(1, 11))
    view.apply(changes(view, [(uid, uid % 4, ("Work",) if uid % 3 else ()) for uid in range(2, 9)]))
    session = SessionView(view, False, recent=[(2, 4), (7, 7), (10, 12)])
    view.apply(changes(view, gone=gone))
    for first in range(10):
        for stop in range(first, 11):
            assert session.flags_of((first, stop)) == [session.flags_at(at) for at in range(first, stop)]


def test_recent_messages_among_others_are_told_apart() -> None:
    session = SessionView(folder(*range(1, 8), flags=SEEN), False, recent=[(3, 4), (6, 6)])
    recent = [b"\\Recent" in line for line in fetched(session)]
    assert recent == [False, False, True, True, False, True, False]
    assert session.recent_count() == 3


# --- numbers ---


def test_sets_over_nothing() -> None:  # RFC 3501 9
    session = SessionView(folder(), False)
    star = SequenceSet(((STAR, STAR),))
    assert session.spans(star, uid=True) == []
    assert session.spans(star, uid=False) is None


def test_unknown_uids_are_passed_over_and_unknown_numbers_are_not() -> None:  # RFC 3501 6.4.8, 9
    session = SessionView(folder(3, 5, 9), False)
    assert session.spans(SequenceSet(((4, 4),)), uid=True) == []
    assert session.spans(SequenceSet(((4, 4),)), uid=False) is None
    assert session.spans(SequenceSet(((999_999, STAR),)), uid=True) == [(2, 3)]
    assert session.spans(SequenceSet(((1, MAX_NUMBER),)), uid=True) == [(0, 3)]
    assert session.uid_ranges([(0, 2)]) == [(3, 5)]
    assert session.numbers([(5, 9)]) == [(2, 3)]


def test_a_session_costs_little_whatever_the_folder_holds() -> None:
    view = folder(*range(1, 50_001))
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    sessions = [SessionView(view, False) for _ in range(100)]
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert used / len(sessions) < 1_024


def test_a_message_costs_24_octets() -> None:
    view = folder(*range(1, 1001))
    columns = (view.uids, view.states, view.message_ids, view.change_numbers)
    assert sum(column.itemsize for column in columns) == 24


# --- a client's picture from the reports ---


class Belief:
    """A client's picture of the folder: only the latest reported flags of each number."""

    def __init__(self, session: SessionView) -> None:
        self.session = session
        self.flags: list[bytes | None] = [None] * session.count
        self.uids = list(session.uids[: session.count])
        self.hear([line + b"\r\n" for line in fetched(session)])

    def hear(self, blocks: list[bytes]) -> None:
        for line in b"".join(blocks).split(b"\r\n")[:-1]:
            if (found := re.fullmatch(rb"\* (\d+) (EXPUNGE|EXISTS)", line)) is not None:
                number = int(found[1])
                if found[2] == b"EXPUNGE":
                    del self.flags[number - 1], self.uids[number - 1]
                else:
                    assert number >= len(self.flags)
                    new = self.session.uids[len(self.flags) : number]
                    self.flags += [None] * len(new)
                    self.uids += new
                    for at in range(number - len(new), number):  # a client fetches the flags of new messages
                        self.hear(list(self.session.flag_responses([(at, at + 1)], True, False)))
            elif (found := re.fullmatch(rb"\* (\d+) FETCH \((?:UID (\d+) )?FLAGS \((.*)\)\)", line)) is not None:
                at = int(found[1]) - 1
                assert found[2] is None or int(found[2]) == self.uids[at]
                self.flags[at] = found[3].replace(b"\\Recent", b"").strip()


class Sessions(RuleBasedStateMachine):
    """Three sessions with reports at different times always have a past state, and at the end the present one."""

    def __init__(self) -> None:
        super().__init__()
        self.view = folder(1, 2, 3)
        self.next_uid = 4
        self.clients = [Belief(SessionView(self.view, False)) for _ in range(3)]

    @rule(count=st.integers(1, 3))
    def deliver(self, count: int) -> None:
        new = [(self.next_uid + at, 0) for at in range(count)]
        self.next_uid += count
        self.view.apply(changes(self.view, new))

    @precondition(lambda self: len(self.view) > 0)
    @rule(data=st.data(), flags=st.integers(0, 31))
    def store(self, data: st.DataObject, flags: int) -> None:
        uids = data.draw(st.sets(st.sampled_from(list(self.view.uids)), min_size=1))
        self.view.apply(changes(self.view, [(uid, flags) for uid in uids]))

    @precondition(lambda self: len(self.view) > 0)
    @rule(data=st.data(), flags=st.integers(0, 31), who=st.integers(0, 2))
    def store_silently(self, data: st.DataObject, flags: int, who: int) -> None:
        client = self.clients[who]
        uids = data.draw(st.sets(st.sampled_from(list(self.view.uids)), min_size=1))
        before = self.view.change_number
        self.view.apply(changes(self.view, [(uid, flags) for uid in uids]))
        client.session.note_own_change(before, self.view.change_number, compress(sorted(uids)))
        text = self.view.table.texts[flags][7:-1]
        client.flags = [text if uid in uids else old for uid, old in zip(client.uids, client.flags, strict=True)]

    @precondition(lambda self: len(self.view) > 0)
    @rule(data=st.data())
    def expunge(self, data: st.DataObject) -> None:
        uids = data.draw(st.sets(st.sampled_from(list(self.view.uids)), min_size=1))
        self.view.apply(changes(self.view, gone=uids))

    @rule(who=st.integers(0, 2), may_expunge=st.booleans())
    def announce(self, who: int, may_expunge: bool) -> None:
        client = self.clients[who]
        client.hear(client.session.announce(may_expunge))
        if may_expunge:
            assert client.uids == list(self.view.uids)
        for uid, flags in zip(client.uids, client.flags, strict=True):
            place = self.view.position(uid)
            if place is not None:
                assert flags == self.view.table.texts[self.view.states[place]][7:-1]

    @invariant()
    def both_sides_count_alike(self) -> None:
        for client in self.clients:
            assert client.uids == list(client.session.uids[: client.session.count])

    @invariant()
    def the_view_counts_its_messages_by_flag(self) -> None:
        systems = [int(self.view.table.flags[state].system) for state in self.view.states]
        unseen = [at for at, system in enumerate(systems) if not system & SEEN]
        assert self.view.unseen_count == len(unseen)
        assert self.view.first_unseen() == (unseen[0] if unseen else None)
        assert self.view.any_deleted() == any(system & DELETED for system in systems)


TestSessions = Sessions.TestCase
TestSessions.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
