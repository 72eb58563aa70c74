"""Calls about folders and mailboxes."""

from __future__ import annotations

from collections.abc import Sequence

from restante.calls import request_id
from restante.v1 import folder_pb2, mailbox_pb2, methods
from restante_gateways.core.retry import repeated
from restante_gateways.imap.core import convert
from restante_gateways.imap.core.operations import Operations
from restante_gateways.imap.values import Changes, Folder, FolderPath, Place, Usage, full_name

_PAGE = 1_000


class FolderCalls:
    """Folder calls of one account. Every call raises restante.errors."""

    __slots__ = ("operations",)

    def __init__(self, operations: Operations) -> None:
        self.operations = operations

    async def get(self, named: FolderPath) -> Folder:
        """A folder by its path. Raises FolderNotFound."""
        request = folder_pb2.GetFolderRequest(mailbox_id=named.mailbox_id, path=named.path)
        answer = await self.operations.run(methods.GET_FOLDER, request)
        return convert.folder(named.mailbox_id, answer.folder)

    async def all(self, mailbox_id: int) -> list[Folder]:
        """Every folder of a mailbox, parents before children."""
        folders: list[Folder] = []
        request = folder_pb2.ListFoldersRequest(mailbox_id=mailbox_id, page_size=_PAGE)
        while True:
            page = await self.operations.run(methods.LIST_FOLDERS, request)
            folders += (convert.folder(mailbox_id, each) for each in page.folders)
            if not page.next_page_token:
                return folders
            request.page_token = page.next_page_token

    async def create(self, named: FolderPath) -> Place:
        """Create a folder and its missing parents. Raises FolderExists, FolderNameInvalid."""
        request = folder_pb2.CreateFolderRequest(mailbox_id=named.mailbox_id, path=named.path, request_id=request_id())
        answer = await self.operations.run(methods.CREATE_FOLDER, request)
        return Place(named.mailbox_id, answer.folder.folder_id)

    async def delete(self, place: Place) -> None:
        """Delete a folder without children. Raises FolderHasChildren, FolderIsSpecial."""
        request = folder_pb2.DeleteFolderRequest(mailbox_id=place.mailbox_id, folder_id=place.folder_id)
        await self.operations.run(methods.DELETE_FOLDER, request)

    async def move(self, place: Place, path: Sequence[str]) -> None:
        """Move a folder with all its descendants to another path. Raises FolderExists, FolderCycle."""
        request = folder_pb2.MoveFolderRequest(mailbox_id=place.mailbox_id, folder_id=place.folder_id, path=path)
        await self.operations.run(methods.MOVE_FOLDER, request)

    async def subscriptions(self, mailbox_id: int) -> frozenset[str]:
        """Every subscribed name."""
        names: set[str] = set()
        request = folder_pb2.ListSubscriptionsRequest(mailbox_id=mailbox_id, page_size=_PAGE)
        while True:
            page = await self.operations.run(methods.LIST_SUBSCRIPTIONS, request)
            names.update(full_name(entry.path) for entry in page.subscriptions)
            if not page.next_page_token:
                return frozenset(names)
            request.page_token = page.next_page_token

    async def subscribe(self, named: FolderPath, subscribed: bool) -> None:
        """Subscribe or unsubscribe a name. Raises FolderNameInvalid."""
        request = folder_pb2.SetSubscriptionRequest(mailbox_id=named.mailbox_id, path=named.path, subscribed=subscribed)
        await self.operations.run(methods.SET_SUBSCRIPTION, request)

    async def usage(self, mailbox_id: int) -> Usage:
        """The storage used and allowed in a mailbox."""
        mailbox = await self._mailbox(mailbox_id)
        return Usage(mailbox.used_octets, mailbox.quota_octets if mailbox.HasField("quota_octets") else None)

    async def epoch(self, mailbox_id: int) -> int:
        """The store's epoch."""
        return (await self._mailbox(mailbox_id)).epoch

    async def _mailbox(self, mailbox_id: int) -> mailbox_pb2.Mailbox:
        request = mailbox_pb2.GetMailboxRequest(mailbox_id=mailbox_id)
        return (await self.operations.run(methods.GET_MAILBOX, request)).mailbox

    # --- the view of a folder ---

    async def snapshot(self, place: Place) -> tuple[Folder, list[Changes]]:
        """A folder and all its messages, consistent at one moment. Raises FolderNotFound."""
        return await repeated(lambda: self._snapshot(place))

    async def _snapshot(self, place: Place) -> tuple[Folder, list[Changes]]:
        described, batches = folder_pb2.Folder(), list[Changes]()
        request = folder_pb2.OpenFolderRequest(mailbox_id=place.mailbox_id, folder_id=place.folder_id)
        async for piece in self.operations.open_folder(request):
            if piece.HasField("folder"):
                described = piece.folder
            batches.append(convert.changes(piece.rows))
        return convert.folder(place.mailbox_id, described), batches

    async def changes(self, place: Place, since: int, epoch: int) -> Changes:
        """Changes of a folder above a change number. Raises ResultTooLarge, CursorInvalid, EpochChanged."""
        request = folder_pb2.ReadFolderChangesRequest(
            mailbox_id=place.mailbox_id, folder_id=place.folder_id, since_change_number=since, epoch=epoch
        )
        return convert.changes((await self.operations.run(methods.READ_FOLDER_CHANGES, request)).changes)

    async def claim_recent(self, place: Place) -> int:
        """Claim all recent messages for one session; return the lowest UID not claimed (RFC 3501 2.3.2)."""
        request = folder_pb2.ClaimRecentRequest(mailbox_id=place.mailbox_id, folder_id=place.folder_id)
        return (await self.operations.run(methods.CLAIM_RECENT, request)).uid_next
