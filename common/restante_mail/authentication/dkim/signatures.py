"""The tags of DKIM-Signature and of ARC-Message-Signature (RFC 6376 3.5, RFC 8617 4.1.2). *Pure.*"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import idna

from restante_mail.authentication.dkim.canonicalization import Canonicalization, relaxed_field
from restante_mail.authentication.dkim.content import HeaderField, HeaderFields
from restante_mail.authentication.dkim.tags import TagError, TagList, octets_of, words_of

__all__ = [
    "ED25519_SHA256",
    "MOST_FIELD_OCTETS",
    "RSA_SHA256",
    "Algorithm",
    "Identified",
    "Signature",
    "algorithm_of",
    "domain_name",
    "read_signature",
    "read_signer",
    "seconds_of",
    "signature_starts",
    "signed_digest",
    "unsigned_field",
    "untimely",
]

MOST_FIELD_OCTETS = 32_768  # of a signature field
MOST_NAMES = 1_000  # in h=
CLOCK_SKEW_SECONDS = 300  # by which the clocks of two hosts may differ

_NAME_CHARACTERS = 253  # of a domain name
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_FIELD_NAME = re.compile(r"[!-9;-~]++")
_SECONDS = re.compile(r"[0-9]{1,12}")
_LENGTH = re.compile(r"[0-9]{1,76}")
_FORMS = {each.value: each for each in Canonicalization}
_HASH_OCTETS = 32  # of SHA-256
_START_CHARACTERS, _MOST_START_CHARACTERS = 8, 64  # of b= (RFC 6008 4)


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A signing algorithm: its name in a=, and the key type of k=."""

    name: str
    key_type: str


RSA_SHA256 = Algorithm("rsa-sha256", "rsa")
ED25519_SHA256 = Algorithm("ed25519-sha256", "ed25519")  # RFC 8463
_ALGORITHMS = {each.name: each for each in (RSA_SHA256, ED25519_SHA256)}


