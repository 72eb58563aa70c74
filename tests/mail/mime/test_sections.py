"""Sections, RFC 3501 6.4.5."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_mail.header.fields import header_fields
from restante_mail.mime.parts import decode, encode
from restante_mail.mime.scanner import parse
from restante_mail.mime.sections import Kind, Piece, parse_section, pieces, section
from tests.mail.material import crlf

# The example of RFC 3501 6.4.5, smaller: 1 text, 2 image, 3 message (3.1 text, 3.2 image), 4 multipart (4.1 text,
# 4.2 message (4.2.1 text, 4.2.2 multipart (4.2.2.1, 4.2.2.2))).
MESSAGE = crlf(
    "Subject: outer\nContent-Type: multipart/mixed; boundary=A\n\npreamble\n"
    "--A\nX: 1\n\ntext 1\n"
    "--A\nContent-Type: image/gif\n\ngif 2\n"
    "--A\nContent-Type: message/rfc822\n\nSubject: third\nContent-Type: multipart/mixed; boundary=B\n\n"
    "--B\n\ntext 3.1\n--B\nContent-Type: image/png\n\npng 3.2\n--B--\n"
    "--A\nContent-Type: multipart/mixed; boundary=C\n\n--C\n\ntext 4.1\n"
    "--C\nContent-Type: message/rfc822\n\nSubject: fourth\nContent-Type: multipart/mixed; boundary=D\n\n"
    "--D\n\ntext 4.2.1\n--D\nContent-Type: multipart/alternative; boundary=E\n\n"
    "--E\n\ntext 4.2.2.1\n--E\n\ntext 4.2.2.2\n--E--\n--D--\n--C--\n--A--\nepilogue\n"
)
HEAD = b"Return-Path: <bob@example.test>\r\n"
TREE = decode(encode(parse(MESSAGE)))

TABLE: list[tuple[str, str | None]] = [
    ("HEADER", "Subject: outer\r\nContent-Type: multipart/mixed; boundary=A\r\n\r\n"),
    ("1", "text 1"),
    ("1.MIME", "X: 1\r\n\r\n"),  # RFC 3501 6.4.5
    ("1.HEADER", None),
    ("1.TEXT", None),
    ("1.1", None),
    ("2", "gif 2"),
    ("2.MIME", "Content-Type: image/gif\r\n\r\n"),
    ("3.MIME", "Content-Type: message/rfc822\r\n\r\n"),
    ("3.HEADER", "Subject: third\r\nContent-Type: multipart/mixed; boundary=B\r\n\r\n"),  # RFC 3501 6.4.5
    ("3.TEXT", "--B\r\n\r\ntext 3.1\r\n--B\r\nContent-Type: image/png\r\n\r\npng 3.2\r\n--B--"),
    ("3.1", "text 3.1"),
    ("3.1.MIME", "\r\n"),
    ("3.2", "png 3.2"),
    ("3.3", None),
    ("4.1", "text 4.1"),
    ("4.2.HEADER", "Subject: fourth\r\nContent-Type: multipart/mixed; boundary=D\r\n\r\n"),
    ("4.2.1", "text 4.2.1"),
    ("4.2.2.1", "text 4.2.2.1"),
    ("4.2.2.2", "text 4.2.2.2"),
    ("4.2.2.2.1", None),
    ("5", None),
]


def read(content: bytes, spec: str, head: bytes = b"") -> str | None:
    parsed = parse_section(spec)
    assert parsed is not None
    found = pieces(len(head), parse(content), *parsed)
    if found is None:
        return None
    sources = {"head": head, "content": content}
    return b"".join(sources[p.source][p.offset : p.offset + p.length] for p in found).decode("latin-1")


@pytest.mark.parametrize(("spec", "octets"), TABLE, ids=[spec for spec, _ in TABLE])
def test_sections_of_the_standards_example(spec: str, octets: str | None) -> None:
    assert read(MESSAGE, spec) == octets
    parsed = parse_section(spec)
    assert parsed is not None
    found = section(TREE, *parsed)
    assert found is None or MESSAGE[found[0] : sum(found)].decode("latin-1") == octets


def test_the_whole_is_header_and_text() -> None:
    whole, header, text = (read(MESSAGE, spec, HEAD) for spec in ("", "HEADER", "TEXT"))
    assert whole == (HEAD + MESSAGE).decode()
    assert header is not None
    assert text is not None
    assert header + text == whole


def test_the_head_counts_to_the_whole_and_to_the_header_alone() -> None:
    assert pieces(10, TREE) == [Piece("head", 0, 10), Piece("content", 0, len(MESSAGE))]
    assert pieces(10, TREE, (), Kind.HEADER) == [Piece("head", 0, 10), Piece("content", 0, TREE.body_start)]
    assert pieces(10, TREE, (), Kind.TEXT) == [Piece("content", TREE.body_start, TREE.octets)]
    found = section(TREE, (1,))
    assert found is not None
    assert pieces(10, TREE, (1,)) == [Piece("content", *found)]
    assert pieces(0, TREE) == [Piece("content", 0, len(MESSAGE))]


def test_part_1_of_a_message_that_is_no_multipart_is_its_text() -> None:  # RFC 3501 6.4.5
    content = crlf("Subject: x\n\nbody\n")
    assert read(content, "1") == "body\r\n"
    assert read(content, "1.MIME") == "Subject: x\r\n\r\n"
    assert read(content, "1.HEADER") is None
    assert read(content, "1.1") is None
    assert read(content, "2") is None


def test_sections_of_a_message_in_a_message() -> None:
    content = crlf("Content-Type: message/rfc822\n\nSubject: in\n\nbody\n")
    assert read(content, "1.HEADER") == "Subject: in\r\n\r\n"
    assert read(content, "1.TEXT") == "body\r\n"
    assert read(content, "1.1") == "body\r\n"
    assert read(content, "1") == "Subject: in\r\n\r\nbody\r\n"


@pytest.mark.parametrize("spec", ["0", "1.", ".1", "MIME", "1..2", "1HEADER", "x", "HEADER.1", "01", "1.0"])
def test_malformed_sections_are_refused(spec: str) -> None:
    assert parse_section(spec) is None


def test_section_names_know_no_letter_case() -> None:
    assert parse_section("1.mime") == ((1,), Kind.MIME)
    assert parse_section("text") == ((), Kind.TEXT)


BLOCK = b"Subject: one\r\nX-A: b\r\n\tfolded \r\nTo: a@x\r\njunk\r\nx-a: again\r\n\r\n"


@pytest.mark.parametrize(
    ("names", "exclude", "octets"),
    [
        (["X-A"], False, b"X-A: b\r\n\tfolded \r\nx-a: again\r\n\r\n"),  # RFC 3501 6.4.5: folding and order
        (["to", "subject"], False, b"Subject: one\r\nTo: a@x\r\n\r\n"),
        (["nothing"], False, b"\r\n"),
        (["x-a"], True, b"Subject: one\r\nTo: a@x\r\n\r\n"),
        ([], True, BLOCK.replace(b"junk\r\n", b"")),
    ],
)
def test_fields_are_chosen_octet_for_octet(names: list[str], exclude: bool, octets: bytes) -> None:
    assert header_fields(BLOCK, names, exclude) == octets


@pytest.mark.parametrize("block", [b"", b"\r\n", b"A: b", b"A: b\r\n", b"A: b\r\n\r\n"])
def test_chosen_fields_end_with_a_blank_line(block: bytes) -> None:
    assert header_fields(block, ["a"]) == (b"A: b\r\n\r\n" if block.strip() else b"\r\n")


@given(st.lists(st.sampled_from(["A: 1", "B:2", " fold", "junk", "a : 3", "C:"]), max_size=8))
def test_chosen_and_other_fields_are_all_fields(lines: list[str]) -> None:
    block = "".join(line + "\r\n" for line in lines).encode() + b"\r\n"
    chosen, others = header_fields(block, ["A"]), header_fields(block, ["A"], exclude=True)
    assert len(chosen) + len(others) == len(header_fields(block, [], exclude=True)) + 2
