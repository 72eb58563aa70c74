"""The Sender Rewriting Scheme: reverse-paths of forwarded mail in a domain of the forwarder (SRS0 and SRS1). *Pure.*

A message that is forwarded with its own reverse-path fails SPF: the forwarder is no server of the sender's domain.
SRS writes a reverse-path of the forwarder's domain, from which the forwarder can tell where a report must go:

    user@example.org                     ->  SRS0=hash=day=example.org=user@forwarder.example
    SRS0=...@other.example               ->  SRS1=hash=other.example==...@forwarder.example
    SRS1=hash=other.example==...@any     ->  SRS1=hash=other.example==...@forwarder.example
    a path that would become too long    ->  SRS0=hash=day==key@forwarder.example

The hash is keyed, so that nobody else can make the forwarder send mail anywhere. An SRS1 path goes back to the first
forwarder alone, whose path has the day; a path of any number of forwarders therefore stays short. The form is that of
libsrs2: HMAC-SHA-1 over the lower-case parts, in Base64, since servers may change the letter case of local parts.

Servers need not take a local part of more than 64 octets (RFC 5321 4.5.3.1.1). The short form is of our own: it has no
domain, and instead of the user a key under which the forwarder keeps the path. Another forwarder sees an SRS0 path.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass

from restante_mail.envelope.paths import MAX_LOCAL_PART_OCTETS, BadPath, Path, ascii_domain

__all__ = ["LIFETIME_DAYS", "MAX_PORTABLE_OCTETS", "BadSrs", "KeptPath", "Rewriter", "is_rewritten"]

LIFETIME_DAYS = 21  # in which a report may come back
MAX_PORTABLE_OCTETS = 64  # of a local part that every server takes (RFC 5321 4.5.3.1.1)
KEY_CHARACTERS = 16  # of a kept path: 80 bits
HASH_CHARACTERS = 8  # about 41 bits, since letter case does not count
SECONDS_OF_DAY = 86_400

_NO_DOMAIN = "="  # in the hash of a short form: no domain begins so
_KEPT = b"kept path "  # sets these digests apart from hashes of rewritten paths
_DAYS = 1_024  # after which days repeat: two digits
_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"  # of Base32 (RFC 4648 6)
_REWRITTEN = re.compile(r"SRS([01])([=+-])", re.IGNORECASE)


class BadSrs(ValueError):
    """The path is not one that this forwarder has written, or is too old. `problem` is a predicate."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


def is_rewritten(local_part: str) -> bool:
    """Whether a local part has the form of a rewritten path, whoever wrote it."""
    return _REWRITTEN.match(local_part) is not None


@dataclass(frozen=True, slots=True)
class KeptPath:
    """The key of a path that the forwarder keeps."""

    key: str


class Rewriter:
    """Writes reverse-paths, and reads those that it has written. The first secret writes, all of them read."""

    def __init__(self, secrets: Sequence[bytes], hash_characters: int = HASH_CHARACTERS) -> None:
        if not secrets:
            raise ValueError("a rewriter needs a secret")
        self._secrets, self._length = tuple(secrets), hash_characters

    def rewritten(self, path: Path, domain: str, now: float) -> Path | None:
        """The reverse-path in `domain` for a message with this reverse-path; None if it would be too long.

        `now` is in seconds since 1970.
        """
        found = _REWRITTEN.match(path.local_part)
        if found is None:
            fields = (_day(now), path.ascii_domain, path.local_part)
            local_part = "SRS0=" + "=".join((self._hash(self._secrets[0], fields), *fields))
        else:
            first, rest = _first_forwarder(path, found)
            local_part = f"SRS1={self._hash(self._secrets[0], (first, rest))}={first}={rest}"
        return Path(local_part, domain) if len(local_part.encode()) <= MAX_LOCAL_PART_OCTETS else None

    def short(self, path: Path, domain: str, now: float) -> tuple[Path, KeptPath]:
        """The short form of any reverse-path, and the key under which it must be kept. `now` as for `rewritten`.

        Equal paths have equal keys while the first secret is the same.
        """
        mac = hmac.digest(self._secrets[0], _KEPT + str(path).encode(), hashlib.sha256)
        key = base64.b32encode(mac).decode("ascii").lower()[:KEY_CHARACTERS]
        day = _day(now)
        digest = self._hash(self._secrets[0], (day, _NO_DOMAIN, key))
        return Path(f"SRS0={digest}={day}=={key}", domain), KeptPath(key)

    def original(self, local_part: str, now: float) -> Path | KeptPath:
        """The path from which a rewritten local part was made, or the key of a kept one. Raises BadSrs."""
        found = _REWRITTEN.match(local_part)
        if found is None:
            raise BadSrs("is no rewritten path")
        parts = local_part[found.end() :].split("=", 3 if found[1] == "0" else 2)
        if found[1] == "1":
            if len(parts) < 3:
                raise BadSrs("lacks a part")
            digest, first, rest = parts
            self._prove(digest, (first, rest))
            return _path("SRS0" + rest, first)
        if len(parts) < 4:
            raise BadSrs("lacks a part")
        digest, day, host, user = parts
        self._prove(digest, (day, host or _NO_DOMAIN, user))
        if (_number(_day(now)) - _number(day)) % _DAYS > LIFETIME_DAYS:
            raise BadSrs(f"is older than {LIFETIME_DAYS} days")
        return _path(user, host) if host else KeptPath(user.lower())

    def _prove(self, digest: str, fields: Sequence[str]) -> None:
        given = digest.lower().encode()
        if len(given) < self._length or not any(
            hmac.compare_digest(self._hash(secret, fields).lower().encode(), given[: self._length])
            for secret in self._secrets
        ):
            raise BadSrs("was not written by this server")

    def _hash(self, secret: bytes, fields: Sequence[str]) -> str:
        # bytes.lower changes ASCII letters alone.
        mac = hmac.digest(secret, b"".join(field.encode().lower() for field in fields), hashlib.sha1)
        return base64.b64encode(mac).decode("ascii")[: self._length]


def _first_forwarder(path: Path, found: re.Match[str]) -> tuple[str, str]:
    """(domain of the first forwarder, the rest of its local part behind "SRS0") of a rewritten path."""
    rest = path.local_part[found.end() - 1 :]  # with its separator
    if found[1] == "1":
        parts = rest[1:].split("=", 2)
        if len(parts) == 3 and parts[1] and parts[2]:
            return parts[1].lower(), parts[2]
    return path.ascii_domain, rest


def _path(local_part: str, host: str) -> Path:
    try:
        if not local_part:
            raise BadPath("has no local part")
        return Path(local_part, ascii_domain(host, literal=True))
    except BadPath as bad:
        raise BadSrs(bad.problem) from None


def _day(now: float) -> str:
    number = int(now // SECONDS_OF_DAY) % _DAYS
    return _DIGITS[number >> 5] + _DIGITS[number & 31]


def _number(day: str) -> int:
    if len(day) != 2 or any(digit not in _DIGITS for digit in day.upper()):
        raise BadSrs("has no valid day")
    high, low = (_DIGITS.index(digit) for digit in day.upper())
    return high << 5 | low
