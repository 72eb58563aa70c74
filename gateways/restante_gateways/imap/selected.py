"""The selected folder of one connection: opened, counted, caught up with, and told of while the client idles."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import structlog

from restante import errors
from restante.execute import Followed
from restante.link import CoreLink
from restante.v1 import folder_pb2, message_pb2, types_pb2
from restante_gateways.imap.core.calls import CoreCalls
from restante_gateways.imap.errors import ends_session
from restante_gateways.imap.folders.opened import OpenFolder, OpenFolders
from restante_gateways.imap.grammar.flags import Flags, SystemFlag
from restante_gateways.imap.grammar.responses import OK, highest_change_number
from restante_gateways.imap.grammar.sets import Span
from restante_gateways.imap.searching import uid_set
from restante_gateways.imap.table import State
from restante_gateways.imap.view.session import SessionView
from restante_gateways.net.connection import Connection, ConnectionLost, Interruption

log = structlog.get_logger("imap")

_MAX_CHANGES_IN_ANSWER = 4_000  # messages: about what 64 KiB of columns hold


class SessionOver(Interruption):
    """The session must end; the text is for the client."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Selecting(CoreCalls):
    """The part of a session that has a folder selected."""

    __slots__ = ("_folders", "_opened", "_pushing", "_pushing_task", "_view", "condstore", "state")

    def __init__(self, link: CoreLink, connection: Connection, folders: OpenFolders) -> None:
        super().__init__(link, connection)
        self._folders = folders
        self.state = State.NOT_AUTHENTICATED
        self.condstore = False
        self._opened: OpenFolder | None = None
        self._view: SessionView | None = None
        self._pushing = False
        self._pushing_task: asyncio.Task[None] | None = None

    def write(self, octets: bytes) -> None:
        """Queue octets; small answers need no more."""
        self.connection.write(octets)

    def end(self, reason: str) -> None:
        """End the session as soon as the command under way is done."""
        self._over = reason
        self.connection.interrupt(SessionOver(reason))

    @property
    def view(self) -> SessionView:
        """The selected folder as this session counts it."""
        assert self._view is not None
        return self._view

    def has_selected(self, folder_id: int) -> bool:
        """Whether this is the selected folder."""
        return self._opened is not None and self._opened.view.folder_id == folder_id

    async def select(self, folder: folder_pb2.Folder, read_only: bool) -> SessionView:
        """Open a folder; the one selected before was closed. Raises what the calls raise, with nothing selected."""
        assert self.identity is not None
        opened = await self._folders.open(self, self.identity.mailbox_id, folder)
        self._opened = opened
        self._follow()
        view = SessionView(opened.view, read_only)
        view.claim_recent(folder.recent_uid)
        opened.claim_soon(self)
        view.with_change_numbers = self.condstore
        self._view, self.state = view, State.SELECTED
        return view

    def unclaimed_uid(self, folder: folder_pb2.Folder) -> int:
        """From where on a folder's messages were not told to anyone as recent, as far as is known here."""
        assert self.identity is not None
        return max(folder.recent_uid, self._folders.claimed_uid(self.identity.mailbox_id, folder.folder_id))

    def deselect(self) -> None:
        """Close the selected folder, if there is one."""
        opened, self._opened, self._view, self.followed = self._opened, None, None, None
        if opened is not None:
            self._folders.close(opened, self)
        if self.state is State.SELECTED:
            self.state = State.AUTHENTICATED

    def enable_condstore(self) -> None:
        """From now on every answer about flags bears the change number (RFC 7162 3.1).

        With a folder selected the client learns from where on it is told of changes (RFC 7162 3.1.2.1).
        """
        if not self.condstore and self._view is not None:
            self._view.with_change_numbers = True
            self.write(highest_change_number(self._view.told_change_number).encode())
        self.condstore = True

    def message_set(self, spans: Iterable[Span]) -> types_pb2.MessageSet:
        """The messages at these positions, for a request."""
        return uid_set(self.view.folder.folder_id, self.view.uid_ranges(spans))

    def changes_since(self, spans: Iterable[Span]) -> int | None:
        """From where on the answer to a change of these messages is to tell the folder's changes.

        None when they are too many for an answer: then the watch alone tells them, and the core reads them once.
        """
        many = sum(stop - first for first, stop in spans) > _MAX_CHANGES_IN_ANSWER
        return None if many else self.view.folder.change_number

    async def any_deleted(self) -> bool:
        """Whether a message of the folder is marked deleted, by whomever."""
        if not self._knows_deleted():
            await self.catch_up()
        return self._knows_deleted()

    def _knows_deleted(self) -> bool:
        return self.view.folder.any_in(lambda flags: SystemFlag.DELETED in flags.system)

    async def absorb(self, changes: types_pb2.FolderChanges, commit: types_pb2.CommitToken) -> None:
        """Take over what a command of this session did to the selected folder."""
        assert self._opened is not None
        self._folders.note_commit(commit)
        if changes.folder_id and self._opened.absorb(changes):
            self.view.amend(changes)
            if self.followed is not None:
                self.followed.change_number = max(self.followed.change_number, changes.change_number)
            return
        await self._opened.await_commit(self, commit.change_number)  # too many for an answer: the watch brings them

    async def reached(self, folder_id: int, change_number: int) -> None:
        """See that the view of a folder, where it is the selected one, has a commit."""
        if self._opened is not None and self.has_selected(folder_id) and change_number:
            await self._opened.reach(self, change_number)

    async def added(self, folder_id: int, message: message_pb2.AppendMessageResponse, flags: Flags) -> None:
        """A message of this session's was added: where its folder is the selected one, the view gets it now."""
        if self._opened is None or not self.has_selected(folder_id):
            return
        if not self._opened.add(message, flags):
            await self._opened.reach(self, message.commit.change_number)

    # --- being current ---

    def _follow(self) -> None:
        """From here on, what answers tell of the selected folder is as of now or later."""
        opened = self._opened
        self.followed = None if opened is None else Followed(opened.mailbox_id, opened.view.folder_id)

    async def catch_up(self) -> None:
        """See that the view has all that was acknowledged to anyone before the command under way was read.

        The answer to any operation of the command has told how far that is; without one the core is asked.
        """
        opened, followed = self._opened, self.followed
        if opened is None or followed is None:
            return
        if not followed.change_number:
            followed.change_number = await opened.newest(self)
        await opened.reach(self, followed.change_number)

    async def catch_up_if_possible(self) -> None:
        """The same for who may not fail (RFC 9051 6.1.2: NOOP always succeeds): what is known is told then."""
        try:
            await self.catch_up()
        except errors.RestanteError as error:
            if ends_session(error):
                self.end("Your session is over; please log in again.")
            log.info("view not current", reason=error.reason or "unknown")

    def was_behind(self, change_number: int) -> bool:
        """Whether a view with this number lacked what was acknowledged before, as answers to this command have told."""
        return self.followed is not None and self.followed.change_number > change_number

    # --- being told ---

    def begin_pushing(self) -> None:
        """IDLE begins: tell what there is, and from now on what comes."""
        self._pushing = True
        self.folder_changed()

    def end_pushing(self) -> None:
        """IDLE ends, and what comes after is as of now."""
        self._pushing = False
        self._follow()

    def stop_pushing(self) -> None:
        """The connection ends."""
        self._pushing = False
        if self._pushing_task is not None:
            self._pushing_task.cancel()

    def folder_changed(self) -> None:
        """The view has changed. In IDLE the client is told at once, unless it has not taken what it was told before."""
        if self._view is None:
            return
        self._view.limit_lag()
        if not self._pushing:
            return
        if self.connection.write_paused:
            if self._pushing_task is None:
                self._pushing_task = asyncio.get_running_loop().create_task(self._push_later())
            return
        for block in self._view.tell(may_expunge=True):
            self.connection.write(block)

    async def _push_later(self) -> None:
        try:
            await self.connection.drain()
        except ConnectionLost:
            return  # the session's own reading ends it
        finally:
            self._pushing_task = None
        self.folder_changed()

    def keep_alive(self) -> None:
        """In IDLE: a word now and then, so that nothing on the way takes the connection for dead."""
        if self._pushing and not self.connection.write_paused:
            self.connection.write(OK("Still here.").encode())

    def folder_lost(self, reason: str) -> None:
        """The selected folder's view is void (RFC 2180 3.3)."""
        self.end(reason)
