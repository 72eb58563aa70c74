"""The keys of DKIM signatures as values: generation, selectors, and the record that publishes a key. *Pure.*"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import datetime
from enum import IntEnum
from typing import NamedTuple

from restante.errors import InvalidArgument
from restante_mail.authentication.dkim import signing_keys

MAX_NAME_OCTETS = 253  # of the record's name, as text (RFC 1035 2.3.4)
STRING_OCTETS = 255  # of a character-string in a TXT record (RFC 1035 3.3)

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


class Algorithm(IntEnum):
    """The algorithm of a key. Numbers as in the contract's SigningAlgorithm."""

    RSA_2048 = 1
    ED25519 = 2


_NAMES = {Algorithm.RSA_2048: "rsa-sha256", Algorithm.ED25519: "ed25519-sha256"}  # a= (RFC 6376 3.3, RFC 8463 3)
ALGORITHMS = tuple(Algorithm)


class KeyPair(NamedTuple):
    """A new key."""

    algorithm: Algorithm
    public: bytes  # the octets of p=
    private: bytes  # PKCS #8

    def __repr__(self) -> str:
        return f"KeyPair({self.algorithm!r}, ...)"


def generate(algorithm: Algorithm) -> KeyPair:
    """Make a key. RSA takes about 0.1 s of one processor."""
    private = signing_keys.new_private_key(_NAMES[algorithm])
    return KeyPair(algorithm, signing_keys.public_octets(private), signing_keys.pkcs8(private))


def selector(given: str, domain: str) -> str:
    """A selector in lower case (RFC 6376 3.1). Raises InvalidArgument."""
    lowered = given.lower()
    if not all(_LABEL.fullmatch(label) for label in lowered.split(".")):
        problem = "must be labels of letters, digits and inner hyphens, each of 1 to 63 octets, joined by dots"
        raise InvalidArgument(field="keys.selector", problem=problem)
    if len(record_name(lowered, domain)) > MAX_NAME_OCTETS:
        problem = f"makes the name of the DNS record longer than {MAX_NAME_OCTETS} octets"
        raise InvalidArgument(field="keys.selector", problem=problem)
    return lowered


def usual_selector(algorithm: Algorithm, today: datetime, taken: Collection[str]) -> str:
    """A selector that names algorithm and date, such as "rsa-20261130"."""
    base = f"{_NAMES[algorithm].partition('-')[0]}-{today:%Y%m%d}"
    names = (base, *(f"{base}-{number}" for number in range(2, len(taken) + 3)))
    return next(name for name in names if name not in taken)


def record_name(selector: str, domain: str) -> str:
    """The name of the TXT record, without a final dot (RFC 6376 3.6.2.1)."""
    return f"{selector}._domainkey.{domain}"


def record_text(algorithm: Algorithm, public: bytes) -> str:
    """The text of the TXT record; without octets it says that the key is revoked (RFC 6376 3.6.1)."""
    return signing_keys.record_text(_NAMES[algorithm], public)


def record_strings(text: str) -> list[str]:
    """The text of a record in character-strings, which readers join without a space (RFC 6376 3.6.2.2)."""
    return [text[start : start + STRING_OCTETS] for start in range(0, len(text), STRING_OCTETS)]
