"""Part trees from BODYSTRUCTURE, transfer encodings undone, HTML as text, columns as messages, conditions."""

from __future__ import annotations

import base64
import quopri
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante import query, rows, transfer
from restante.structure import Part, parse_structure
from restante.v1.message_pb2 import MessageRows
from restante.v1.search_pb2 import FlagRestriction, Restriction
from restante.v1.types_pb2 import KeywordSet, MessageSummary
from restante_cli.html_text import html_text

PLAIN = b'("text" "plain" ("charset" "utf-8") NIL NIL "quoted-printable" 120 4 NIL NIL NIL NIL)'
HTML = b'("text" "html" ("charset" "utf-8") NIL NIL "7bit" 60 2 NIL NIL NIL NIL)'
IMAGE = b'("image" "png" ("name" "x.png") "<logo@example.org>" NIL "base64" 900 NIL ("inline" NIL) NIL NIL)'
PDF = b'("application" "pdf" NIL NIL NIL "base64" 5000 NIL ("attachment" ("filename" "a \\"b\\".pdf")) NIL NIL)'


def multipart(subtype: bytes, *parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b' "' + subtype + b'" ("boundary" "=_1") NIL NIL NIL)'


def shape(part: Part) -> list[tuple[str, str]]:
    return [(each.label, each.media_type) for each in part.walk()]


def test_a_message_of_one_part_is_part_1() -> None:  # RFC 9051 6.4.5
    part = parse_structure(PLAIN)
    assert (part.number, part.media_type, part.encoding, part.size_octets) == (
        (1,),
        "text/plain",
        "quoted-printable",
        120,
    )
    assert part.parameters == {"charset": "utf-8"}


def test_parts_are_numbered_from_the_outside_in() -> None:
    octets = multipart(b"mixed", multipart(b"alternative", PLAIN, multipart(b"related", HTML, IMAGE)), PDF)
    assert shape(parse_structure(octets)) == [
        ("0", "multipart/mixed"),
        ("1", "multipart/alternative"),
        ("1.1", "text/plain"),
        ("1.2", "multipart/related"),
        ("1.2.1", "text/html"),
        ("1.2.2", "image/png"),
        ("2", "application/pdf"),
    ]


@pytest.mark.parametrize(
    ("inner", "labels"),
    [(PLAIN, ["1", "2", "2.1"]), (multipart(b"mixed", PLAIN, PDF), ["1", "2", "2.1", "2.2"])],
)
def test_parts_of_an_attached_message_are_numbered_below_it(inner: bytes, labels: list[str]) -> None:
    envelope = b'("Mon" "subject" NIL NIL NIL NIL NIL NIL NIL "<id@example.org>")'
    attached = b'("message" "rfc822" NIL NIL NIL "7bit" 300 ' + envelope + inner + b" 12 NIL NIL NIL NIL)"
    tree = parse_structure(multipart(b"mixed", PLAIN, attached))
    leaves = [each.label for each in tree.walk() if not each.media_type.startswith("multipart/")]
    assert leaves == labels
    assert [each.label for each in tree.attachments()] == ["2"]  # the message counts as one
    found = tree.find("text/plain")
    assert found is not None
    assert found.label == "1"  # never the text of somebody else's message


def test_text_and_attachments_are_told_apart() -> None:
    tree = parse_structure(multipart(b"mixed", multipart(b"alternative", PLAIN, HTML), IMAGE, PDF))
    text, html = tree.find("text/plain"), tree.find("text/html")
    assert text is not None
    assert html is not None
    assert (text.label, html.label) == ("1.1", "1.2")
    assert [(part.label, part.file_name) for part in tree.attachments()] == [("2", "x.png"), ("3", 'a "b".pdf')]
    image = next(tree.attachments())
    assert (image.content_id, image.disposition) == ("logo@example.org", "inline")


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        (b'("filename*" "utf-8\'\'Gr%C3%BC%C3%9Fe.txt")', "Grüße.txt"),  # RFC 2231 4
        (b'("filename*0" "one " "filename*1" "name.txt")', "one name.txt"),  # RFC 2231 3
        (b'("filename*0*" "iso-8859-1\'\'%e4" "filename*1" "b.txt")', "äb.txt"),
        (b'("filename" "=?utf-8?q?Gr=C3=BC=C3=9Fe=2Etxt?=")', "Grüße.txt"),  # RFC 2047 5 forbids it, programs do it
        (b'("filename" "=?no-such-charset?q?x?=")', "=?no-such-charset?q?x?="),
        (b'("filename*" "utf-8\'\'100%2541.txt")', "100%41.txt"),  # decoded once
        (b'("filename*" "no-such-charset\'\'x")', "x"),
        (b"NIL", "fallback.txt"),
    ],
)
def test_file_names_are_decoded_as_far_as_they_can_be(parameters: bytes, name: str) -> None:
    octets = (
        b'("text" "plain" ("name" "fallback.txt") NIL NIL "7bit" 1 1 NIL ("attachment" ' + parameters + b") NIL NIL)"
    )
    assert parse_structure(octets).file_name == name


