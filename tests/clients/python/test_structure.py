"""Part trees from BODYSTRUCTURE, text of parts, messages from columns, conditions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante import query, rows
from restante.structure import Part, parse_structure
from restante.v1.message_pb2 import MessageRows
from restante.v1.search_pb2 import FlagRestriction, Restriction
from restante.v1.types_pb2 import KeywordSet, MessageSummary
from restante_mail.mime.facts import scan
from restante_mail.mime.scanner import parse
from restante_mail.mime.text import part_text

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
    assert found.label == "1"  # never the text of an attached message


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
        (b'("filename" "=?no-such-charset?q?x?=")', "x"),  # as in the core
        (b'("filename" "=?windows-1252?q?=80.txt?=")', "€.txt"),
        (b'("filename" "=?iso-8859-1?q?=80.txt?=")', "€.txt"),
        (b'("filename" {4}\r\n\xfc.tx)', "ü.tx"),
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
        pass  # the documented error


PARTS = [
    (b"Content-Type: text/plain; charset=iso-8859-1", b"gr\xfc\xdfe \x80\r\n"),
    (b"Content-Type: text/plain", "grüße".encode()),
    (b"Content-Type: text/plain; charset=utf-8", b"\xff"),
    (b"Content-Type: text/plain; charset=no-such-charset", b"x"),
    (b"Content-Type: text/plain; charset=windows-1251", "Привет".encode("cp1251") + b"\x98"),
    (b"Content-Type: text/plain; charset=shift_jis", "打ち合わせ".encode("cp932") + b"\x8c"),
    (b"Content-Type: text/plain; charset=iso-2022-jp", "Grüße".encode()),
    (
        b"Content-Type: text/plain; charset=gb2312\r\nContent-Transfer-Encoding: base64",
        b"1tC5+g==\r\n-- \r\nThe list\r\n",
    ),
    (
        b"Content-Type: text/plain; charset=windows-1252\r\nContent-Transfer-Encoding: quoted-printable",
        b"=8D=E9 =\r\nb \r\n",
    ),
    (b'Content-Type: application/pdf; name="=?iso-8859-1?q?=80.pdf?="', b"x"),
    (
        (
            b"Content-Type: application/pdf\r\n"
            b"Content-Disposition: attachment; filename*0*=utf-8''a%C3; filename*1*=%BC.pdf"
        ),
        b"x",
    ),
    (b"Content-Type: application/pdf\r\nContent-Disposition: attachment; filename=\xfc.pdf", b"x"),
]


@pytest.mark.parametrize(("header", "body"), PARTS)
def test_text_and_names_are_read_as_the_core_reads_them(header: bytes, body: bytes) -> None:
    content = header + b"\r\n\r\n" + body
    facts, leaf = scan(content), parse(content)
    part = parse_structure(facts.body_structure)
    assert part.file_name == leaf.filename
    if part.media_type == "text/plain":
        text = "".join(part_text(content, leaf)).replace("\r\n", "\n")
        decoder = part.decoder()
        octets = b"".join([decoder.feed(body[at : at + 3]) for at in range(0, len(body), 3)]) + decoder.finish()
        assert part.text(octets) == text


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
