"""Key records: the public keys of domains in the DNS (RFC 6376 3.6, RFC 8463 4). *Pure.*"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from restante_mail.authentication.dkim.signatures import Identified
from restante_mail.authentication.dkim.tags import TagError, TagList, octets_of, read_tags, words_of
from restante_mail.authentication.dns import Dns
from restante_mail.authentication.results import Result

__all__ = ["KeyRecord", "KeyRefused", "key_of", "key_record", "verifies"]

MOST_RECORD_OCTETS = 8_192
MOST_RECORDS = 10  # at one name that are looked at
LEAST_RSA_BITS, MOST_RSA_BITS = 1_024, 4_096  # RFC 8301 3.2
_MOST_EXPONENT = 1 << 32  # of RSA: a larger one makes the signature costly to verify, and nobody uses it
_PREHASHED = Prehashed(SHA256())

PublicKey = RSAPublicKey | Ed25519PublicKey


class KeyRefused(Exception):
    """The key of a signature is missing or must not be used. `result` is that of the signature."""

    def __init__(self, result: Result, problem: str) -> None:
        super().__init__(problem)
        self.result, self.problem = result, problem


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key that a domain publishes. `hashes` and `services` are empty when any is allowed."""

    key_type: str
    key: PublicKey
    bits: int
    hashes: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    testing: bool = False  # t=y
    strict: bool = False  # t=s: i= must have the domain of d=


async def key_of(signer: Identified, dns: Dns) -> KeyRecord:
    """The key of a signature, fit for its algorithm and for mail. Raises KeyRefused, and DnsFailure of the lookup.

    RFC 6376 3.6.2.2 leaves the result of several records open: here it is an error, unless only one is a key record.
    """
    texts = await dns.txt(signer.key_name)
    if not texts:
        raise KeyRefused(Result.PERMERROR, "no key at " + signer.key_name)
    record = _only_record(texts)
    if record.key_type != signer.algorithm.key_type:
        raise KeyRefused(Result.PERMERROR, "the key is of another type than a=")
    if record.hashes and "sha256" not in record.hashes:
        raise KeyRefused(Result.PERMERROR, "h= of the key does not allow sha256")
    if record.services and not {"*", "email"} & set(record.services):
        raise KeyRefused(Result.PERMERROR, "s= of the key does not allow mail")
    return record


def _only_record(texts: Sequence[bytes]) -> KeyRecord:
    found: list[KeyRecord] = []
    refused: KeyRefused | None = None
    for text in texts[:MOST_RECORDS]:
        try:
            found.append(key_record(bytes(text)))
        except KeyRefused as problem:
            refused = refused or problem
    if len(found) > 1:
        raise KeyRefused(Result.PERMERROR, "several key records")
    if found:
        return found[0]
    assert refused is not None
    raise refused


@lru_cache(maxsize=1_024)  # few domains send most mail, and loading a key costs as much as a verification
def key_record(text: bytes) -> KeyRecord:
    """Parse a key record. Raises KeyRefused."""
    try:
        tags = read_tags(text, MOST_RECORD_OCTETS)
        values = tags.values
        if "v" in values and (values["v"] != "DKIM1" or next(iter(values)) != "v"):
            raise TagError("v= is not DKIM1 at the start")
        if "p" not in values:
            raise TagError("p= is missing")
        if not values["p"]:
            raise KeyRefused(Result.PERMERROR, "the key has been revoked")
        key_type = values.get("k", "rsa")
        key, bits = _public_key(key_type, octets_of("p", values["p"]))
    except TagError as problem:
        raise KeyRefused(Result.PERMERROR, f"key record: {problem}") from None
    flags = _listed(tags, "t")
    return KeyRecord(key_type, key, bits, _listed(tags, "h"), _listed(tags, "s"), "y" in flags, "s" in flags)


def _listed(tags: TagList, name: str) -> tuple[str, ...]:
    return tuple(words_of(tags.values.get(name, "")))


def _public_key(key_type: str, octets: bytes) -> tuple[PublicKey, int]:
    """A key and its bits. Raises TagError, and KeyRefused for a key that is too weak or too long."""
    if key_type == "ed25519":
        if len(octets) != 32:
            raise TagError("p= is no Ed25519 key")
        return Ed25519PublicKey.from_public_bytes(octets), 256
    if key_type != "rsa":
        raise TagError("k= is an unknown type")
    try:
        key = load_der_public_key(octets)
    except (ValueError, UnsupportedAlgorithm):
        raise TagError("p= is no RSA key") from None
    if not isinstance(key, RSAPublicKey):
        raise TagError("p= is no RSA key")
    if key.key_size < LEAST_RSA_BITS:
        raise KeyRefused(Result.PERMERROR, f"the RSA key has {key.key_size} bits, fewer than {LEAST_RSA_BITS}")
    if key.key_size > MOST_RSA_BITS or key.public_numbers().e >= _MOST_EXPONENT:
        raise KeyRefused(Result.POLICY, f"the RSA key has {key.key_size} bits or an exponent that is too large")
    return key, key.key_size


def verifies(key: PublicKey, signature: bytes, digest: bytes) -> bool:
    """Whether the signature is that of octets with this SHA-256 digest (RFC 8301, RFC 8463 3)."""
    try:
        if isinstance(key, RSAPublicKey):
            key.verify(signature, digest, padding.PKCS1v15(), _PREHASHED)
        else:
            key.verify(signature, digest)
    except InvalidSignature:
        return False
    return True
