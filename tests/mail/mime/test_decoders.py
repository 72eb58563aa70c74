"""Decoding of parts: any pieces give what the whole gives, and damage is decoded as far as possible."""

from __future__ import annotations

import base64
import quopri

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_mail.mime.decoders import Decoding, decoded, part_decoder
from restante_mail.mime.parts import Part
from restante_mail.mime.scanner import parse
from restante_mail.mime.text import part_text
from restante_mail.text.charsets import decode

CHARSETS = ["", "us-ascii", "utf-8", "windows-1252", "iso-8859-1", "koi8-r", "gb18030", "iso-2022-jp", "utf-7", "x-no"]
ENCODINGS = ["7bit", "8bit", "base64", "quoted-printable", "x-uuencode"]


def text_part(body: bytes, encoding: str, charset: str) -> tuple[bytes, Part]:
    content = (
        f"Content-Type: text/plain; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode() + body
    )
    return content, parse(content)


@given(st.binary(max_size=300), st.sampled_from(ENCODINGS), st.sampled_from(CHARSETS), st.integers(1, 60))
def test_text_in_utf_8_is_the_text_of_search_whatever_the_pieces(
    body: bytes, encoding: str, charset: str, chunk: int
) -> None:
    content, part = text_part(body, encoding, charset)
    octets = b"".join(decoded(content, part, Decoding.TEXT, chunk))
    plain = b"".join(decoded(content, part))
    assert octets == decode(plain, part.charset).encode("utf-8", "replace")
    assert octets == "".join(part_text(content, part)).encode("utf-8", "replace")


@pytest.mark.parametrize(
    ("charset", "encoding", "body", "text"),
    [
        ("iso-8859-1", "8bit", b"gr\xfc\xdfe \x80\r\n", "grüße €\r\n"),
        ("", "8bit", "grüße".encode(), "grüße"),
        ("utf-8", "8bit", b"\xff", "ÿ"),
        ("no-such-charset", "8bit", b"x", "x"),
        ("windows-1251", "8bit", "Привет".encode("cp1251") + b"\x98", "Привет\x98"),  # WHATWG windows-1251
        ("iso-2022-jp", "8bit", "Grüße".encode(), "Grüße"),
        ("gb2312", "base64", b"1tC5+g==\r\n-- \r\nThe list\r\n", "中国"),
        ("windows-1252", "quoted-printable", b"=80 =\r\nb \r\n", "€ b\r\n"),
        ("utf-8; format=flowed; delsp=yes", "7bit", b"a \r\nb\r\n", "a \r\nb\r\n"),  # RFC 3676: left as it is
        ("utf-8", "x-uuencode", b"begin 644 x\r\n", "begin 644 x\r\n"),
    ],
)
def test_text_is_utf_8_with_its_line_ends(charset: str, encoding: str, body: bytes, text: str) -> None:
    content, part = text_part(body, encoding, charset)
    assert b"".join(decoded(content, part, Decoding.TEXT)).decode() == text


@pytest.mark.parametrize("decoding", [Decoding.NONE, Decoding.TRANSFER])
@pytest.mark.parametrize("encoding", ["7bit", "8bit", "binary", "x-uuencode", ""])
def test_octets_that_are_not_encoded_need_no_decoder(encoding: str, decoding: Decoding) -> None:
    content, part = text_part(b"x=3D", encoding, "utf-8")
    assert part_decoder(part, decoding) is None
    assert b"".join(decoded(content, part, decoding)) == b"x=3D"


@pytest.mark.parametrize("decoding", list(Decoding))
def test_a_multipart_is_never_decoded(decoding: Decoding) -> None:  # RFC 2045 6.4
    body = b"--b\r\n\r\nx=3D\r\n--b--\r\n"
    content = b"Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: base64\r\n\r\n" + body
    assert b"".join(decoded(content, parse(content), decoding)) == body


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable"])
def test_decoders_hold_little(encoding: str) -> None:
    octets = bytes(range(256)) * 400
    body = base64.encodebytes(octets) if encoding == "base64" else quopri.encodestring(octets)
    _, part = text_part(b"", encoding, "utf-8")
    decoder, given, got = part_decoder(part, Decoding.TRANSFER), 0, 0
    assert decoder is not None
    for at in range(0, len(body), 5_000):
        given += len(body[at : at + 5_000])
        got += len(decoder.feed(body[at : at + 5_000]))
        assert got >= given / 4 - 2_000
    assert got + len(decoder.finish()) == len(octets)
