"""Calls about messages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from restante import errors
from restante.calls import request_id
from restante.v1 import message_pb2, methods, search_pb2
from restante_gateways.core.upload import Upload
from restante_gateways.imap.core import convert
from restante_gateways.imap.core.operations import CALL_SECONDS, Operations
from restante_gateways.imap.core.restrictions import restriction
from restante_gateways.imap.grammar.fetch import FetchFact, FetchSection, SectionText
from restante_gateways.imap.grammar.flags import Flags
from restante_gateways.imap.grammar.search_keys import SearchKey
from restante_gateways.imap.values import (
    Appended,
    Changed,
    Copied,
    FlagOperation,
    Messages,
    Moved,
    NewMessage,
    Place,
    RemovedMessages,
    Rest,
    Rows,
    Stored,
    Target,
)
from restante_mail.ranges import Range

INLINE_OCTETS = 512 << 10  # of a message inside an operation; a larger one is uploaded first
_FEW_ROWS = 50  # up to this many rows an operation is cheaper than a stream
_FEW_OCTETS = 48 << 10  # the same for octets of sections, as estimated; the core refuses an answer above 64 KiB
_SECTION_OCTETS = {  # of a usual message; the whole header of one that has travelled far has several KiB
    SectionText.HEADER_FIELDS: 1 << 10,
    SectionText.MIME: 1 << 10,
    SectionText.HEADER: 4 << 10,
    SectionText.HEADER_FIELDS_NOT: 4 << 10,
    SectionText.TEXT: 12 << 10,
    SectionText.WHOLE: 12 << 10,
}
_FLAG_OPERATIONS = {
    FlagOperation.ADD: message_pb2.FLAG_OPERATION_ADD,
    FlagOperation.REMOVE: message_pb2.FLAG_OPERATION_REMOVE,
    FlagOperation.REPLACE: message_pb2.FLAG_OPERATION_REPLACE,
}


class MessageCalls:
    """Message calls of one account. Every call raises restante.errors.

    `changes_since` requests the folder's changes above that number with the answer; None requests none, since they
    would be too many.
    """

    __slots__ = ("operations",)

    def __init__(self, operations: Operations) -> None:
        self.operations = operations

    async def rows(
        self,
        messages: Messages | RemovedMessages,
        count: int | None,
        facts: Sequence[FetchFact],
        sections: Sequence[FetchSection],
    ) -> AsyncIterator[Rows | Rest]:
        """Batches of rows of at most `count` messages, each followed by the remaining octets of its last cells.

        Small requests use one operation, large ones and those without `count` a stream.
        """
        if count is not None and count <= _FEW_ROWS and count * sum(map(_likely_octets, sections)) <= _FEW_OCTETS:
            rows = await self.few_rows(messages, facts, sections)
            if rows is not None:
                yield rows
                return
        wanted = message_pb2.StreamMessagesRequest()
        _ask(wanted, messages, facts, sections)
        async for answer in self.operations.stream_messages(wanted):
            if answer.HasField("rest"):
                yield Rest(answer.rest.section_index, answer.rest.octets)
            else:
                yield convert.rows(answer.rows)

    async def few_rows(
        self, messages: Messages | RemovedMessages, facts: Sequence[FetchFact], sections: Sequence[FetchSection]
    ) -> Rows | None:
        """Complete rows of a few messages, in one operation; None if they are too large for its answer."""
        request = message_pb2.BatchGetMessagesRequest()
        _ask(request, messages, facts, sections)
        try:
            return convert.rows((await self.operations.run(methods.BATCH_GET_MESSAGES, request)).rows)
        except errors.ResultTooLarge:
            return None

    async def search(
        self,
        place: Place,
        keys: Sequence[SearchKey],
        within: Sequence[Range] | None = None,
        seconds: float = CALL_SECONDS,
    ) -> list[Range]:
        """UIDs of the messages that satisfy every key, among the UIDs `within` or the whole folder.

        The keys must name messages by UID. Raises DeadlineExceeded after `seconds`.
        """
        parts = [restriction(place, key) for key in keys]
        if within is not None:
            parts.insert(0, search_pb2.Restriction(uids=convert.uid_set(place, within)))
        whole = parts[0]
        if len(parts) > 1:
            whole = search_pb2.Restriction(all_of=search_pb2.RestrictionList(restrictions=parts))
        request = message_pb2.SearchMessagesRequest(
            mailbox_id=place.mailbox_id, folder_id=place.folder_id, restriction=whole
        )
        return convert.ranges((await self.operations.run(methods.SEARCH_MESSAGES, request, seconds=seconds)).uids)

    async def append(self, target: Target, message: NewMessage, content: bytes, upload_id: bytes = b"") -> Appended:
        """Add a message, from its octets (at most INLINE_OCTETS) or from an upload. Raises FolderNotFound."""
        request = message_pb2.AppendMessageRequest(
            mailbox_id=target.mailbox_id,
            content=content,
            upload_id=upload_id,
            flags=int(message.flags.system),
            keywords=message.flags.keywords,
            request_id=request_id(),
        )
        if isinstance(target, Place):
            request.folder_id = target.folder_id
        else:
            request.path.extend(target.path)
        if message.received_at is not None:
            request.received_at.FromDatetime(message.received_at)
            offset = message.received_at.utcoffset()
            assert offset is not None
            request.received_offset_minutes = int(offset.total_seconds()) // 60
        added = await self.operations.run(methods.APPEND_MESSAGE, request)
        return Appended(
            Place(target.mailbox_id, added.folder_id),
            added.uid_validity,
            added.uid,
            added.message_id,
            convert.commit(added.commit),
            added.since_change_number,
        )

    def upload(self) -> Upload:
        """Begin the upload of a message above INLINE_OCTETS; `append` takes the id of the finished upload."""
        return self.operations.upload()

    async def store(
        self,
        messages: Messages,
        operation: FlagOperation,
        flags: Flags,
        changes_since: int | None,
        unchanged_since: int | None = None,
    ) -> Stored:
        """Change flags; with `unchanged_since`, only of messages whose change number is not above it."""
        request = message_pb2.UpdateMessagesRequest(
            mailbox_id=messages.place.mailbox_id,
            operation=_FLAG_OPERATIONS[operation],
            flags=int(flags.system),
            keywords=flags.keywords,
            if_change_number=unchanged_since,
            changes_since=changes_since,
        )
        convert.name(messages, request.messages)
        answer = await self.operations.run(methods.UPDATE_MESSAGES, request, follow=changes_since is None)
        return Stored(
            convert.commit(answer.commit),
            convert.answered_changes(answer.changes),
            convert.ranges(answer.modified_uids),
        )

    async def copy(self, messages: Messages, target: Target, count: int | None) -> Copied:
        """Copy messages within one mailbox, all or none, keeping flags and dates.

        Raises MessageNotFound if `count` is given and another number of messages exists.
        """
        folder_id, path = _target(messages, target)
        request = message_pb2.CopyMessagesRequest(
            mailbox_id=messages.place.mailbox_id,
            target_folder_id=folder_id,
            target_path=path,
            request_id=request_id(),
            if_message_count=count,
        )
        convert.name(messages, request.messages)
        copied = await self.operations.run(methods.COPY_MESSAGES, request)
        return Copied(
            Place(target.mailbox_id, copied.target_folder_id),
            copied.target_uid_validity,
            convert.ranges(copied.source_uids),
            convert.ranges(copied.target_uids),
            convert.commit(copied.commit),
        )

    async def move(
        self, messages: Messages, target: Target, count: int | None, changes_since: int | None = None
    ) -> Moved:
        """Move messages under the same conditions as `copy`."""
        folder_id, path = _target(messages, target)
        request = message_pb2.MoveMessagesRequest(
            mailbox_id=messages.place.mailbox_id,
            target_folder_id=folder_id,
            target_path=path,
            request_id=request_id(),
            changes_since=changes_since,
            if_message_count=count,
        )
        convert.name(messages, request.messages)
        moved = await self.operations.run(methods.MOVE_MESSAGES, request, follow=changes_since is None)
        return Moved(
            Place(target.mailbox_id, moved.target_folder_id),
            moved.target_uid_validity,
            convert.ranges(moved.source_uids),
            convert.ranges(moved.target_uids),
            convert.commit(moved.commit),
            convert.answered_changes(moved.changes),
        )

    async def delete_marked(self, messages: Messages, changes_since: int | None) -> Changed:
        """Remove the messages marked \\Deleted; they stay recoverable for the retention time."""
        request = message_pb2.DeleteMessagesRequest(
            mailbox_id=messages.place.mailbox_id,
            mode=message_pb2.DELETE_MODE_SOFT,
            only_flagged_deleted=True,
            changes_since=changes_since,
        )
        convert.name(messages, request.messages)
        answer = await self.operations.run(methods.DELETE_MESSAGES, request, follow=changes_since is None)
        return Changed(convert.commit(answer.commit), convert.answered_changes(answer.changes))


def _ask(
    request: message_pb2.BatchGetMessagesRequest | message_pb2.StreamMessagesRequest,
    messages: Messages | RemovedMessages,
    facts: Sequence[FetchFact],
    sections: Sequence[FetchSection],
) -> None:
    """Fill an empty request for facts and sections of messages."""
    request.mailbox_id = convert.mailbox_id(messages)
    convert.name(messages, request.messages)
    if columns := convert.columns(facts):
        request.columns.extend(columns)
    for section in sections:
        convert.fill_section(request.sections.add(), section)
    if isinstance(messages, RemovedMessages):
        request.include_removed = True


def _likely_octets(item: FetchSection) -> int:
    """The octets of a section in a usual message."""
    octets = _SECTION_OCTETS[item.section.text]
    return octets if item.partial is None else min(octets, item.partial.count)


def _target(messages: Messages, target: Target) -> tuple[int, Sequence[str]]:
    """The target's folder id and path for a request; one of them is empty."""
    assert target.mailbox_id == messages.place.mailbox_id, "the contract has one mailbox in a copy"
    return (target.folder_id, ()) if isinstance(target, Place) else (0, target.path)
