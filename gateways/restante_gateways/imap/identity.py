"""Whose connection it is: the session the core gave at login, and its token kept fresh."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from restante import errors
from restante.link import CoreLink
from restante.renewal import Renewal
from restante.v1 import methods, session_pb2


class Identity:
    """A proven session. Its token is renewed by one timer, so that a connection in IDLE keeps it for a day."""

    __slots__ = (
        "_link", "_on_over", "_renewal_times", "_session", "_task", "_timer", "client_address", "inbox_id", "targets",
    )  # fmt: skip

    def __init__(
        self, link: CoreLink, session: session_pb2.Session, client_address: str, on_over: Callable[[str], None]
    ) -> None:
        """`on_over` is told, once, when the session cannot be kept."""
        self._link, self._session, self._on_over = link, session, on_over
        self.client_address = client_address
        self.inbox_id = 0  # the Inbox's folder, once it is known
        self.targets: set[str] = set()  # names of folders that were there when something was put into them
        self._task: asyncio.Task[None] | None = None
        self._timer = self._schedule(session)

    @property
    def token(self) -> bytes:
        """The token of this moment."""
        return self._session.session_token

    @property
    def mailbox_id(self) -> int:
        """The account's own mailbox."""
        return self._session.mailbox_id

    @property
    def account_id(self) -> int:
        """The account."""
        return self._session.account_id

    @property
    def credential_version(self) -> int:
        """Sessions below the account's present version are over."""
        return self._session.credential_version

    @property
    def address(self) -> str:
        """The account's address."""
        return self._session.address

    def close(self) -> None:
        """Keep it no longer. The token lapses by itself."""
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _schedule(self, session: session_pb2.Session) -> asyncio.TimerHandle:
        loop = asyncio.get_running_loop()
        self._renewal_times = Renewal.of(session, loop.time(), random.random())
        return loop.call_at(self._renewal_times.due_at, self._renew)

    def _renew(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._renewal())

    async def _renewal(self) -> None:
        try:
            answer = await self._link.execute(
                methods.RENEW_SESSION,
                session_pb2.RenewSessionRequest(),
                session=self.token,
                client_address=self.client_address,
                independent=True,
            )
        except (errors.InvalidSession, errors.SessionExpired, errors.SessionRevoked):
            self._on_over("Your session is over; please log in again.")
        except errors.RestanteError:  # the core is away: the token may last until it is back
            pause = self._renewal_times.pause_seconds
            self._timer = asyncio.get_running_loop().call_later(pause, self._renew)
        else:
            self._session = answer.session
            self._timer = self._schedule(answer.session)
