"""Values that core calls, view and commands exchange; only `core/` handles protobuf messages. *Pure.*

Columns have one entry for each message, in ascending order of UIDs unless noted otherwise.
"""

from __future__ import annotations

import datetime
import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from restante_gateways.imap.grammar.flags import Flags
from restante_gateways.imap.grammar.sets import MAX_NUMBER
from restante_mail.ranges import Range

SEPARATOR = "/"


class Place(NamedTuple):
    """A folder of a mailbox, by ids."""

    mailbox_id: int
    folder_id: int


class FolderPath(NamedTuple):
    """A folder by its names from the top of a mailbox down; it need not exist."""

    mailbox_id: int
    path: tuple[str, ...]


Target: TypeAlias = Place | FolderPath


class Role(enum.Enum):
    """The role of a folder in its mailbox: INBOX, or a special use (RFC 6154 2)."""

    INBOX = enum.auto()
    ARCHIVE = enum.auto()
    DRAFTS = enum.auto()
    JUNK = enum.auto()
    SENT = enum.auto()
    TRASH = enum.auto()


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder at one moment."""

    place: Place
    path: tuple[str, ...]
    role: Role | None = None
    change_number: int = 0
    uid_validity: int = 0
    uid_next: int = 0
    recent_uid: int = 0  # lowest UID not yet reported as \\Recent
    message_count: int = 0
    unread_count: int = 0


def full_name(path: Sequence[str]) -> str:
    """A folder's path as one name; the first level `inbox` in any letter case becomes INBOX."""
    name = SEPARATOR.join(path)
    return "INBOX" + name[5:] if name[:5].upper() == "INBOX" and name[5:6] in ("", SEPARATOR) else name


# --- messages of a folder ---


@dataclass(frozen=True, slots=True)
class Messages:
    """Messages of a folder by ascending ranges of UIDs; calls ignore UIDs without a message."""

    place: Place
    uids: Sequence[Range]

    @classmethod
    def all_of(cls, place: Place) -> Messages:
        """Every message of a folder."""
        return cls(place, ((1, MAX_NUMBER),))


@dataclass(frozen=True, slots=True)
class RemovedMessages:
    """Messages by their ids, including removed ones, which stay readable for an hour."""

    mailbox_id: int
    message_ids: Sequence[int]


@dataclass(slots=True)
class Changes:
    """Changes of a folder between two change numbers, or a piece of a snapshot, without `since_change_number`."""

    since_change_number: int = 0
    change_number: int = 0
    uids: Sequence[int] = ()
    message_ids: Sequence[int] = ()
    flags: Sequence[int] = ()  # sums of SystemFlag
    change_numbers: Sequence[int] = ()
    keyword_sets: Sequence[int] = ()  # indices into `keywords`; empty where no message has keywords
    keywords: Sequence[tuple[str, ...]] = ()
    vanished: Sequence[Range] = ()  # removed UIDs, in any order; may include some that the reader never had
    uid_next: int = 0
    recent_uid: int = 0


@dataclass(frozen=True, slots=True)
class Commit:
    """A change that the core has acknowledged."""

    change_number: int = 0  # 0: nothing was changed
    epoch: int = 0  # the store's; 0: not known


@dataclass(frozen=True, slots=True)
class Changed:
    """The outcome of a change to the messages of a folder."""

    commit: Commit
    changes: Changes | None  # above the requested change number; None: not requested, or too many for an answer


# --- reading ---


@dataclass(slots=True)
class Cells:
    """One section of some messages, a cell for each.

    `Rest` values continue a cell that is shorter than its total. A negative total means that the part does not exist.
    """

    octets: Sequence[bytes]
    total_octets: Sequence[int]


@dataclass(slots=True)
class Rows:
    """Facts and sections of some messages; only the requested columns are filled."""

    uids: Sequence[int] = ()
    message_ids: Sequence[int] = ()
    received_at_seconds: Sequence[int] = ()  # since 1970-01-01 UTC
    received_offset_minutes: Sequence[int] = ()  # east of UTC
    size_octets: Sequence[int] = ()
    envelopes: Sequence[bytes] = ()  # complete ENVELOPE values in the syntax of RFC 9051 7.5.2
    bodies: Sequence[bytes] = ()
    body_structures: Sequence[bytes] = ()
    sections: Sequence[Cells] = ()


@dataclass(slots=True)
class Rest:
    """More octets of an incomplete cell of the last row."""

    section_index: int
    octets: bytes


# --- changing ---


class FlagOperation(enum.Enum):
    """The effect of a STORE on the flags of a message."""

    ADD = enum.auto()
    REMOVE = enum.auto()
    REPLACE = enum.auto()


@dataclass(frozen=True, slots=True)
class NewMessage:
    """Flags and date of a message to append, without its octets."""

    flags: Flags
    received_at: datetime.datetime | None  # aware, and the zone is preserved; None: now


@dataclass(frozen=True, slots=True)
class Appended:
    """The outcome of an APPEND."""

    place: Place
    uid_validity: int
    uid: int
    message_id: int
    commit: Commit
    since_change_number: int  # the folder's change number before; no other change lies between it and the commit


@dataclass(frozen=True, slots=True)
class Stored(Changed):
    """The outcome of a change of flags."""

    modified: Sequence[Range]  # UIDs of messages left unchanged, since their change number exceeded the condition


@dataclass(frozen=True, slots=True)
class Copied:
    """The outcome of a copy: the n-th source UID became the n-th target UID."""

    target: Place
    uid_validity: int  # of the target
    source_uids: Sequence[Range]
    target_uids: Sequence[Range]
    commit: Commit


@dataclass(frozen=True, slots=True)
class Moved(Copied):
    """The outcome of a move."""

    changes: Changes | None  # as in Changed


@dataclass(frozen=True, slots=True)
class Usage:
    """Storage used and allowed in a mailbox."""

    used_octets: int
    quota_octets: int | None  # None: no limit
