"""Conversion to 7 bits: each part decodes to the same octets, and what cannot be converted is refused."""

from __future__ import annotations

import email
import email.message
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from restante_mail.canonical import canonicalise
from restante_mail.mime.parts import Part
from restante_mail.mime.scanner import parse
from restante_mail.mime.seven_bit import (
    LONGEST_LINE,
    NotConvertible,
    Survey,
    carried_out,
    has_long_line,
    seven_bit,
)
from restante_mail.mime.transfer import transfer_decoder
from tests.mail.material import cpython_corpus, nested_multiparts, shared_corpus
from tests.mail.mime.test_transfer import cut


def message(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


def converted(content: bytes) -> bytes:
    return seven_bit(content, parse(content))


def leaves(content: bytes) -> list[tuple[str, bytes]]:
    """(media type, decoded octets) of each part that is converted as a whole."""
    found: list[tuple[str, bytes]] = []

    def walk(part: Part) -> None:
        if part.children and part.media_type != "message/global":
            for child in part.children:
                walk(child)
            return
        decoder = transfer_decoder(part.encoding)
        body = content[part.body_start : part.body_end]
        found.append((part.media_type, decoder.feed(body) + decoder.finish()))

    walk(parse(content))
    return found


def body_of(content: bytes) -> bytes:
    return content[parse(content).body_start :]


def by_library(content: bytes) -> list[tuple[str, bytes | None]]:
    """(media type, decoded octets) of each leaf for the standard library."""
    parsed: email.message.Message = email.message_from_bytes(content)
    return [
        (part.get_content_type(), part.get_payload(decode=True))  # type: ignore[misc]
        for part in parsed.walk()
        if not part.is_multipart()
    ]


def test_a_text_becomes_quoted_printable() -> None:  # RFC 6152 3
    content = message(
        "Subject: x\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n"
        "X-Last: y\n\nGrüße  \n.\n=\n"
    )
    assert converted(content) == message(
        "Subject: x\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n"
        "Content-Transfer-Encoding: quoted-printable\nX-Last: y\n\nGr=C3=BC=C3=9Fe =20\n=2E\n=3D\n"
    )


def test_a_text_without_mime_fields_gets_them() -> None:  # RFC 2045 4, RFC 1428 3
    assert converted(message("Subject: x\n\nGrüße\n")) == message(
        "Subject: x\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n"
        "Content-Transfer-Encoding: quoted-printable\n\nGr=C3=BC=C3=9Fe\n"
    )
    octets = b"\r\ncaf\xe9\r\n"
    assert converted(octets).startswith(b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\n")
    assert converted(b"\r\ncaf\xc3").startswith(b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit")


def test_only_what_needs_it_changes() -> None:
    content = message(
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: binary\n\npreamble\n"
        "--b\nContent-Transfer-Encoding: 8bit\n\nascii\n--b\n\nhé\n--b\nContent-Type: image/png\n\né\n"
        "--b\nContent-Type: message/rfc822\nContent-Transfer-Encoding: 8bit\n\nSubject: inner\n\nö\n--b--\nepilogue\n"
    )
    assert converted(content) == message(
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: 7bit\n\npreamble\n"
        "--b\nContent-Transfer-Encoding: 8bit\n\nascii\n--b\nContent-Transfer-Encoding: quoted-printable\n\nh=C3=A9\n"
        "--b\nContent-Type: image/png\nContent-Transfer-Encoding: base64\n\nw6k=\n\n"
        "--b\nContent-Type: message/rfc822\nContent-Transfer-Encoding: 7bit\n\nSubject: inner\nMIME-Version: 1.0\n"
        "Content-Transfer-Encoding: quoted-printable\n\n=C3=B6\n--b--\nepilogue\n"
    )


def test_an_embedded_message_that_may_be_encoded_is_encoded_as_a_whole() -> None:  # RFC 6532 3.7
    content = message("Content-Type: message/global\nContent-Transfer-Encoding: 8bit\n\nSubject: ü\n\nx\n")
    assert b"Content-Transfer-Encoding: base64\r\n" in converted(content)
    assert by_library(converted(content))[0][1] is not None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            message(
                "Content-Type: multipart/signed; boundary=b\n\n--b\n\nhé\n--b\n"
                "Content-Type: application/pgp-signature\n\nx\n--b--\n"
            ),
            "signed",
        ),
        (message("Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Description: é\n\nx\n--b--\n"), "header"),
        (message("Content-Type: message/rfc822\n\nSubject: é\n\nx\n"), "header"),
        (message("Content-Type: multipart/mixed; boundary=b\n\né\n--b\n\nx\n--b--\n"), "no part"),
        (message("Content-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n--b--\né\n"), "no part"),
        (message("Content-Type: multipart/mixed; boundary=b\n\né\n"), "no header"),
        (message("Content-Type: message/partial; id=x; number=1\n\né\n"), "message/partial"),
        (message("Content-Type: message/delivery-status\n\né\n"), "message/delivery-status"),
        (message("Content-Type: text/plain\nContent-Transfer-Encoding: x-uuencode\n\né\n"), "x-uuencode"),
        (nested_multiparts(200) + "é\r\n".encode(), "nested too deep"),
    ],
)
def test_what_has_no_conversion_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(NotConvertible, match=reason):
        converted(content)


