"""Messages: list, read, append, flag, move, copy, delete and recover them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path

from restante import errors, rows
from restante.bulk import WholeBatches, behind, is_empty
from restante.calls import Calls
from restante.contents import INLINE_OCTETS, Contents, Progress
from restante.folders import FolderName, Folders
from restante.parts import Part
from restante.rows import FLAGS, Message
from restante.v1 import methods
from restante.v1.content_pb2 import UploadKind
from restante.v1.message_pb2 import (
    AppendMessageRequest,
    AppendMessageResponse,
    BatchGetMessagesRequest,
    CopyMessagesRequest,
    DeleteMessagesRequest,
    DeleteMode,
    FlagOperation,
    ListRecoverableMessagesRequest,
    MessageColumn,
    MessageRows,
    MessageSet,
    MoveMessagesRequest,
    PurgeRecoverableMessagesRequest,
    QueryMessagesRequest,
    RecoverableMessage,
    RecoverMessagesRequest,
    Section,
    SectionKind,
    StreamMessagesRequest,
    StreamMessagesResponse,
    UpdateMessagesRequest,
)
from restante.v1.search_pb2 import Restriction, SortKey
from restante.v1.types_pb2 import IdRange, MessageIdSet

MAX_IDS = 1_000
PAGE_SIZE = 100

MessageIds = int | Iterable[int] | MessageSet
"""Messages: one id, several ids, or a MessageSet: ids, a folder's UIDs, or all that match (`query.matching`)."""


@dataclass(frozen=True, slots=True)
class OpenedMessage:
    """A message with its header and part tree; the octets of the parts are not read yet."""

    facts: Message
    header: bytes  # including the blank line after it
    root: Part  # the whole message


def message_sets(messages: MessageIds) -> Iterator[MessageSet]:
    """The messages as sets that each fit into one call."""
    if isinstance(messages, MessageSet):
        yield messages
        return
    ids = iter([messages] if isinstance(messages, int) else messages)
    while batch := list(islice(ids, MAX_IDS)):
        yield MessageSet(ids=MessageIdSet(message_ids=batch))


def count(ranges: Iterable[IdRange]) -> int:
    """The number of ids in ranges."""
    return sum(run.last - run.first + 1 for run in ranges)


