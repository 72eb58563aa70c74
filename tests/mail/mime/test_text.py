"""Text: transfer decoding in pieces (RFC 2045 6), preview, search, attachments, folding."""

from __future__ import annotations

import base64
import quopri

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from restante_mail.mime.decoders import decoded
from restante_mail.mime.facts import scan
from restante_mail.mime.numbered import Numbered, numbered
from restante_mail.mime.parts import Part
from restante_mail.mime.scanner import parse
from restante_mail.mime.text import field_values, header_text, preview, text_chunks
from restante_mail.text.fold import fold, folded_chunks, occurs
from tests.mail.material import crlf

# Transfer encodings ---------------------------------------------------------------------------------------------------


@given(st.binary(max_size=200), st.sampled_from(["base64", "quoted-printable"]), st.integers(1, 50))
def test_what_was_encoded_is_decoded_whatever_the_pieces(octets: bytes, encoding: str, chunk: int) -> None:
    if encoding == "base64":
        body = base64.encodebytes(octets).replace(b"\n", b"\r\n")
    else:
        octets = octets.replace(b"\r", b"").replace(b"\n", b"\r\n")
        body = quopri.encodestring(octets.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")
    content = b"Content-Transfer-Encoding: " + encoding.encode() + b"\r\n\r\n" + body
    assert b"".join(decoded(content, parse(content), chunk=chunk)) == octets


@pytest.mark.parametrize(
    ("encoding", "body", "octets"),
    [
        ("base64", b"YW!J\r\njZA", b"abcd"),  # junk and forgotten padding
        ("base64", b"YWJj=ZGVm", b"abc"),  # padding ends the data
        ("base64", b"Y", b""),
        ("quoted-printable", b"a=zz=", b"a=zz"),
        ("quoted-printable", b"a =\r\nb  \r\n", b"a b\r\n"),
        ("x-unknown", b"a=20", b"a=20"),
        ("7bit", b"a=20", b"a=20"),
    ],
)
def test_damaged_encodings_give_what_can_be_read(encoding: str, body: bytes, octets: bytes) -> None:
    content = b"Content-Transfer-Encoding: " + encoding.encode() + b"\r\n\r\n" + body
    assert b"".join(decoded(content, parse(content))) == octets


@given(st.binary(max_size=120), st.sampled_from(["base64", "quoted-printable"]), st.integers(1, 9))
def test_any_damage_gives_the_same_text_in_pieces_of_any_size(body: bytes, encoding: str, chunk: int) -> None:
    content = b"Content-Transfer-Encoding: " + encoding.encode() + b"\r\n\r\n" + body
    assert b"".join(decoded(content, parse(content), chunk=chunk)) == b"".join(decoded(content, parse(content)))


# Preview and attachments ----------------------------------------------------------------------------------------------

ALTERNATIVE = (
    "Content-Type: multipart/alternative; boundary=b\n\n--b\nContent-Type: text/plain; charset=utf-8\n"
    "Content-Transfer-Encoding: quoted-printable\n\n{plain}\n--b\nContent-Type: text/html\n\n{html}\n--b--\n"
)
PREVIEWS = [
    ("\nhello\n\n  world\n", "hello world"),
    ("Content-Type: text/html\n\n<style>p{x}</style><p>one</p><p>two &amp; three</p>\n", "one two & three"),
    (ALTERNATIVE.format(plain="Gr=C3=BC=C3=9Fe", html="<p>not me"), "Grüße"),
    (ALTERNATIVE.format(plain="  ", html="<p>me"), "me"),
    ("Content-Type: image/png\n\nxx\n", ""),
    ("Content-Disposition: attachment\n\nxx\n", ""),
    ("Content-Type: text/plain; charset=iso-8859-1\n\nGr\xfc\xdfe\n", "Grüße"),
    ("Content-Type: text/plain; charset=utf-8\n\nGr\xfc\xdfe\n", "Grüße"),  # declared falsely
    ("\n" + "word " * 100, ("word " * 40).strip()),
    ("Content-Type: message/rfc822\n\nSubject: x\n\nnot shown\n", ""),
    ("\n\xe2\x80\x8b\xe2\x80\x8bA\xc2\xa0B", "A B"),
]


@pytest.mark.parametrize(("content", "expected"), PREVIEWS)
def test_previews(content: str, expected: str) -> None:
    octets = crlf(content)
    assert preview(octets, parse(octets)) == expected


def attachments(tree: Part) -> list[Numbered]:
    return [found for found in numbered(tree, embedded=False) if found.attachment]


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ("", []),
        ("Content-Type: text/plain; name=a.txt", ["a.txt"]),
        ("Content-Type: text/plain; NAME=a.txt", ["a.txt"]),
        ("Content-Disposition: inline", []),
        ("Content-Disposition: attachment", [""]),
        ("Content-Disposition: inline; filename*=utf-8''%C3%BC.txt", ["ü.txt"]),
        ("Content-Type: application/pdf", [""]),
        ("Content-Type: application/pgp-signature; name=x.asc", []),
        ("Content-Type: message/rfc822", [""]),
        ("Content-Type: message/delivery-status", []),
        ("Content-Type: image/png\nContent-ID: <x>", [""]),
        ("Content-Type: text/calendar; method=REQUEST", [""]),
        ("Content-Type: text/csv", [""]),
        ("Content-Type: text/html", []),
        ("Content-Disposition: filename=a.txt", ["a.txt"]),
        ("Content-Type: text/plain; charset=x (name=a.txt)", []),
        ("Content-Type: message/external-body", []),
    ],
)
def test_attachments_are_what_a_person_calls_so(header: str, names: list[str]) -> None:
    part = f"{header}\n\nSubject: in\n\nx\n".lstrip("\n") if header else "\nx\n"
    content = crlf(f"Content-Type: multipart/mixed; boundary=b\n\n--b\n\ntext\n--b\n{part}--b--\n")
    found = attachments(parse(content))
    assert [each.part.filename for each in found] == names
    assert all(each.number == (2,) for each in found)
    assert scan(content).attachment_count == len(names)
    single = crlf(part)
    assert [each.part.filename for each in attachments(parse(single))] == names
    assert scan(single).attachment_count == len(names)


