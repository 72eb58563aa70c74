"""The address book: the people and groups that the user can write to."""

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

PAGE_SIZE = 500


class Directory:
    """Entries of the address book."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def list(self) -> AsyncIterator[DirectoryEntry]:
        """Every entry, by display name."""
        async for page in self._calls.pages(methods.LIST_ENTRIES, ListEntriesRequest(page_size=PAGE_SIZE)):
            for entry in page.entries:
                yield entry

    async def get(self, address: str) -> DirectoryEntry:
        """The entry with an address. Raises EntryNotFound."""
        return (await self._calls.execute(methods.GET_ENTRY, GetEntryRequest(address=address))).entry

    async def resolve(self, names: Iterable[str], *, max_candidates: int = 20) -> tuple[Resolution, ...]:
        """The entries that each name could mean, in the order of the names."""
        request = ResolveNamesRequest(names=names, max_candidates=max_candidates)
        return tuple((await self._calls.execute(methods.RESOLVE_NAMES, request)).resolutions)
