"""Transfer decoding in pieces: it undoes the encoding, and damage affects only the damaged octets."""

from __future__ import annotations

import base64
import quopri

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_mail.mime.transfer import decode_pieces, transfer_decoder


def whole(encoding: str, *pieces: bytes) -> bytes:
    return b"".join(decode_pieces(transfer_decoder(encoding), pieces))


def cut(octets: bytes, sizes: list[int]) -> list[bytes]:
    pieces, start = [], 0
    for size in sizes:
        pieces.append(octets[start : start + size])
        start += size
    return [*pieces, octets[start:]]


@given(
    st.binary(max_size=2_000),
    st.lists(st.integers(1, 100), max_size=30),
    st.sampled_from(["base64", "quoted-printable"]),
)
def test_decoding_by_pieces_is_decoding_at_once(octets: bytes, sizes: list[int], encoding: str) -> None:
    encoded = base64.encodebytes(octets) if encoding == "base64" else quopri.encodestring(octets)
    encoded = encoded.replace(b"\n", b"\r\n")
    found = whole(encoding, *cut(encoded, sizes))
    assert found == (octets if encoding == "base64" else quopri.decodestring(encoded))


DAMAGED = [
    ("BASE64 ", b"aGVs\r\nbG8=", b"hello"),
    ("base64", b"aGVsbG8", b"hello"),  # padding is missing
    ("base64", b"aGVs*bG8=!\r\naGVsbG8=", b"hellohello"),  # junk, and two encoded runs joined
    ("base64", b"aGVsbG8=\r\n\r\n--\r\naGVsbG8=\r\nYQ==\r\n", b"hellohelloa"),
    ("base64", b"aGVsbG8=\r\n_____\r\nThe list\r\naGVsbG8=\r\n", b"hello"),  # a footer in plain text
    ("base64", b"aGVsbG8=\r\nUnsubscribe\r\nYQ==", b"hello"),  # whole quanta make a line of base64
    ("base64", b"aGVsbG8= YQ==", b"hello"),  # padding ends its line
    ("base64", b"a", b""),
    ("base64", b"aGVsb", b"hel"),
    ("base64", b"=", b""),
    ("quoted-printable", b"a=\r\nb=C3=A4=", "abä".encode()),
    ("quoted-printable", b"a \t\r\nb  ", b"a\r\nb  "),
    ("8bit", b"\x00\xff", b"\x00\xff"),
    ("x-unknown", b"as it is", b"as it is"),
    ("", b"as it is", b"as it is"),
]


@pytest.mark.parametrize(("encoding", "octets", "expected"), DAMAGED)
def test_damage_is_passed_over(encoding: str, octets: bytes, expected: bytes) -> None:
    assert whole(encoding, octets) == expected
    for size in (1, 2, 3, 7):
        assert whole(encoding, *cut(octets, [size] * len(octets))) == expected


@pytest.mark.parametrize("lines", [1, 999, 1_000, 1_001, 3_000])
def test_a_second_run_in_one_long_line_is_read_whatever_the_pieces(lines: int) -> None:
    octets = bytes(range(256)) * lines
    encoded = b"YQ==\r\n" + base64.b64encode(octets)
    assert whole("base64", encoded) == b"a" + octets
    assert whole("base64", *cut(encoded, [977] * (len(encoded) // 977))) == b"a" + octets


PIECES = st.lists(st.sampled_from([b"YQ==", b"aGVs", b"=", b"\r\n", b" ", b"-", b"a", b"_" * 999]), max_size=20)


@given(PIECES, st.integers(1, 9))
def test_no_base64_raises_and_pieces_give_what_the_whole_gives(parts: list[bytes], size: int) -> None:
    octets = b"".join(parts)
    assert whole("base64", *cut(octets, [size] * (len(octets) // size + 1))) == whole("base64", octets)
