"""Parsed search keys (RFC 3501 6.4.4; RFC 4731; RFC 7162 3.1.5). *Pure.*"""

from __future__ import annotations

import datetime
import enum
from dataclasses import dataclass
from typing import TypeAlias

from restante_gateways.imap.grammar.flags import SystemFlag
from restante_gateways.imap.grammar.sets import SequenceSet
from restante_mail.ranges import Range


class DateKind(enum.Enum):
    """The day that a date key compares: INTERNALDATE or the Date field (RFC 3501 6.4.4)."""

    INTERNAL = ""
    SENT = "SENT"


class Comparison(enum.Enum):
    """The comparison of a date key."""

    BEFORE = "BEFORE"
    ON = "ON"
    SINCE = "SINCE"


class TextScope(enum.Enum):
    """The text that a text key searches: the body, or header and body."""

    BODY = b"BODY"
    TEXT = b"TEXT"


@dataclass(frozen=True, slots=True)
class SearchAnd:
    """Every key holds. Without keys: every message (`ALL`)."""

    keys: tuple[SearchKey, ...] = ()


@dataclass(frozen=True, slots=True)
class SearchOr:
    """One of the two holds."""

    first: SearchKey
    second: SearchKey


@dataclass(frozen=True, slots=True)
class SearchNot:
    """The key does not hold."""

    key: SearchKey


@dataclass(frozen=True, slots=True)
class SearchMessages:
    """The message is in a set of sequence numbers or UIDs."""

    messages: SequenceSet
    uid: bool


@dataclass(frozen=True, slots=True)
class SearchUids:
    """The UID is in these ascending ranges. The view substitutes this for keys that only the view can evaluate."""

    uids: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class SearchFlag:
    """A system flag (given by its bit) or a keyword is set."""

    flag: SystemFlag | str


@dataclass(frozen=True, slots=True)
class SearchRecent:
    """The message is recent to this session."""


@dataclass(frozen=True, slots=True)
class SearchDate:
    """The day of a message, compared without time and zone."""

    kind: DateKind
    comparison: Comparison
    day: datetime.date


@dataclass(frozen=True, slots=True)
class SearchSize:
    """RFC822.SIZE is strictly larger (or smaller) than this many octets."""

    larger: bool
    octets: int


@dataclass(frozen=True, slots=True)
class SearchHeader:
    """A decoded header field contains the text; an empty text matches any such field (RFC 3501 6.4.4)."""

    field: str
    text: str


@dataclass(frozen=True, slots=True)
class SearchText:
    """The decoded text of the body, or of header and body, contains the text case-insensitively."""

    scope: TextScope
    text: str


@dataclass(frozen=True, slots=True)
class SearchModSeq:
    """The message's change number is this or higher (RFC 7162 3.1.5)."""

    change_number: int


SearchKey: TypeAlias = (
    SearchAnd
    | SearchOr
    | SearchNot
    | SearchMessages
    | SearchUids
    | SearchFlag
    | SearchRecent
    | SearchDate
    | SearchSize
    | SearchHeader
    | SearchText
    | SearchModSeq
)


class SearchReturn(enum.Flag):
    """The results of an extended SEARCH (RFC 4731 3.1)."""

    MIN = enum.auto()
    MAX = enum.auto()
    ALL = enum.auto()
    COUNT = enum.auto()
