"""Proof of identity: session tokens, process secrets on the Unix socket, client certificates on the mTLS port."""

from __future__ import annotations

import base64
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from restante.errors import InvalidSession
from restante_server.api.engine.caller import Caller
from restante_server.directory.sessions import OpenSession, Sessions

IDENTITIES = ("admin", "imap", "pop3", "smtp", "relay")
CERTIFICATE_PREFIX = "restante-"  # the common name of a gateway's certificate: restante-imap
BEARER = "bearer "
MOST_CALLERS = 10_000  # kept in memory


@dataclass(frozen=True, slots=True)
class Channel:
    """The properties of a connection that its listener knows."""

    unix: bool = False  # the socket that only processes of our own user can reach
    mutual_tls: bool = False
    tls: bool = False
    peer_address: str = ""  # IP address as text, "" on the Unix socket
    common_name: str = ""  # of the client certificate, on the mTLS port


LOCAL = Channel(unix=True)


class Authenticator:
    """Finds the caller of a call from its metadata."""

    def __init__(self, secrets: Mapping[str, str], sessions: Sessions) -> None:
        """`secrets` holds the secret of each process identity that may use the Unix socket."""
        self._secrets, self._sessions = dict(secrets), sessions
        self._callers: dict[tuple[str | bytes | bool, ...], tuple[OpenSession, Caller]] = {}  # the latest ones

    def identity(self, metadata: Mapping[str, str | bytes], channel: Channel) -> str:
        """The process identity of a call, "" for a native client. Raises InvalidSession for a wrong claim."""
        if channel.mutual_tls:
            name = channel.common_name.removeprefix(CERTIFICATE_PREFIX)
            if name == channel.common_name or name not in IDENTITIES or name == "admin":
                raise InvalidSession("The common name of the client certificate is not that of a gateway.")
            return name
        claimed, secret = metadata.get("restante-identity", ""), metadata.get("restante-secret", "")
        if not claimed:
            return ""
        expected = self._secrets.get(str(claimed), "")
        right = hmac.compare_digest(str(secret).encode(), expected.encode())
        if not (channel.unix and expected and right):
            raise InvalidSession("The secret of the process identity is wrong, or the connection is not a Unix socket.")
        return str(claimed)

    def process(self, metadata: Mapping[str, str | bytes], channel: Channel) -> Caller:
        """The caller of a call without a session. Raises as `identity`."""
        identity = self.identity(metadata, channel)
        address = str(metadata.get("restante-client", "")) if identity else ""
        return Caller(
            identity=identity, client_address=address or channel.peer_address, encrypted=channel.tls or channel.unix
        )

    async def caller(self, metadata: Mapping[str, str | bytes], channel: Channel) -> Caller:
        """The caller of a unary call or a stream. Raises as `identity` and `session`."""
        stream = self.process(metadata, channel)
        authorization = str(metadata.get("authorization", ""))
        if not authorization:
            return stream
        return await self.session(bearer_token(authorization), stream)

    async def session(self, token: bytes, stream: Caller, client_address: str = "") -> Caller:
        """The caller behind a token that came on a stream; without a token, the stream's own caller.

        A session is checked again in both cases, because it may have ended since the stream began. `client_address` is
        used only on the stream of a process with an identity: other clients cannot speak for somebody else.
        """
        known = self.known(token, stream, client_address)
        if known is not None:
            return known
        session = await self._sessions.open(token or stream.token, time.time_ns() // 1_000)
        return _caller(session, token or stream.token, stream, client_address)

    def known(self, token: bytes, stream: Caller, client_address: str = "") -> Caller | None:
        """As `session`, but from memory alone. None if `session` must read the database."""
        token = token or stream.token
        if not token:
            address = _address(stream, client_address)
            return replace(stream, client_address=address) if address != stream.client_address else stream
        session = self._sessions.known(token, time.time_ns() // 1_000)
        if session is None:
            return None
        key = (token, client_address, stream.identity, stream.client_address, stream.encrypted)
        known = self._callers.get(key)
        if known is not None and known[0].token is session.token and known[0].state is session.state:
            return known[1]
        caller = _caller(session, token, stream, client_address)
        if len(self._callers) >= MOST_CALLERS:
            self._callers.clear()
        self._callers[key] = session, caller
        return caller


def _address(stream: Caller, client_address: str) -> str:
    return client_address if stream.identity and client_address else stream.client_address


def _caller(session: OpenSession, token: bytes, stream: Caller, client_address: str) -> Caller:
    if session.token.identity != stream.identity:
        raise InvalidSession("The session token belongs to another kind of client; log in again.")
    return Caller(
        identity=stream.identity,
        account_id=session.state.account_id,
        mailbox_id=session.state.mailbox_id,
        scope=session.token.scope,
        session_id=session.token.session_id,
        credential_version=session.token.credential_version,
        administrator=session.state.administrator,
        address=session.state.address,
        client_address=_address(stream, client_address),
        encrypted=stream.encrypted,
        token=token,
        expires_at=session.token.expires_at,
    )


def bearer_token(authorization: str) -> bytes:
    """The token of an `authorization` entry, in either alphabet of base64. Raises InvalidSession for anything else."""
    if not authorization.lower().startswith(BEARER):
        raise InvalidSession("The authorization metadata must be a bearer token.")
    text = authorization[len(BEARER) :].strip().replace("+", "-").replace("/", "_")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:  # also binascii.Error
        raise InvalidSession("The session token in the authorization metadata is not base64.") from None
