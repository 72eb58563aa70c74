"""Values that the calls to the core, the view and the commands exchange; the wire's messages end below them. *Pure.*

Columns have one entry for each message, in ascending order of UIDs unless something else is said.
"""

from __future__ import annotations

import datetime
import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from restante_gateways.imap.grammar.flags import Flags
from restante_gateways.imap.grammar.sets import MAX_NUMBER
from restante_mail.ranges import Range

SEPARATOR = "/"


@dataclass(frozen=True, slots=True)
class Place:
    """A folder of a mailbox: the account's own mailbox, or another that it may use."""

    mailbox_id: int
    folder_id: int


@dataclass(frozen=True, slots=True)
class FolderPath:
    """A folder by its names from the top of a mailbox down, whether or not it exists."""

    mailbox_id: int
    path: tuple[str, ...]


Target: TypeAlias = Place | FolderPath


class Role(enum.Enum):
    """The role of a folder in its mailbox (RFC 6154 2, but for INBOX)."""

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
    recent_uid: int = 0  # UIDs from here on have not been reported as \\Recent
    message_count: int = 0
    unread_count: int = 0


def full_name(path: Sequence[str]) -> str:
    """A folder's path as one name; the Inbox is INBOX."""
    name = SEPARATOR.join(path)
    return "INBOX" + name[5:] if name[:5].upper() == "INBOX" and name[5:6] in ("", SEPARATOR) else name


# --- messages of a folder ---


@dataclass(frozen=True, slots=True)
class Messages:
    """Messages of a folder by ascending ranges of UIDs; those that are not there are passed over."""

    place: Place
    uids: Sequence[Range]

    @classmethod
    def all_of(cls, place: Place) -> Messages:
        """Every message of a folder."""
        return cls(place, ((1, MAX_NUMBER),))


@dataclass(frozen=True, slots=True)
class RemovedMessages:
    """Messages by their ids, also those in no folder: removed, and still readable for an hour."""

    mailbox_id: int
    message_ids: Sequence[int]


@dataclass(slots=True)
class Changes:
    """Changes of a folder between two change numbers, or a piece of a snapshot, which has no `since_change_number`."""

    since_change_number: int = 0
    change_number: int = 0
    uids: Sequence[int] = ()
    message_ids: Sequence[int] = ()
    flags: Sequence[int] = ()  # sums of SystemFlag
    change_numbers: Sequence[int] = ()
    keyword_sets: Sequence[int] = ()  # indices into `keywords`; empty where no message has keywords
    keywords: Sequence[tuple[str, ...]] = ()
    vanished: Sequence[Range] = ()  # UIDs that are gone, in any order; may name some that the reader never had
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
    changes: Changes | None  # of the folder since the number asked for; None: not asked for, or too many for an answer


# --- reading ---


@dataclass(slots=True)
class Cells:
    """One section of some messages. A cell shorter than its total goes on as Rest; a total below 0: no such part."""

    octets: Sequence[bytes]
    total_octets: Sequence[int]


@dataclass(slots=True)
class Rows:
    """Facts and sections of some messages: the columns that were asked for."""

    uids: Sequence[int] = ()
    message_ids: Sequence[int] = ()
    received_at_seconds: Sequence[int] = ()  # since 1970-01-01 UTC
    received_offset_minutes: Sequence[int] = ()  # east of UTC
    size_octets: Sequence[int] = ()
    envelopes: Sequence[bytes] = ()  # finished, as RFC 9051 7.5.2 spells them
    bodies: Sequence[bytes] = ()
    body_structures: Sequence[bytes] = ()
    sections: Sequence[Cells] = ()


@dataclass(slots=True)
class Rest:
    """More octets of the cell of the last row that is not whole yet."""

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
    """A message to be added, its octets apart."""

    flags: Flags
    received_at: datetime.datetime | None  # aware, its zone is kept; None: now


@dataclass(frozen=True, slots=True)
class Appended:
    """An added message."""

    place: Place
    uid_validity: int
    uid: int
    message_id: int
    commit: Commit
    since_change_number: int  # the folder's number before: nothing lies between that and the commit


@dataclass(frozen=True, slots=True)
class Stored(Changed):
    """The outcome of a change of flags."""

    modified: Sequence[Range]  # UIDs of messages left alone, since they had changed meanwhile


@dataclass(frozen=True, slots=True)
class Copied:
    """The outcome of a copy: the n-th UID of one set belongs to the n-th of the other."""

    target: Place
    uid_validity: int  # of the target
    source_uids: Sequence[Range]
    target_uids: Sequence[Range]
    commit: Commit


@dataclass(frozen=True, slots=True)
class Moved(Copied):
    """The outcome of a move."""

    changes: Changes | None  # as of Changed


@dataclass(frozen=True, slots=True)
class Usage:
    """How full a mailbox is."""

    used_octets: int
    quota_octets: int | None  # None: no limit
