"""An open folder: one view and one subscription for all sessions of this process that have it open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial

import structlog

from restante import errors
from restante.link import CoreLink
from restante.watch import Watching
from restante_gateways.imap.core.folders import FolderCalls
from restante_gateways.imap.core.freshness import Freshness, Reached
from restante_gateways.imap.core.operations import Operations
from restante_gateways.imap.core.watch import WatchEnd, watch_folder
from restante_gateways.imap.folders.claims import RecentClaims
from restante_gateways.imap.folders.member import Member
from restante_gateways.imap.folders.settings import FolderSettings
from restante_gateways.imap.grammar.flags import Flags
from restante_gateways.imap.values import Appended, Changes, Folder, FolderPath, Place
from restante_gateways.imap.view.folder import FolderView, Gap

log = structlog.get_logger("imap")

INBOX = ("INBOX",)


class OpenFolder:
    """One folder: its view, its sessions, and the Watch subscription that keeps it current."""

    def __init__(
        self,
        link: CoreLink,
        freshness: Freshness,
        place: Place,
        view: FolderView,
        epoch: int,
        on_new_epoch: Callable[[], None],
        settings: FolderSettings,
    ) -> None:
        """`epoch` is the store's epoch at the time of the view; `on_new_epoch` is called when the core has another."""
        self.place, self.view, self.epoch = place, view, epoch
        self.members: set[Member] = set()
        self.named: FolderPath | None = None  # the path by which a client asked for it last,
        self.named_at = 0  # and the folder's change number when the core found it there
        self.claims = RecentClaims(place, view, settings.claim_after_seconds)
        self._settings = settings
        self._link, self._freshness, self._on_new_epoch = link, freshness, on_new_epoch
        self._watching: Watching | None = None
        self._unwatch: asyncio.TimerHandle | None = None  # runs while no session has the folder open
        self._refreshing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []  # change numbers that the view must reach

    # --- sessions ---

    def attach(self, member: Member) -> None:
        """Add a session; the first one starts the watch."""
        self.members.add(member)
        if self._unwatch is not None:
            self._unwatch.cancel()
            self._unwatch = None
        if self._watching is None:
            self._watch()

    def detach(self, member: Member) -> None:
        """Remove a session; `linger_seconds` after the last one the watch ends."""
        self.members.discard(member)
        self.claims.claim_soon(member.calls)
        if not self.members and self._watching is not None and self._unwatch is None:
            self._unwatch = asyncio.get_running_loop().call_later(self._settings.linger_seconds, self._stop_watching)

    def lose(self, reason: str) -> None:
        """End every session of the folder: its view is no longer valid."""
        for member in tuple(self.members):
            member.folder_lost(reason)

    # --- its description ---

    def is_known(self, with_recent: bool) -> bool:
        """Whether the watch keeps the view, the folder has its name still, and, `with_recent`, no message is recent.

        As far as the view knows: any change may have renamed the folder, except INBOX, which can be neither renamed nor
        deleted. A session of another process may have claimed what none of this process has.
        """
        if self._watching is None or self.named is None:
            return False
        if self.named_at != self.view.change_number and self.named.path != INBOX:
            return False
        return not with_recent or self.view.claimed_uid >= self.view.uid_next

    def describe(self) -> Folder:
        """The folder as of the view's change number, without its role."""
        view = self.view
        return Folder(
            self.place,
            () if self.named is None else self.named.path,
            change_number=view.change_number,
            uid_validity=view.uid_validity,
            uid_next=view.uid_next,
            recent_uid=view.recent_uid,
            message_count=len(view),
            unread_count=view.unseen_count,
        )

    # --- changes ---

    def absorb(self, changes: Changes) -> bool:
        """Apply changes. Return False if earlier changes are missing."""
        try:
            changed = self.view.apply(changes)
        except Gap:
            return False
        if changed:
            self._changed()
        return True

    def add(self, added: Appended, flags: Flags) -> bool:
        """Add a message that a session of this process appended. Return False if the core must be read instead."""
        count = len(self.view)
        number, since = added.commit.change_number, added.since_change_number
        if not self.view.add(added.uid, added.message_id, flags, number, since):
            return False
        if len(self.view) > count:
            self._changed()
        return True

    def _changed(self) -> None:
        reached = self.view.change_number
        for change_number, arrived in self._waiting:
            if change_number <= reached and not arrived.done():
                arrived.set_result(None)
        for member in tuple(self.members):
            member.folder_changed()

    # --- catching up ---

    async def newest(self, calls: FolderCalls) -> int:
        """The change number that includes all changes that the core acknowledged before this call.

        If the session follows another folder, the question includes that one, too. Raises restante.errors; before
        FolderNotFound and EpochChanged it ends every session of the folder.
        """
        operations = calls.operations
        followed = operations.followed
        if followed is not None and followed != self.place:
            self._freshness.ask(operations.token, followed).add_done_callback(partial(_note, operations, followed))
        try:
            reached = await self._freshness.ask(operations.token, self.place)
        except errors.FolderNotFound:
            self._deleted()
            raise
        if reached.epoch != self.epoch:
            self._restored()
            raise errors.EpochChanged(epoch=reached.epoch)
        if followed == self.place:
            operations.note_change_number(reached.change_number)
        return reached.change_number

    async def reach(self, calls: FolderCalls, change_number: int) -> None:
        """Bring the view up to a commit. Usually the watch has delivered it; otherwise read it from the core."""
        if self.view.change_number < change_number:
            await self.refresh(calls, at_least=change_number)

    async def await_commit(self, calls: FolderCalls, change_number: int) -> None:
        """Wait until the watch has delivered a large commit of this process, which is costly to read twice.

        After `patience_seconds` read the changes from the core.
        """
        if self.view.change_number >= change_number:
            return
        arrived = asyncio.get_running_loop().create_future()
        self._waiting.append((change_number, arrived))
        try:
            async with asyncio.timeout(self._settings.patience_seconds):
                await arrived
        except TimeoutError:
            await self.refresh(calls, at_least=change_number)
        finally:
            self._waiting = [entry for entry in self._waiting if entry[1] is not arrived]

    async def refresh(self, calls: FolderCalls, at_least: int = 0) -> None:
        """Read the changes above the view's change number, unless a concurrent read reached `at_least`.

        Raises as `newest`.
        """
        async with self._refreshing:
            if at_least and self.view.change_number >= at_least:
                return
            try:
                self.absorb(await calls.changes(self.place, self.view.change_number, self.epoch))
            except (errors.ResultTooLarge, errors.CursorInvalid):
                await self._reload(calls)
            except errors.FolderNotFound:
                self._deleted()
                raise
            except errors.EpochChanged:
                self._restored()
                raise

    async def _reload(self, calls: FolderCalls) -> None:
        """Bring the view to a new snapshot, when the changes are too many for one answer or too old."""
        try:
            folder, batches = await calls.snapshot(self.place)
        except errors.FolderNotFound:
            self._deleted()
            raise
        if folder.uid_validity != self.view.uid_validity:
            self.lose("The folder was made anew; please log in again.")
            raise errors.FolderNotFound(folder_id=self.place.folder_id)
        if self.view.apply_snapshot(batches, folder.change_number):
            self._changed()

    def _deleted(self) -> None:
        self.lose("The folder was deleted.")

    def _restored(self) -> None:
        self._on_new_epoch()
        self.lose("The store was restored; please log in again.")

    # --- the watch ---

    def _watch(self) -> None:
        self._watching = watch_folder(
            self._link, self.place, self.view.change_number, self.epoch, self._token, self._absorb_changes, self._ended
        )

    def _stop_watching(self) -> None:
        self._unwatch = None
        if self._watching is not None:
            self._watching.close()
            self._watching = None

    def _token(self) -> bytes:
        """The token of any current session of the folder, since the one that started the watch may have ended."""
        return next((member.calls.operations.token for member in self.members), b"")

    def _absorb_changes(self, changes: Changes) -> None:
        if not self.absorb(changes):
            self._later(self._catch_up(changes.change_number))

    def _ended(self, end: WatchEnd) -> None:
        self._watching = None
        match end:
            case WatchEnd.FOLDER_GONE:
                self._deleted()
            case WatchEnd.STORE_RESTORED:
                self._restored()
            case WatchEnd.INTERRUPTED:
                self._later(self._watch_again())

    async def _watch_again(self) -> None:
        """Read the missed changes, then watch again from there."""
        await self._refresh_by_anyone()
        if self.members and self._watching is None:
            self._watch()

    async def _catch_up(self, change_number: int) -> None:
        """Read the changes that the watch left out, retrying until they arrive: idling clients wait for them."""
        while self.view.change_number < change_number and await self._refresh_by_anyone(change_number):
            pass

    async def _refresh_by_anyone(self, at_least: int = 0) -> bool:
        """Refresh with the calls of any session. Return False if no session needs it any more.

        Failures are only logged: where they matter, the sessions' commands fail as well.
        """
        member = next(iter(self.members), None)
        if member is None:
            return False
        try:
            await self.refresh(member.calls, at_least)
        except errors.FolderNotFound:
            return False
        except errors.RestanteError as error:
            log.info("view not refreshed", reason=error.reason or "unknown")
            await asyncio.sleep(self._settings.retry_seconds)
        return True

    def _later(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _note(operations: Operations, place: Place, answer: asyncio.Future[Reached]) -> None:
    """Record the change number of the folder that a session follows, unless it follows another by now."""
    if not answer.cancelled() and answer.exception() is None and operations.followed == place:
        operations.note_change_number(answer.result().change_number)
