"""A user's session: logged on, kept fresh by renewal, known to be over when it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from restante import errors
from restante.keeper import Link, SessionKeeper
from restante.v1 import methods
from restante.v1.session_pb2 import (
    AuthenticateRequest,
    ChangePasswordRequest,
    GetSessionRequest,
    LogoffRequest,
    Scope,
    Session,
)
from restante.v1.sync_pb2 import SessionsEnded


class UserSession:
    """One session of one user.

    `token` is always the present one. While `keep_fresh` runs, it is renewed before it lapses; when renewal is refused
    or its time is over, and the password is known, the user is logged on again; otherwise the session has ended.
    """

    def __init__(self, link: Link, session: Session, *, password: str | None = None) -> None:
        """`password` is kept for logging on again after the session's day; None: the session ends then."""
        self._link, self._password = link, password
        again = None if password is None else self._log_on_again
        self._keeper = SessionKeeper(link, session, lambda _: self.ended.set(), again=again, on_change=self._changed)
        self.ended = asyncio.Event()
        self.on_change: Callable[[Session], None] | None = None

    @classmethod
    async def log_on(
        cls, link: Link, user: str, password: str, *, keep_password: bool = True, timeout: float = 30.0
    ) -> UserSession:
        """Prove who it is. Raises AuthenticationFailed, TooManyAttempts."""
        session = await _authenticate(link, user, password, timeout)
        return cls(link, session, password=password if keep_password else None)

    @classmethod
    async def resume(cls, link: Link, token: bytes, *, timeout: float = 30.0) -> UserSession:
        """Go on with a token that was kept. Raises SessionExpired, SessionRevoked, InvalidSession."""
        answer = await link.execute(methods.GET_SESSION, GetSessionRequest(), session=token, timeout=timeout)
        session = Session()
        session.CopyFrom(answer.session)
        session.session_token = token
        return cls(link, session)

    @property
    def info(self) -> Session:
        """The session as the server described it last."""
        return self._keeper.info

    @property
    def token(self) -> bytes:
        """The token to send now."""
        return self._keeper.token

    @property
    def expires_at(self) -> datetime:
        """When the present token lapses, by the server's clock: for people, not to compare with one's own."""
        return self.info.expires_at.ToDatetime(UTC)

    @property
    def left_seconds(self) -> float:
        """How long the present token is good yet."""
        return self._keeper.left_seconds

    @property
    def renewal_in_seconds(self) -> float:
        """How long the present token is kept yet before it is renewed."""
        return self._keeper.renewal_in_seconds

    @property
    def end_reason(self) -> errors.RestanteError | None:
        """Why the session has ended; None while it has not."""
        return self._keeper.end_reason

    def keep_fresh(self) -> None:
        """Renew in the background from now on, and learn of a session that others ended."""
        self._keeper.start()

    async def renew(self) -> None:
        """Get a fresh token now. Raises what `log_on` raises, and SessionExpired, SessionRevoked."""
        await self._keeper.renew()

    async def change_password(self, old: str, new: str, *, timeout: float = 30.0) -> None:
        """Set a new password; other sessions of the account end, this one goes on under the new one.

        Raises AuthenticationFailed, WeakPassword.
        """
        async with self._keeper.changing:
            request = ChangePasswordRequest(old_password=old, new_password=new)
            answer = await self._link.execute(methods.CHANGE_PASSWORD, request, session=self.token, timeout=timeout)
            if self._password is not None:
                self._password = new
            self._keeper.take(answer.session)

    async def log_off(self) -> None:
        """End the session at the server."""
        await self._link.execute(methods.LOGOFF, LogoffRequest(), session=self.token)
        self._keeper.end(errors.SessionRevoked("Logged off."))

    def others_ended(self, notice: SessionsEnded) -> None:
        """Take an announcement of ended sessions. The server is asked, since one's own change of the password is
        announced, too, perhaps before its answer comes."""
        if self._keeper.concerned_by(notice):
            self._keeper.check_within(0.0)

    async def close(self) -> None:
        """Stop renewing; the session itself stays good."""
        await self._keeper.closed()

    def _changed(self, session: Session) -> None:
        if self.on_change is not None:
            self.on_change(session)

    async def _log_on_again(self) -> Session:
        assert self._password is not None
        return await _authenticate(self._link, self.info.address, self._password, 30.0)


async def _authenticate(link: Link, user: str, password: str, timeout: float) -> Session:
    plain = f"\0{user}\0{password}".encode()
    request = AuthenticateRequest(mechanism="PLAIN", response=plain, scope=Scope.SCOPE_API)
    return (await link.execute(methods.AUTHENTICATE, request, timeout=timeout)).session
