"""The selected folder of one connection: its numbered messages, kept as current as each command needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import structlog

from restante import errors
from restante_gateways.imap.account import Account
from restante_gateways.imap.announcements import Announcements
from restante_gateways.imap.client import Client
from restante_gateways.imap.core.folders import FolderCalls
from restante_gateways.imap.errors import SESSION_IS_OVER, ends_session
from restante_gateways.imap.folders.opened import OpenFolder
from restante_gateways.imap.folders.registry import OpenFolders
from restante_gateways.imap.grammar.flags import Flags
from restante_gateways.imap.grammar.sets import Span
from restante_gateways.imap.values import Appended, Changed, Commit, FolderPath, Messages, Moved, Place
from restante_gateways.imap.view.ahead import ReadAhead
from restante_gateways.imap.view.session import SessionView

log = structlog.get_logger("imap")

_MAX_CHANGES_IN_ANSWER = 4_000  # messages: about as many as 64 KiB of columns hold


class SelectedFolder:
    """One connection's selected folder, from SELECT to its closing: a member of the process's shared OpenFolder."""

    __slots__ = ("_account", "_announcements", "_client", "_deleting", "_folders", "_lost", "_opened", "ahead", "view")

    def __init__(
        self,
        account: Account,
        client: Client,
        announcements: Announcements,
        folders: OpenFolders,
        opened: OpenFolder,
        view: SessionView,
    ) -> None:
        self._account, self._client, self._announcements = account, client, announcements
        self._folders, self._opened, self.view = folders, opened, view
        self.ahead = ReadAhead(folders.ahead)
        self._deleting, self._lost = False, ""  # see `deleting`

    @classmethod
    async def open(
        cls,
        account: Account,
        client: Client,
        announcements: Announcements,
        folders: OpenFolders,
        named: FolderPath,
        read_only: bool,
    ) -> SelectedFolder:
        """Open a folder. Raises restante.errors, having opened nothing."""
        opened = await folders.open(account.folders, named)
        view = SessionView(opened.view, read_only)
        selected = cls(account, client, announcements, folders, opened, view)
        opened.attach(selected)
        selected.follow()
        view.claim_recent()
        opened.claims.claim_soon(account.folders)
        announcements.begin(view)
        return selected

    def close(self) -> None:
        """Close the folder."""
        self._announcements.end()
        self.ahead.forget()
        self._account.operations.follow(None)
        self._folders.close(self._opened, self)

    @property
    def place(self) -> Place:
        """The folder and its mailbox."""
        return self._opened.place

    # --- for commands ---

    def messages(self, spans: Iterable[Span]) -> Messages:
        """The messages at these positions, as a call to the core names them."""
        return Messages(self.place, self.view.uid_ranges(spans))

    def changes_since(self, spans: Iterable[Span]) -> int | None:
        """The change number above which the core returns the folder's changes with its answer.

        None when the messages are too many for an answer: then only the Watch stream delivers the changes, and the
        core reads them once.
        """
        many = sum(stop - first for first, stop in spans) > _MAX_CHANGES_IN_ANSWER
        return None if many else self.view.folder.change_number

    async def any_deleted(self) -> bool:
        """Whether any client has marked a message of the folder \\Deleted."""
        if not self.view.folder.any_deleted():
            await self.catch_up()
        return self.view.folder.any_deleted()

    async def absorb(self, done: Changed | Moved) -> None:
        """Apply the changes that a command of this session has made in this folder."""
        self._folders.note_epoch(done.commit.epoch)
        if done.changes is not None and self._opened.absorb(done.changes):
            self.view.amend(done.changes)
            self._account.operations.note_change_number(done.changes.change_number)
            return
        await self._opened.await_commit(self.calls, done.commit.change_number)  # too many for an answer

    async def note_commit(self, place: Place, commit: Commit) -> None:
        """Bring the view up to a commit, if the commit was made in this folder."""
        if place == self.place and commit.change_number:
            await self._opened.reach(self.calls, commit.change_number)

    async def note_append(self, added: Appended, flags: Flags) -> None:
        """Add a message that this session has appended to the view, if it was appended to this folder."""
        if added.place == self.place and not self._opened.add(added, flags):
            await self._opened.reach(self.calls, added.commit.change_number)

    @contextmanager
    def deleting(self) -> Iterator[None]:
        """The session deletes the folder in the block: its loss ends the session only if that fails."""
        self._deleting = True
        try:
            yield
        except BaseException:
            self._deleting = False
            if self._lost:
                self.folder_lost(self._lost)
            raise

    # --- being current ---

    def follow(self, keep: bool = False) -> None:
        """From here on, collect the folder's change number from every answer of the core.

        Those numbers are as of now or later. `keep`: a number collected before is good enough, too.
        """
        if not (keep and self._account.operations.followed_change_number):
            self._account.operations.follow(self.place)

    async def catch_up(self) -> None:
        """Bring the view up to all changes that the core acknowledged to any client before the command was read.

        Every answer to the command's operations carries that change number; without an answer this asks the core.
        """
        operations = self._account.operations
        number = operations.followed_change_number
        if number is None:
            return
        if not number:
            number = await self._opened.newest(self.calls)
        await self._opened.reach(self.calls, number)

    async def catch_up_if_possible(self) -> None:
        """Catch up; on a failure leave the view as it is: some commands may not fail (RFC 9051 6.1.2, NOOP)."""
        try:
            await self.catch_up()
        except errors.RestanteError as error:
            if ends_session(error):
                self._client.end(SESSION_IS_OVER)
            log.info("view not current", reason=error.reason or "unknown")

    def was_behind(self, change_number: int) -> bool:
        """Whether the current command's answers carry a newer change number than this."""
        return (self._account.operations.followed_change_number or 0) > change_number

    def core_is_away(self) -> None:
        """Skip the question for the change number: the core could not answer the current command either."""
        if not self._account.operations.followed_change_number:
            self._account.operations.follow(None)

    # --- a member of the open folder ---

    @property
    def calls(self) -> FolderCalls:
        """Folder calls with this session's account."""
        return self._account.folders

    def folder_changed(self) -> None:
        """Announce changes of the shared view."""
        self._announcements.folder_changed()

    def folder_lost(self, reason: str) -> None:
        """End the session: the folder's view is no longer valid (RFC 2180 3.3)."""
        if self._deleting:
            self._lost = reason
        else:
            self._client.end(reason)
