"""All open and cached folders of the process.

A view is cached after its last session has closed it; its subscription ends after a while. The next SELECT brings the
view up to date by change number. While it is watched, the question for that number is usually the only one: the name of
the folder is known from the last look-up, unless it has changed since or lies below one that can be renamed.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from weakref import WeakValueDictionary

from restante import errors
from restante.link import CoreLink
from restante_gateways.imap.core.folders import FolderCalls
from restante_gateways.imap.core.freshness import Freshness
from restante_gateways.imap.folders.member import Member
from restante_gateways.imap.folders.opened import INBOX, OpenFolder
from restante_gateways.imap.folders.settings import FolderSettings
from restante_gateways.imap.values import Folder, FolderPath, Place
from restante_gateways.imap.view.ahead import AheadBudget
from restante_gateways.imap.view.folder import FolderView


class OpenFolders:
    """The folders that sessions have open, and the cached views."""

    def __init__(self, link: CoreLink, settings: FolderSettings) -> None:
        self._link, self._freshness, self._settings = link, Freshness(link), settings
        self._folders: dict[Place, OpenFolder] = {}
        self._kept: OrderedDict[Place, int] = OrderedDict()  # message counts of cached folders, oldest first
        self._kept_messages = 0
        self._named: dict[FolderPath, OpenFolder] = {}  # by the path that a client used last
        self._opening: WeakValueDictionary[Place, asyncio.Lock] = WeakValueDictionary()
        self.ahead = AheadBudget()  # of what their sessions read ahead
        self.epoch = 0  # of the store, from the latest answer that carried it; 0: not known yet

    def note_epoch(self, epoch: int) -> None:
        """Record the epoch in an answer; 0 means that the answer has none."""
        if epoch:
            self.epoch = epoch

    async def open(self, calls: FolderCalls, named: FolderPath) -> OpenFolder:
        """The folder with a current view. Call `attach` on it before the next await.

        Raises restante.errors, FolderNotFound if no folder has this path.
        """
        opened = await self._current(calls, named, with_recent=True)
        if opened is None:
            folder = await calls.get(named)
            opened = await self._opened(calls, folder)
            opened.view.note_claim(folder.recent_uid)
            self._name(opened, named, folder)
        self._kept_messages -= self._kept.pop(opened.place, 0)
        return opened

    async def describe(self, calls: FolderCalls, named: FolderPath, *, with_recent: bool) -> Folder:
        """A folder as it is now: from its view if that is current, else from the core. The view's has no role.

        `with_recent`: the caller needs to know which messages no session has claimed. Raises as `open`.
        """
        opened = await self._current(calls, named, with_recent=with_recent)
        return await calls.get(named) if opened is None else opened.describe()

    async def _current(self, calls: FolderCalls, named: FolderPath, *, with_recent: bool) -> OpenFolder | None:
        """The folder, if its view and name are known and as of now. None: the core must look it up.

        Other processes may have claimed recent messages: only the core knows.
        """
        opened = self._named.get(named)
        if opened is None or not opened.is_known(with_recent):
            return None
        try:
            number = await opened.newest(calls)
        except (errors.FolderNotFound, errors.EpochChanged):
            return None
        current = number == opened.view.change_number and self._folders.get(opened.place) is opened
        return opened if current and opened.is_known(with_recent) else None

    async def _opened(self, calls: FolderCalls, folder: Folder) -> OpenFolder:
        """The folder with a view at least as current as `folder`."""
        place = folder.place
        lock = self._opening.get(place)
        if lock is None:
            lock = self._opening[place] = asyncio.Lock()
        async with lock:
            opened = self._folders.get(place)
            if opened is None or opened.view.uid_validity != folder.uid_validity:
                opened = await self._load(calls, place)
            elif opened.view.change_number < folder.change_number:
                await opened.refresh(calls, at_least=folder.change_number)
            replaced = self._folders.get(place)
            if replaced is not None and replaced is not opened:
                self._forget_name(replaced)
            self._folders[place] = opened
            return opened

    def _name(self, opened: OpenFolder, named: FolderPath, folder: Folder) -> None:
        """Record the path of a folder, unless the renaming of a folder above could change it."""
        self._forget_name(opened)
        if len(named.path) == 1 or named.path[:-1] == INBOX:
            opened.named, opened.named_at = named, folder.change_number
            self._named[named] = opened

    def _forget_name(self, opened: OpenFolder) -> None:
        if opened.named is not None and self._named.get(opened.named) is opened:
            del self._named[opened.named]
        opened.named = None

    def close(self, opened: OpenFolder, member: Member) -> None:
        """Detach a session. Cache the view after the last session, within the limits of the settings."""
        opened.detach(member)
        if opened.members or self._folders.get(opened.place) is not opened:
            return
        self._kept[opened.place] = len(opened.view)
        self._kept_messages += len(opened.view)
        while self._is_too_much():
            place, messages = self._kept.popitem(last=False)
            self._kept_messages -= messages
            self._forget_name(self._folders.pop(place))

    def _is_too_much(self) -> bool:
        return self._kept_messages > self._settings.kept_messages or len(self._kept) > self._settings.kept_views

    def unclaimed_uid(self, folder: Folder) -> int:
        """The lowest UID not yet reported as \\Recent, to the knowledge of this process."""
        opened = self._folders.get(folder.place)
        return folder.recent_uid if opened is None else max(folder.recent_uid, opened.view.claimed_uid)

    async def _load(self, calls: FolderCalls, place: Place) -> OpenFolder:
        if not self.epoch:
            self.epoch = await calls.epoch(place.mailbox_id)
        epoch = self.epoch
        folder, batches = await calls.snapshot(place)
        view = FolderView(folder.uid_validity, folder.change_number)
        for rows in batches:
            view.load(rows)
        view.note_folder(folder.uid_next, folder.recent_uid)
        return OpenFolder(self._link, self._freshness, place, view, epoch, self._forget_epoch, self._settings)

    def _forget_epoch(self) -> None:
        self.epoch = 0
