"""The client's side of SASL mechanisms (RFC 4422). *Pure.*

SCRAM is our own because a server chooses the rounds of its key derivation, which no client library bounds.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import unicodedata
from collections.abc import Sequence
from typing import Protocol

SCRAM = "SCRAM-SHA-256"
PREFERRED = (SCRAM, "PLAIN", "LOGIN")
FEWEST_ROUNDS, MOST_ROUNDS = 4_096, 1_000_000  # RFC 7677 4; the most take about half a second
NONCE_OCTETS = 18


class LoginFailed(Exception):
    """The exchange cannot go on. The text has the reason."""


class Mechanism(Protocol):
    """One exchange, for one login."""

    name: str

    @property
    def finished(self) -> bool:
        """Whether a positive reply of the server is now expected, and trusted."""
        ...

    def first(self) -> bytes | None:
        """The initial response; None if the server speaks first."""
        ...

    def answer(self, challenge: bytes) -> bytes:
        """The response to a challenge. Raises LoginFailed."""
        ...


def chosen(wanted: str, offered: Sequence[str]) -> str:
    """The mechanism to use: `wanted`, or for "any" the preferred one of those offered. Raises LoginFailed."""
    known = [name.upper() for name in offered]
    for name in PREFERRED if wanted == "any" else (wanted,):
        if name in known:
            return name
    raise LoginFailed(f"the server offers no AUTH {wanted if wanted != 'any' else 'that is known'}")


def mechanism(name: str, user: str, secret: str, nonce: bytes) -> Mechanism:
    """A new exchange. `nonce` has 18 random octets, which SCRAM uses."""
    match name:
        case "PLAIN":
            return _Plain(user, secret)
        case "LOGIN":
            return _Login(user, secret)
        case "XOAUTH2":
            return _XOAuth2(user, secret)
        case _:
            return _Scram(user, secret, nonce)


class _Plain:
    """RFC 4616."""

    name = "PLAIN"
    finished = True

    def __init__(self, user: str, password: str) -> None:
        self._first = f"\0{user}\0{password}".encode()

    def first(self) -> bytes:
        return self._first

    def answer(self, challenge: bytes) -> bytes:
        raise LoginFailed("the server asks for more than PLAIN has")


class _Login:
    """LOGIN, which no RFC defines: the server asks for the name, then for the password."""

    name = "LOGIN"

    def __init__(self, user: str, password: str) -> None:
        self._answers = [password.encode(), user.encode()]

    @property
    def finished(self) -> bool:
        return not self._answers

    def first(self) -> None:
        return None

    def answer(self, challenge: bytes) -> bytes:
        if not self._answers:
            raise LoginFailed("the server asks for more than LOGIN has")
        return self._answers.pop()


class _XOAuth2:
    """XOAUTH2, of Google and Microsoft: an access token. After a failure the server gives its reason as a challenge."""

    name = "XOAUTH2"
    finished = True

    def __init__(self, user: str, token: str) -> None:
        self._first = f"user={user}\1auth=Bearer {token}\1\1".encode()

    def first(self) -> bytes:
        return self._first

    def answer(self, challenge: bytes) -> bytes:
        return b""  # the server then answers with its refusal


class _Scram:
    """SCRAM-SHA-256 without channel binding (RFC 5802, RFC 7677). It proves the server, too."""

    name = SCRAM

    def __init__(self, user: str, password: str, nonce: bytes) -> None:
        self._password = _prepared(password).encode()
        self._nonce = base64.b64encode(nonce)
        name = _prepared(user).replace("=", "=3D").replace(",", "=2C")
        self._bare = b"n=" + name.encode() + b",r=" + self._nonce
        self._signature = b""
        self.finished = False

    def first(self) -> bytes:
        return b"n,," + self._bare

    def answer(self, challenge: bytes) -> bytes:
        if self.finished:
            raise LoginFailed("the server asks for more than SCRAM-SHA-256 has")
        if self._signature:
            self._verify(challenge)
            return b""
        return self._proof(challenge)

    def _proof(self, challenge: bytes) -> bytes:
        values = _attributes(challenge)
        nonce, rounds = values.get(b"r", b""), values.get(b"i", b"")
        salt = _decoded(values.get(b"s", b""))
        if b"m" in values or not salt or not nonce.startswith(self._nonce) or len(nonce) <= len(self._nonce):
            raise LoginFailed("the server's SCRAM challenge is malformed")
        if not rounds.isdigit() or len(rounds) > 9 or not FEWEST_ROUNDS <= int(rounds) <= MOST_ROUNDS:
            raise LoginFailed(f"the server wants SCRAM with {rounds[:20].decode('latin-1')} rounds")
        salted = hashlib.pbkdf2_hmac("sha256", self._password, salt, int(rounds))
        client_key = _mac(salted, b"Client Key")
        final = b"c=biws,r=" + nonce
        signed = b",".join((self._bare, challenge, final))
        self._signature = _mac(_mac(salted, b"Server Key"), signed)
        mask = _mac(hashlib.sha256(client_key).digest(), signed)
        proof = bytes(one ^ other for one, other in zip(client_key, mask, strict=True))
        return final + b",p=" + base64.b64encode(proof)

    def _verify(self, challenge: bytes) -> None:
        values = _attributes(challenge)
        if b"e" in values:
            raise LoginFailed(f"the server refused the login: {values[b'e'][:80].decode('latin-1')}")
        if not hmac.compare_digest(_decoded(values.get(b"v", b"")), self._signature):
            raise LoginFailed("the server has not proven that it knows the password")
        self.finished = True


def _attributes(message: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for part in message.split(b","):
        name, equals, value = part.partition(b"=")
        if equals:
            found.setdefault(name, value)
    return found


def _decoded(text: bytes) -> bytes:
    """Raises LoginFailed."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise LoginFailed("the server's SCRAM challenge is malformed") from None


def _mac(key: bytes, text: bytes) -> bytes:
    return hmac.digest(key, text, "sha256")


def _prepared(text: str) -> str:
    """The normal form for SCRAM. It is SASLprep (RFC 4013) for all text without forbidden characters."""
    return text if text.isascii() else unicodedata.normalize("NFKC", text)
