"""TLSA records and the certificates that they name (RFC 6698, RFC 7671)."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from restante_mail.authentication.dane import MAX_DATA_OCTETS, TlsaRecord, public_key_info, to_use
from tests.harness.certificates import Authority

SHA256, SHA512 = b"x" * 32, b"x" * 64


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return Authority(tmp_path_factory.mktemp("ca")).issue("mx.example.net").leaf


def test_the_public_key_is_cut_out_octet_for_octet(tmp_path: Path) -> None:
    issued = Authority(tmp_path).issue("mx.example.net")
    expected = issued.key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert public_key_info(issued.leaf) == expected


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
def test_a_record_names_a_certificate(certificate: bytes, selector: int, matching: int) -> None:
    selected = certificate if selector == 0 else public_key_info(certificate)
    data = {0: selected, 1: hashlib.sha256(selected).digest(), 2: hashlib.sha512(selected).digest()}[matching]
    for usage in (2, 3):
        record = TlsaRecord(usage, selector, matching, data)
        assert record.usable and record.names(certificate)
        wrong = TlsaRecord(usage, selector, matching, data[:-1] + bytes([data[-1] ^ 1]))
        assert wrong.usable and not wrong.names(certificate)


@pytest.mark.parametrize(
    ("record", "usable"),
    [
        (TlsaRecord(3, 1, 1, SHA256), True),
        (TlsaRecord(2, 0, 2, SHA512), True),
        (TlsaRecord(0, 1, 1, SHA256), False),  # PKIX-TA and PKIX-EE: RFC 7672 3.1.3
        (TlsaRecord(1, 1, 1, SHA256), False),
        (TlsaRecord(4, 1, 1, SHA256), False),
        (TlsaRecord(3, 2, 1, SHA256), False),
        (TlsaRecord(3, 1, 3, SHA256), False),
        (TlsaRecord(3, 1, 1, SHA512), False),
        (TlsaRecord(3, 1, 2, SHA256), False),
        (TlsaRecord(3, 0, 0, b""), False),
        (TlsaRecord(3, 0, 0, b"x" * (MAX_DATA_OCTETS + 1)), False),
    ],
    ids=str,
)
def test_usable_records(record: TlsaRecord, usable: bool) -> None:
    assert record.usable is usable
    assert to_use([record]) == ((record,) if usable else ())


def test_only_the_strongest_digest_counts() -> None:  # RFC 7671 9
    weak, strong = TlsaRecord(3, 1, 1, SHA256), TlsaRecord(3, 1, 2, SHA512)
    other, exact = TlsaRecord(3, 0, 1, SHA256), TlsaRecord(3, 1, 0, b"key")
    assert to_use([weak, strong, other, exact]) == (strong, other, exact)


@given(st.data())
def test_any_octets_are_a_certificate_or_not(certificate: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(certificate) - 1))
    octet = data.draw(st.integers(0, 255))
    broken = certificate[:at] + bytes([octet]) + certificate[at + 1 : data.draw(st.integers(0, len(certificate)))]
    for octets in (broken, data.draw(st.binary(max_size=40))):
        try:
            assert len(public_key_info(octets)) <= len(octets)
        except ValueError:
            assert not TlsaRecord(3, 1, 1, SHA256).names(octets)
