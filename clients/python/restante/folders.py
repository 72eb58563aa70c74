"""Folders of a mailbox."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from restante.calls import Calls
from restante.v1 import methods
from restante.v1.folder_pb2 import (
    CreateFolderRequest,
    DeleteFolderRequest,
    Folder,
    FolderRole,
    GetFolderRequest,
    ListFoldersRequest,
    ListSubscriptionsRequest,
    MoveFolderRequest,
    OpenFolderRequest,
    OpenFolderResponse,
    SetSubscriptionRequest,
)

FolderName = int | str | Sequence[str] | Folder
"""A folder: its id, its path ("Work/2026" or a sequence of names), or the value of an earlier call."""

PAGE_SIZE = 500


def path_of(name: str | Sequence[str]) -> Sequence[str]:
    """The names of a path, from the top down."""
    return [level for level in name.split("/") if level] if isinstance(name, str) else name


class Folders:
    """`mailbox_id` 0 is the user's own mailbox."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def list(self, *, mailbox_id: int = 0) -> AsyncIterator[Folder]:
        """Every folder with its counts, parents before children."""
        request = ListFoldersRequest(mailbox_id=mailbox_id, page_size=PAGE_SIZE)
        async for page in self._calls.pages(methods.LIST_FOLDERS, request):
            for folder in page.folders:
                yield folder

    async def get(self, name: FolderName, *, mailbox_id: int = 0) -> Folder:
        """The present state of a folder. Raises FolderNotFound."""
        request = GetFolderRequest(mailbox_id=mailbox_id)
        if isinstance(name, Folder):
            request.folder_id = name.folder_id
        elif isinstance(name, int):
            request.folder_id = name
        else:
            request.path.extend(path_of(name))
        return (await self._calls.execute(methods.GET_FOLDER, request)).folder

    async def by_role(self, role: FolderRole.ValueType, *, mailbox_id: int = 0) -> Folder:
        """The Inbox, Sent, Drafts, Trash, Junk or Archive. Raises FolderNotFound."""
        request = GetFolderRequest(mailbox_id=mailbox_id, role=role)
        return (await self._calls.execute(methods.GET_FOLDER, request)).folder

    async def id_of(self, name: FolderName, *, mailbox_id: int = 0) -> int:
        """The id of a folder. Only a path needs a call. Raises FolderNotFound."""
        if isinstance(name, Folder):
            return name.folder_id
        return name if isinstance(name, int) else (await self.get(name, mailbox_id=mailbox_id)).folder_id

    async def create(
        self,
        path: str | Sequence[str],
        *,
        parent: FolderName | None = None,
        role: FolderRole.ValueType = FolderRole.FOLDER_ROLE_UNSPECIFIED,
        mailbox_id: int = 0,
    ) -> Folder:
        """Create a folder and its missing parents. Raises FolderExists, FolderNameInvalid."""
        request = CreateFolderRequest(
            mailbox_id=mailbox_id,
            parent_folder_id=await self.id_of(parent, mailbox_id=mailbox_id) if parent is not None else 0,
            path=path_of(path),
            role=role,
        )
        return (await self._calls.execute(methods.CREATE_FOLDER, request)).folder

    async def move(
        self,
        name: FolderName,
        path: str | Sequence[str],
        *,
        parent: FolderName | None = None,
        if_change_number: int | None = None,
        mailbox_id: int = 0,
    ) -> Folder:
        """Rename or move a folder. Raises FolderExists, FolderCycle, FolderIsSpecial, ChangeConflict."""
        request = MoveFolderRequest(
            mailbox_id=mailbox_id,
            folder_id=await self.id_of(name, mailbox_id=mailbox_id),
            target_parent_folder_id=await self.id_of(parent, mailbox_id=mailbox_id) if parent is not None else 0,
            path=path_of(path),
            if_change_number=if_change_number,
        )
        return (await self._calls.execute(methods.MOVE_FOLDER, request)).folder

    async def delete(self, name: FolderName, *, mailbox_id: int = 0) -> int:
        """Delete a folder and return the number of its messages, which stay recoverable. Raises FolderHasChildren."""
        request = DeleteFolderRequest(mailbox_id=mailbox_id, folder_id=await self.id_of(name, mailbox_id=mailbox_id))
        return (await self._calls.execute(methods.DELETE_FOLDER, request)).deleted_count

    async def subscribe(self, path: str | Sequence[str], *, subscribed: bool = True, mailbox_id: int = 0) -> None:
        """Subscribe to a name, or with `subscribed=False` unsubscribe from it."""
        request = SetSubscriptionRequest(mailbox_id=mailbox_id, path=path_of(path), subscribed=subscribed)
        await self._calls.execute(methods.SET_SUBSCRIPTION, request)

    async def subscriptions(self, *, mailbox_id: int = 0) -> AsyncIterator[tuple[str, ...]]:
        """Every subscribed path, as its names from the top down."""
        request = ListSubscriptionsRequest(mailbox_id=mailbox_id, page_size=PAGE_SIZE)
        async for page in self._calls.pages(methods.LIST_SUBSCRIPTIONS, request):
            for entry in page.subscriptions:
                yield tuple(entry.path)

    async def open(self, name: FolderName, *, mailbox_id: int = 0) -> AsyncIterator[OpenFolderResponse]:
        """A snapshot of a folder in pieces; the first piece has the folder itself.

        Raises Draining when the connection breaks; call again then for a whole snapshot.
        """
        request = OpenFolderRequest(mailbox_id=mailbox_id, folder_id=await self.id_of(name, mailbox_id=mailbox_id))
        commit = self._calls.min_commit(mailbox_id)
        if commit is not None:
            request.min_commit.CopyFrom(commit)
        async for piece in self._calls.link.open_folder(request, session=self._calls.token):
            yield piece
