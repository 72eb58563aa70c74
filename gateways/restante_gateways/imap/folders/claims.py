"""Claims of messages reported as \\Recent: one call to the core for all sessions of the process (RFC 3501 2.3.2)."""

from __future__ import annotations

import asyncio

import structlog

from restante import errors
from restante_gateways.imap.core.folders import FolderCalls
from restante_gateways.imap.values import Place
from restante_gateways.imap.view.folder import FolderView

log = structlog.get_logger("imap")


class RecentClaims:
    """Claims in one folder.

    This process reports no message as \\Recent twice. Other processes may report it too, until the claim.
    """

    def __init__(self, place: Place, view: FolderView, after_seconds: float) -> None:
        self._place, self._view, self._after_seconds = place, view, after_seconds
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def claim_soon(self, calls: FolderCalls) -> None:
        """Claim the messages reported as \\Recent after `after_seconds`, together with later ones."""
        if self._timer is None and self._view.claimed_uid > self._view.recent_uid:
            self._timer = asyncio.get_running_loop().call_later(self._after_seconds, self._begin, calls)

    def _begin(self, calls: FolderCalls) -> None:
        self._timer = None
        self._task = asyncio.get_running_loop().create_task(self._claim(calls))

    async def _claim(self, calls: FolderCalls) -> None:
        try:
            uid_next = await calls.claim_recent(self._place)
        except errors.RestanteError as error:
            log.debug("recent messages not claimed", reason=error.reason or "unknown")
        else:
            self._view.note_claim(uid_next)
