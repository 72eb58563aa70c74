"""A user's session: log on, renew, change the password, log off."""

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

    `token` is always the present one. After `keep_fresh` a timer renews it before it lapses. When the server refuses
    the renewal, the session logs on again with a kept password; without one it has ended.
    """

    def __init__(self, link: Link, session: Session, *, password: str | None = None) -> None:
        """`password` serves to log on again after the session's longest life; with None the session ends then."""
        self._link, self._password = link, password
        again = None if password is None else self._log_on_again
        self._keeper = SessionKeeper(link, session, lambda _: self.ended.set(), again=again, on_change=self._changed)
        self.ended = asyncio.Event()
        self.on_change: Callable[[Session], None] | None = None

    @classmethod
    async def log_on(
        cls, link: Link, user: str, password: str, *, keep_password: bool = True, timeout: float = 30.0
    ) -> UserSession:
        """Begin a session with a password. Raises AuthenticationFailed, TooManyAttempts."""
        session = await _authenticate(link, user, password, timeout)
        return cls(link, session, password=password if keep_password else None)

    @classmethod
    async def resume(cls, link: Link, token: bytes, *, timeout: float = 30.0) -> UserSession:
        """Continue the session of a saved token. Raises SessionExpired, SessionRevoked, InvalidSession."""
        answer = await link.execute(methods.GET_SESSION, GetSessionRequest(), session=token, timeout=timeout)
        session = Session()
        session.CopyFrom(answer.session)
        session.session_token = token
        return cls(link, session)

    @property
    def info(self) -> Session:
        """The session from the server's latest answer."""
        return self._keeper.info

    @property
    def token(self) -> bytes:
        """The token to send now."""
        return self._keeper.token

    @property
    def expires_at(self) -> datetime:
        """The moment the present token lapses by the server's clock: for display, not to compare with a local clock."""
        return self.info.expires_at.ToDatetime(UTC)

    @property
    def left_seconds(self) -> float:
        """Seconds until the present token lapses."""
        return self._keeper.left_seconds

    @property
    def renewal_in_seconds(self) -> float:
        """Seconds until the present token is due for renewal."""
        return self._keeper.renewal_in_seconds

    @property
    def end_reason(self) -> errors.RestanteError | None:
        """The reason why the session has ended; None while it has not."""
        return self._keeper.end_reason

    def keep_fresh(self) -> None:
        """Renew in the background from now on, and so notice an end of the session by another party."""
        self._keeper.start()

    async def renew(self) -> None:
        """Get a fresh token now. Raises SessionExpired, SessionRevoked, and the errors of `log_on`."""
        await self._keeper.renew()

    async def change_password(self, old: str, new: str, *, timeout: float = 30.0) -> None:
        """Set a new password. All other sessions of the account end; this one continues with a new token.

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
        """Handle an announcement of ended sessions. A renewal then asks the server, because the announcement may come
        from this session's own change of the password, perhaps before its answer."""
        if self._keeper.concerned_by(notice):
            self._keeper.check_within(0.0)

    async def close(self) -> None:
        """Stop renewing; the session continues at the server."""
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
