"""Key records (RFC 6376 3.6.1, RFC 8301, RFC 8463)."""

from __future__ import annotations

from base64 import b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from restante_mail.authentication.dkim.records import KeyRefused, key_record
from restante_mail.authentication.dkim.signing_keys import public_record
from restante_mail.authentication.results import Result
from tests.mail.authentication.dkim.answers import key

RSA = public_record(key()).rpartition("p=")[2]
ED25519 = public_record(key("ed25519-sha256")).rpartition("p=")[2]


def base64(octets: bytes) -> str:
    return b64encode(octets).decode()


def test_the_defaults_of_a_record() -> None:
    record = key_record(f"p={RSA}".encode())
    assert (record.key_type, record.bits, record.hashes, record.services) == ("rsa", 2_048, (), ())
    assert (record.testing, record.strict) == (False, False)


def test_the_tags_of_a_record() -> None:
    record = key_record(f"v=DKIM1; h=sha1 : sha256; k=ed25519; n=x; s=email:*; t=y:s:z; zz=1; p={ED25519};".encode())
    assert (record.key_type, record.bits, record.hashes) == ("ed25519", 256, ("sha1", "sha256"))
    assert (record.services, record.testing, record.strict) == (("email", "*"), True, True)


def test_a_bare_rsa_public_key_is_read() -> None:
    public = key().private_key.public_key()
    octets = public.public_bytes(Encoding.DER, PublicFormat.PKCS1)
    assert key_record(f"p={base64(octets)}".encode()).bits == 2_048


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "p= is missing"),
        ("v=DKIM1", "p= is missing"),
        ("v=spf1 -all", "v= is not DKIM1"),
        ("v=DKIM2; p=" + RSA, "v= is not DKIM1"),
        (f"p={RSA}; v=DKIM1", "v= is not DKIM1 at the start"),
        ("hello", "no tag list"),
        ("v=DKIM1; p=", "revoked"),
        ("p=A", "p= is not base64"),
        ("p=AAAA", "p= is no RSA key"),
        (f"k=rsa; p={ED25519}", "p= is no RSA key"),
        (f"k=ed25519; p={RSA}", "p= is no Ed25519 key"),
        (f"k=dsa; p={RSA}", "k= is an unknown type"),
        (f"p={RSA}; n={'x' * 9_000}", "more than 8192 octets"),
    ],
)
def test_a_record_without_a_usable_key_is_refused(text: str, problem: str) -> None:
    with pytest.raises(KeyRefused, match=problem) as refused:
        key_record(text.encode())
    assert refused.value.result is Result.PERMERROR


def test_an_elliptic_curve_key_is_no_rsa_key() -> None:
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    octets = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(KeyRefused, match="no RSA key"):
        key_record(f"p={base64(octets)}".encode())


@pytest.mark.parametrize(
    ("bits", "exponent", "result"),
    [(512, 65_537, Result.PERMERROR), (1_016, 65_537, Result.PERMERROR), (4_104, 65_537, Result.POLICY),
     (8_192, 65_537, Result.POLICY), (2_048, (1 << 32) + 1, Result.POLICY)],
)  # fmt: skip
def test_weak_and_costly_rsa_keys_are_refused(bits: int, exponent: int, result: Result) -> None:
    numbers = rsa.RSAPublicNumbers(exponent, (1 << bits) - 1)
    octets = numbers.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(KeyRefused) as refused:
        key_record(f"p={base64(octets)}".encode())
    assert refused.value.result is result


@given(st.binary(max_size=200) | st.sampled_from([RSA, ED25519]).map(str.encode))
def test_any_octets_are_read_or_refused(octets: bytes) -> None:
    for text in (octets, b"p=" + octets, b"k=ed25519; p=" + octets, b"v=DKIM1; p=" + b64encode(octets)):
        try:
            key_record(text)
        except KeyRefused:
            pass
