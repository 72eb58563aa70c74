"""The user's own account, and the directory of those one can write to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

from restante.calls import Calls
from restante.v1 import methods
from restante.v1.directory_pb2 import (
    DirectoryEntry,
    GetEntryRequest,
    ListEntriesRequest,
    Resolution,
    ResolveNamesRequest,
)
from restante.v1.session_pb2 import GetSessionRequest, Session

PAGE_SIZE = 500


class AccountCalls(Calls):
    """Who one is, one's password, and the address book."""

    async def who_am_i(self) -> Session:
        """The session, without its token."""
        return (await self.execute(methods.GET_SESSION, GetSessionRequest())).session

    async def change_password(self, old: str, new: str) -> None:
        """Set a new password; other sessions end, this one goes on. Raises AuthenticationFailed, WeakPassword."""
        await self.session.change_password(old, new, timeout=self.timeout_seconds)

    async def log_off(self) -> None:
        """End the session at the server."""
        await self.session.log_off()

    async def resolve(self, names: Iterable[str], *, max_candidates: int = 20) -> list[Resolution]:
        """Who each name could mean, in the same order."""
        request = ResolveNamesRequest(names=names, max_candidates=max_candidates)
        return list((await self.execute(methods.RESOLVE_NAMES, request)).resolutions)

    async def directory(self) -> AsyncIterator[DirectoryEntry]:
        """Everybody in the address book, by display name."""
        async for page in self.pages(methods.LIST_ENTRIES, ListEntriesRequest(page_size=PAGE_SIZE)):
            for entry in page.entries:
                yield entry

    async def directory_entry(self, address: str) -> DirectoryEntry:
        """One of them by address. Raises EntryNotFound."""
        return (await self.execute(methods.GET_ENTRY, GetEntryRequest(address=address))).entry
