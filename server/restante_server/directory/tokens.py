"""Session tokens: their contents, and their sealed form of at most 64 octets."""

from __future__ import annotations

import secrets
import struct
from dataclasses import dataclass

from restante_server.directory.keys import KeyRing, NotSealed

PURPOSE = b"restante session token 1"
SECOND = 1_000_000  # microseconds
IDENTITIES = ("", "imap", "pop3", "smtp")  # the process that opened the session; a token holds the index in this list

# account, credential version, session, identity, scope, authenticated at, expires at (both in seconds)
_LAYOUT = struct.Struct(">qqqBBII")


@dataclass(frozen=True, slots=True)
class Token:
    """The contents of a session token. Times are microseconds since 1970, in whole seconds."""

    account_id: int
    credential_version: int
    session_id: int
    identity: str  # of the gateway that the client used; "" for API clients
    scope: int  # restante.v1.Scope
    authenticated_at: int
    expires_at: int


def new_session_id() -> int:
    """A random session id, never 0."""
    return secrets.randbits(63) or 1


def seal(keys: KeyRing, token: Token) -> bytes:
    """The sealed form of a token, which the client gets."""
    plain = _LAYOUT.pack(
        token.account_id,
        token.credential_version,
        token.session_id,
        IDENTITIES.index(token.identity),
        token.scope,
        token.authenticated_at // SECOND,
        token.expires_at // SECOND,
    )
    return keys.seal(PURPOSE, plain)


def unseal(keys: KeyRing, sealed: bytes) -> Token:
    """The contents of a client's token. Raises NotSealed."""
    plain = keys.open(PURPOSE, sealed)
    if len(plain) != _LAYOUT.size:
        raise NotSealed("another layout")
    account_id, version, session_id, identity, scope, authenticated, expires = _LAYOUT.unpack(plain)
    if identity >= len(IDENTITIES):
        raise NotSealed("an identity that is not known here")
    name = IDENTITIES[identity]
    return Token(account_id, version, session_id, name, scope, authenticated * SECOND, expires * SECOND)
