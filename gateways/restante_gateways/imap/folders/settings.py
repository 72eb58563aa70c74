"""Settings of the folders that a process has open. *Pure.*"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FolderSettings:
    """Times and bounds; the defaults suit every size of server."""

    linger_seconds: float = 10.0  # a folder stays watched after its last session has closed it: clients come back
    claim_after_seconds: float = 3.0  # claims of recent messages are gathered so long
    retry_seconds: float = 1.0  # between two attempts to catch up
    patience_seconds: float = 0.1  # for the watch to bring the many changes that a command of ours has committed
    kept_messages: int = 2_000_000  # in views that no session has open: about 50 MB
    kept_views: int = 2_000
