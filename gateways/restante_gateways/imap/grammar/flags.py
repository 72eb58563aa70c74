"""Flags of messages (RFC 3501 2.3.2). *Pure.*"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class SystemFlag(enum.IntFlag):
    """The stored system flags of a message (RFC 3501 2.3.2). `\\Recent` belongs to a session, not to a message."""

    SEEN = 1
    ANSWERED = 2
    FLAGGED = 4
    DELETED = 8
    DRAFT = 16


SYSTEM_FLAG_NAMES: dict[SystemFlag, str] = {
    SystemFlag.ANSWERED: "\\Answered",
    SystemFlag.FLAGGED: "\\Flagged",
    SystemFlag.DELETED: "\\Deleted",
    SystemFlag.SEEN: "\\Seen",
    SystemFlag.DRAFT: "\\Draft",
}
SYSTEM_FLAGS_BY_NAME: dict[str, SystemFlag] = {name.lower(): flag for flag, name in SYSTEM_FLAG_NAMES.items()}


@dataclass(frozen=True, slots=True)
class Flags:
    """System flags and keywords. Keywords keep their spelling, but compare case-insensitively."""

    system: SystemFlag = SystemFlag(0)
    keywords: tuple[str, ...] = ()

    def names(self) -> list[str]:
        """All flags and keywords as they appear in a flag list."""
        return [name for flag, name in SYSTEM_FLAG_NAMES.items() if flag in self.system] + list(self.keywords)