def test_a_signed_part_without_need_stays_as_it_is() -> None:
    content = message(
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=a\n\n--a\n"
        "Content-Type: multipart/signed; boundary=b\nContent-Transfer-Encoding: 8bit\n\n--b\n"
        "Content-Transfer-Encoding: 8bit\n\nx\n--b\n\nsig\n--b--\n\n--a\n\né\n--a--\n"
    )
    result = converted(content)
    assert content[content.index(b"--a") : content.index(b"\r\n--a\r\n\r\n")] in result
    assert result.isascii()


def test_the_header_of_the_message_stays() -> None:
    assert converted(message("Subject: é\n\nx\n")) == message("Subject: é\n\nx\n")


@pytest.mark.parametrize(
    ("lines", "long"),
    [
        ([998], False),
        ([999], True),
        ([998, 998, 998], False),
        ([10, 999, 10], True),
        ([500] * 10, False),
        ([0] * 3_000, False),
        ([], False),
    ],
)
@pytest.mark.parametrize("end", [b"", b"\r\n"])
@pytest.mark.parametrize("size", [1, 7, 998, 1 << 20])
def test_a_long_line_is_a_reason(lines: list[int], long: bool, end: bytes, size: int) -> None:  # RFC 5321 4.5.3.1.6
    content = b"A: b\r\n\r\n" + b"\r\n".join(b"x" * octets for octets in lines) + end
    assert has_long_line(content, 8) == long
    survey = Survey(parse(content))
    for start in range(0, len(content), size):
        survey.feed(content[start : start + size])
    assert (len(survey.conversion()) > 1) == long
    result = converted(content)
    assert not has_long_line(result)
    assert leaves(result)[0][1].rstrip(b"\r\n") == body_of(content).rstrip(b"\r\n")


TEXTS = st.lists(
    st.sampled_from(["a", "é", "\r\n", " ", "=", ".", "x" * (LONGEST_LINE + 1), "日本", "From ", "\t"]), max_size=8
).map(lambda words: "".join(words).encode())
LEAF = st.tuples(
    st.sampled_from(
        [
            "",
            "Content-Type: text/plain; charset=utf-8\r\n",
            "Content-Type: text/html\r\nContent-Transfer-Encoding: 8bit\r\n",
            "Content-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n",
            "Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n",
            "Content-Type: application/x-y\r\nContent-Transfer-Encoding: base64\r\n",
        ]
    ),
    TEXTS,
).map(lambda leaf: leaf[0].encode() + b"\r\n" + leaf[1])


def container(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    def multipart(drawn: tuple[list[bytes], int]) -> bytes:
        parts, number = drawn
        boundary = b"b%d" % number
        return (
            b"Content-Type: multipart/mixed; boundary="
            + boundary
            + b"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
            + b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts)
            + b"--"
            + boundary
            + b"--\r\n"
        )

    return st.tuples(st.lists(inner, min_size=1, max_size=3), st.integers(0, 10**9)).map(multipart) | inner.map(
        lambda part: b"Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n" + part
    )


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.recursive(LEAF, container, max_leaves=6), st.lists(st.integers(1, 500), max_size=20))
def test_each_part_decodes_to_the_same_octets(entity: bytes, sizes: list[int]) -> None:
    content = b"Subject: outer\r\n" + entity
    tree = parse(content)
    survey = Survey(tree)
    for piece in cut(content, sizes):
        survey.feed(piece)
    steps = survey.conversion()
    result = b"".join(carried_out(steps, lambda start, end: iter(cut(content[start:end], sizes))))
    assert result.isascii() and not has_long_line(result)
    assert leaves(result) == leaves(content)
    assert by_library(result) == by_library(converted(content))
    again = parse(result)
    assert [part.media_type for part in again.walk()] == [part.media_type for part in tree.walk()]
    assert converted(result) == result


@pytest.mark.parametrize("corpus", [shared_corpus, cpython_corpus])
def test_real_mail_keeps_its_parts(corpus: Callable[[], dict[str, bytes]]) -> None:
    for name, octets in corpus().items():
        content = canonicalise(octets).octets
        try:
            result = converted(content)
        except NotConvertible:
            continue
        assert body_of(result).isascii(), name
        assert leaves(result) == leaves(content), name
