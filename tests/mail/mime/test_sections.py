"""Sections, RFC 3501 6.4.5."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_mail.header.fields import header_fields
from restante_mail.mime.parts import decode, encode
from restante_mail.mime.scanner import parse
from restante_mail.mime.sections import Kind, begins_with_head, parse_section, section, stored_section
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
    found = section(parse(content), *parsed)
    assert found == stored_section(encode(parse(content)), *parsed)
    if found is None:
        return None
    before = head if begins_with_head(*parsed) else b""
    return (before + content[found[0] : sum(found)]).decode("latin-1")


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


@pytest.mark.parametrize(
    ("path", "kind", "begins"),
    [
        ((), Kind.WHOLE, True),
        ((), Kind.HEADER, True),
        ((), Kind.TEXT, False),
        ((1,), Kind.WHOLE, False),
        ((3,), Kind.HEADER, False),
    ],
)
def test_the_head_counts_to_the_whole_and_to_the_header_alone(path: tuple[int, ...], kind: Kind, begins: bool) -> None:
    assert begins_with_head(path, kind) == begins


def test_the_sections_of_a_message_need_no_tree() -> None:
    cut = encode(TREE)[:20]  # no JSON
    for kind in Kind:
        assert stored_section(cut, (), kind) == section(TREE, (), kind)


def test_a_stored_tree_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="version"):
        stored_section(encode(TREE).replace(b"[1,", b"[2,", 1), ())


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


NAMES = ["Subject", "To", "X-A", "a", "", "b:", "[c]", "Ä"]


@given(
    st.lists(
        st.sampled_from(["Subject: 1", "to:2", " fold", "junk", "X-a : 3", "b: 4", "b:: 5", "[C]: 6", "A", "?: 7"])
    ),
    st.lists(st.sampled_from(NAMES), max_size=4),
)
def test_few_and_many_names_choose_the_same_fields(lines: list[str], names: list[str]) -> None:
    block = "\r\n".join(lines).encode()
    many = [*names, *(f"unused-{number}" for number in range(40))]
    assert header_fields(block, names) == header_fields(block, many)


TRAPS = {
    "line ends": b"\r\n",
    "one unfinished name": b"Subject",
    "names without a colon": b"\r\nSubject",
    "white space after a name": b"\r\nSubject \t \t \t \t",
    "folds": b"\r\n \tx",
    "fields": b"\r\nSubject:",
}


@pytest.mark.parametrize(
    "names", [["Subject", "To"], [f"Subject{number}" for number in range(40)]], ids=["few", "many"]
)
@pytest.mark.parametrize("trap", TRAPS.values(), ids=TRAPS)
def test_a_hostile_header_takes_linear_time(trap: bytes, names: list[str]) -> None:
    def seconds(size: int) -> float:
        block = b"Subject: x" + trap * (size // len(trap))
        start = time.process_time()
        header_fields(block, names)
        header_fields(block, names, exclude=True)
        return time.process_time() - start

    # Eight times the size takes eight times as long, and 64 times where the time is quadratic. Of a few trials the
    # shortest counts, because other processes lengthen the others.
    large, small = (min(seconds(size) for _trial in range(4)) for size in (1 << 20, 1 << 17))
    assert large < max(0.5, small * 32)