@dataclass(frozen=True, slots=True)
class Identified:
    """The signer of a field and its signature: the tags that DKIM and ARC fields share."""

    algorithm: Algorithm
    domain: str  # d=, in A-labels
    selector: str  # s=, in A-labels
    signature: bytes  # b=

    @property
    def key_name(self) -> str:
        """The name of the TXT record with the key (RFC 6376 3.6.2.1)."""
        return f"{self.selector}._domainkey.{self.domain}"


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature over fields and body. `names` are in lower case and in the order of h=; times are Unix seconds."""

    signer: Identified
    names: tuple[bytes, ...]
    body_hash: bytes
    header_form: Canonicalization
    body_form: Canonicalization
    length: int | None = None  # l=
    created: int | None = None  # t=
    expires: int | None = None  # x=


def read_signature(tags: TagList, default: Canonicalization = Canonicalization.SIMPLE) -> Signature:
    """The checked tags of a message signature; `default` is for both forms without c=. Raises TagError."""
    signer = read_signer(tags)
    forms = _forms(tags.values["c"]) if "c" in tags.values else (default, default)
    created, expires = _times(tags)
    body_hash = octets_of("bh", tags.required("bh"))
    if len(body_hash) != _HASH_OCTETS:
        raise TagError("bh= is no SHA-256 hash")
    if "h" not in tags.values:
        raise TagError("h= is missing")
    return Signature(signer, _names(tags.values["h"]), body_hash, *forms, _length(tags), created, expires)


def read_signer(tags: TagList) -> Identified:
    """The checked tags a=, d=, s= and b=. Raises TagError."""
    algorithm = algorithm_of(tags.required("a"))
    domain = domain_name(tags.required("d"))
    if domain is None:
        raise TagError("d= is no domain name")
    selector = domain_name(tags.required("s"))
    if selector is None:
        raise TagError("s= is no selector")
    return Identified(algorithm, domain, selector, octets_of("b", tags.required("b")))


def algorithm_of(name: str) -> Algorithm:
    """The algorithm of this name. Raises TagError, also for rsa-sha1, which proves nothing (RFC 8301 3.1)."""
    found = _ALGORITHMS.get(name)
    if found is None:
        raise TagError("a=rsa-sha1 is not valid any more" if name == "rsa-sha1" else "a= is an unknown algorithm")
    return found


def domain_name(text: str) -> str | None:
    """A domain name in lower-case A-labels (RFC 8616 5), or None for other text."""
    if not text.isascii():
        if len(text) > _NAME_CHARACTERS:
            return None
        try:
            text = idna.encode(text, uts46=True).decode("ascii")
        except idna.IDNAError:
            return None
    name = text.lower()
    fits = len(name) <= _NAME_CHARACTERS and all(_LABEL.fullmatch(label) for label in name.split("."))
    return name if fits else None


def _times(tags: TagList) -> tuple[int | None, int | None]:
    """t= and x=. Raises TagError."""
    created, expires = seconds_of(tags, "t"), seconds_of(tags, "x")
    if created is not None and expires is not None and expires <= created:
        raise TagError("x= is not after t=")
    return created, expires


def seconds_of(tags: TagList, name: str) -> int | None:
    """A tag with Unix seconds. Raises TagError."""
    value = tags.values.get(name)
    if value is None:
        return None
    if _SECONDS.fullmatch(value) is None:
        raise TagError(f"{name}= is no number of seconds")
    return int(value)


def untimely(signature: Signature, now: datetime) -> str:
    """The reason why a signature is not valid at this time, or ""."""
    seconds = now.timestamp()
    if signature.expires is not None and seconds > signature.expires + CLOCK_SKEW_SECONDS:
        return "the signature has expired"
    if signature.created is not None and seconds < signature.created - CLOCK_SKEW_SECONDS:
        return "the signature is from the future"
    return ""


def _names(value: str) -> tuple[bytes, ...]:
    names = words_of(value)
    if len(names) > MOST_NAMES:
        raise TagError(f"h= has more than {MOST_NAMES} names")
    for name in names:
        if not name.isascii() or _FIELD_NAME.fullmatch(name) is None:
            raise TagError("h= has a word that is no field name")
    return tuple(name.lower().encode("ascii") for name in names)


def _forms(value: str) -> tuple[Canonicalization, Canonicalization]:
    header, slash, body = value.partition("/")
    header_form, body_form = _FORMS.get(header), _FORMS.get(body if slash else "simple")
    if header_form is None or body_form is None:
        raise TagError("c= is an unknown canonicalization")
    return header_form, body_form


def _length(tags: TagList) -> int | None:
    value = tags.values.get("l")
    if value is None:
        return None
    if _LENGTH.fullmatch(value) is None:
        raise TagError("l= is no number of octets")
    return int(value)


def signed_digest(header: HeaderFields, signature: Signature, field: HeaderField, tags: TagList) -> bytes:
    """The SHA-256 digest of the octets that `field` signs, a field of `header` with these tags (RFC 6376 3.7)."""
    digest = hashlib.sha256()
    for octets in header.chosen(signature.names, signature.header_form, but=field.place):
        digest.update(octets)
    digest.update(unsigned_field(field, tags, signature.header_form))
    return digest.digest()


def unsigned_field(field: HeaderField, tags: TagList, form: Canonicalization) -> bytes:
    """The canonical octets of a signature field without the value of b= and without CRLF."""
    start, end = tags.spans["b"]
    octets = field.octets[: field.value_start + start] + field.octets[field.value_start + end :]
    return (relaxed_field(octets) if form is Canonicalization.RELAXED else octets).removesuffix(b"\r\n")


def signature_starts(values: Iterable[str]) -> list[str]:
    """For each value of b= its first characters: eight, or as many as tell the values apart (RFC 6008 4)."""
    plain = ["".join(value[: 2 * _MOST_START_CHARACTERS].split())[:_MOST_START_CHARACTERS] for value in values]
    length, different = _START_CHARACTERS, len(set(plain))
    while length < _MOST_START_CHARACTERS and len({value[:length] for value in plain}) < different:
        length += _START_CHARACTERS
    return [value[:length] for value in plain]
