"""The rules for folder names and paths."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Final

from restante.errors import FolderNameInvalid

SEPARATOR: Final = "/"
INBOX: Final = "Inbox"
LONGEST_OCTETS: Final = 255
DEEPEST: Final = 50  # levels


def folder_name(name: str) -> str:
    """The name as it is stored, in NFC. Raises FolderNameInvalid."""
    if not name.isascii():
        name = unicodedata.normalize("NFC", name)
    if not name:
        raise FolderNameInvalid(problem="must not be empty")
    if SEPARATOR in name:
        raise FolderNameInvalid(problem=f"must not have the separator {SEPARATOR!r}")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        raise FolderNameInvalid(problem="must not have control characters")
    if len(name.encode()) > LONGEST_OCTETS:
        raise FolderNameInvalid(problem=f"must be at most {LONGEST_OCTETS} octets long in UTF-8")
    return name


def folder_path(names: Sequence[str], *, at_top: bool) -> tuple[str, ...]:
    """The names as they are stored. At the top level any letter case of "inbox" is Inbox (RFC 3501 5.1).

    Raises FolderNameInvalid, also for an empty path and for one with more than DEEPEST levels.
    """
    if not names:
        raise FolderNameInvalid(problem="must not be empty")
    if len(names) > DEEPEST:
        raise FolderNameInvalid(problem=f"must have at most {DEEPEST} levels")
    path = tuple(folder_name(name) for name in names)
    if at_top and path[0].lower() == INBOX.lower():
        path = (INBOX, *path[1:])
    return path