class Messages:
    """Messages of a mailbox. A message id stays the same through moves and flag changes."""

    def __init__(self, calls: Calls, folders: Folders, contents: Contents) -> None:
        self._calls, self._folders, self._contents = calls, folders, contents

    async def query(
        self,
        folder: FolderName | None = None,
        restriction: Restriction | None = None,
        *,
        sort: Sequence[SortKey] = (),
        columns: Sequence[MessageColumn.ValueType] = rows.LISTING,
        page_size: int = PAGE_SIZE,
        mailbox_id: int = 0,
    ) -> AsyncIterator[Message]:
        """Messages of a folder or of all folders, in the order of `sort` (default: latest first).

        Pages are requested as the caller reads.
        """
        request = QueryMessagesRequest(
            mailbox_id=mailbox_id,
            folder_id=await self._folders.id_of(folder, mailbox_id=mailbox_id) if folder is not None else 0,
            restriction=restriction,
            sort=sort,
            columns=columns,
            page_size=page_size,
        )
        async for page in self._calls.pages(methods.QUERY_MESSAGES, request):
            for message in rows.messages(page.rows):
                yield message

    async def get(
        self,
        message_id: int,
        *,
        columns: Sequence[MessageColumn.ValueType] = rows.LISTING,
        mark_seen: bool = False,
        mailbox_id: int = 0,
    ) -> Message:
        """Facts of one message. Raises MessageNotFound."""
        request = BatchGetMessagesRequest(
            mailbox_id=mailbox_id,
            messages=MessageSet(ids=MessageIdSet(message_ids=[message_id])),
            columns=columns,
            mark_seen=mark_seen,
        )
        answer = await self._calls.execute(methods.BATCH_GET_MESSAGES, request)
        for found in rows.messages(answer.rows):
            return found
        raise errors.MessageNotFound(message_id=message_id)

    async def open(self, message_id: int, *, mark_seen: bool = False, mailbox_id: int = 0) -> OpenedMessage:
        """Facts, header and part tree of a message, for showing it. Raises MessageNotFound."""
        columns = (*rows.LISTING, MessageColumn.MESSAGE_COLUMN_PARTS)
        facts = await self.get(message_id, columns=columns, mark_seen=mark_seen, mailbox_id=mailbox_id)
        header = await self._contents.read(
            message_id, Section(kind=SectionKind.SECTION_KIND_HEADER), mailbox_id=mailbox_id
        )
        return OpenedMessage(facts, header, facts.parts)

    async def stream(
        self,
        messages: MessageIds,
        *,
        columns: Sequence[MessageColumn.ValueType] = rows.LISTING,
        sections: Sequence[Section] = (),
        mailbox_id: int = 0,
    ) -> AsyncIterator[MessageRows]:
        """Columns and octets of any number of messages, in batches of whole messages, read as the caller takes them.

        `restante.rows.messages` makes one object of each message. Missing messages are skipped. The client resumes
        after a break. Raises FolderNotFound.
        """
        for wanted in message_sets(messages):
            request = StreamMessagesRequest(
                mailbox_id=mailbox_id,
                messages=wanted,
                columns=columns,
                sections=sections,
                min_commit=self._calls.min_commit(mailbox_id),
            )
            async with aclosing(self._batches(request)) as batches:
                async for batch in batches:
                    yield batch

    async def _batches(self, request: StreamMessagesRequest) -> AsyncGenerator[MessageRows, None]:
        """Batches of one call and, after each break, of another call for the messages that have not arrived."""
        whole, wanted = WholeBatches(), MessageSet()
        wanted.CopyFrom(request.messages)

        async def opened() -> AsyncGenerator[StreamMessagesResponse, None]:
            nonlocal whole
            whole = WholeBatches()
            if not is_empty(request.messages):
                async with aclosing(self._calls.link.stream_messages(request, session=self._calls.token)) as stream:  # type: ignore[type-var]
                    async for response in stream:
                        yield response

        async with aclosing(self._calls.resumed(opened)) as responses:
            async for response in responses:
                if response.matching_below:
                    wanted.matching.below = response.matching_below
                for batch in whole.add(response):
                    request.messages.CopyFrom(behind(wanted, batch))
                    yield batch
        for batch in whole.end():
            yield batch

    async def append(
        self,
        folder: FolderName,
        content: bytes | Path,
        *,
        flags: Iterable[str] = (),
        keywords: Iterable[str] = (),
        received_at: datetime | None = None,
        on_progress: Progress | None = None,
        mailbox_id: int = 0,
    ) -> AppendMessageResponse:
        """Add a message (RFC 5322 octets, or a file of them); `received_at` is an aware time, default now.

        Raises FolderNotFound, QuotaExceeded, MessageTooLarge, InvalidContent, StoreFull.
        """
        request = AppendMessageRequest(
            mailbox_id=mailbox_id,
            folder_id=await self._folders.id_of(folder, mailbox_id=mailbox_id),
            flags=sum({FLAGS[name] for name in flags}),
            keywords=keywords,
        )
        if received_at is not None:
            request.received_at.FromDatetime(received_at)
            offset = received_at.utcoffset()
            request.received_offset_minutes = int(offset.total_seconds() // 60) if offset is not None else 0
        if isinstance(content, bytes) and len(content) <= INLINE_OCTETS:
            request.content = content
        else:
            kind = UploadKind.UPLOAD_KIND_MESSAGE
            request.upload_id = (await self._contents.upload(kind, content, on_progress=on_progress)).upload_id
        return await self._calls.execute(methods.APPEND_MESSAGE, request)

    async def set_flags(
        self,
        messages: MessageIds,
        flags: Iterable[str] = (),
        *,
        keywords: Iterable[str] = (),
        operation: FlagOperation.ValueType = FlagOperation.FLAG_OPERATION_ADD,
        if_change_number: int | None = None,
        mailbox_id: int = 0,
    ) -> int:
        """Add, remove or replace flags (names of `rows.FLAGS`) and keywords. Returns the number of messages found."""
        bits, words, updated = sum({FLAGS[name] for name in flags}), list(keywords), 0
        for wanted in message_sets(messages):
            request = UpdateMessagesRequest(
                mailbox_id=mailbox_id,
                messages=wanted,
                operation=operation,
                flags=bits,
                keywords=words,
                if_change_number=if_change_number,
            )
            updated += (await self._calls.execute(methods.UPDATE_MESSAGES, request)).updated_count
        return updated

    async def move(
        self,
        messages: MessageIds,
        folder: FolderName,
        *,
        if_change_number: int | None = None,
        mailbox_id: int = 0,
        target_mailbox_id: int = 0,
    ) -> int:
        """Move messages to a folder and return their number. In another mailbox they get new ids.

        Messages that changed after `if_change_number` stay. Raises MailboxNotFound, FolderNotFound, QuotaExceeded (in
        another mailbox).
        """
        target, moved = await self._folders.id_of(folder, mailbox_id=target_mailbox_id or mailbox_id), 0
        for wanted in message_sets(messages):
            request = MoveMessagesRequest(
                mailbox_id=mailbox_id,
                messages=wanted,
                target_mailbox_id=target_mailbox_id,
                target_folder_id=target,
                if_change_number=if_change_number,
            )
            moved += count((await self._calls.execute(methods.MOVE_MESSAGES, request)).message_ids)
        return moved

    async def copy(
        self, messages: MessageIds, folder: FolderName, *, mailbox_id: int = 0, target_mailbox_id: int = 0
    ) -> int:
        """Copy messages to a folder of their own or another mailbox, and return their number.

        Raises MailboxNotFound, FolderNotFound, QuotaExceeded.
        """
        target, copied = await self._folders.id_of(folder, mailbox_id=target_mailbox_id or mailbox_id), 0
        for wanted in message_sets(messages):
            request = CopyMessagesRequest(
                mailbox_id=mailbox_id,
                messages=wanted,
                target_mailbox_id=target_mailbox_id,
                target_folder_id=target,
            )
            copied += count((await self._calls.execute(methods.COPY_MESSAGES, request)).source_message_ids)
        return copied

    async def delete(
        self,
        messages: MessageIds,
        mode: DeleteMode.ValueType = DeleteMode.DELETE_MODE_TO_TRASH,
        *,
        if_change_number: int | None = None,
        mailbox_id: int = 0,
    ) -> int:
        """Delete messages, by default to the Trash, and return their number.

        Messages that changed after `if_change_number` stay.
        """
        deleted = 0
        for wanted in message_sets(messages):
            request = DeleteMessagesRequest(
                mailbox_id=mailbox_id, messages=wanted, mode=mode, if_change_number=if_change_number
            )
            deleted += count((await self._calls.execute(methods.DELETE_MESSAGES, request)).deleted_message_ids)
        return deleted

    async def recoverable(self, *, mailbox_id: int = 0) -> AsyncIterator[RecoverableMessage]:
        """Recoverable deleted messages, latest first."""
        request = ListRecoverableMessagesRequest(mailbox_id=mailbox_id, page_size=PAGE_SIZE)
        async for page in self._calls.pages(methods.LIST_RECOVERABLE_MESSAGES, request):
            for message in page.messages:
                yield message

    async def recover(
        self, message_ids: Iterable[int], *, folder: FolderName | None = None, mailbox_id: int = 0
    ) -> list[int]:
        """Put deleted messages back into their former folder, or into `folder`. Returns the ids of those recovered."""
        target = await self._folders.id_of(folder, mailbox_id=mailbox_id) if folder is not None else 0
        recovered: list[int] = []
        for wanted in message_sets(message_ids):
            request = RecoverMessagesRequest(
                mailbox_id=mailbox_id, message_ids=wanted.ids.message_ids, target_folder_id=target
            )
            recovered.extend((await self._calls.execute(methods.RECOVER_MESSAGES, request)).message_ids)
        return recovered

    async def purge(self, message_ids: Iterable[int], *, mailbox_id: int = 0) -> int:
        """Remove recoverable messages permanently and return their number."""
        purged = 0
        for wanted in message_sets(message_ids):
            request = PurgeRecoverableMessagesRequest(mailbox_id=mailbox_id, message_ids=wanted.ids.message_ids)
            purged += (await self._calls.execute(methods.PURGE_RECOVERABLE_MESSAGES, request)).purged_count
        return purged
