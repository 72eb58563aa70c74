"""Search keys evaluated on the view, and those sent to the core as a restriction."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante.v1 import search_pb2
from restante_gateways.imap.core.restrictions import restriction
from restante_gateways.imap.grammar.parser import Parser
from restante_gateways.imap.grammar.search import search_keys
from restante_gateways.imap.values import Changes, Place
from restante_gateways.imap.view.folder import FolderView
from restante_gateways.imap.view.search import by_uid, evaluate, is_local
from restante_gateways.imap.view.session import SessionView

FLAGS = [0, 1, 8, 9, 4, 0]
WORK = [0, 1, 0, 1, 0, 0]


def session() -> SessionView:
    view = FolderView(7, 100)
    view.load(
        Changes(
            uids=range(10, 16),
            message_ids=range(6),
            flags=FLAGS,
            change_numbers=range(50, 56),
            keyword_sets=WORK,
            keywords=[(), ("Work",)],
        )
    )
    return SessionView(view, read_only=False, recent=[(14, 15)])


def numbers(text: bytes) -> list[int]:
    return [n for first, stop in evaluate(session(), search_keys(Parser(text))) for n in range(first + 1, stop + 1)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"ALL", [1, 2, 3, 4, 5, 6]),
        (b"SEEN", [2, 4]),
        (b"UNSEEN", [1, 3, 5, 6]),
        (b"SEEN DELETED", [4]),  # RFC 3501 6.4.4
        (b"OR SEEN DELETED", [2, 3, 4]),
        (b"NOT (OR SEEN DELETED)", [1, 5, 6]),
        (b"KEYWORD work", [2, 4]),
        (b"UNKEYWORD WORK 1:3", [1, 3]),
        (b"2:4 NOT 3", [2, 4]),
        (b"UID 12:99", [3, 4, 5, 6]),
        (b"UID 999:*", [6]),
        (b"RECENT", [5, 6]),
        (b"NEW", [5, 6]),
        (b"OLD FLAGGED", []),
        (b"MODSEQ 54", [5, 6]),  # RFC 7162 3.1.5
    ],
)
def test_the_view_tells_what_it_knows(text: bytes, expected: list[int]) -> None:
    assert is_local(search_keys(Parser(text)))
    assert numbers(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"7", []),
        (b"NOT 7", [1, 2, 3, 4, 5, 6]),
        (b"OR 1 7", [1]),
        (b"5:9", [5, 6]),
        (b"7:*", [6]),  # `*` is the last message, and the ends of a range change places (RFC 3501 9)
        (b"7:9,2", [2]),
    ],
)
def test_a_number_that_does_not_exist_matches_nothing(text: bytes, expected: list[int]) -> None:  # RFC 9051 6.4.4
    assert numbers(text) == expected
    translated(text)


@pytest.mark.parametrize("text", [b"*", b"1:*", b"5", b"UID *", b"NOT 1:*"])
def test_nothing_is_found_in_an_empty_folder(text: bytes) -> None:
    empty = SessionView(FolderView(7, 100), read_only=False)
    assert evaluate(empty, search_keys(Parser(text))) == []


@pytest.mark.parametrize("text", [b"SUBJECT x", b"NOT BODY x", b"OR SEEN TEXT x", b"(SEEN LARGER 1)", b"ON 1-Jan-2024"])
def test_the_rest_is_for_the_core(text: bytes) -> None:
    assert not is_local(search_keys(Parser(text)))


def translated(text: bytes) -> search_pb2.Restriction:
    return restriction(Place(9, 1), by_uid(session(), search_keys(Parser(text))))


def test_days_have_no_time_and_no_zone() -> None:  # RFC 3501 6.4.4
    on = translated(b"SENTON 1-Feb-2024").time
    assert on.property == search_pb2.TIME_PROPERTY_SENT_AT and on.local_date
    assert on.not_before.ToJsonString() == "2024-02-01T00:00:00Z"
    assert on.before.ToJsonString() == "2024-02-02T00:00:00Z"
    since, before = translated(b"SINCE 1-Feb-2024").time, translated(b"BEFORE 1-Feb-2024").time
    assert since.HasField("not_before") and not since.HasField("before")
    assert before.HasField("before") and not before.HasField("not_before")
    assert not translated(b"ON 31-Dec-9999").time.HasField("before")


def test_headers_with_and_without_a_text() -> None:  # RFC 3501 6.4.4
    assert translated(b"HEADER Subject x").text.field == search_pb2.TEXT_FIELD_SUBJECT
    assert translated(b'HEADER Subject ""').header == search_pb2.HeaderRestriction(name="Subject", value="")
    assert translated(b"HEADER X-Foo bar").header.value == "bar"


def test_a_chain_of_ors_is_one_list() -> None:
    found = translated(b"OR OR SUBJECT a SUBJECT b OR SUBJECT c OR SUBJECT d NOT SUBJECT e").any_of.restrictions
    assert [part.text.value for part in found] == ["a", "b", "c", "d", ""]
    assert found[-1].negation.text.value == "e"


def test_numbers_become_uids() -> None:
    found = translated(b"OR 2:3 SUBJECT x").any_of.restrictions[0].uids
    assert [(run.first, run.last) for run in found.ranges] == [(11, 12)] and found.folder_id == 1
    nothing = translated(b"OR UID 99 SUBJECT x").any_of.restrictions[0]
    assert nothing.WhichOneof("condition") == "any_of" and not nothing.any_of.restrictions


@given(
    st.sampled_from([b"SEEN", b"DELETED", b"2:4", b"RECENT", b"KEYWORD work"]), st.sampled_from([b"FLAGGED", b"UID 11"])
)
def test_or_and_not_obey_logic(first: bytes, second: bytes) -> None:
    everything = {1, 2, 3, 4, 5, 6}
    one, two = set(numbers(first)), set(numbers(second))
    assert set(numbers(b"OR " + first + b" " + second)) == one | two
    assert set(numbers(first + b" " + second)) == one & two
    assert set(numbers(b"NOT " + first)) == everything - one
