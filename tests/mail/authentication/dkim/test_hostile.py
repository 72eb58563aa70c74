"""Hostile messages, records and keys get an answer within bounds of time and memory."""

from __future__ import annotations

import time
import tracemalloc
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from restante_mail.authentication.dkim.content import MOST_HEADER_LINES, MOST_HEADER_OCTETS, Content
from restante_mail.authentication.dkim.records import KeyRefused, key_record, verifies
from restante_mail.authentication.dkim.sign import sign
from restante_mail.authentication.dkim.tags import TagError, read_tags
from restante_mail.authentication.dkim.verify import Verifier
from restante_mail.authentication.results import Result
from tests.mail.authentication.dkim.answers import NOW, key, published, verified
from tests.mail.authentication.dkim.test_verify import MESSAGE, signed

ED25519 = key("ed25519-sha256")


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """A bound of CPU time, far above the time that the work takes and far below that of quadratic work."""
    before = time.process_time()
    yield
    assert time.process_time() - before < seconds


def test_a_thousand_signatures_with_long_lists() -> None:
    one = signed(h=":".join(["from", *["x"] * 900]))
    content = one[: -len(MESSAGE)] * 300 + MESSAGE
    with within(0.5):
        results = verified(content, published(ED25519), piece=4_096)
    assert [each.result for each in results] == [Result.PASS] * 10 + [Result.POLICY]


def test_ten_thousand_names_are_refused() -> None:
    with within(0.2):
        (result,) = verified(signed(h=":".join(["from", *["x"] * 10_000])), published(ED25519))
    assert (result.result, result.problem) == (Result.PERMERROR, "h= has more than 1000 names")


def test_a_header_of_the_most_octets_is_verified() -> None:
    field = sign(MESSAGE, [ED25519], NOW)
    room = MOST_HEADER_OCTETS - len(field) - MESSAGE.index(b"\r\n\r\n") - 4
    filler = b"X: " + b" \t" * ((room - 5) // 2) + b" " * ((room - 5) % 2) + b"\r\n"
    with within(0.5):
        (result,) = verified(filler + field + MESSAGE, published(ED25519), piece=997)
        (more,) = verified(b" " + filler + field + MESSAGE, published(ED25519), piece=997)
    assert (result.result, more.problem) == (Result.PASS, "the header is too long")


def test_a_header_of_many_fields_is_not_read() -> None:
    content = b"a:\r\n" * (MOST_HEADER_LINES + 1) + sign(MESSAGE, [ED25519], NOW) + MESSAGE
    with within(0.2):
        (result,) = verified(content, published(ED25519))
    assert result.problem == "the header is too long"


def test_a_header_octet_by_octet() -> None:
    content = Content()
    block = b"X: y\r\n" * 9_000 + b"\r\n"
    with within(1):
        for at in range(len(block)):
            content.feed(block[at : at + 1])
    assert content.header is not None


@pytest.mark.parametrize(
    "octets",
    [b" ", b"\t", b"  x", b" \r\n", b"\r\n", b"\n\r", b"\r", b"\n", b" \r", b"\r\r\n", b"\t \t\r\n\r\n x"],
    ids=repr,
)
def test_bodies_that_are_made_to_be_slow(octets: bytes) -> None:
    field = sign(MESSAGE, [ED25519], NOW)
    verifier = Verifier()
    verifier.feed(field + MESSAGE)
    piece = octets * (65_536 // len(octets))
    tracemalloc.start()
    with within(2):
        for _ in range(64):  # 4 MiB
            verifier.feed(piece)
        verifier.finish()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_a_body_that_nothing_signs_is_not_read() -> None:
    content = Content()
    content.feed(MESSAGE)
    piece = b"x  y \r\n" * 10_000
    with within(0.05):
        for _ in range(1_000):  # 70 MB
            content.feed(piece)


@pytest.mark.parametrize(
    "octets",
    [b"a=" * 32_768, b";" * 65_536, b" " * 65_536, b"a=b;" * 16_384, b"a" * 65_536, b"\r\n " * 21_845,
     b"".join(b"a%d=;" % number for number in range(9_000)), b"b=" + b"A" * 65_000, b"a = \r\n " * 9_000],
    ids=lambda octets: repr(octets[:8]),
)  # fmt: skip
def test_tag_lists_of_64_kib(octets: bytes) -> None:
    with within(0.2):
        for most in (len(octets), 32_768):
            try:
                read_tags(octets, most)
            except TagError:
                pass


def test_a_list_of_many_tags_is_refused() -> None:
    with pytest.raises(TagError, match="more than 100 tags"):
        read_tags(b"".join(b"a%d=;" % number for number in range(101)), 10_000)


@pytest.mark.parametrize(
    ("modulus", "exponent"),
    [((1 << 2_048) - 2, 65_537), ((1 << 2_047), 3), ((1 << 4_096) - 1, (1 << 32) - 1), ((1 << 1_024) - 1, 3)],
)
def test_odd_rsa_keys_verify_nothing(modulus: int, exponent: int) -> None:
    try:
        public = rsa.RSAPublicNumbers(exponent, modulus).public_key()
        octets = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        record = key_record(b"p=" + b64encode(octets))
    except (ValueError, KeyRefused):
        return
    for signature in (b"", b"\0" * 128, b"\xff" * 256, b"x" * 512, b"x" * 5_000):
        with within(0.1):
            assert not verifies(record.key, signature, b"d" * 32)


def test_odd_ed25519_keys_verify_nothing() -> None:
    for octets in (b"\0" * 32, b"\xff" * 32, b"\1" + b"\0" * 31):
        record = key_record(b"k=ed25519; p=" + b64encode(octets))
        for signature in (b"", b"x" * 63, b"\xff" * 64, b"x" * 5_000):
            assert not verifies(record.key, signature, b"d" * 32)
