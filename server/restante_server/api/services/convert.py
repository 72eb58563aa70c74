"""Conversion between values of the store and messages of the contract."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from restante.errors import InvalidArgument, TooComplex
from restante.v1.folder_pb2 import Folder, FolderRole
from restante.v1.mailbox_pb2 import Mailbox
from restante.v1.message_pb2 import Section, SectionDecoding, SectionKind
from restante.v1.types_pb2 import CommitToken, FolderChanges, IdRange, KeywordSet, UidSet
from restante_mail import ranges
from restante_mail.idset import IdSet
from restante_mail.mime.decoders import Decoding
from restante_mail.mime.sections import Kind
from restante_server.api.engine.call import Call
from restante_server.store import keywords
from restante_server.store.changes import FolderDelta
from restante_server.store.contents import Wanted
from restante_server.store.folders import HIGHEST_UID, FolderFacts
from restante_server.store.mailboxes import MailboxFacts
from restante_server.store.selection import Selection

MOST_RUNS: Final = 100_000  # in one request
MOST_MESSAGE_IDS: Final = 1_000
MOST_PART_NUMBERS: Final = 1_000
FIRST_SECOND: Final = -62_135_596_800  # 0001-01-01
LAST_SECOND: Final = 253_402_300_799  # 9999-12-31

SECTION_KINDS: Final = {
    SectionKind.SECTION_KIND_WHOLE: Kind.WHOLE,
    SectionKind.SECTION_KIND_HEADER: Kind.HEADER,
    SectionKind.SECTION_KIND_TEXT: Kind.TEXT,
    SectionKind.SECTION_KIND_MIME: Kind.MIME,
    SectionKind.SECTION_KIND_HEADER_FIELDS: Kind.HEADER,
    SectionKind.SECTION_KIND_HEADER_FIELDS_NOT: Kind.HEADER,
}
DECODINGS: Final = {
    SectionDecoding.SECTION_DECODING_UNSPECIFIED: Decoding.NONE,
    SectionDecoding.SECTION_DECODING_TRANSFER: Decoding.TRANSFER,
    SectionDecoding.SECTION_DECODING_TEXT: Decoding.TEXT,
}


def timestamp(microseconds: int) -> Timestamp:
    """A Timestamp from microseconds since 1970-01-01 UTC."""
    return Timestamp(seconds=microseconds // 1_000_000, nanos=microseconds % 1_000_000 * 1_000)


def microseconds(moment: Timestamp, field: str) -> int:
    """Microseconds since 1970-01-01 UTC from a Timestamp, rounded down.

    Raises InvalidArgument for a moment that a Timestamp may not hold: outside of the years 1 to 9999.
    """
    if not FIRST_SECOND <= moment.seconds <= LAST_SECOND or not 0 <= moment.nanos < 1_000_000_000:
        raise InvalidArgument(field=field, problem="must be within the years 1 to 9999")
    return moment.seconds * 1_000_000 + moment.nanos // 1_000


def commit_token(call: Call, mailbox_id: int, change_number: int) -> CommitToken:
    """The token of a commit of this store."""
    return CommitToken(mailbox_id=mailbox_id, change_number=change_number, epoch=call.core.epoch)


def id_ranges(ids: IdSet) -> list[IdRange]:
    """The ranges of a set for the wire."""
    return [IdRange(first=first, last=last) for first, last in ids.ranges()]


def runs(numbers: Sequence[int]) -> list[IdRange]:
    """The runs of successive ids or UIDs for the wire, in the given order."""
    return [IdRange(first=first, last=last) for first, last in ranges.runs(numbers)]


def id_set(given: Sequence[IdRange], field: str) -> IdSet:
    """A set from the wire. Raises InvalidArgument, TooComplex."""
    if len(given) > MOST_RUNS:
        raise TooComplex(limit=MOST_RUNS, value=len(given))
    try:
        return IdSet.from_runs((run.first, run.last) for run in given)
    except ValueError as error:
        raise InvalidArgument(field=field, problem="must be ranges of ids, each with 1 <= first <= last") from error


def message_ids(given: Sequence[int], field: str = "message_ids") -> IdSet:
    """Message ids from the wire. Raises InvalidArgument, TooComplex."""
    if len(given) > MOST_MESSAGE_IDS:
        raise TooComplex(limit=MOST_MESSAGE_IDS, value=len(given))
    if any(number < 1 for number in given):
        raise InvalidArgument(field=field, problem="must be ids of at least 1")
    return IdSet.of(given)


def uid_set(given: UidSet, field: str) -> Selection:
    """UIDs of a folder from the wire. Raises InvalidArgument, TooComplex."""
    if not given.folder_id:
        raise InvalidArgument(field=f"{field}.folder_id", problem="must be given")
    ids = id_set(given.ranges, f"{field}.ranges")
    if ids and ids.last > HIGHEST_UID:
        ids = ids.intersect(IdSet(((1, HIGHEST_UID),)))
    return Selection(given.folder_id, ids)


def wanted(section: Section, field: str) -> Wanted:
    """The section that a field of a request names; an empty one is the whole message. Raises InvalidArgument."""
    kind = section.kind or SectionKind.SECTION_KIND_WHOLE
    if kind not in SECTION_KINDS:
        raise InvalidArgument(field=f"{field}.kind", problem="must be a known value")
    if len(section.part) > MOST_PART_NUMBERS or any(number < 1 for number in section.part):
        raise InvalidArgument(
            field=f"{field}.part", problem=f"must be at most {MOST_PART_NUMBERS} part numbers of at least 1"
        )
    by_field = kind in (SectionKind.SECTION_KIND_HEADER_FIELDS, SectionKind.SECTION_KIND_HEADER_FIELDS_NOT)
    if by_field != bool(section.fields):
        raise InvalidArgument(
            field=f"{field}.fields",
            problem="must be given with HEADER_FIELDS and HEADER_FIELDS_NOT, and only with them",
        )
    if section.offset_octets < 0 or section.length_octets < 0:
        raise InvalidArgument(field=field, problem="must not have a negative offset or length")
    decoding = DECODINGS.get(section.decoding)
    if decoding is None:
        raise InvalidArgument(field=f"{field}.decoding", problem="must be a known value")
    if decoding is not Decoding.NONE and (kind != SectionKind.SECTION_KIND_WHOLE or not section.part):
        raise InvalidArgument(field=f"{field}.decoding", problem="must be used with SECTION_KIND_WHOLE and a part")
    return Wanted(
        path=tuple(section.part),
        kind=SECTION_KINDS[kind],
        fields=tuple(section.fields),
        exclude=kind == SectionKind.SECTION_KIND_HEADER_FIELDS_NOT,
        offset=section.offset_octets,
        length=section.length_octets if section.HasField("length_octets") else None,
        decoding=decoding,
    )


def keyword_columns(stored: Iterable[str]) -> tuple[list[int], list[KeywordSet]]:
    """The column of indexes, and the table of keyword sets that they point into. Entry 0 is the empty set."""
    index: dict[str, int] = {"": 0}
    sets = [index.setdefault(text, len(index)) for text in stored]
    return sets, [KeywordSet(keywords=keywords.names(text)) for text in index]


def folder_changes(delta: FolderDelta) -> FolderChanges:
    """See FolderChanges."""
    sets, table = keyword_columns(delta.keywords) if any(delta.keywords) else ([], [KeywordSet()])
    return FolderChanges(
        folder_id=delta.folder_id,
        since_change_number=delta.since,
        change_number=delta.change_number,
        uids=delta.uids,
        message_ids=delta.message_ids,
        flags=delta.flags,
        keyword_sets=sets,
        change_numbers=delta.change_numbers,
        keyword_table=table,
        vanished_uids=id_ranges(delta.vanished),
        uid_next=delta.uid_next,
        recent_uid=delta.recent_uid,
    )


def folder(facts: FolderFacts) -> Folder:
    """See Folder."""
    return Folder(
        folder_id=facts.folder_id,
        parent_folder_id=facts.parent_folder_id,
        display_name=facts.display_name,
        path=facts.path,
        role=FolderRole.ValueType(facts.role),
        change_number=facts.change_number,
        uid_validity=facts.uid_validity,
        uid_next=facts.uid_next,
        recent_uid=facts.recent_uid,
        message_count=facts.message_count,
        unread_count=facts.unread_count,
        size_octets=facts.size_octets,
        subscribed=facts.subscribed,
        created_at=timestamp(facts.created_at),
        deleted_count=facts.deleted_count,
    )


def mailbox(facts: MailboxFacts, epoch: int) -> Mailbox:
    """See Mailbox."""
    return Mailbox(
        mailbox_id=facts.mailbox_id,
        owner_account_id=facts.account_id or 0,
        address=facts.address,
        display_name=facts.display_name,
        change_number=facts.change_number,
        epoch=epoch,
        used_octets=facts.used_octets,
        message_count=facts.message_count,
        quota_octets=facts.quota_octets,
        recoverable_octets=facts.recoverable_octets,
    )


def bounded_range(value: int, low: int, high: int, field: str) -> int:
    """The value, if it lies between both ends inclusively. Raises InvalidArgument."""
    if not low <= value <= high:
        raise InvalidArgument(field=field, problem=f"must be {low} to {high}")
    return value
