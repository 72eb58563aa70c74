"""The sessions that share an open folder, as the folder sees them."""

from __future__ import annotations

from typing import Protocol

from restante_gateways.imap.core.folders import FolderCalls


class Member(Protocol):
    """A session that has a folder open: it lends its calls, and hears of changes."""

    @property
    def calls(self) -> FolderCalls:
        """Calls as this session's account."""
        ...

    def folder_changed(self) -> None:
        """The view has changed; in IDLE the client must learn it now. Must not wait."""
        ...

    def folder_lost(self, reason: str) -> None:
        """The view is void: the folder is gone, or its UIDs are. The session must end. Must not wait."""
        ...
