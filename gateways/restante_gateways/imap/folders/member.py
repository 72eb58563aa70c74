"""The protocol of the sessions that share an open folder."""

from __future__ import annotations

from typing import Protocol

from restante_gateways.imap.core.folders import FolderCalls


class Member(Protocol):
    """A session that has a folder open. The folder calls the core through it, and notifies it of changes."""

    @property
    def calls(self) -> FolderCalls:
        """Folder calls with this session's account."""
        ...

    def folder_changed(self) -> None:
        """Handle a change of the view, which an idling client must receive at once. Must not block."""
        ...

    def folder_lost(self, reason: str) -> None:
        """End the session: the folder was deleted, or its UIDs are no longer valid. Must not block."""
        ...
