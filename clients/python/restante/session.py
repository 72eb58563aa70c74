"""A user's session: logged on, kept fresh by renewal, known to be over when it is."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import grpc

from restante import errors
from restante.renewal import Renewal
from restante.v1 import methods
from restante.v1.session_pb2 import (
    AuthenticateRequest,
    ChangePasswordRequest,
    GetSessionRequest,
    LogoffRequest,
    RenewSessionRequest,
    Scope,
    Session,
)
from restante.v1.sync_pb2 import SessionsEnded

if TYPE_CHECKING:
    from restante.link import CoreLink

log = logging.getLogger(__name__)


def is_over(error: errors.RestanteError) -> bool:
    """Whether an error says that the session is no good any more."""
    return error.code is grpc.StatusCode.UNAUTHENTICATED


class UserSession:
    """One session of one user.

    `token` is always the present one. While `keep_fresh` runs, it is renewed before it lapses; when renewal is refused
    or its time is over, and the password is known, the user is logged on again; otherwise the session has ended.
    """

    def __init__(self, link: CoreLink, session: Session, *, password: str | None = None) -> None:
        """`password` is kept for logging on again after the session's day; None: the session ends then."""
        self._link, self._password = link, password
        self._changing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._checks: set[asyncio.Task[None]] = set()
        self.info = session
        self._renewal = Renewal.of(session, time.monotonic())
        self.ended = asyncio.Event()
        self.end_reason: errors.RestanteError | None = None
        self.on_change: Callable[[Session], None] | None = None

    @classmethod
    async def log_on(
        cls, link: CoreLink, user: str, password: str, *, keep_password: bool = True, timeout: float = 30.0
    ) -> UserSession:
        """Prove who it is. Raises AuthenticationFailed, TooManyAttempts."""
        session = await _authenticate(link, user, password, timeout)
        return cls(link, session, password=password if keep_password else None)

    @classmethod
    async def resume(cls, link: CoreLink, token: bytes, *, timeout: float = 30.0) -> UserSession:
        """Go on with a token that was kept. Raises SessionExpired, SessionRevoked, InvalidSession."""
        answer = await link.execute(methods.GET_SESSION, GetSessionRequest(), session=token, timeout=timeout)
        session = Session()
        session.CopyFrom(answer.session)
        session.session_token = token
        return cls(link, session)

    @property
    def token(self) -> bytes:
        """The token to send now."""
        return self.info.session_token

    @property
    def expires_at(self) -> datetime:
        """When the present token lapses, by the server's clock: for people, not to compare with one's own."""
        return self.info.expires_at.ToDatetime(UTC)

    @property
    def left_seconds(self) -> float:
        """How long the present token is good yet."""
        return self._renewal.lapses_at - time.monotonic()

    def keep_fresh(self) -> None:
        """Renew in the background from now on, and learn of a session that others ended."""
        if self._task is None:
            self._task = asyncio.create_task(self._keep_fresh(), name="session renewal")

    async def renew(self) -> None:
        """Get a fresh token now. Raises what `log_on` raises, and SessionExpired, SessionRevoked."""
        before = self.token
        async with self._changing:
            if self.token != before:
                return  # somebody else has just done it
            try:
                answer = await self._link.execute(methods.RENEW_SESSION, RenewSessionRequest(), session=before)
                session = answer.session
            except (errors.SessionExpired, errors.InvalidSession):
                if self._password is None:
                    raise
                session = await _authenticate(self._link, self.info.address, self._password, 30.0)
            self._take(session)

    async def change_password(self, old: str, new: str, *, timeout: float = 30.0) -> None:
        """Set a new password; other sessions of the account end, this one goes on under the new one.

        Raises AuthenticationFailed, WeakPassword.
        """
        async with self._changing:
            request = ChangePasswordRequest(old_password=old, new_password=new)
            answer = await self._link.execute(methods.CHANGE_PASSWORD, request, session=self.token, timeout=timeout)
            if self._password is not None:
                self._password = new
            self._take(answer.session)

    async def log_off(self) -> None:
        """End the session at the server."""
        await self._link.execute(methods.LOGOFF, LogoffRequest(), session=self.token)
        self._end(errors.SessionRevoked("Logged off."))

    def others_ended(self, notice: SessionsEnded) -> None:
        """What Watch says of ended sessions: when it may be this one, ask."""
        if self.ended.is_set() or notice.account_id != self.info.account_id:
            return
        if notice.session_token == self.token or self.info.credential_version < notice.credential_version:
            check = asyncio.create_task(self._check())
            self._checks.add(check)
            check.add_done_callback(self._checks.discard)

    async def close(self) -> None:
        """Stop renewing; the session itself stays good."""
        tasks = [*self._checks, *([self._task] if self._task is not None else [])]
        self._task = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _take(self, session: Session) -> None:
        self.info = session
        self._renewal = Renewal.of(session, time.monotonic())
        if self.on_change is not None:
            self.on_change(session)

    def _end(self, reason: errors.RestanteError) -> None:
        if not self.ended.is_set():
            self.end_reason = reason
            self.ended.set()

    async def _keep_fresh(self) -> None:
        wait = self._until_renewal()
        while not await self._ended_within(wait):
            wait = self._until_renewal() if await self._renewed() else self._renewal.pause_seconds

    def _until_renewal(self) -> float:
        return max(self._renewal.due_at - time.monotonic(), 0.0)

    async def _ended_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self.ended.wait()
        except TimeoutError:
            return False
        return True

    async def _renewed(self) -> bool:
        """Whether there is nothing more to do for now."""
        try:
            await self.renew()
        except errors.RestanteError as error:
            if not is_over(error):
                log.debug("the session could not be renewed yet: %s", error)
                return False
            self._end(error)
        return True

    async def _check(self) -> None:
        await self._renewed()


async def _authenticate(link: CoreLink, user: str, password: str, timeout: float) -> Session:
    plain = f"\0{user}\0{password}".encode()
    request = AuthenticateRequest(mechanism="PLAIN", response=plain, scope=Scope.SCOPE_API)
    return (await link.execute(methods.AUTHENTICATE, request, timeout=timeout)).session
