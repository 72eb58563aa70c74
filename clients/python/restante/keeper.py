"""One session's token, kept good: renewed before it lapses, and known to be over when the server says so."""

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
        """One operation. Raises RestanteError."""
        ...


LogOn = Callable[[], Awaitable[Session]]


class SessionKeeper:
    """Keeps one session by one timer, from `start` until `close` or its end.

    A server that is away is asked again before the token lapses. The session ends when a renewal is refused, or when
    the server announces its end; `on_end` is then called once, on the event loop, with the reason.
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
        """`session` has just come from the server. `again` begins another session when this one cannot be renewed;
        `on_change` is called with every further token."""
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
        """The token of this moment."""
        return self.info.session_token

    @property
    def left_seconds(self) -> float:
        """How long the present token is good yet."""
        return self._renewal.lapses_at - time.monotonic()

    @property
    def renewal_in_seconds(self) -> float:
        """How long the present token is kept yet before it is renewed."""
        return self._renewal.due_at - time.monotonic()

    @property
    def changing(self) -> asyncio.Lock:
        """Held while the token changes: a call that changes it, too, takes this and ends with `take`."""
        if self._changing is None:  # most sessions end before their first renewal
            self._changing = asyncio.Lock()
        return self._changing

    def start(self) -> None:
        """Renew in the background from now on."""
        if not self._started and self.end_reason is None:
            self._started = True
            self._renew_in(self.renewal_in_seconds)

    def close(self) -> None:
        """Stop renewing. The session itself stays good; its token lapses by itself."""
        self._started = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            self._task.cancel()

    async def closed(self) -> None:
        """Close, and wait until nothing runs any more."""
        self.close()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def renew(self) -> None:
        """Get a fresh token now. Raises SessionExpired, SessionRevoked, and what logging on again raises."""
        before = self.token
        async with self.changing:
            if self.token != before:
                return  # another caller has just done it
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
        """Go on with another token of the same session, just received."""
        self.info = session
        self._renewal = Renewal.of(session, time.monotonic(), random.random())
        if self._started:
            self._renew_in(self.renewal_in_seconds)
        if self._on_change is not None:
            self._on_change(session)

    def check_within(self, seconds: float) -> None:
        """Have the server confirm the session, by a renewal, at some moment of the next so many seconds.

        For a session whose end may have been announced unheard.
        """
        if self.end_reason is None and (self._task is None or self._task.done()):
            self._renew_in(min(self.renewal_in_seconds, random.uniform(0.0, seconds)))

    def concerned_by(self, notice: SessionsEnded) -> bool:
        """Whether the announcement says that this session is over."""
        return is_ended_by(self.info, notice)

    def end(self, reason: errors.RestanteError) -> None:
        """The session is over."""
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
            elif self._started:  # the server is away: the token may last until it is back
                self._renew_in(self._renewal.pause_seconds)
