"""The folders that sessions of this process have open, each with one view and one subscription for all of them.

A view whose last session has gone stays watched for a while, since clients come back; then it is kept for the next one
without a subscription, and brought up to date by change number when it is opened again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Protocol
from weakref import WeakValueDictionary

import structlog

from restante import errors
from restante.link import CoreLink
from restante.methods import Method, Request, Response
from restante.v1 import folder_pb2, mailbox_pb2, message_pb2, methods, sync_pb2
from restante.v1.types_pb2 import CommitToken, FolderChanges
from restante.watch import Watching
from restante_gateways.imap.folders.freshness import Freshness
from restante_gateways.imap.grammar.flags import Flags
from restante_gateways.imap.view.folder import FolderView, Gap

log = structlog.get_logger("imap")

_KEPT_MESSAGES = 2_000_000  # in views that no session has open: about 50 MB
_KEPT_VIEWS = 2_000
_LINGER_SECONDS = 10.0  # a folder stays watched after its last session has closed it
_CLAIM_SECONDS = 3.0  # claims of recent messages are gathered for so long
_RETRY_SECONDS = 1.0  # between two attempts to catch up
_PATIENCE_SECONDS = 0.1  # for the watch to bring much that a command of ours has committed


class Caller(Protocol):
    """A session that has a folder open: it lends its token to calls about the folder, and is told what happens."""

    def token(self) -> bytes:
        """The session token of this moment."""
        ...

    async def call(self, method: Method[Request, Response], request: Request) -> Response:
        """One operation of this session."""
        ...

    def open_folder(self, request: folder_pb2.OpenFolderRequest) -> AsyncIterator[folder_pb2.OpenFolderResponse]:
        """The snapshot stream of this session."""
        ...

    def folder_changed(self) -> None:
        """The view has changed; in IDLE the client is told now. Must not wait."""
        ...

    def folder_lost(self, reason: str) -> None:
        """The view is void: the folder is gone, or its UIDs are. The session must end. Must not wait."""
        ...


class OpenFolder:
    """One folder: its view, who has it open, and what keeps it current."""

    def __init__(
        self,
        link: CoreLink,
        freshness: Freshness,
        mailbox_id: int,
        view: FolderView,
        epoch: int,
        on_new_epoch: Callable[[], None],
    ) -> None:
        """`epoch` is the one under which the view was read; `on_new_epoch` is told when the core is at another."""
        self._freshness = freshness
        self.view, self.mailbox_id, self.epoch = view, mailbox_id, epoch
        self._on_new_epoch = on_new_epoch
        self.sessions: set[Caller] = set()
        self._link = link
        self._watching: Watching | None = None
        self._claiming: asyncio.TimerHandle | None = None
        self._unwatch: asyncio.TimerHandle | None = None  # runs while nobody has the folder open
        self._refreshing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    @property
    def key(self) -> tuple[int, int]:
        """Mailbox and folder."""
        return self.mailbox_id, self.view.folder_id

    def claim_soon(self, caller: Caller) -> None:
        """Tell the core, a little later and for all sessions together, what was told as recent (RFC 3501 2.3.2).

        Within this process nobody is told it again anyway; another one may do so until the core knows.
        """
        if self._claiming is None and self.view.claimed_uid > self.view.recent_uid:
            self._claiming = asyncio.get_running_loop().call_later(_CLAIM_SECONDS, self._begin_claim, caller)

    def _begin_claim(self, caller: Caller) -> None:
        self._claiming = None
        self._later(self._claim(caller))

    async def _claim(self, caller: Caller) -> None:
        request = folder_pb2.ClaimRecentRequest(mailbox_id=self.mailbox_id, folder_id=self.view.folder_id)
        try:
            claimed = await caller.call(methods.CLAIM_RECENT, request)
        except errors.RestanteError as error:
            log.debug("recent messages not claimed", reason=error.reason or "unknown")
        else:
            self.view.note_claim(claimed.uid_next)

    def attach(self, caller: Caller) -> None:
        """The caller has the folder open; the first one makes it watched."""
        self.sessions.add(caller)
        if self._unwatch is not None:
            self._unwatch.cancel()
            self._unwatch = None
        if self._watching is None:
            self._subscribe()

    def detach(self, caller: Caller) -> None:
        """The caller has closed the folder; some time after the last one the watch ends."""
        self.sessions.discard(caller)
        self.claim_soon(caller)
        if not self.sessions and self._watching is not None and self._unwatch is None:
            self._unwatch = asyncio.get_running_loop().call_later(_LINGER_SECONDS, self._stop_watching)

    def _stop_watching(self) -> None:
        self._unwatch = None
        if self._watching is not None:
            self._watching.close()
            self._watching = None

    def absorb(self, changes: FolderChanges) -> bool:
        """Apply changes that came with an answer; False when those before them are missing."""
        try:
            changed = self.view.apply(changes)
        except Gap:
            return False
        if changed:
            self._changed()
        return True

    def add(self, added: message_pb2.AppendMessageResponse, flags: Flags) -> bool:
        """A message that a session here has added; False when the view must be told by the core."""
        count, number = len(self.view), added.commit.change_number
        if not self.view.add(added.uid, added.message_id, flags, number, added.since_change_number):
            return False
        if len(self.view) > count:
            self._changed()
        return True

    async def newest(self, caller: Caller) -> int:
        """How far the view must be to have all that was acknowledged to anyone before this was called.

        Raises what calls raise; FolderNotFound and EpochChanged after the view was lost for everyone.
        """
        try:
            reached = await self._freshness.ask(caller.token(), *self.key)
        except errors.FolderNotFound:
            self._deleted()
            raise
        if reached.epoch != self.epoch:
            self._restored()
            raise errors.EpochChanged(epoch=reached.epoch)
        return reached.change_number

    async def reach(self, caller: Caller, change_number: int) -> None:
        """See that the view has a commit. Mostly the watch has brought it; what it has not is read at once."""
        if self.view.change_number < change_number:
            await self.refresh(caller, at_least=change_number)

    async def await_commit(self, caller: Caller, change_number: int) -> None:
        """Wait until the watch has brought a large commit of our own, which would be dear to read twice."""
        if self.view.change_number >= change_number:
            return
        arrived = asyncio.get_running_loop().create_future()
        self._waiting.append((change_number, arrived))
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await arrived
        except TimeoutError:
            await self.refresh(caller, at_least=change_number)
        finally:
            self._waiting = [entry for entry in self._waiting if entry[1] is not arrived]

    async def refresh(self, caller: Caller, at_least: int = 0) -> None:
        """Read what changed since the view's change number, unless it reached `at_least` while others read.

        Raises what calls raise; FolderNotFound and EpochChanged after the view was lost for everyone.
        """
        async with self._refreshing:
            if at_least and self.view.change_number >= at_least:
                return
            try:
                request = folder_pb2.ReadFolderChangesRequest(
                    mailbox_id=self.mailbox_id,
                    folder_id=self.view.folder_id,
                    since_change_number=self.view.change_number,
                    epoch=self.epoch,
                )
                answer = await caller.call(methods.READ_FOLDER_CHANGES, request)
                self.absorb(answer.changes)
            except (errors.ResultTooLarge, errors.CursorInvalid):
                await self._reload(caller)
            except errors.FolderNotFound:
                self._deleted()
                raise
            except errors.EpochChanged:
                self._restored()
                raise

    async def _reload(self, caller: Caller) -> None:
        """Compare the view with a fresh snapshot: for what is too much for one answer, or too long ago."""
        try:
            folder, batches = await read_snapshot(caller, self.mailbox_id, self.view.folder_id)
        except errors.FolderNotFound:
            self._deleted()
            raise
        if folder.uid_validity != self.view.uid_validity:
            self.lose("The folder was made anew; please log in again.")
            raise errors.FolderNotFound(folder_id=self.view.folder_id)
        if self.view.apply_snapshot(batches, folder.change_number):
            self._changed()

    def lose(self, reason: str) -> None:
        """The view is void for everyone."""
        for session in tuple(self.sessions):
            session.folder_lost(reason)

    def _changed(self) -> None:
        reached = self.view.change_number
        for change_number, arrived in self._waiting:
            if change_number <= reached and not arrived.done():
                arrived.set_result(None)
        for session in tuple(self.sessions):
            session.folder_changed()

    def _subscribe(self) -> None:
        self._watching = self._link.watch.subscribe(
            self.mailbox_id, self.view.folder_id, self.view.change_number, self.epoch, self._token, self._notice
        )

    def _token(self) -> bytes:
        """A token of whoever has the folder open now: the session that began the watch may be gone."""
        return next((session.token() for session in self.sessions), b"")

    def _notice(self, notice: sync_pb2.WatchResponse) -> None:
        match notice.WhichOneof("notice"):
            case "folder":
                if not self.absorb(notice.folder):
                    self._later(self._catch_up(notice.folder.change_number))
            case "reset_reason":
                self._watching = None
                self._reset(notice.reset_reason)
            case "rejected":
                self._watching = None
                refusal = errors.from_status(notice.rejected)
                expired = isinstance(refusal, errors.SessionExpired)  # as is usual: the session has a newer token
                (log.debug if expired else log.warning)("watch rejected", reason=refusal.reason)
                self._later(self._watch_again())
            case _:
                pass  # the subscription stands

    def _reset(self, reason: sync_pb2.ResetReason.ValueType) -> None:
        if reason == sync_pb2.RESET_REASON_FOLDER_GONE:
            self._deleted()
        elif reason == sync_pb2.RESET_REASON_EPOCH_CHANGED:
            self._restored()
        else:
            self._later(self._watch_again())

    def _deleted(self) -> None:
        self.lose("The folder was deleted.")

    def _restored(self) -> None:
        self._on_new_epoch()
        self.lose("The store was restored; please log in again.")

    async def _watch_again(self) -> None:
        """Catch up, then subscribe from there."""
        await self._refresh_by_anyone()
        if self.sessions and self._watching is None:
            self._subscribe()

    async def _catch_up(self, change_number: int) -> None:
        """Read what the watch passed over, until it is here: it will not be told again, and clients in IDLE wait."""
        while self.view.change_number < change_number and await self._refresh_by_anyone(change_number):
            pass

    async def _refresh_by_anyone(self, at_least: int = 0) -> bool:
        """Catch up with the token of some session; False when there is nothing to catch up for.

        A failure is told where it matters: by the sessions' own calls.
        """
        caller = next(iter(self.sessions), None)
        if caller is None:
            return False
        try:
            await self.refresh(caller, at_least)
        except errors.FolderNotFound:
            return False
        except errors.RestanteError as error:
            log.info("view not refreshed", reason=error.reason or "unknown")
            await asyncio.sleep(_RETRY_SECONDS)
        return True

    def _later(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def read_snapshot(
    caller: Caller, mailbox_id: int, folder_id: int
) -> tuple[folder_pb2.Folder, list[FolderChanges]]:
    """The folder and all its rows at one moment. Raises FolderNotFound."""
    folder, batches = folder_pb2.Folder(), list[FolderChanges]()
    request = folder_pb2.OpenFolderRequest(mailbox_id=mailbox_id, folder_id=folder_id)
    async for piece in caller.open_folder(request):
        if piece.HasField("folder"):
            folder = piece.folder
        batches.append(piece.rows)
    return folder, batches


class OpenFolders:
    """All open and kept folders of the process."""

    def __init__(self, link: CoreLink) -> None:
        self._link, self._freshness = link, Freshness(link)
        self._folders: dict[tuple[int, int], OpenFolder] = {}
        self._kept: OrderedDict[tuple[int, int], int] = OrderedDict()  # those nobody has open, and their messages
        self._kept_messages = 0
        self._opening: WeakValueDictionary[tuple[int, int], asyncio.Lock] = WeakValueDictionary()
        self.epoch = 0  # the store's, as it was last told; 0: not known yet

    def note_commit(self, commit: CommitToken) -> None:
        """Learn the epoch from an answer."""
        if commit.epoch:
            self.epoch = commit.epoch

    async def open(self, caller: Caller, mailbox_id: int, folder: folder_pb2.Folder) -> OpenFolder:
        """The folder's view, at least as current as `folder`, with the caller attached. Raises what calls raise."""
        key = (mailbox_id, folder.folder_id)
        lock = self._opening.get(key)
        if lock is None:
            lock = self._opening[key] = asyncio.Lock()
        async with lock:
            opened = self._folders.get(key)
            if opened is None or opened.view.uid_validity != folder.uid_validity:
                opened = await self._load(caller, key)
            elif opened.view.change_number < folder.change_number:
                await opened.refresh(caller, at_least=folder.change_number)
            self._folders[key] = opened
            self._kept_messages -= self._kept.pop(key, 0)
            opened.attach(caller)
            return opened

    def close(self, opened: OpenFolder, caller: Caller) -> None:
        """The caller has closed the folder. Its view is kept, as long as there is room for it."""
        opened.detach(caller)
        if opened.sessions or self._folders.get(opened.key) is not opened:
            return
        self._kept[opened.key] = len(opened.view)
        self._kept_messages += len(opened.view)
        while self._kept_messages > _KEPT_MESSAGES or len(self._kept) > _KEPT_VIEWS:
            key, messages = self._kept.popitem(last=False)
            self._kept_messages -= messages
            del self._folders[key]

    def claimed_uid(self, mailbox_id: int, folder_id: int) -> int:
        """From where on no session of this process was told of messages as recent; 1 where that is not known."""
        opened = self._folders.get((mailbox_id, folder_id))
        return 1 if opened is None else opened.view.claimed_uid

    async def _load(self, caller: Caller, key: tuple[int, int]) -> OpenFolder:
        if not self.epoch:
            request = mailbox_pb2.GetMailboxRequest(mailbox_id=key[0])
            self.epoch = (await caller.call(methods.GET_MAILBOX, request)).mailbox.epoch
        epoch = self.epoch
        folder, batches = await read_snapshot(caller, *key)
        view = FolderView(folder.folder_id, folder.uid_validity, folder.change_number)
        for rows in batches:
            view.load(rows)
        view.note_folder(folder.uid_next, folder.recent_uid)
        return OpenFolder(self._link, self._freshness, key[0], view, epoch, self._forget_epoch)

    def _forget_epoch(self) -> None:
        self.epoch = 0
