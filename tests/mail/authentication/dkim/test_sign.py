"""Signing (RFC 6376 5)."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterator
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from restante_mail.authentication.dkim.content import MOST_HEADER_OCTETS
from restante_mail.authentication.dkim.sign import HeaderTooLong, Signer, folded, sign
from restante_mail.authentication.dkim.signing_keys import (
    BadKey,
    SigningKey,
    generate_key,
    load_key,
    pkcs8,
    public_record,
)
from restante_mail.authentication.dkim.tags import read_tags
from restante_mail.authentication.results import Result
from tests.mail.authentication.dkim.answers import NOW, key, published, verified

RSA, ED25519 = key(), key("ed25519-sha256")
MESSAGE = (
    b"Received: from a\r\nReturn-Path: <bob@example.org>\r\nFrom: bob@example.org\r\nTO: alice@example.test\r\n"
    b"Subject: Hello\r\nDate: Mon, 30 Nov 2026 12:00:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n"
    b"List-Unsubscribe: <https://example.org/u>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
    b"Resent-From: carol@example.org\r\nResent-From: dan@example.org\r\nX-Mailer: x\r\n\r\nHello\r\n"
)


def tags_of(field: bytes) -> dict[str, str]:
    return read_tags(field.partition(b":")[2], 10_000).values


def test_the_tags_of_a_signature() -> None:
    tags = tags_of(sign(MESSAGE, [ED25519], NOW, lifetime=timedelta(days=7)))
    assert tags.pop("bh") == b64encode(hashlib.sha256(b"Hello\r\n").digest()).decode()
    assert tags.pop("b")
    assert "".join(tags.pop("h").split()).split(":") == [
        "From", "From", "To", "To", "Cc", "Subject", "Subject", "Date", "Date", "MIME-Version", "Content-Type",
        "List-Unsubscribe", "List-Unsubscribe-Post", "Resent-From", "Resent-From",
    ]  # fmt: skip
    assert tags == {
        "v": "1", "a": "ed25519-sha256", "c": "relaxed/relaxed", "d": "example.org", "s": "e",
        "t": "1796040000", "x": "1796644800",
    }  # fmt: skip


def test_both_keys_sign_in_one_pass() -> None:
    fields = sign(MESSAGE, [RSA, ED25519], NOW)
    assert fields.count(b"DKIM-Signature:") == 2
    results = verified(fields + MESSAGE, published(RSA, ED25519))
    assert [(each.result, each.algorithm, each.partial) for each in results] == [
        (Result.PASS, "rsa-sha256", False),
        (Result.PASS, "ed25519-sha256", False),
    ]


def test_a_stream_is_signed_like_the_whole() -> None:
    def pieces() -> Iterator[bytes]:
        for at in range(0, len(MESSAGE), 3):
            yield MESSAGE[at : at + 3]

    assert sign(pieces(), [RSA, ED25519], NOW) == sign(MESSAGE, [RSA, ED25519], NOW)
    assert sign([], [ED25519], NOW) == sign(b"", [ED25519], NOW)


@pytest.mark.parametrize("content", [b"", b"\r\n", b"\r\nbody", b"From: a@example.org", b"From: a@example.org\r\n"])
def test_odd_messages_are_signed(content: bytes) -> None:
    signed = sign(content, [ED25519], NOW) + (content or b"\r\n")
    assert verified(signed, published(ED25519))[0].result is Result.PASS


def test_lines_are_short() -> None:
    long = generate_key("a-rather-long-name-of-a-domain.of-a-department.example.org", "selector-2026-11", "rsa-sha256")
    many = b"".join(b"Resent-Message-ID: <%d@example.org>\r\n" % number for number in range(50)) + MESSAGE
    fields = sign(many, [long, ED25519], NOW, lifetime=timedelta(days=7))
    lines = fields.split(b"\r\n")
    assert max(map(len, lines)) <= 78
    assert all(line.startswith((b" ", b"DKIM-Signature:")) for line in lines if line)
    assert [each.result for each in verified(fields + many, published(long, ED25519))] == [Result.PASS, Result.PASS]


def test_a_word_longer_than_a_line_has_one_of_its_own() -> None:
    lines = folded(b"A", [("d", "x" * 100), ("s", "y")]).split(b"\r\n")
    assert lines == [b"A:", b" d=" + b"x" * 100 + b";", b" s=y", b""]


def test_many_fields_of_one_name_are_bounded() -> None:
    many = b"".join(b"From: %d@example.org\r\n" % number for number in range(5_000)) + MESSAGE
    field = sign(many, [ED25519], NOW)
    assert field.count(b"From") <= 500
    assert verified(field + many, published(ED25519))[0].result is Result.PASS


def test_a_header_that_is_too_long_is_refused() -> None:
    signer = Signer([ED25519], NOW)
    signer.feed(b"X-A: " + b"b" * MOST_HEADER_OCTETS)
    with pytest.raises(HeaderTooLong):
        signer.finish()


# --- Keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("made", [RSA, ED25519], ids=lambda made: made.algorithm)
def test_a_key_is_loaded_as_it_was_kept(made: SigningKey) -> None:
    pem = made.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for octets in (pkcs8(made.private_key), pem):
        loaded = load_key("example.org", "s", octets)
        assert (loaded.algorithm, public_record(loaded)) == (made.algorithm, public_record(made))


def test_a_traditional_rsa_key_is_loaded() -> None:
    octets = RSA.private_key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    assert load_key("example.org", "s", octets).algorithm == "rsa-sha256"


def test_the_record_of_an_ed25519_key_has_its_32_octets() -> None:
    record = public_record(ED25519)
    assert record.startswith("v=DKIM1; k=ed25519; p=") and len(record) == 22 + 44


def _der(private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, secret: bytes = b"") -> bytes:
    encryption = BestAvailableEncryption(secret) if secret else NoEncryption()
    return private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, encryption)


@pytest.mark.parametrize(
    ("octets", "problem"),
    [
        (b"", "no private key"),
        (b"-----BEGIN PRIVATE KEY-----\n", "no private key"),
        (_der(ec.generate_private_key(ec.SECP256R1())), "neither an RSA nor an Ed25519 key"),
        (_der(rsa.generate_private_key(65_537, 1_024), b"secret"), "without encryption"),
    ],
)
def test_other_keys_are_refused(octets: bytes, problem: str) -> None:
    with pytest.raises(BadKey, match=problem):
        load_key("example.org", "s", octets)


@pytest.mark.parametrize(
    ("domain", "selector", "algorithm"),
    [("Example.org", "s", "rsa-sha256"), ("example.org", "a b", "rsa-sha256"), ("münchen.example", "s", "rsa-sha256"),
     ("example.org", "s", "ed25519-sha256"), ("example.org.", "s", "rsa-sha256")],
)  # fmt: skip
def test_names_that_do_not_fit_the_key_are_refused(domain: str, selector: str, algorithm: str) -> None:
    with pytest.raises(BadKey):
        SigningKey(domain, selector, algorithm, RSA.private_key)


def test_a_key_shows_no_secret() -> None:
    assert "private" not in repr(RSA) and "PRIVATE" not in repr(RSA)
