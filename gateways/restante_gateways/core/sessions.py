"""Account sessions of a process: each token is kept good, and every session ends when the core says so.

The announcement comes by Watch, within 5 seconds. A Watch stream that broke may have missed one, so that all sessions
are confirmed by the core soon after it has resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from restante import errors
from restante.keeper import SessionKeeper
from restante.v1 import session_pb2, sync_pb2
from restante_gateways.core.link import Operations, Watch

CONFIRMED_WITHIN_SECONDS = 4.0  # after a gap in the Watch stream

OnEnd = Callable[[errors.RestanteError], None]


class AccountSession(SessionKeeper):
    """One user's session with the core, kept from login until `close` or its end."""

    __slots__ = ("_sessions", "client_address")

    def __init__(
        self, sessions: AccountSessions, session: session_pb2.Session, client_address: str, on_end: OnEnd
    ) -> None:
        super().__init__(sessions.core, session, on_end, client_address=client_address)
        self._sessions, self.client_address = sessions, client_address

    @property
    def account_id(self) -> int:
        """The account."""
        return self.info.account_id

    @property
    def address(self) -> str:
        """The account's address."""
        return self.info.address

    @property
    def mailbox_id(self) -> int:
        """The account's own mailbox."""
        return self.info.mailbox_id

    def close(self) -> None:
        """Keep it no longer; `on_end` is not called any more. The token lapses by itself."""
        super().close()
        self._sessions.forget(self)


class AccountSessions:
    """All account sessions of a process."""

    def __init__(self, core: Operations, confirmed_within_seconds: float = CONFIRMED_WITHIN_SECONDS) -> None:
        """`follow` has them end when they should."""
        self.core, self._confirmed_within_seconds = core, confirmed_within_seconds
        self._by_account: dict[int, set[AccountSession]] = {}

    def __iter__(self) -> Iterator[AccountSession]:
        return (session for held in tuple(self._by_account.values()) for session in tuple(held))

    def follow(self, watch: Watch) -> None:
        """Learn from the process's Watch stream which sessions are over."""
        watch.on_sessions_ended(self.ended)
        watch.on_resumed(self.confirm)

    def keep(self, session: session_pb2.Session, client_address: str, on_end: OnEnd) -> AccountSession:
        """Keep a session that the core has just given to a client at this address.

        `on_end` is called at most once, with the reason, when the session is over before it is closed.
        """
        kept = AccountSession(self, session, client_address, on_end)
        self._by_account.setdefault(kept.account_id, set()).add(kept)
        kept.start()
        return kept

    def forget(self, session: AccountSession) -> None:
        """Leave a closed session out."""
        held = self._by_account.get(session.account_id)
        if held is not None:
            held.discard(session)
            if not held:
                del self._by_account[session.account_id]

    def ended(self, notice: sync_pb2.SessionsEnded) -> None:
        """Take an announcement: a password was changed, an account disabled, a session logged off."""
        for session in tuple(self._by_account.get(notice.account_id, ())):
            if session.concerned_by(notice):
                session.end(errors.SessionRevoked())

    def confirm(self) -> None:
        """Ask the core about every session, in a few seconds: an announcement may have been missed."""
        for session in self:
            session.check_within(self._confirmed_within_seconds)
