"""What commands are made of: flags, fetch items, search keys. Plain values, no behaviour of a session. *Pure.*"""

from __future__ import annotations

import datetime
import enum
from dataclasses import dataclass
from typing import TypeAlias

from restante_gateways.imap.grammar.sets import SequenceSet


class SystemFlag(enum.IntFlag):
    """The system flags a message keeps (RFC 3501 2.3.2). `\\Recent` belongs to a session, not to a message."""

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
    """System flags and keywords. Keywords keep their spelling; letter case does not tell two of them apart."""

    system: SystemFlag = SystemFlag(0)
    keywords: tuple[str, ...] = ()

    def names(self) -> list[str]:
        """All of them as they are written in a flag list."""
        return [name for flag, name in SYSTEM_FLAG_NAMES.items() if flag in self.system] + list(self.keywords)


class SectionText(enum.Enum):
    """What of a part a section names (RFC 3501 6.4.5 `section-text`)."""

    WHOLE = b""
    HEADER = b"HEADER"
    HEADER_FIELDS = b"HEADER.FIELDS"
    HEADER_FIELDS_NOT = b"HEADER.FIELDS.NOT"
    TEXT = b"TEXT"
    MIME = b"MIME"


@dataclass(frozen=True, slots=True)
class Section:
    """`[1.2.HEADER.FIELDS (TO CC)]`: a part by its numbers (none: the message itself) and what of it."""

    part: tuple[int, ...] = ()
    text: SectionText = SectionText.WHOLE
    fields: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        """The section with its brackets, as the FETCH response repeats it."""
        pieces = [b"%d" % number for number in self.part]
        if self.text is not SectionText.WHOLE:
            pieces.append(self.text.value)
        spelled = b".".join(pieces)
        if self.text in (SectionText.HEADER_FIELDS, SectionText.HEADER_FIELDS_NOT):
            from restante_gateways.imap.grammar import encoder

            spelled += b" (" + b" ".join(map(encoder.astring, self.fields)) + b")"
        return b"[" + spelled + b"]"


@dataclass(frozen=True, slots=True)
class Partial:
    """`<offset.count>`: octets of a section."""

    offset: int
    count: int


class FetchFact(enum.Enum):
    """Fetch items that are facts beside the message."""

    FLAGS = b"FLAGS"
    UID = b"UID"
    INTERNALDATE = b"INTERNALDATE"
    SIZE = b"RFC822.SIZE"
    ENVELOPE = b"ENVELOPE"
    BODY = b"BODY"
    BODYSTRUCTURE = b"BODYSTRUCTURE"
    MODSEQ = b"MODSEQ"


class Legacy(enum.Enum):
    """The old names of three sections; the response bears the name that was asked."""

    RFC822 = b"RFC822"
    RFC822_HEADER = b"RFC822.HEADER"
    RFC822_TEXT = b"RFC822.TEXT"


@dataclass(frozen=True, slots=True)
class FetchSection:
    """Octets of a message: BODY[...], BODY.PEEK[...] and the RFC822 names."""

    section: Section
    partial: Partial | None = None
    peek: bool = False
    legacy: Legacy | None = None

    @property
    def sets_seen(self) -> bool:
        """Reading it marks the message \\Seen (RFC 3501 6.4.5; RFC822.HEADER does not)."""
        return not self.peek and self.legacy is not Legacy.RFC822_HEADER

    def label(self) -> bytes:
        """The name of the item in the response: without PEEK, and of a partial only the offset (RFC 3501 6.4.5)."""
        if self.legacy is not None:
            return self.legacy.value
        origin = b"<%d>" % self.partial.offset if self.partial else b""
        return b"BODY" + self.section.encode() + origin

    def encode(self) -> bytes:
        """The item as a client asks for it."""
        if self.legacy is not None:
            return self.legacy.value
        partial = b"<%d.%d>" % (self.partial.offset, self.partial.count) if self.partial else b""
        return (b"BODY.PEEK" if self.peek else b"BODY") + self.section.encode() + partial


FetchItem: TypeAlias = FetchFact | FetchSection

MACROS: dict[bytes, tuple[FetchItem, ...]] = {
    b"ALL": (FetchFact.FLAGS, FetchFact.INTERNALDATE, FetchFact.SIZE, FetchFact.ENVELOPE),
    b"FAST": (FetchFact.FLAGS, FetchFact.INTERNALDATE, FetchFact.SIZE),
    b"FULL": (FetchFact.FLAGS, FetchFact.INTERNALDATE, FetchFact.SIZE, FetchFact.ENVELOPE, FetchFact.BODY),
}


def encode_fetch_item(item: FetchItem) -> bytes:
    """The item as a client asks for it."""
    return item.value if isinstance(item, FetchFact) else item.encode()


# --- search keys (RFC 3501 6.4.4) -------------------------------------------------------------------------------------


class DateKind(enum.Enum):
    """Which day a date key looks at: the day of arrival, or the one in the Date field (RFC 3501 6.4.4)."""

    INTERNAL = ""
    SENT = "SENT"


class Comparison(enum.Enum):
    """How a date key compares."""

    BEFORE = "BEFORE"
    ON = "ON"
    SINCE = "SINCE"


class TextScope(enum.Enum):
    """Where a text key looks."""

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
    """RFC822.SIZE is larger (or smaller) than this many octets; equal is neither."""

    larger: bool
    octets: int


@dataclass(frozen=True, slots=True)
class SearchHeader:
    """A header field, decoded, holds the text; without text: the field exists (RFC 3501 6.4.4)."""

    field: str
    text: str


@dataclass(frozen=True, slots=True)
class SearchText:
    """The decoded text of the body, or of header and body, holds the text, letter case aside."""

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
    | SearchFlag
    | SearchRecent
    | SearchDate
    | SearchSize
    | SearchHeader
    | SearchText
    | SearchModSeq
)


class SearchReturn(enum.Flag):
    """What an extended SEARCH returns (RFC 4731 3.1)."""

    MIN = enum.auto()
    MAX = enum.auto()
    ALL = enum.auto()
    COUNT = enum.auto()


class StatusItem(enum.Enum):
    """Items of STATUS (RFC 3501 6.3.10, RFC 7162 3.1.7)."""

    MESSAGES = b"MESSAGES"
    RECENT = b"RECENT"
    UIDNEXT = b"UIDNEXT"
    UIDVALIDITY = b"UIDVALIDITY"
    UNSEEN = b"UNSEEN"
    HIGHESTMODSEQ = b"HIGHESTMODSEQ"
