"""Settings of open and cached folders. *Pure.*"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FolderSettings:
    """Times and limits; the defaults suit every size of server."""

    linger_seconds: float = 10.0  # of the watch after the last session has closed the folder: clients come back
    claim_after_seconds: float = 3.0  # delay of a claim of recent messages, which gathers several
    retry_seconds: float = 1.0  # between two attempts to read missed changes
    patience_seconds: float = 0.1  # wait for the watch to deliver the many changes of a command of this process
    kept_messages: int = 2_000_000  # in all cached views: about 50 MB
    kept_views: int = 2_000
