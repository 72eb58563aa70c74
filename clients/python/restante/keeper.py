"""The token of one session: its renewal, and the end of the session."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from restante import errors
from restante.methods import Method, Request, Response
from restante.renewal import Renewal, is_ended_by
from restante.retry import is_over
from restante.v1 import methods
from restante.v1.session_pb2 import RenewSessionRequest, Session
from restante.v1.sync_pb2 import SessionsEnded


class Link(Protocol):
    """The connection to the server; `restante.link.CoreLink` is one."""

    async def execute(
        self,
        method: Method[Request, Response],
        request: Request,
        *,
        session: bytes = b"",
        client_address: str = "",
        timeout: float = 30.0,
        independent: bool = False,
    ) -> Response:
        """Run one operation. Raises RestanteError."""
        ...


LogOn = Callable[[], Awaitable[Session]]


class SessionKeeper:
    """Renews the token of one session by one timer, from `start` until `close` or the session's end.

    When the server is unreachable, the keeper tries again before the token lapses. The session ends when the server
    refuses a renewal or announces the end; the keeper then calls `on_end` once, on the event loop, with the reason.
    """

    __slots__ = (
        "_again", "_changing", "_client_address", "_link", "_on_change", "_on_end", "_renewal", "_started", "_task",
        "_timer", "end_reason", "info",
    )  # fmt: skip

    def __init__(
        self,
        link: Link,
        session: Session,
        on_end: Callable[[errors.RestanteError], None],
        *,
        client_address: str = "",
        again: LogOn | None = None,
        on_change: Callable[[Session], None] | None = None,
    ) -> None:
        """`session` has just arrived from the server. `again` begins another session when this one cannot be renewed;
        the keeper calls `on_change` with the session of every further token."""
        self._on_change = on_change
        self._link, self._on_end, self._client_address, self._again = link, on_end, client_address, again
        self._changing: asyncio.Lock | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._started = False
        self.end_reason: errors.RestanteError | None = None
        self.info = session
        self._renewal = Renewal.of(session, time.monotonic(), random.random())

    @property
    def token(self) -> bytes:
        """The present token."""
        return self.info.session_token

    @property
    def left_seconds(self) -> float:
        """Seconds until the present token lapses."""
        return self._renewal.lapses_at - time.monotonic()

    @property
    def renewal_in_seconds(self) -> float:
        """Seconds until the present token is due for renewal."""
        return self._renewal.due_at - time.monotonic()

    @property
    def changing(self) -> asyncio.Lock:
        """The lock of the token. Another call that changes the token holds this lock and ends with `take`."""
        if self._changing is None:  # most sessions end before their first renewal
            self._changing = asyncio.Lock()
        return self._changing

    def start(self) -> None:
        """Renew in the background from now on."""
        if not self._started and self.end_reason is None:
            self._started = True
            self._renew_in(self.renewal_in_seconds)

    def close(self) -> None:
        """Stop renewing. The session continues until its token lapses."""
        self._started = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            self._task.cancel()

    async def closed(self) -> None:
        """Close, and wait for the end of a running renewal."""
        self.close()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def renew(self) -> None:
        """Get a fresh token now. Raises SessionExpired, SessionRevoked, and the errors of logging on again."""
        before = self.token
        async with self.changing:
            if self.token != before:
                return  # another caller has just renewed it
            try:
                answer = await self._link.execute(
                    methods.RENEW_SESSION,
                    RenewSessionRequest(),
                    session=before,
                    client_address=self._client_address,
                    independent=True,
                )
                session = answer.session
            except (errors.SessionExpired, errors.InvalidSession):
                if self._again is None:
                    raise
                session = await self._again()
            self.take(session)

    def take(self, session: Session) -> None:
        """Replace the token by a newer one of the same session that has just arrived."""
        self.info = session
        self._renewal = Renewal.of(session, time.monotonic(), random.random())
        if self._started:
            self._renew_in(self.renewal_in_seconds)
        if self._on_change is not None:
            self._on_change(session)

    def check_within(self, seconds: float) -> None:
        """Renew at a random moment within `seconds`, so that the server confirms or refuses the session.

        For a session whose end the server may have announced while the connection was broken.
        """
        if self.end_reason is None and (self._task is None or self._task.done()):
            self._renew_in(min(self.renewal_in_seconds, random.uniform(0.0, seconds)))

    def concerned_by(self, notice: SessionsEnded) -> bool:
        """Whether the announcement ends this session."""
        return is_ended_by(self.info, notice)

    def end(self, reason: errors.RestanteError) -> None:
        """Mark the session as ended, and report the reason once."""
        if self.end_reason is None:
            self.end_reason = reason
            self.close()
            self._on_end(reason)

    def _renew_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(max(seconds, 0.0), self._renew)

    def _renew(self) -> None:
        self._timer = None
        self._task = asyncio.get_running_loop().create_task(self._renewed(), name="session renewal")

    async def _renewed(self) -> None:
        try:
            await self.renew()
        except errors.RestanteError as error:
            if is_over(error):
                self.end(error)
            elif self._started:  # the server is unreachable: the token may outlast that
                self._renew_in(self._renewal.pause_seconds)