def test_strings_may_be_literals() -> None:
    octets = b'({4}\r\ntext "plain" NIL NIL {7}\r\nde"sc\\x "7bit" 1 1 NIL NIL NIL NIL)'
    assert parse_structure(octets).media_type == "text/plain"


@pytest.mark.parametrize(
    "octets", [b"", b"NIL", b"(", b'("text" "plain")', b"())", b'("a', b"({99}\r\nx)", b"(" * 5_000]
)
def test_what_is_no_structure_is_refused(octets: bytes) -> None:
    with pytest.raises(ValueError):
        parse_structure(octets)


@given(st.binary(max_size=200))
def test_no_octets_do_harm(octets: bytes) -> None:
    try:
        list(parse_structure(octets).walk())
    except ValueError:
        pass  # told, which is right


@given(
    st.binary(max_size=2_000),
    st.lists(st.integers(1, 100), max_size=30),
    st.sampled_from(["base64", "quoted-printable"]),
)
def test_decoding_by_pieces_is_decoding_at_once(octets: bytes, cuts: list[int], encoding: str) -> None:
    encoded = base64.encodebytes(octets) if encoding == "base64" else quopri.encodestring(octets)
    encoded = encoded.replace(b"\n", b"\r\n")
    pieces, start = [], 0
    for cut in cuts:
        pieces.append(encoded[start : start + cut])
        start += cut
    pieces.append(encoded[start:])
    found = transfer.decoded(encoding, pieces)
    assert found == (octets if encoding == "base64" else quopri.decodestring(encoded))


@pytest.mark.parametrize(
    ("encoding", "octets", "expected"),
    [
        ("BASE64 ", b"aGVs\r\nbG8=", b"hello"),
        ("base64", b"aGVsbG8", b"hello"),  # padding is missing
        ("base64", b"aGVs*bG8=!\r\naGVsbG8=", b"hellohello"),  # junk, and two encoded runs joined
        ("base64", b"a", b""),
        ("quoted-printable", b"a=\r\nb=C3=A4=", "abä".encode()),
        ("8bit", b"\x00\xff", b"\x00\xff"),
        ("x-unknown", b"as it is", b"as it is"),
        ("", b"as it is", b"as it is"),
    ],
)
def test_damage_is_passed_over(encoding: str, octets: bytes, expected: bytes) -> None:
    assert transfer.decoded(encoding, [octets]) == expected


@pytest.mark.parametrize(
    ("octets", "charset", "expected"),
    [
        (b"gr\xfc\xdfe\r\n", "iso-8859-1", "grüße\n"),
        ("grüße".encode(), "", "grüße"),  # said to be us-ascii, is UTF-8
        (b"\xff", "utf-8", "\ufffd"),
        (b"x", "no-such-charset", "x"),
        ("Привет".encode("cp1251") + b"\x98", "windows-1251", "Привет\ufffd"),  # only the bad octet is lost
        ("打ち合わせ".encode("cp932") + b"\x8c", "shift_jis", "打ち合わせ\ufffd"),
        ("Grüße".encode(), "iso-2022-jp", "Grüße"),
    ],
)
def test_text_can_always_be_shown(octets: bytes, charset: str, expected: str) -> None:
    assert transfer.text(octets, charset) == expected