def test_an_image_that_the_html_shows_is_no_attachment() -> None:
    content = crlf(
        "Content-Type: multipart/related; boundary=b\n\n--b\nContent-Type: text/html\n\n<img src=cid:x>\n"
        "--b\nContent-Type: image/png; name=x.png\nContent-ID: <x>\n\nx\n--b--\n"
    )
    assert attachments(parse(content)) == []


@pytest.mark.parametrize(
    ("beside", "others", "found"),
    [
        ("text/html", "Content-Type: text/calendar", ["text/calendar"]),
        ("text/html", "Content-Type: application/pdf\nContent-ID: <x>", ["application/pdf"]),
        ("text/html", "Content-Type: text/css\nContent-ID: <x>", []),
        ("text/html", "Content-Type: image/png", ["image/png"]),
        ("text/plain", "Content-Type: image/png\nContent-ID: <x>", ["image/png"]),  # nothing shows it
    ],
)
def test_what_html_does_not_show_is_an_attachment(beside: str, others: str, found: list[str]) -> None:
    content = crlf(
        f"Content-Type: multipart/related; boundary=b\n\n--b\nContent-Type: {beside}\n\nx\n--b\n{others}\n\nx\n--b--\n"
    )
    assert [one.part.media_type for one in attachments(parse(content))] == found


def test_an_invitation_is_an_attachment_of_the_text_it_is_another_form_of() -> None:
    content = crlf(
        "Content-Type: multipart/alternative; boundary=b\n\n--b\nContent-Type: text/plain\n\nx\n"
        "--b\nContent-Type: text/html\n\nx\n--b\nContent-Type: text/calendar; method=REQUEST\n\nx\n--b--\n"
    )
    assert [(one.number, one.part.media_type) for one in attachments(parse(content))] == [((3,), "text/calendar")]


# Search ---------------------------------------------------------------------------------------------------------------


def test_search_sees_decoded_text_and_embedded_headers_but_no_attachment() -> None:
    content = crlf(
        "Subject: outer\nContent-Type: multipart/mixed; boundary=b\n\npreamble\n--b\n"
        "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\nR3LDvMOfZQ==\n"
        "--b\nContent-Type: text/html\n\n<b>rest</b>aurant<!-- hidden -->\n"
        "--b\nContent-Type: image/png\n\nsecret\n"
        "--b\nContent-Type: message/rfc822\n\nSubject: =?utf-8?q?in=C3=BC?=\n\ninner\n--b--\n"
    )
    text = "".join(text_chunks(content, parse(content)))
    for word in ("Grüße", "restaurant", "Subject: inü", "inner"):
        assert word in text
    for word in ("secret", "outer", "preamble", "hidden"):
        assert word not in text


def test_a_long_text_comes_in_bounded_pieces() -> None:
    content = b"\r\n" + b"some words in a line\r\n" * 50_000
    pieces = list(text_chunks(content, parse(content)))
    assert max(map(len, pieces)) <= 65_536
    assert "".join(pieces).replace("\r\n", "\n").count("words") == 50_000


def test_field_values_are_text() -> None:
    block = b"X-A: =?utf-8?q?=C3=BC?=\r\nx-a: two\r\n words\r\n\r\n"
    assert field_values(block, "X-a") == ["ü", "two words"]
    assert header_text(block) == "X-A: ü\nx-a: two words\n"


# Folding --------------------------------------------------------------------------------------------------------------

FOLDS = [
    ("Hello  World", "hello world"),
    ("José", "jose"),
    ("Jose\u0301", "jose"),
    ("STRASSE", "strasse"),
    ("Straße", "strasse"),
    ("İstanbul", "istanbul"),
    ("ﬁle", "file"),
    ("１２", "12"),
    ("a\u00a0b\r\n\tc", "a b c"),
    ("soft\u00adhyphen", "softhyphen"),
    ("각", "각"),
    ("ガ", "ガ"),
    ("Ǆ", "dz"),
]


@pytest.mark.parametrize(("text", "folded"), FOLDS)
def test_folds(text: str, folded: str) -> None:
    assert fold(text) == folded


@given(st.text(max_size=40))
@example("\u0345\u0300")
@example("ß\u0323")
@example("K\u030c")
def test_folding_twice_changes_nothing_more(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@given(st.text(max_size=40))
def test_letter_case_and_composition_do_not_matter(text: str) -> None:
    assert fold(text.casefold()) == fold(text)


@given(st.lists(st.text(alphabet="aBé \u0301\n", max_size=8), max_size=8))
def test_pieces_fold_to_what_the_whole_folds_to(chunks: list[str]) -> None:
    assert "".join(folded_chunks(chunks)) == fold("".join(chunks))


@given(st.lists(st.text(alphabet="ab ", max_size=6), max_size=6), st.text(alphabet="ab ", max_size=4))
def test_a_needle_is_found_across_pieces(chunks: list[str], needle: str) -> None:
    assert occurs(fold(needle), chunks) == (fold(needle) in fold("".join(chunks)))
