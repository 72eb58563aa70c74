"""TLSA records and the certificates that they name, as SMTP uses them (RFC 6698, RFC 7671, RFC 7672). *Pure.*"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

MAX_RECORDS = 30  # of one TLSA answer that are used
MAX_DATA_OCTETS = 16 << 10  # of one record
DANE_TA = 2
DANE_EE = 3
CERTIFICATE = 0
PUBLIC_KEY = 1
EXACT = 0
_DIGESTS = {1: hashlib.sha256, 2: hashlib.sha512}
_SEQUENCE = 0x30
_INTEGER = 0x02
_VERSION = 0xA0
_FIELDS_BEFORE_KEY = (
    _INTEGER,
    _SEQUENCE,
    _SEQUENCE,
    _SEQUENCE,
    _SEQUENCE,
)  # serial, algorithm, issuer, validity, subject


@dataclass(frozen=True, slots=True, order=True)
class TlsaRecord:
    """One TLSA record (RFC 6698 2.1)."""

    usage: int
    selector: int
    matching: int
    data: bytes

    @property
    def usable(self) -> bool:
        """Whether SMTP can use it (RFC 7672 3.1): DANE-TA or DANE-EE with parameters and a length that are known."""
        if self.usage not in (DANE_TA, DANE_EE) or self.selector not in (CERTIFICATE, PUBLIC_KEY):
            return False
        if self.matching == EXACT:
            return 0 < len(self.data) <= MAX_DATA_OCTETS
        digest = _DIGESTS.get(self.matching)
        return digest is not None and len(self.data) == digest().digest_size

    def names(self, certificate: bytes) -> bool:
        """Whether a usable record names this DER certificate (RFC 6698 2.1.2 to 2.1.4)."""
        try:
            selected = certificate if self.selector == CERTIFICATE else public_key_info(certificate)
        except ValueError:
            return False
        if self.matching == EXACT:
            return selected == self.data
        return _DIGESTS[self.matching](selected).digest() == self.data

    def __str__(self) -> str:
        return f"{self.usage} {self.selector} {self.matching} {self.data.hex()}"


def to_use(records: Sequence[TlsaRecord]) -> tuple[TlsaRecord, ...]:
    """The usable records, of each usage and selector only those with the strongest digest (RFC 7671 9)."""
    usable = [record for record in records if record.usable]
    strongest: dict[tuple[int, int], int] = {}
    for record in usable:
        kind = record.usage, record.selector
        strongest[kind] = max(strongest.get(kind, 0), record.matching)
    return tuple(record for record in usable if record.matching in (EXACT, strongest[record.usage, record.selector]))


def public_key_info(certificate: bytes) -> bytes:
    """The SubjectPublicKeyInfo of a DER certificate, octet for octet (RFC 5280 4.1). Raises ValueError."""
    _, start, end = _element(certificate, 0, len(certificate), _SEQUENCE)
    _, at, end = _element(certificate, start, end, _SEQUENCE)
    if certificate[at : at + 1] == bytes([_VERSION]):
        _, _, at = _element(certificate, at, end, _VERSION)
    for tag in _FIELDS_BEFORE_KEY:
        _, _, at = _element(certificate, at, end, tag)
    begin, _, after = _element(certificate, at, end, _SEQUENCE)
    return certificate[begin:after]


def _element(der: bytes, at: int, limit: int, tag: int) -> tuple[int, int, int]:
    """(start, start of the value, end) of the DER element at `at`, which must have this tag. Raises ValueError."""
    if at + 2 > limit or der[at] != tag:
        raise ValueError("not a certificate")
    length, value = der[at + 1], at + 2
    if length >= 0x80:
        octets = length - 0x80
        if not 1 <= octets <= 4 or value + octets > limit:
            raise ValueError("not a certificate")
        length, value = int.from_bytes(der[value : value + octets], "big"), value + octets
    if value + length > limit:
        raise ValueError("not a certificate")
    return at, value, value + length