def test_html_is_shown_without_its_markup() -> None:
    page = (
        "<html><head><title>no</title><style>p{}</style></head><body><h1>Hello</h1><p>two  words&nbsp;&amp;"
        '<br>a line</p><ul><li>one<li>two</ul><script>no()</script><a href="https://example.org/">here</a></body>'
    )
    assert html_text(page) == "Hello\n\ntwo words &\na line\n\n* one\n* two\nhere <https://example.org/>\n"


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("1 < 2 and 3<4", "1 < 2 and 3<4\n"),
        ("a<!-- <p> -->b<!-->c</>d", "abcd\n"),
        ("a<b title='x>y'>b</b>", "ab\n"),
        ("<a href=http://example.org/?a&amp;b>x</a>", "x <http://example.org/?a&b>\n"),
        ("<a href='#top'>x</a>", "x\n"),
        ("a<script>never closed", "a\n"),
        ("&#" + "1" * 5_000 + ";", "\ufffd" + "1" * 4_990 + ";\n"),
        ("a<", "a<\n"),
    ],
)
def test_odd_markup_is_shown_as_far_as_it_is_text(page: str, text: str) -> None:
    assert html_text(page) == text


@pytest.mark.parametrize(
    "unit", ["<", "&", "<!--", "<a ", '<a "', "<div>", "</", "<!", "<?", "a<", "<a href=", "<style", "&#"]
)
def test_a_page_takes_linear_time(unit: str) -> None:
    start = time.process_time()
    html_text(unit * (2_000_000 // len(unit)))
    assert time.process_time() - start < 3  # some 0.01 to 0.6


def test_an_invitation_is_an_attachment() -> None:
    calendar = b'("text" "calendar" ("method" "REQUEST") NIL NIL "7bit" 9 1 NIL NIL NIL NIL)'
    tree = parse_structure(b"(" + PLAIN + calendar + b' "alternative" NIL NIL NIL NIL)')
    assert [part.media_type for part in tree.attachments()] == ["text/calendar"]


def test_columns_that_were_not_asked_for_are_left_at_their_defaults() -> None:
    (message,) = rows.messages(MessageRows(message_ids=[7], uids=[3]))
    assert (message.message_id, message.uid, message.flag_names, message.received_at) == (7, 3, (), None)


def test_columns_become_messages() -> None:
    batch = MessageRows(
        message_ids=[7, 9],
        uids=[3, 4],
        flags=[1, 6],
        keyword_sets=[0, 1],
        keyword_table=[KeywordSet(), KeywordSet(keywords=["$Work"])],
        received_at_seconds=[0, 3600],
        received_offset_minutes=[0, 120],
        summaries=[MessageSummary(subject="a"), MessageSummary(subject="b")],
    )
    first, second = rows.messages(batch)
    assert first.seen
    assert second.flag_names == ("answered", "flagged", "$Work")
    assert second.received_at == datetime(1970, 1, 1, 3, tzinfo=timezone(timedelta(hours=2)))
    assert [first.summary.subject, second.summary.subject] == ["a", "b"]


def test_conditions_are_written_short() -> None:
    since = datetime(2026, 1, 1, tzinfo=UTC)
    found = query.all_of(query.unread(), query.any_of(query.text("from", "x"), query.negation(query.larger(9))))
    assert [each.WhichOneof("condition") for each in found.all_of.restrictions] == ["flags", "any_of"]
    assert query.all_of(query.keyword("$Work")) == query.keyword("$Work")
    assert query.received(since=since).time.not_before.seconds == int(since.timestamp())
    assert not query.received(since=since).time.HasField("before")
    assert query.flag("flagged") == Restriction(flags=FlagRestriction(mask=4, value=4))
