"""Streams of changes. The client resumes a broken stream, and after a reset reads the folder or mailbox again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import grpc

from restante import errors, rows
from restante.calls import Calls
from restante.folders import FolderName, Folders
from restante.mailboxes import Mailboxes
from restante.retry import is_temporary
from restante.v1.folder_pb2 import OpenFolderRequest, OpenFolderResponse
from restante.v1.message_pb2 import MessageColumn
from restante.v1.sync_pb2 import SyncMailboxRequest, SyncMailboxResponse, WatchResponse
from restante.v1.types_pb2 import FolderChanges
from restante.watch import Watching

MAX_NOTICES = 10_000
PAUSE_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class FolderEvent:
    """Changes of a folder. With `fresh`, discard the earlier copy: `changes` begin a new one."""

    changes: FolderChanges
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class MailboxEvent:
    """A mailbox has a new change number. With `fresh`, changes may have been missed: compare everything."""

    change_number: int
    folder_ids: list[int] = field(default_factory=list)  # changed folders; may be incomplete
    fresh: bool = False


class _Notices:
    """A bounded queue between the Watch stream and its reader."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._queue: asyncio.Queue[WatchResponse | None] = asyncio.Queue()
        self._late = False

    def put(self, notice: WatchResponse | None) -> None:
        if self._queue.qsize() < self._most:
            self._queue.put_nowait(notice)
        else:
            self._late = True

    async def get(self) -> WatchResponse | None:
        """The next notice; None when the reader must read its copy again."""
        return None if self._late else await self._queue.get()


class Changes:
    """Streams of changes. Leaving an iterator ends its stream.

    `max_notices`: above so many unread notices the reader must read the folder again.
    """

    def __init__(self, calls: Calls, mailboxes: Mailboxes, folders: Folders) -> None:
        self._calls, self._mailboxes, self._folders = calls, mailboxes, folders
        self.max_notices = MAX_NOTICES

    async def watch(
        self, folder: FolderName, *, since: int | None = None, snapshot: bool = False, mailbox_id: int = 0
    ) -> AsyncIterator[FolderEvent]:
        """Changes of a folder from now on, or above the change number `since`; with `snapshot`, its messages first.

        After a reset the client reads the folder again, and the first event is `fresh`. Raises FolderNotFound when
        the folder was deleted, SessionExpired or SessionRevoked when the session has ended.
        """
        folder_id = await self._folders.id_of(folder, mailbox_id=mailbox_id)
        mailbox = await self._mailboxes.get(mailbox_id)
        epoch = mailbox.epoch
        if since is None:
            since = (await self._folders.get(folder_id, mailbox_id=mailbox_id)).change_number
        while True:
            if snapshot:
                first = True
                async for piece in self._snapshot(mailbox_id, folder_id):
                    since = piece.folder.change_number if piece.HasField("folder") else since
                    yield FolderEvent(piece.rows, fresh=first)
                    first = False
            async with aclosing(self._notices(mailbox_id, folder_id, since, epoch)) as notices:
                async for notice in notices:
                    if notice.HasField("folder"):
                        yield FolderEvent(notice.folder)
            epoch, snapshot = (await self._mailboxes.get(mailbox_id)).epoch, True

    async def watch_mailbox(self, *, mailbox_id: int = 0) -> AsyncIterator[MailboxEvent]:
        """Each new change number of a mailbox from now on. Raises SessionExpired, SessionRevoked."""
        while True:
            mailbox = await self._mailboxes.get(mailbox_id)
            async with aclosing(self._notices(mailbox_id, 0, mailbox.change_number, mailbox.epoch)) as notices:
                async for notice in notices:
                    if notice.HasField("mailbox"):
                        yield MailboxEvent(notice.mailbox.change_number, list(notice.mailbox.folder_ids))
            yield MailboxEvent((await self._mailboxes.get(mailbox_id)).change_number, fresh=True)

    async def sync(
        self,
        *,
        folder: FolderName | None = None,
        cursor: bytes = b"",
        columns: Sequence[MessageColumn.ValueType] = rows.LISTING,
        follow: bool = True,
        mailbox_id: int = 0,
    ) -> AsyncIterator[SyncMailboxResponse]:
        """The whole mailbox or folder, or its changes since a cursor; with `follow`, later changes too.

        Keep the cursor of each checkpoint to continue later. After a break the changes since the last checkpoint may
        be repeated. After a `reset_reason` discard the copy: the whole mailbox or folder follows. Raises CursorInvalid.
        """
        folder_id = await self._folders.id_of(folder, mailbox_id=mailbox_id) if folder is not None else 0

        def opened() -> AsyncIterator[SyncMailboxResponse]:
            request = SyncMailboxRequest(
                mailbox_id=mailbox_id, folder_id=folder_id, cursor=cursor, columns=columns, follow=follow
            )
            return self._calls.link.sync_mailbox(request, session=self._calls.token)

        again = True
        while again:
            again = follow
            async with aclosing(self._calls.resumed(opened)) as changes:
                async for change in changes:
                    yield change
                    if change.HasField("checkpoint"):
                        cursor = change.checkpoint.cursor
                    elif change.HasField("reset_reason"):
                        cursor, again = b"", True

    async def _snapshot(self, mailbox_id: int, folder_id: int) -> AsyncIterator[OpenFolderResponse]:
        """The messages of a folder. A break restarts the read, so the pieces are held until all have arrived."""
        while True:
            request = OpenFolderRequest(mailbox_id=mailbox_id, folder_id=folder_id)
            try:
                pieces = [piece async for piece in self._calls.link.open_folder(request, session=self._calls.token)]
            except errors.RestanteError as error:
                if not is_temporary(error):
                    raise
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            for piece in pieces:
                yield piece
            return

    async def _notices(
        self, mailbox_id: int, folder_id: int, since: int, epoch: int
    ) -> AsyncGenerator[WatchResponse, None]:
        """Notices of one subscription until its reset. Raises the error of a rejection or of the session's end."""
        notices, session, renewed = _Notices(self.max_notices), self._calls.session, False

        def subscribed(since: int) -> tuple[Watching, bytes]:
            of_session = session.token
            watching = self._calls.link.watch.subscribe(
                mailbox_id, folder_id, since, epoch, lambda: session.token, notices.put
            )
            return watching, of_session

        watching, token = subscribed(since)
        ending = asyncio.create_task(_notify_end(session.ended, notices))
        try:
            while True:
                notice = await notices.get()
                if session.ended.is_set():
                    raise session.end_reason or errors.SessionRevoked
                if notice is None or notice.HasField("reset_reason"):
                    return
                if notice.HasField("rejected"):
                    error = errors.from_status(notice.rejected)
                    if error.code is not grpc.StatusCode.UNAUTHENTICATED or renewed:
                        raise error
                    if session.token == token:  # otherwise this client has replaced it
                        await session.renew()
                    renewed = True
                    watching, token = subscribed(watching.since)
                    continue
                renewed = False
                yield notice
        finally:
            ending.cancel()
            watching.close()


async def _notify_end(ended: asyncio.Event, notices: _Notices) -> None:
    await ended.wait()
    notices.put(None)
