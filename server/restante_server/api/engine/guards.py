"""The end of open streams with their sessions: by logoff, a changed credential, a disabled account or token expiry.

Calls and operations of a batch prove their session when they begin. An open stream needs a guard that ends it later.
Everything here belongs to the event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from restante.errors import RestanteError, SessionExpired, SessionRevoked
from restante.v1.sync_pb2 import SessionsEnded
from restante_server.api.engine.caller import Caller
from restante_server.directory.sessions import Sessions

SECOND = 1_000_000  # microseconds
LONGEST_SECONDS = 86_400.0

End = Callable[[RestanteError], None]
"""Called once with SessionRevoked or SessionExpired. Must not block."""


@dataclass(eq=False, slots=True)
class Guard:
    """One stream, or one subscription of a stream that carries many sessions."""

    caller: Caller
    end: End
    with_token: bool  # the stream ends with the token that began it, even if the session is renewed
    expiry: asyncio.TimerHandle | None = field(default=None, repr=False)


class Guards:
    """The guards by session. `sessions_ended`, `revoked` and `renewed` receive the events of sessions."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._by_session: dict[int, dict[Guard, None]] = {}
        self._of_account: dict[int, set[int]] = {}  # {account: its sessions above}

    def hold(self, caller: Caller, end: End, *, with_token: bool = False) -> Callable[[], None]:
        """Begin to guard a stream of a caller's session. Returns a function that ends the guard.

        A second call of that function does nothing. A caller without a session, such as a gateway, gets no guard.
        """
        if not caller.account_id:
            return _nothing
        guard = Guard(caller, end, with_token)
        self._by_session.setdefault(caller.session_id, {})[guard] = None
        self._of_account.setdefault(caller.account_id, set()).add(caller.session_id)
        self._set_expiry(guard, caller.expires_at)
        return lambda: self._release(guard)

    def sessions_ended(self, ended: SessionsEnded) -> None:
        """End the streams of an account's ended sessions: after a logoff, a changed password or a disabled account."""
        for session_id in tuple(self._of_account.get(ended.account_id, ())):
            for guard in tuple(self._by_session.get(session_id, ())):
                if guard.caller.credential_version < ended.credential_version or self._is_over(guard.caller):
                    self._end(guard, SessionRevoked())

    def revoked(self, session_ids: Iterable[int]) -> None:
        """End the streams of sessions that were logged off at any core."""
        for session_id in session_ids:
            for guard in tuple(self._by_session.get(session_id, ())):
                self._end(guard, SessionRevoked())

    def renewed(self, session_id: int, expires_at: int) -> None:
        """Let a session's streams go on until its new token expires (microseconds since 1970-01-01 UTC)."""
        for guard in self._by_session.get(session_id, ()):
            if not guard.with_token:
                self._set_expiry(guard, expires_at)

    def __len__(self) -> int:
        return sum(map(len, self._by_session.values()))

    def _is_over(self, caller: Caller) -> bool:
        return self._sessions.is_over(caller.account_id, caller.credential_version, caller.session_id)

    def _set_expiry(self, guard: Guard, expires_at: int) -> None:
        if guard.expiry is not None:
            guard.expiry.cancel()
        left = expires_at / SECOND - time.time()
        loop = asyncio.get_running_loop()
        if left > LONGEST_SECONDS:
            guard.expiry = loop.call_later(LONGEST_SECONDS, self._set_expiry, guard, expires_at)
        else:
            guard.expiry = loop.call_later(left, self._end, guard, SessionExpired())

    def _end(self, guard: Guard, why: RestanteError) -> None:
        self._release(guard)
        guard.end(why)

    def _release(self, guard: Guard) -> None:
        if guard.expiry is not None:
            guard.expiry.cancel()
            guard.expiry = None
        session_id, account_id = guard.caller.session_id, guard.caller.account_id
        guards = self._by_session.get(session_id, {})
        if guard not in guards:
            return
        del guards[guard]
        if guards:
            return
        del self._by_session[session_id]
        sessions = self._of_account[account_id]
        sessions.discard(session_id)
        if not sessions:
            del self._of_account[account_id]


def _nothing() -> None:
    pass
