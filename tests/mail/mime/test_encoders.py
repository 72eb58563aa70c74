"""Transfer encoding in pieces: lines are short, and decoding gives the same octets."""

from __future__ import annotations

import base64
import quopri

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_mail.mime.encoders import transfer_encoder
from restante_mail.mime.transfer import transfer_decoder
from tests.mail.mime.test_transfer import cut

ODD = [b"a", b" ", b"\t", b"\r\n", b"\r", b"\n", b"=", b".", b"\xff", b"\0", b"From ", b"x" * 75, b"y" * 80]


@given(
    st.lists(st.sampled_from(ODD) | st.binary(max_size=5), max_size=60).map(b"".join),
    st.lists(st.integers(1, 100), max_size=10),
    st.sampled_from(["base64", "quoted-printable"]),
)
def test_what_is_encoded_decodes_to_the_same(octets: bytes, sizes: list[int], encoding: str) -> None:
    encoder = transfer_encoder(encoding)
    encoded = b"".join(map(encoder.feed, cut(octets, sizes))) + encoder.finish()
    assert all(len(line) <= 76 for line in encoded.split(b"\r\n"))  # RFC 2045 6.7, 6.8
    assert encoded.isascii() and not {b"\r"[0], b"\n"[0]} & set(encoded.replace(b"\r\n", b""))
    decoder = transfer_decoder(encoding)
    assert decoder.feed(encoded) + decoder.finish() == octets
    oracle = base64.b64decode if encoding == "base64" else quopri.decodestring
    assert oracle(encoded) == octets


@pytest.mark.parametrize("rest", [b"", b"\r\n", b" ", b"=", b"\r"])
def test_a_line_that_never_ends_takes_little_memory(rest: bytes) -> None:
    encoder, out = transfer_encoder("quoted-printable"), bytearray()
    for _ in range(10):
        out += encoder.feed(b"\xfcx" * 10_000)
    assert len(out) > 300_000
    out += encoder.feed(rest) + encoder.finish()
    assert all(len(line) <= 76 for line in out.split(b"\r\n"))
    assert quopri.decodestring(bytes(out)) == b"\xfcx" * 100_000 + rest
