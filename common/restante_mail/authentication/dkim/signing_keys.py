"""Private keys that sign, and the records that publish them (RFC 6376 3.6.1, RFC 8301, RFC 8463). *Pure.*"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)

from restante_mail.authentication.dkim.records import LEAST_RSA_BITS, MOST_RSA_BITS
from restante_mail.authentication.dkim.signatures import (
    ED25519_SHA256,
    RSA_SHA256,
    Algorithm,
    algorithm_of,
    domain_name,
)

__all__ = [
    "BadKey",
    "PrivateKey",
    "SigningKey",
    "generate_key",
    "load_key",
    "new_private_key",
    "pkcs8",
    "public_octets",
    "public_record",
    "record_text",
]

PrivateKey = RSAPrivateKey | Ed25519PrivateKey

RSA_BITS = 2_048  # of a generated key: the longest whose record every DNS provider takes
_PREHASHED = Prehashed(SHA256())


class BadKey(ValueError):
    """The octets are no private key that can sign, or its names are not valid. The text is the reason."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key of a domain: d=, s=, the name of a= and the private key. Raises BadKey where they do not fit together."""

    domain: str
    selector: str
    algorithm: str  # "rsa-sha256" or "ed25519-sha256"
    private_key: PrivateKey = field(repr=False)

    def __post_init__(self) -> None:
        if domain_name(self.domain) != self.domain:
            raise BadKey(f"{self.domain!r} is no domain name in lower-case A-labels")
        if domain_name(self.selector) != self.selector:
            raise BadKey(f"{self.selector!r} is no selector in lower-case A-labels")
        if self.algorithm != _algorithm(self.private_key).name:
            raise BadKey(f"the key cannot sign with {self.algorithm}")

    def sign(self, digest: bytes) -> bytes:
        """The signature of octets with this SHA-256 digest."""
        if isinstance(self.private_key, RSAPrivateKey):
            return self.private_key.sign(digest, padding.PKCS1v15(), _PREHASHED)
        return self.private_key.sign(digest)


def load_key(domain: str, selector: str, octets: bytes) -> SigningKey:
    """A key from PKCS#8 in DER or PEM, not encrypted; traditional PEM of RSA is read, too. Raises BadKey."""
    try:
        load = load_pem_private_key if octets.lstrip().startswith(b"-----") else load_der_private_key
        key = load(octets, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadKey("no private key in PKCS#8 without encryption") from None
    if not isinstance(key, RSAPrivateKey | Ed25519PrivateKey):
        raise BadKey("neither an RSA nor an Ed25519 key")
    return SigningKey(domain, selector, _algorithm(key).name, key)


def new_private_key(algorithm: str) -> PrivateKey:
    """A new key for `rsa-sha256` (2,048 bits; takes 0.1 s) or `ed25519-sha256`. Raises TagError."""
    if algorithm_of(algorithm) is ED25519_SHA256:
        return Ed25519PrivateKey.generate()
    return rsa.generate_private_key(public_exponent=65_537, key_size=RSA_BITS)


def generate_key(domain: str, selector: str, algorithm: str) -> SigningKey:
    """A new key of a domain; see `new_private_key`. Raises BadKey, TagError."""
    return SigningKey(domain, selector, algorithm, new_private_key(algorithm))


def pkcs8(key: PrivateKey) -> bytes:
    """The key in PKCS#8 DER, as `load_key` reads it."""
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def public_octets(key: PrivateKey) -> bytes:
    """The public half as p= has it (RFC 6376 3.6.1, RFC 8463 4)."""
    if isinstance(key, RSAPrivateKey):
        return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def record_text(algorithm: str, public: bytes) -> str:
    """The text of the TXT record of a public half; without octets it says that the key is revoked. Raises TagError."""
    return f"v=DKIM1; k={algorithm_of(algorithm).key_type}; p={b64encode(public).decode('ascii')}"


def public_record(key: SigningKey) -> str:
    """The text of the TXT record at `SELECTOR._domainkey.DOMAIN`; a character-string of the DNS holds 255 octets."""
    return record_text(key.algorithm, public_octets(key.private_key))


def _algorithm(key: PrivateKey) -> Algorithm:
    if isinstance(key, Ed25519PrivateKey):
        return ED25519_SHA256
    if not LEAST_RSA_BITS <= key.key_size <= MOST_RSA_BITS:
        raise BadKey(f"an RSA key of {key.key_size} bits; {LEAST_RSA_BITS} to {MOST_RSA_BITS} are allowed")
    return RSA_SHA256
