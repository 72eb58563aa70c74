"""Folders and the mailbox, for people and programs."""

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
from restante.v1.mailbox_pb2 import GetMailboxRequest, ListMailboxesRequest, Mailbox

FolderName = int | str | Sequence[str] | Folder
"""A folder: its id, its path ("Work/2026" or a list of names), or what an earlier call gave."""

PAGE_SIZE = 500


def path_of(name: str | Sequence[str]) -> list[str]:
    """The names of a path, from the top down."""
    return [level for level in name.split("/") if level] if isinstance(name, str) else list(name)


class FolderCalls(Calls):
    """`mailbox_id` 0 is the user's own mailbox, everywhere."""

    async def mailbox(self, mailbox_id: int = 0) -> Mailbox:
        """The mailbox with its quota. Raises MailboxNotFound."""
        return (await self.execute(methods.GET_MAILBOX, GetMailboxRequest(mailbox_id=mailbox_id))).mailbox

    async def mailboxes(self) -> AsyncIterator[Mailbox]:
        """Every mailbox that the user may open."""
        async for page in self.pages(methods.LIST_MAILBOXES, ListMailboxesRequest(page_size=PAGE_SIZE)):
            for mailbox in page.mailboxes:
                yield mailbox

    async def folders(self, *, mailbox_id: int = 0) -> AsyncIterator[Folder]:
        """Every folder with its counts, parents before children."""
        request = ListFoldersRequest(mailbox_id=mailbox_id, page_size=PAGE_SIZE)
        async for page in self.pages(methods.LIST_FOLDERS, request):
            for folder in page.folders:
                yield folder

    async def folder(self, name: FolderName, *, mailbox_id: int = 0) -> Folder:
        """One folder as it is now. Raises FolderNotFound."""
        request = GetFolderRequest(mailbox_id=mailbox_id)
        if isinstance(name, Folder):
            request.folder_id = name.folder_id
        elif isinstance(name, int):
            request.folder_id = name
        else:
            request.path.extend(path_of(name))
        return (await self.execute(methods.GET_FOLDER, request)).folder

    async def folder_by_role(self, role: FolderRole.ValueType, *, mailbox_id: int = 0) -> Folder:
        """The Inbox, Sent, Drafts, Trash, Junk or Archive. Raises FolderNotFound."""
        return (await self.execute(methods.GET_FOLDER, GetFolderRequest(mailbox_id=mailbox_id, role=role))).folder

    async def folder_id(self, name: FolderName, *, mailbox_id: int = 0) -> int:
        """The id of a folder; asks only when a path is given. Raises FolderNotFound."""
        if isinstance(name, Folder):
            return name.folder_id
        return name if isinstance(name, int) else (await self.folder(name, mailbox_id=mailbox_id)).folder_id

    async def create_folder(
        self,
        path: str | Sequence[str],
        *,
        parent: FolderName | None = None,
        role: FolderRole.ValueType = FolderRole.FOLDER_ROLE_UNSPECIFIED,
        mailbox_id: int = 0,
    ) -> Folder:
        """Create a folder, and those above it that are missing. Raises FolderExists, FolderNameInvalid."""
        request = CreateFolderRequest(
            mailbox_id=mailbox_id,
            parent_folder_id=await self.folder_id(parent, mailbox_id=mailbox_id) if parent is not None else 0,
            path=path_of(path),
            role=role,
        )
        return (await self.execute(methods.CREATE_FOLDER, request)).folder

    async def move_folder(
        self,
        name: FolderName,
        path: str | Sequence[str],
        *,
        parent: FolderName | None = None,
        if_change_number: int | None = None,
        mailbox_id: int = 0,
    ) -> Folder:
        """Give a folder a new name or place. Raises FolderExists, FolderCycle, FolderIsSpecial, ChangeConflict."""
        request = MoveFolderRequest(
            mailbox_id=mailbox_id,
            folder_id=await self.folder_id(name, mailbox_id=mailbox_id),
            target_parent_folder_id=await self.folder_id(parent, mailbox_id=mailbox_id) if parent is not None else 0,
            path=path_of(path),
            if_change_number=if_change_number,
        )
        return (await self.execute(methods.MOVE_FOLDER, request)).folder

    async def delete_folder(self, name: FolderName, *, mailbox_id: int = 0) -> int:
        """Delete a folder; how many messages went with it (they stay recoverable). Raises FolderHasChildren."""
        request = DeleteFolderRequest(
            mailbox_id=mailbox_id, folder_id=await self.folder_id(name, mailbox_id=mailbox_id)
        )
        return (await self.execute(methods.DELETE_FOLDER, request)).deleted_count

    async def subscribe(self, path: str | Sequence[str], *, subscribed: bool = True, mailbox_id: int = 0) -> None:
        """Subscribe to a name, or with `subscribed=False` no longer."""
        request = SetSubscriptionRequest(mailbox_id=mailbox_id, path=path_of(path), subscribed=subscribed)
        await self.execute(methods.SET_SUBSCRIPTION, request)

    async def subscriptions(self, *, mailbox_id: int = 0) -> AsyncIterator[list[str]]:
        """Paths that are subscribed."""
        request = ListSubscriptionsRequest(mailbox_id=mailbox_id, page_size=PAGE_SIZE)
        async for page in self.pages(methods.LIST_SUBSCRIPTIONS, request):
            for entry in page.subscriptions:
                yield list(entry.path)

    async def open_folder(self, name: FolderName, *, mailbox_id: int = 0) -> AsyncIterator[OpenFolderResponse]:
        """A snapshot of a folder in pieces, the first with the folder. Broken off, it raises Draining: begin again."""
        request = OpenFolderRequest(mailbox_id=mailbox_id, folder_id=await self.folder_id(name, mailbox_id=mailbox_id))
        commit = self.min_commit(mailbox_id)
        if commit is not None:
            request.min_commit.CopyFrom(commit)
        async for piece in self.link.open_folder(request, session=self.token):
            yield piece
