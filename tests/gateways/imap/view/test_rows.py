"""Conversion of the core's rows to FETCH responses, whole or in pieces."""

from __future__ import annotations

import pytest

from restante_gateways.imap.grammar.fetch import Layout, fetch_items
from restante_gateways.imap.grammar.parser import Parser
from restante_gateways.imap.values import Cells, Changes, Rest, Rows
from restante_gateways.imap.view.folder import FolderView
from restante_gateways.imap.view.rows import BrokenRows, RowWriter
from restante_gateways.imap.view.session import SessionView


def session(*uids: int) -> SessionView:
    view = FolderView(7, 100)
    count = len(uids)
    view.load(Changes(uids=uids, message_ids=uids, flags=[1] * count, change_numbers=[50] * count))
    return SessionView(view, read_only=False)


def writer(
    view: SessionView, items: bytes, seen_now: tuple[tuple[int, int], ...] = (), condstore: bool = False
) -> RowWriter:
    return RowWriter(view, Layout.of(fetch_items(Parser(items))), seen_now, condstore)


def cells(*octets: bytes, totals: tuple[int, ...] | None = None) -> Cells:
    return Cells(octets=octets, total_octets=totals or [len(cell) for cell in octets])


def test_facts_are_told_with_the_sessions_own_numbers() -> None:
    rows = Rows(
        uids=[5, 9],
        received_at_seconds=[0, 86400],
        received_offset_minutes=[60, -90],
        size_octets=[10, 20],
        envelopes=[b"(E5)", b"(E9)"],
        body_structures=[b"(S5)", b"(S9)"],
        bodies=[b"(B5)", b"(B9)"],
    )
    wanted = b"(UID FLAGS MODSEQ INTERNALDATE RFC822.SIZE ENVELOPE BODY BODYSTRUCTURE)"
    assert writer(session(3, 5, 9), wanted).batch(rows) == (
        b'* 2 FETCH (FLAGS (\\Seen) UID 5 INTERNALDATE " 1-Jan-1970 01:00:00 +0100" RFC822.SIZE 10 ENVELOPE (E5)'
        b" BODY (B5) BODYSTRUCTURE (S5) MODSEQ (50))\r\n"
        b'* 3 FETCH (FLAGS (\\Seen) UID 9 INTERNALDATE " 1-Jan-1970 22:30:00 -0130" RFC822.SIZE 20 ENVELOPE (E9)'
        b" BODY (B9) BODYSTRUCTURE (S9) MODSEQ (50))\r\n"
    )


def test_sections_are_literals_and_absent_ones_nil() -> None:  # RFC 3501 6.4.5
    rows = Rows(uids=[5], sections=[cells(b"ab\r\n"), cells(b"", totals=(-1,)), cells(b"")])
    assert writer(session(5), b"(BODY[] BODY[7] BODY[]<99.1>)").batch(rows) == (
        b'* 1 FETCH (BODY[] {4}\r\nab\r\n BODY[7] NIL BODY[]<99> "")\r\n'
    )


def test_flags_that_reading_changed_are_in_the_same_response() -> None:  # RFC 3501 6.4.5
    rows = Rows(uids=[5, 6], sections=[cells(b"x", b"y")])
    assert writer(session(5, 6), b"BODY[]", ((6, 6),), condstore=True).batch(rows) == (
        b"* 1 FETCH (BODY[] {1}\r\nx)\r\n* 2 FETCH (BODY[] {1}\r\ny FLAGS (\\Seen) MODSEQ (50))\r\n"
    )


def test_a_message_the_client_does_not_know_is_left_out() -> None:  # RFC 2180 4.1
    rows = Rows(uids=[5, 6, 7], size_octets=[1, 2, 3])
    assert writer(session(5, 7), b"RFC822.SIZE").batch(rows) == (
        b"* 1 FETCH (RFC822.SIZE 1)\r\n* 2 FETCH (RFC822.SIZE 3)\r\n"
    )


def test_a_percent_sign_in_a_field_name_is_no_template() -> None:
    rows = Rows(uids=[5], sections=[cells(b"\r\n")])
    assert writer(session(5), b'BODY[HEADER.FIELDS ("%d")]').batch(rows) == (
        b'* 1 FETCH (BODY[HEADER.FIELDS ("%d")] {2}\r\n\r\n)\r\n'
    )


def test_cut_cells_go_on_until_they_are_whole() -> None:
    view = session(5, 6)
    wanted = writer(view, b"(UID BODY[1] BODY[2] BODY[3])", ((6, 6),))
    rows = Rows(
        uids=[5, 6],
        sections=[cells(b"a", b"b"), cells(b"c", b"de", totals=(1, 6)), cells(b"f", b"", totals=(1, 3))],
    )
    told = wanted.batch(rows)
    told += wanted.continued(Rest(1, b"ee"))
    with pytest.raises(BrokenRows):
        wanted.finish()
    told += wanted.continued(Rest(1, b"ee"))
    told += wanted.continued(Rest(2, b"ggg"))
    wanted.finish()
    assert told == (
        b"* 1 FETCH (UID 5 BODY[1] {1}\r\na BODY[2] {1}\r\nc BODY[3] {1}\r\nf)\r\n"
        b"* 2 FETCH (UID 6 BODY[1] {1}\r\nb BODY[2] {6}\r\ndeeeee BODY[3] {3}\r\nggg FLAGS (\\Seen))\r\n"
    )


def test_octets_out_of_place_are_never_passed_on() -> None:
    wanted = writer(session(5), b"BODY[]")
    with pytest.raises(BrokenRows):
        wanted.continued(Rest(0, b"x"))
    wanted.batch(Rows(uids=[5], sections=[cells(b"x", totals=(3,))]))
    for rest in (Rest(1, b"x"), Rest(0, b"xxxx")):
        with pytest.raises(BrokenRows):
            wanted.continued(rest)
    with pytest.raises(BrokenRows):
        wanted.batch(Rows(uids=[5], sections=[cells(b"x")]))


def keyword_on(view: SessionView, uid: int, keyword: str) -> None:
    """Apply a STORE of another session."""
    folder = view.folder
    added = Changes(
        since_change_number=folder.change_number,
        change_number=folder.change_number + 1,
        uids=[uid],
        message_ids=[uid],
        flags=[1],
        change_numbers=[folder.change_number + 1],
        keyword_sets=[1],
        keywords=[(), (keyword,)],
    )
    assert folder.apply(added)


def test_a_keyword_that_came_between_two_batches_is_told_before_it_is_used() -> None:  # RFC 3501 7.2.6
    view = session(5, 9)
    writing = writer(view, b"(FLAGS RFC822.SIZE)")
    assert writing.batch(Rows(uids=[5], size_octets=[1])).startswith(b"* 1 FETCH")
    keyword_on(view, 9, "$Work")
    assert writing.batch(Rows(uids=[9], size_octets=[1])) == (
        b"* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $Work)\r\n"
        b"* OK [PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $Work \\*)] Permanent flags.\r\n"
        b"* 2 FETCH (FLAGS (\\Seen $Work) RFC822.SIZE 1)\r\n"
    )


def test_a_keyword_that_came_amid_a_message_is_not_used_in_it() -> None:  # nothing may be told inside of a response
    view = session(5)
    writing = writer(view, b"(BODY[])", seen_now=((5, 5),))
    begun = writing.batch(Rows(uids=[5], sections=[cells(b"ab", totals=(4,))]))
    keyword_on(view, 5, "$Work")
    assert begun + writing.continued(Rest(0, b"cd")) == (b"* 1 FETCH (BODY[] {4}\r\nabcd FLAGS (\\Seen))\r\n")
