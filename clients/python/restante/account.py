"""The user's own account."""

from __future__ import annotations

from restante.calls import Calls
from restante.v1 import methods
from restante.v1.session_pb2 import GetSessionRequest, Session


class Account:
    """The account of the session: its name and address, its password, and the end of the session."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def get(self) -> Session:
        """The session as the server has it now, without its token: account, address, display name, mailbox."""
        return (await self._calls.execute(methods.GET_SESSION, GetSessionRequest())).session

    async def change_password(self, old: str, new: str) -> None:
        """Set a new password. All other sessions of the account end. Raises AuthenticationFailed, WeakPassword."""
        await self._calls.session.change_password(old, new, timeout=self._calls.timeout_seconds)

    async def log_off(self) -> None:
        """End the session at the server."""
        await self._calls.session.log_off()
