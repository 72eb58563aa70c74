"""Account sessions of a process: their tokens are renewed, and a session ends when the core revokes it.

The core's notice arrives by Watch within 5 seconds. A broken Watch stream may have missed one, so the process checks
every session with the core soon after the stream has resumed.
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
    """One user's session with the core, renewed from login until `close` or its end."""

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
        """Stop renewing the session and calling `on_end`. The token expires by itself."""
        super().close()
        self._sessions.forget(self)


class AccountSessions:
    """All account sessions of a process."""

    def __init__(self, core: Operations, confirmed_within_seconds: float = CONFIRMED_WITHIN_SECONDS) -> None:
        """Call `follow` afterwards, so that revoked sessions end."""
        self.core, self._confirmed_within_seconds = core, confirmed_within_seconds
        self._by_account: dict[int, set[AccountSession]] = {}

    def __iter__(self) -> Iterator[AccountSession]:
        return (session for held in tuple(self._by_account.values()) for session in tuple(held))

    def follow(self, watch: Watch) -> None:
        """End revoked sessions by the notices of the process's Watch stream."""
        watch.on_sessions_ended(self.ended)
        watch.on_resumed(self.confirm)

    def keep(self, session: session_pb2.Session, client_address: str, on_end: OnEnd) -> AccountSession:
        """Renew a session that the core has just opened for a client at this address.

        Calls `on_end` at most once, with the reason, if the session ends before `close`.
        """
        kept = AccountSession(self, session, client_address, on_end)
        self._by_account.setdefault(kept.account_id, set()).add(kept)
        kept.start()
        return kept

    def forget(self, session: AccountSession) -> None:
        """Remove a closed session."""
        held = self._by_account.get(session.account_id)
        if held is not None:
            held.discard(session)
            if not held:
                del self._by_account[session.account_id]

    def ended(self, notice: sync_pb2.SessionsEnded) -> None:
        """Handle a notice of ended sessions: a changed password, a disabled account, a logoff."""
        for session in tuple(self._by_account.get(notice.account_id, ())):
            if session.concerned_by(notice):
                session.end(errors.SessionRevoked())

    def confirm(self) -> None:
        """Check every session with the core within a few seconds, since a notice may have been missed."""
        for session in self:
            session.check_within(self._confirmed_within_seconds)
