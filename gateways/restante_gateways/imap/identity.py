"""Whose connection it is: the session the core gave at login, and what is known of its mailbox."""

from __future__ import annotations

from collections.abc import Callable

from restante.v1 import session_pb2
from restante_gateways.core.sessions import AccountSessions


class Identity:
    """A proven session, kept until `close` or its end, so that a connection in IDLE keeps it for a day."""

    __slots__ = ("_kept", "inbox_id", "targets")

    def __init__(
        self,
        accounts: AccountSessions,
        session: session_pb2.Session,
        client_address: str,
        on_over: Callable[[str], None],
    ) -> None:
        """`on_over` is called once, with a text for the client, when the session is over before it is closed."""
        self._kept = accounts.keep(
            session, client_address, lambda _: on_over("Your session is over; please log in again.")
        )
        self.inbox_id = 0  # the Inbox's folder, once it is known
        self.targets: set[str] = set()  # names of folders that were there when something was put into them

    @property
    def token(self) -> bytes:
        """The token of this moment."""
        return self._kept.token

    @property
    def client_address(self) -> str:
        """The client's address."""
        return self._kept.client_address

    @property
    def mailbox_id(self) -> int:
        """The account's own mailbox."""
        return self._kept.mailbox_id

    @property
    def account_id(self) -> int:
        """The account."""
        return self._kept.account_id

    @property
    def address(self) -> str:
        """The account's address."""
        return self._kept.address

    def close(self) -> None:
        """Keep it no longer. The token lapses by itself."""
        self._kept.close()
