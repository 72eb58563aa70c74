"""The tree of parts, RFC 2045 6.4 and RFC 2046 5.1, numbered as in RFC 3501 6.4.5."""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_mail.canonical import canonicalise
from restante_mail.limits import Limits
from restante_mail.mime.facts import scan
from restante_mail.mime.parts import Part, decode, encode
from restante_mail.mime.scanner import parse
from tests.mail.material import crlf, nested_multiparts

Shape = str | list["Shape"]


def shape(content: bytes, part: Part) -> object:
    """The shape of a tree: a leaf is its body, a container its type and its children."""
    if part.children:
        return [part.media_type, *(shape(content, child) for child in part.children)]
    return content[part.body_start : part.body_end].decode("latin-1")


def mixed(body: str, boundary: str = "b", subtype: str = "mixed") -> bytes:
    return crlf(f'Content-Type: multipart/{subtype}; boundary="{boundary}"\n\n{body}')


def inner(body: str, boundary: str = "b") -> str:
    """A multipart to nest in another, with LF line ends."""
    return f'Content-Type: multipart/mixed; boundary="{boundary}"\n\n{body}'


TABLE: dict[str, tuple[bytes, object]] = {
    "empty": (b"", ""),
    "no header": (crlf("\nbody\n"), "body\r\n"),
    "no body": (crlf("Subject: x\n\n"), ""),
    "no blank line": (crlf("Subject: x\n"), ""),
    "text without a header is a header": (crlf("Hello, world\n"), ""),
    "two parts": (mixed("--b\n\none\n--b\n\ntwo\n--b--\n"), ["multipart/mixed", "one", "two"]),
    "the line end before a boundary is its own": (mixed("--b\n\none\n\n--b--\n"), ["multipart/mixed", "one\r\n"]),
    "preamble and epilogue": (mixed("pre\n--b\n\none\n--b--\nepi\n--b\n\nno\n"), ["multipart/mixed", "one"]),
    "missing final boundary": (mixed("--b\n\none\n--b\n\ntwo\n"), ["multipart/mixed", "one", "two\r\n"]),
    "white space behind a boundary": (mixed("--b \t\n\none\n--b-- \t \n"), ["multipart/mixed", "one"]),
    "a boundary that is the beginning of a line is none": (
        mixed("--b\n\n--bc\n--b-x\n--b--x\n--b x\n--b--\n"),
        ["multipart/mixed", "--bc\r\n--b-x\r\n--b--x\r\n--b x"],
    ),
    "a boundary not at the beginning of a line is none": (
        mixed("--b\n\n --b\nx--b\n--b--\n"),
        ["multipart/mixed", " --b\r\nx--b"],
    ),
    "the boundary ends the content": (mixed("--b\n\none\n--b"), ["multipart/mixed", "one", ""]),
    "the closing boundary ends the content": (mixed("--b\n\none\n--b--"), ["multipart/mixed", "one"]),
    "boundaries at once": (mixed("--b\n--b\n\none\n--b\n--b--\n"), ["multipart/mixed", "one"]),
    "a part of one blank line": (mixed("--b\n\n--b--\n"), ["multipart/mixed", ""]),
    "a part that is all header": (mixed("--b\nContent-Type: text/html\n--b--\n"), ["multipart/mixed", ""]),
    "no part: the body is one": (mixed("nothing here\n"), ["multipart/mixed", "nothing here\r\n"]),
    "only a closing boundary": (mixed("pre\n--b--\n"), ["multipart/mixed", "pre\r\n--b--\r\n"]),
    "no body at all": (mixed(""), ["multipart/mixed", ""]),
    "no boundary parameter": (
        crlf("Content-Type: multipart/mixed\n\n--b\n\none\n"),
        ["multipart/mixed", "--b\r\n\r\none\r\n"],
    ),
    "unquoted boundary": (
        crlf("Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b--\n"),
        ["multipart/mixed", "one"],
    ),
    "boundary in RFC 2231 form": (
        crlf("Content-Type: multipart/mixed; boundary*=us-ascii''a%20b\n\n--a b\n\none\n--a b--\n"),
        ["multipart/mixed", "one"],
    ),
    "folded boundary": (
        crlf("Content-Type: multipart/mixed;\n boundary=b\n\n--b\n\none\n--b--\n"),
        ["multipart/mixed", "one"],
    ),
    "inner boundary that begins like the outer": (
        mixed("--b\n" + inner("--bb\n\none\n--bb--\n", "bb") + "--b\n\ntwo\n--b--\n"),
        ["multipart/mixed", ["multipart/mixed", "one"], "two"],
    ),
    "outer boundary that begins like the inner": (
        mixed("--bb\n" + inner("--b\n\none\n--b--\n") + "--bb\n\ntwo\n--bb--\n", "bb"),
        ["multipart/mixed", ["multipart/mixed", "one"], "two"],
    ),
    "the outer boundary ends an open inner part": (
        mixed("--b\n" + inner("--c\n\none\n", "c") + "--b\n\ntwo\n--b--\n"),
        ["multipart/mixed", ["multipart/mixed", "one"], "two"],
    ),
    "equal boundaries nest": (
        mixed("--b\n" + inner("--b\n\none\n--b\n\ntwo\n--b--\n") + "--b\n\nthree\n--b--\nepilogue\n--b\n\nx\n"),
        ["multipart/mixed", ["multipart/mixed", "one", "two"], "three"],
    ),
    "equal boundaries, the inner one never closed": (
        mixed("--b\n" + inner("--b\n\none\n") + "--b--\n"),
        ["multipart/mixed", ["multipart/mixed", "one"]],
    ),
    "equal boundaries with another one between": (
        mixed("--b\n" + inner("--c\n" + inner("--b\n\none\n--b--\n") + "--c--\n", "c") + "--b\n\ntwo\n--b--\n"),
        ["multipart/mixed", ["multipart/mixed", ["multipart/mixed", "one"]], "two"],
    ),
    "equal boundaries in an embedded message": (
        mixed("--b\nContent-Type: message/rfc822\n\n" + inner("--b\n\none\n--b--\n") + "--b\n\ntwo\n--b--\n"),
        ["multipart/mixed", ["message/rfc822", ["multipart/mixed", "one"]], "two"],
    ),
    "something behind a closing boundary": (
        mixed("--b\n\none\n--b-->\nepilogue\n--b\n\nx\n"),
        ["multipart/mixed", "one"],
    ),
    "a longer boundary behind a closing one is another": (
        mixed("--b\n\none\n--b--c\n--b--\n"),
        ["multipart/mixed", "one\r\n--b--c"],
    ),
    "a boundary line in the header of a part": (
        mixed("--b\nContent-Type: text/html\n--b\n\ntwo\n--b--\n"),
        ["multipart/mixed", "", "two"],
    ),
    "a boundary line in the header that names it": (
        crlf(
            "Content-Type: multipart/mixed; boundary=b\nA: b\n--b\nContent-Type: text/html\n\none\n--b\n\ntwo\n--b--\n"
        ),
        ["multipart/mixed", "one", "two"],
    ),
    "a boundary line in the header of an inner multipart": (
        mixed("--b\n" + inner("", "c").rstrip("\n") + "\n--c\n\none\n--c--\n--b\n\ntwo\n--b--\n"),
        ["multipart/mixed", ["multipart/mixed", "one"], "two"],
    ),
    "encoding of a multipart means nothing": (  # RFC 2045 6.4
        crlf("Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: base64\n\n--b\n\none\n--b--\n"),
        ["multipart/mixed", "one"],
    ),
    "embedded message": (crlf("Content-Type: message/rfc822\n\nSubject: x\n\nbody\n"), ["message/rfc822", "body\r\n"]),
    "embedded message without anything": (crlf("Content-Type: message/rfc822\n\n"), ["message/rfc822", ""]),
    "digest": (
        mixed("--b\n\nSubject: x\n\none\n--b\nContent-Type: text/plain\n\ntwo\n--b--\n", subtype="digest"),
        ["multipart/digest", ["message/rfc822", "one"], "two"],
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_parts_are_found(name: str) -> None:
    content, expected = TABLE[name]
    tree = parse(content)
    assert shape(content, tree) == expected
    _check(content, tree)
    assert decode(encode(tree)) == tree


def test_a_part_that_is_all_header_ends_with_a_line_end() -> None:
    content = mixed("--b\nContent-Type: text/html\n--b--\n")
    part = parse(content).children[0]
    assert content[part.header_start : part.body_start] == b"Content-Type: text/html\r\n"
    assert part.media_type == "text/html"


def test_a_header_whose_blank_line_is_the_delimiters_keeps_it() -> None:
    content = mixed("--b\nContent-Type: text/html\n\n--b--\n")
    part = parse(content).children[0]
    assert content[part.header_start : part.body_start] == b"Content-Type: text/html\r\n\r\n"
    assert part.octets == 0


TYPES = [
    ("", "text/plain"),
    ("text", "text/plain"),  # RFC 2045 5.2
    ("TEXT/HTML", "text/html"),
    ("text / html", "text/html"),
    ("(a comment) text/html (another)", "text/html"),
    ("text/html charset=utf-8", "text/html"),
    ("/html", "text/plain"),
    ('"text/html"', "text/plain"),
    ("image/x-\xe9", "image/x-\xe9"),
]


@pytest.mark.parametrize(("raw", "media_type"), TYPES)
def test_media_types_are_read(raw: str, media_type: str) -> None:
    assert parse(crlf(f"Content-Type: {raw}\n\nx\n")).media_type == media_type


def test_the_facts_of_a_part() -> None:
    part = parse(
        crlf(
            'content-type: text/plain; charset=koi8-r; name="a.txt"\nCONTENT-TRANSFER-ENCODING:  Base64 (x)\n'
            "Content-ID: <1@example.test>\nContent-Description: two\n words\nContent-Type: text/html\n"
            "Content-Disposition: Attachment; filename*=utf-8''%C3%A9.txt\nContent-Language: de, en\n"
            "Content-Location: http://x\n y\nContent-MD5: abc==\n\nbody\n"
        )
    )
    assert part.media_type == "text/plain"
    assert (part.charset, part.encoding, part.disposition) == ("koi8-r", "base64", "attachment")
    assert (part.filename, part.content_id) == ("é.txt", "1@example.test")
    assert part.content["description"] == "two words"
    assert part.content["language"] == "de, en"
    assert (part.lines, part.octets) == (1, 6)


@pytest.mark.parametrize(
    ("raw", "encoding"),
    [
        ("", "7bit"),
        ("8 bit", "8bit"),
        ("8-BIT", "8bit"),
        ("Quoted Printable", "quoted-printable"),
        ('"base64"', "base64"),
        ("base64; x=y", "base64"),
        ("base64 (a; b) and so on", "base64"),
        ("(c) binary", "binary"),
        ("x-uuencode", "x-uuencode"),
        ("(c)", "7bit"),
    ],
)
def test_transfer_encodings_are_read_as_they_are_spelled(raw: str, encoding: str) -> None:
    assert parse(crlf(f"Content-Transfer-Encoding: {raw}\n\nx\n")).encoding == encoding


@given(
    st.lists(
        st.sampled_from(
            [
                "--b",
                "--b--",
                "--c",
                "--c--",
                "",
                "text",
                "Content-Type: multipart/mixed; boundary=b",
                'Content-Type: multipart/digest; boundary="c"',
                "Content-Type: message/rfc822",
                "Content-Type: text/html; charset=x",
                "Content-Transfer-Encoding: base64",
                " folded",
                "Subject: \xe9",
                "From: a@b (",
                "--bc",
                "--b \t",
                "junk: \x01",
            ]
        ),
        max_size=30,
    ),
    st.booleans(),
)
def test_trees_nest_within_bounds_whatever_comes(lines: list[str], ended: bool) -> None:
    content = "\r\n".join(lines).encode("latin-1") + (b"\r\n" if ended else b"")
    tree = parse(content)
    _check(content, tree)
    assert decode(encode(tree)) == tree
    scan(content)


@given(st.binary(max_size=300))
def test_no_octets_raise(octets: bytes) -> None:
    for content in (octets, canonicalise(octets.replace(b"\0", b"")).octets):
        tree = scan(content).tree
        _check(content, tree)
        assert decode(encode(tree)) == tree


def test_equal_short_fields_are_one_object_and_long_ones_are_not_kept() -> None:
    header = "Content-Type: text/plain; charset=utf-8\n"
    one, two = parse(crlf(f"{header}\nfirst\n")), parse(crlf(f"{header}Subject: x\n\nsecond\n"))
    assert one.fields is two.fields is decode(encode(one)).fields
    long = crlf(f"{header}Content-Description: {'d' * 600}\n\nx\n")
    assert parse(long).fields is not parse(long).fields
    assert parse(long) == parse(long)


def test_equal_header_blocks_have_the_default_type_of_their_place() -> None:  # RFC 2046 5.1.5
    digest, mixed = (
        parse(crlf(f"Content-Type: multipart/{kind}; boundary=b\n\n--b\nContent-ID: <x>\n\nx\n--b--\n"))
        for kind in ("digest", "mixed")
    )
    assert (digest.children[0].media_type, mixed.children[0].media_type) == ("message/rfc822", "text/plain")


def _check(content: bytes, tree: Part) -> None:
    """Check offsets, children inside their parents' bodies, in order and without overlap, and counts of lines."""
    assert (tree.header_start, tree.body_end) == (0, len(content))
    for part in tree.walk():
        assert 0 <= part.header_start <= part.body_start <= part.body_end <= len(content)
        counted = part.media_type.startswith("text/") or part.is_message
        assert part.lines == (content[part.body_start : part.body_end].count(b"\n") if counted else 0)
        at = part.body_start
        for child in part.children:
            assert at <= child.header_start
            at = child.body_end
        assert at <= part.body_end
        assert not (part.is_multipart and not part.children)
        assert not (part.is_message and len(part.children) != 1)


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_any_buffer_is_read_like_bytes(kind: Callable[[bytes], bytearray | memoryview]) -> None:
    content = TABLE["inner boundary that begins like the outer"][0]
    assert parse(kind(content)) == parse(content)
    assert scan(kind(content)) == scan(content)


def test_a_memory_map_is_read_like_bytes(tmp_path: Path) -> None:
    content = mixed("--b\n\n" + "line\n" * 100_000 + "--b--\n")
    path = tmp_path / "content"
    path.write_bytes(content)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert scan(mapped) == scan(content)


def test_an_unknown_stored_version_is_refused() -> None:
    with pytest.raises(ValueError, match="version 99"):
        decode(b'[99,[0,0,0,0,"text/plain",{}]]')


# Limits ---------------------------------------------------------------------------------------------------------------


def test_what_is_nested_too_deep_is_opaque() -> None:
    depths = []
    part = parse(nested_multiparts(1_000))
    while part.children:
        part = part.children[0]
        depths.append(part.media_type)
    assert len(depths) == 100
    assert depths[-1] == "application/octet-stream"
    assert set(depths[:-1]) == {"multipart/mixed"}


def test_messages_nested_too_deep_are_opaque() -> None:
    part = parse(b"Content-Type: message/rfc822\r\n\r\n" * 500)
    levels = sum(1 for _ in part.walk())
    assert levels == 101
    assert [found.media_type for found in part.walk()][-1] == "application/octet-stream"


def test_more_parts_than_the_limit_belong_to_no_part() -> None:
    content = mixed("--b\n\nx\n" * 50)
    assert len(parse(content, Limits(parts=11)).children) == 10
    _check(content, parse(content, Limits(parts=11)))


def test_fields_beyond_the_header_limit_are_not_read() -> None:
    content = crlf("X-Filler: " + "x" * 500 + "\nContent-Type: text/html\n\nbody\n")
    assert parse(content).media_type == "text/html"
    tree = parse(content, Limits(header_octets=520))
    assert tree.media_type == "text/plain"
    assert content[tree.body_start :] == b"body\r\n"


def test_a_field_that_is_too_long_is_not_read() -> None:
    content = crlf("Content-Type: text/html; x=" + "x" * 500 + "\nContent-ID: <a>\n\nbody\n")
    tree = parse(content, Limits(content_field_octets=400))
    assert (tree.media_type, tree.content_id) == ("text/plain", "a")


def test_what_is_kept_of_all_fields_is_bounded() -> None:
    content = mixed("--b\nContent-Description: " + "x" * 900 + "\n\n\n")
    many = mixed(("--b\nContent-Description: " + "x" * 900 + "\n\n\n") * 100)
    assert len(encode(parse(many, Limits(structure_octets=10_000)))) < 20_000
    assert len(encode(parse(content))) > 900


LONG = 1_000_000
TRAPS: dict[str, Callable[[int], bytes]] = {
    "delimiters": lambda n: mixed("--b\n" * (n // 4)),
    "parts": lambda n: mixed("--b\n\n\n" * (n // 6)),
    "false delimiters": lambda n: mixed("--bx\n" * (n // 5)),
    "dashes": lambda n: mixed("--\n" * (n // 3)),
    "line ends": lambda n: mixed("\n" * n),
    "one line": lambda n: mixed("x" * 5 * n),
    "long header": lambda n: b"Subject: " + b"x" * n + b"\r\n\r\n",
    "many fields": lambda n: b"A: b\r\n" * (n // 6) + b"\r\n",
    "many folds": lambda n: b"To: a@b" + b",\r\n c@d" * (n // 7) + b"\r\n\r\n",
    "many addresses": lambda n: b"To: " + b"a@b," * (n // 4) + b"\r\n\r\n",
    "routes": lambda n: b"To: " + b"<@a," * (n // 4) + b"\r\n\r\n",
    "empty addresses": lambda n: b"To: " + b"," * n + b"\r\n\r\n",
    "brackets of embedded messages": lambda n: mixed(
        ("--b\nContent-Type: message/rfc822\n\nTo: " + "<" * 10_000 + "\n\n\n") * (n // 10_000)
    ),
    "comments": lambda n: b"From: " + b"(" * n + b"\r\n\r\n",
    "comments in a date": lambda n: b"Date: " + b"(" * n + b"\r\n\r\n",
    "comments in a type": lambda n: b"Content-Type: " + b"(" * n + b"\r\n\r\n",
    "encoded words": lambda n: b"Subject: " + b"=?utf-8?q?a?= " * (n // 14) + b"\r\n\r\n",
    "half encoded words": lambda n: b"Subject: " + b"=?utf-8?q?" * (n // 10) + b"\r\n\r\n",
    "question marks": lambda n: b"Subject: " + b"=?" * (n // 2) + b"\r\n\r\n",
    "references": lambda n: b"References: " + b"<" * n + b"\r\n\r\n",
    "continuations": lambda n: b"Content-Type: x/y" + b"".join(b"; a*%d=b" % i for i in range(n // 12)) + b"\r\n\r\n",
    "semicolons": lambda n: b"Content-Type: x/y" + b";" * n + b"\r\n\r\n",
    "quotes": lambda n: b"Content-Type: x/y" + b'; a="' * (n // 5) + b"\r\n\r\n",
    "spaces": lambda n: b"Content-Type: x/y;" + b" " * n + b"a\r\n\r\n",
    "colonless": lambda n: b"x" * n + b"\r\n\r\n",
    "tags": lambda n: b"Content-Type: text/html\r\n\r\n" + b"<a " * (n // 3),
    "open comments": lambda n: b"Content-Type: text/html\r\n\r\n" + b"<!--" * (n // 4),
    "quoted tags": lambda n: b"Content-Type: text/html\r\n\r\n" + b"<a '>" * (n // 5),
    "base64 junk": lambda n: b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b"!" * n,
    "quoted-printable": lambda n: b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + b"=" * n,
    "nested": lambda n: nested_multiparts(n // 60),
    "nested messages": lambda n: b"Content-Type: message/rfc822\r\n\r\n" * (n // 32),
    "digest": lambda n: mixed("--b\n\n\n" * (n // 6), subtype="digest"),
}


@pytest.mark.parametrize("name", TRAPS)
def test_hostile_input_takes_linear_time(name: str) -> None:
    """A megabyte of each input takes bounded CPU time, and eight times as much at most a linear multiple."""

    def seconds(size: int) -> float:
        content = TRAPS[name](size)
        start = time.process_time()
        facts = scan(content)
        decode(encode(facts.tree))
        return time.process_time() - start

    large = seconds(LONG)
    assert large < 3
    assert large < max(0.15, seconds(LONG // 8) * 8 * 4)
