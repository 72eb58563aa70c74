"""The grammar of every command: octets to a value, or BAD (RFC 3501 7.1.3)."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_gateways.imap.commands import table
from restante_gateways.imap.commands.append import Append
from restante_gateways.imap.commands.connection import Enable, Id
from restante_gateways.imap.commands.copy import Copy
from restante_gateways.imap.commands.expunge import Expunge
from restante_gateways.imap.commands.fetch import Fetch
from restante_gateways.imap.commands.list import List, Lsub
from restante_gateways.imap.commands.login import Authenticate, Login
from restante_gateways.imap.commands.search import Search
from restante_gateways.imap.commands.select import Select
from restante_gateways.imap.commands.session import State
from restante_gateways.imap.commands.status import StatusItem, StatusOf
from restante_gateways.imap.commands.store import Store
from restante_gateways.imap.commands.table import MissingTag
from restante_gateways.imap.grammar.fetch import (
    MACROS,
    FetchFact,
    FetchItem,
    FetchSection,
    Layout,
    Legacy,
    Partial,
    Section,
    SectionText,
    fetch_items,
    fetch_layout,
)
from restante_gateways.imap.grammar.flags import Flags, SystemFlag
from restante_gateways.imap.grammar.parser import ParseError, Parser
from restante_gateways.imap.grammar.search import BadCharset, search_keys
from restante_gateways.imap.grammar.search_keys import (
    Comparison,
    DateKind,
    SearchAnd,
    SearchDate,
    SearchFlag,
    SearchHeader,
    SearchKey,
    SearchMessages,
    SearchModSeq,
    SearchNot,
    SearchOr,
    SearchRecent,
    SearchReturn,
    SearchSize,
    SearchText,
    TextScope,
)
from restante_gateways.imap.grammar.sets import STAR, SequenceSet
from restante_gateways.imap.values import FlagOperation, NewMessage
from tests.gateways.imap.commands.spelling import encode_fetch_item, encode_key


def read(octets: bytes) -> Any:
    """Parse the command of a whole line."""
    _, entry, p = table.read_entry(octets)
    return entry.parse(p)


ONE = SequenceSet(((1, 1),))
COMMANDS: list[tuple[bytes, object]] = [
    (b"a select inbox", Select("INBOX", condstore=False)),
    (b"a SELECT x (CONDSTORE)", Select("x", condstore=True)),
    (b'a LOGIN "alice" {2}\r\npw', "alice"),
    (b"a STATUS x (MESSAGES UIDNEXT)", StatusOf("x", (StatusItem.MESSAGES, StatusItem.UIDNEXT))),
    (b"a ENABLE CONDSTORE X-UNKNOWN", Enable((b"CONDSTORE", b"X-UNKNOWN"))),
    (b"a ID NIL", Id(())),
    (b'a ID ("name" "x" "os" NIL)', Id(((b"name", b"x"), (b"os", None)))),
    (b"a COPY 1 x", Copy(ONE, uid=False, target="x")),
    (b"a UID COPY 1:* x", Copy(SequenceSet(((1, STAR),)), uid=True, target="x")),
    (b"a EXPUNGE", Expunge(None)),
    (b"a UID EXPUNGE 1", Expunge(ONE)),
    (b'a LSUB "" %', Lsub("", "%")),
    (b'a LIST "" ""', List("", ("",))),
    (b"a LIST x/ *", List("x/", ("*",))),
    (
        b'a LIST (SUBSCRIBED RECURSIVEMATCH) "" (a %) RETURN (CHILDREN STATUS (UNSEEN))',
        List(
            "",
            ("a", "%"),
            frozenset((b"SUBSCRIBED", b"RECURSIVEMATCH")),
            frozenset((b"CHILDREN",)),
            (StatusItem.UNSEEN,),
            extended=True,
        ),
    ),
    (b"a APPEND x {10}", Append("x", NewMessage(Flags(), None), 10, synchronising=True)),
    (
        b'a APPEND x (\\Seen k) " 1-Jan-2024 09:05:00 +0100" {10+}',
        Append(
            "x",
            NewMessage(
                Flags(SystemFlag.SEEN, ("k",)),
                datetime.datetime(2024, 1, 1, 9, 5, tzinfo=datetime.timezone(datetime.timedelta(hours=1))),
            ),
            10,
            synchronising=False,
        ),
    ),
    (
        b"a STORE 1 +FLAGS \\Seen \\Deleted",
        Store(ONE, False, FlagOperation.ADD, False, Flags(SystemFlag.SEEN | SystemFlag.DELETED)),
    ),
    (
        b"a UID STORE 1 (UNCHANGEDSINCE 0) FLAGS.SILENT ()",
        Store(ONE, True, FlagOperation.REPLACE, True, Flags(), 0),
    ),
    (b"a FETCH 1 FAST", Fetch(ONE, False, Layout.of(MACROS[b"FAST"]))),
    (b"a UID FETCH 1 FLAGS", Fetch(ONE, True, Layout.of((FetchFact.UID, FetchFact.FLAGS)))),  # RFC 3501 6.4.8
    (b"a FETCH 1 (FLAGS FLAGS)", Fetch(ONE, False, Layout.of((FetchFact.FLAGS,)))),  # RFC 3501 6.4.5
    (
        b"a FETCH 1 FLAGS (CHANGEDSINCE 9)",
        Fetch(ONE, False, Layout.of((FetchFact.FLAGS, FetchFact.MODSEQ)), 9),
    ),  # RFC 7162 3.1.4
    (b"a SEARCH ALL", Search(SearchAnd(), uid=False)),
    (
        b"a UID SEARCH RETURN () UNSEEN 1",
        Search(
            SearchAnd((SearchNot(SearchFlag(SystemFlag.SEEN)), SearchMessages(ONE, uid=False))), True, SearchReturn.ALL
        ),
    ),
    (b"a SEARCH RETURN (MIN COUNT) ALL", Search(SearchAnd(), False, SearchReturn.MIN | SearchReturn.COUNT)),
]


@pytest.mark.parametrize(("octets", "value"), COMMANDS)
def test_commands(octets: bytes, value: object) -> None:
    found = read(octets)
    if isinstance(found, Login):
        assert (found.name, found.password.reveal()) == (b"alice", b"pw")
    else:
        assert found == value


def test_an_initial_response_may_be_empty() -> None:  # RFC 4959 3
    found = read(b"a AUTHENTICATE plain =")
    assert isinstance(found, Authenticate) and found.mechanism == "PLAIN"
    assert found.initial is not None and found.initial.reveal() == b"="
    assert read(b"a AUTHENTICATE PLAIN").initial is None


@pytest.mark.parametrize(
    "octets",
    [
        b"a",
        b"a ",
        b"a FOO",
        b"a UID",
        b"a UID NOOP",
        b"a NOOP x",
        b"a LOGIN x",
        b"a SELECT",
        b"a SELECT x (FOO)",
        b"a STATUS x ()",
        b"a STATUS x (FOO)",
        b"a ENABLE",
        b"a ID",
        b'a ID ("x")',
        b"a COPY 0 x",
        b"a COPY 1",
        b"a FETCH 1",
        b"a FETCH 1 ()",
        b"a FETCH 1 (ALL)",
        b"a FETCH 1 (FLAGS ALL)",
        b"a FETCH 1 BODY[",
        b"a FETCH 1 BODY[MIME]",
        b"a FETCH 1 BODY[0]",
        b"a FETCH 1 BODY[1.]",
        b"a FETCH 1 BODY[HEADER.FIELDS]",
        b"a FETCH 1 BODY[HEADER.FIELDS ()]",
        b"a FETCH 1 BODY[]<0>",
        b"a FETCH 1 BODY[]<0.0>",
        b"a FETCH 1 FLAGS (CHANGEDSINCE)",
        b"a FETCH 1 FLAGS ()",
        b"a STORE 1 FLAGS",
        b"a STORE 1 FLAGS \\Recent",
        b"a STORE 1 FOO \\Seen",
        b"a STORE 1 FLAGS \\Foo",
        b"a SEARCH",
        b"a SEARCH FOO",
        b"a SEARCH NOT",
        b"a SEARCH OR ALL",
        b"a SEARCH (ALL",
        b"a SEARCH ()",
        b"a SEARCH ALL ",
        b"a SEARCH RETURN (FOO) ALL",
        b"a SEARCH ON 32-Jan-2024",
        b"a SEARCH KEYWORD \\Seen",
        b"a SEARCH HEADER a:b c",
        b"a SEARCH LARGER -1",
        b"a SEARCH SUBJECT",
        b"a SEARCH " + b"NOT " * 100 + b"ALL",
        b"a SEARCH" + b" ALL" * 1001,
        b'a LIST (RECURSIVEMATCH) "" *',
        b'a LIST (FOO) "" *',
        b'a LIST "" * RETURN (FOO)',
        b'a LIST "" *  RETURN ()',
        b"a APPEND x",
        b"a APPEND x (\\Recent) {3}",
        b'a APPEND x "1-Jan-2024" {3}',
        b"a APPEND x ~{3}",
        b'a APPEND x "m"',
        b"a AUTHENTICATE",
        b"a AUTHENTICATE PLAIN ***",
        b"a EXPUNGE 1",
    ],
)
def test_what_is_malformed_is_bad(octets: bytes) -> None:  # RFC 3501 7.1.3
    with pytest.raises(ParseError) as caught:
        read(octets)
    assert not isinstance(caught.value, MissingTag) or octets == b"a"


@pytest.mark.parametrize("octets", [b"", b" NOOP", b"+ NOOP", b'"a" NOOP', b"(", b"\xff NOOP", b"a"])
def test_without_a_tag_there_is_nothing_to_answer_with(octets: bytes) -> None:  # RFC 3501 7.1.3
    with pytest.raises(MissingTag):
        read(octets)


def test_an_unknown_charset_is_no_syntax_error() -> None:  # RFC 3501 6.4.4
    with pytest.raises(BadCharset):
        read(b"a SEARCH CHARSET KLINGON ALL")


def test_the_charset_says_what_strings_mean() -> None:
    assert read(b"a SEARCH CHARSET ISO-8859-1 SUBJECT {1}\r\n\xe9").key == SearchHeader("SUBJECT", "é")
    assert read(b"a SEARCH CHARSET UTF-8 BODY {2}\r\n\xc3\xa9").key == SearchText(TextScope.BODY, "é")
    assert read(b"a SEARCH TEXT {2}\r\n\xc3\xa9").key == SearchText(TextScope.TEXT, "é")
    with pytest.raises(ParseError):
        read(b"a SEARCH CHARSET UTF-8 BODY {1}\r\n\xe9")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (b"ALL", SearchAnd()),
        (b"NEW", SearchAnd((SearchRecent(), SearchNot(SearchFlag(SystemFlag.SEEN))))),
        (b"OLD", SearchNot(SearchRecent())),
        (b"UNANSWERED", SearchNot(SearchFlag(SystemFlag.ANSWERED))),
        (b"KEYWORD work", SearchFlag("work")),
        (b"UNKEYWORD work", SearchNot(SearchFlag("work"))),
        (b"OR SEEN NOT DRAFT", SearchOr(SearchFlag(SystemFlag.SEEN), SearchNot(SearchFlag(SystemFlag.DRAFT)))),
        (
            b"(SEEN (DELETED 1))",
            SearchAnd(
                (SearchFlag(SystemFlag.SEEN), SearchAnd((SearchFlag(SystemFlag.DELETED), SearchMessages(ONE, False))))
            ),
        ),
        (b'HEADER X-Foo ""', SearchHeader("X-Foo", "")),  # RFC 3501 6.4.4
        (b"SENTBEFORE 1-Feb-2024", SearchDate(DateKind.SENT, Comparison.BEFORE, datetime.date(2024, 2, 1))),
        (b'SINCE "01-Feb-2024"', SearchDate(DateKind.INTERNAL, Comparison.SINCE, datetime.date(2024, 2, 1))),
        (b"LARGER 100", SearchSize(larger=True, octets=100)),
        (b"UID 1", SearchMessages(ONE, uid=True)),
        (b"MODSEQ 7", SearchModSeq(7)),
        (b'MODSEQ "/flags/\\\\Seen" all 7', SearchModSeq(7)),
    ],
)
def test_search_keys(text: bytes, key: SearchKey) -> None:
    assert search_keys(Parser(text)) == key


texts = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
atoms = st.text(alphabet="abcXYZ019$_-", min_size=1, max_size=8)
small = st.integers(1, 99)
leaves: st.SearchStrategy[SearchKey] = st.one_of(
    st.just(SearchAnd()),
    st.just(SearchRecent()),
    st.builds(SearchFlag, st.sampled_from(list(SystemFlag)) | atoms),
    st.builds(
        SearchMessages, st.builds(lambda a, b: SequenceSet(((min(a, b), max(a, b)),)), small, small), st.booleans()
    ),
    st.builds(SearchDate, st.sampled_from(DateKind), st.sampled_from(Comparison), st.dates()),
    st.builds(SearchSize, st.booleans(), small),
    st.builds(SearchHeader, st.text(alphabet="abcX-", min_size=1, max_size=6), texts),
    st.builds(SearchText, st.sampled_from(TextScope), texts),
    st.builds(SearchModSeq, small),
)
keys = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(SearchNot, inner),
        st.builds(SearchOr, inner, inner),
        st.builds(SearchAnd, st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=8,
)


@given(keys)
def test_search_keys_are_read_as_they_are_spelled(key: SearchKey) -> None:
    found = search_keys(Parser(b"CHARSET UTF-8 (" + encode_key(key) + b" ALL)"))
    assert found == SearchAnd((key, SearchAnd()))


sections = st.builds(
    Section,
    st.lists(small, max_size=3).map(tuple),
    st.sampled_from([SectionText.WHOLE, SectionText.HEADER, SectionText.TEXT]),
) | st.builds(
    Section,
    st.lists(small, min_size=1, max_size=3).map(tuple),
    st.sampled_from([SectionText.HEADER_FIELDS, SectionText.HEADER_FIELDS_NOT]),
    st.lists(atoms.map(str.encode), min_size=1, max_size=3).map(tuple),
)
items: st.SearchStrategy[FetchItem] = st.one_of(
    st.sampled_from(FetchFact),
    st.builds(FetchSection, sections, st.none() | st.builds(Partial, st.integers(0, 9), small), st.booleans()),
    st.just(FetchSection(Section(), legacy=Legacy.RFC822)),
    st.just(FetchSection(Section(text=SectionText.TEXT), legacy=Legacy.RFC822_TEXT)),
)


@given(st.lists(items, min_size=1, max_size=5, unique=True))
def test_fetch_items_are_read_as_they_are_spelled(wanted: list[FetchItem]) -> None:
    p = Parser(b"(" + b" ".join(map(encode_fetch_item, wanted)) + b")")
    assert fetch_items(p) == tuple(wanted)
    p.end()


@given(st.lists(items, min_size=1, max_size=5, unique=True), st.booleans())
def test_a_layout_is_that_of_the_items_and_leaves_the_rest_of_the_command(wanted: list[FetchItem], uid: bool) -> None:
    octets = b"(" + b" ".join(map(encode_fetch_item, wanted)) + b")"
    with_uid = [FetchFact.UID, *wanted] if uid else wanted
    for _ in range(2):  # the second comes from memory
        p = Parser(octets + b" (X)", uid=uid)
        assert fetch_layout(p) == Layout.of(with_uid)
        assert p.at == len(octets)


def test_layouts_of_short_commands_are_the_same_object() -> None:
    text = b"(UID FLAGS BODY.PEEK[])"
    assert fetch_layout(Parser(text)) is fetch_layout(Parser(text))
    assert fetch_layout(Parser(text)) is not fetch_layout(Parser(text, uid=True))
    long = b"BODY[HEADER.FIELDS (%b)]" % (b"x" * 600)
    assert fetch_layout(Parser(long)) is not fetch_layout(Parser(long))


@pytest.mark.parametrize(
    ("text", "label", "sets_seen"),
    [
        (b"BODY[]", b"BODY[]", True),  # RFC 3501 6.4.5
        (b"body.peek[]", b"BODY[]", False),
        (b"BODY[]<10.20>", b"BODY[]<10>", True),  # RFC 3501 6.4.5
        (
            b'BODY.PEEK[1.2.HEADER.FIELDS.NOT (to "c c")]',
            b'BODY[1.2.HEADER.FIELDS.NOT (to "c c")]',
            False,
        ),  # RFC 3501 6.4.5
        (b"BODY[2.HEADER]", b"BODY[2.HEADER]", True),  # RFC 3501 6.4.5
        (b"BODY[1.MIME]", b"BODY[1.MIME]", True),
        (b"RFC822", b"RFC822", True),  # RFC 3501 6.4.5
        (b"RFC822.HEADER", b"RFC822.HEADER", False),
        (b"RFC822.TEXT", b"RFC822.TEXT", True),
    ],
)
def test_sections_are_told_under_the_name_they_were_asked(text: bytes, label: bytes, sets_seen: bool) -> None:
    (item,) = fetch_items(Parser(text))
    assert isinstance(item, FetchSection)
    assert (item.label(), item.sets_seen) == (label, sets_seen)


def test_body_alone_is_the_structure() -> None:
    assert fetch_items(Parser(b"BODY")) == (FetchFact.BODY,)


def refusal(octets: bytes) -> ParseError | None:
    """The error from parsing a line; None for a valid command."""
    try:
        read(octets)
    except ParseError as error:
        return error
    return None


words = st.sampled_from(
    [
        b"a",
        b" ",
        b"SEARCH",
        b"FETCH",
        b"STORE",
        b"UID",
        b"(",
        b")",
        b"BODY[",
        b"]",
        b"1:*",
        b'"',
        b"\\Seen",
        b"{3}\r\n",
        b"NOT",
        b"OR",
        b"LIST",
        b"APPEND",
        b"x",
        b"HEADER.FIELDS",
        b"<0.5>",
        b"\xff",
        b"\0",
        b"RETURN",
        b"CHARSET",
        b"UTF-8",
        b"&AOk-",
    ]
)


@given(st.lists(words, max_size=14).map(b"".join) | st.binary(max_size=60))
def test_anything_is_a_command_or_a_parse_error(octets: bytes) -> None:
    for line in (octets, b"a " + octets, b"a SEARCH " + octets, b"a FETCH 1 " + octets, b"a LIST " + octets):
        if (error := refusal(line)) is not None:
            assert str(error).isascii()
            assert not isinstance(error, MissingTag) or line == octets


def test_every_command_of_imap4rev1_is_registered() -> None:
    names = {entry.name for entry in table.entries()}
    assert names >= set(
        "CAPABILITY NOOP LOGOUT STARTTLS AUTHENTICATE LOGIN SELECT EXAMINE CREATE DELETE RENAME SUBSCRIBE UNSUBSCRIBE"
        " LIST LSUB STATUS APPEND CHECK CLOSE EXPUNGE SEARCH FETCH STORE COPY".split()
    ) | {"UID FETCH", "UID STORE", "UID COPY", "UID SEARCH"}


def test_capabilities_follow_from_what_is_registered() -> None:
    offered = table.capabilities(State.SELECTED)
    assert offered[0] == "IMAP4rev1" and len(set(offered)) == len(offered)
    assert set(offered) >= set(
        "IDLE UIDPLUS MOVE SPECIAL-USE NAMESPACE ID ENABLE UNSELECT CHILDREN LIST-EXTENDED LIST-STATUS LITERAL+ ESEARCH"
        " CONDSTORE QUOTA".split()
    )
    assert "SASL-IR" in table.capabilities(State.NOT_AUTHENTICATED)


def test_numbers_shift_under_no_fetch_store_or_search() -> None:  # RFC 3501 7.4.1
    held = {entry.name for entry in table.entries() if entry.holds_numbers}
    assert held == {"FETCH", "STORE", "SEARCH"}


def test_only_extensions_that_change_answers_are_enabled() -> None:  # RFC 5161 3.1
    enabling = {word for word, each in table.extensions().items() if each.enable is not None}
    assert enabling == {"CONDSTORE"}


@pytest.mark.parametrize("line", [b"a APPEND x {10}", b"a APPEND x (\\Seen) {10+}"])
def test_a_command_that_reads_its_literal_is_none_without_one(line: bytes) -> None:
    tag, entry, p = table.read_entry(line)
    assert isinstance(table.read_ahead(tag, entry, p, State.AUTHENTICATED), Append)
    tag, entry, p = table.read_entry(line)
    with pytest.raises(table.BadCommand, match="literal expected"):
        table.read_command(tag, entry, p, State.AUTHENTICATED)


def test_a_literal_before_the_one_that_a_command_reads_is_a_part_of_its_text() -> None:
    tag, entry, p = table.read_entry(b"a APPEND {5}")
    assert table.read_ahead(tag, entry, p, State.AUTHENTICATED) is None
