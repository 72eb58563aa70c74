"""DirectoryService: the address book of the session's own domain."""

from __future__ import annotations

from sqlalchemy import Connection

from restante.v1 import methods
from restante.v1.directory_pb2 import (
    DirectoryEntry,
    EntryKind,
    GetEntryRequest,
    GetEntryResponse,
    ListEntriesRequest,
    ListEntriesResponse,
    Resolution,
    ResolutionState,
    ResolveNamesRequest,
    ResolveNamesResponse,
)
from restante_server.api.engine.access import API_SESSION
from restante_server.api.engine.call import Call
from restante_server.api.engine.registry import Handlers
from restante_server.api.services import pages
from restante_server.api.services.violations import collected
from restante_server.directory import entries
from restante_server.directory.entries import Entry

handlers = Handlers()

MAX_NAMES = 100
MAX_NAME_CHARACTERS = 1_000
DEFAULT_CANDIDATES = 20
MAX_CANDIDATES = 100


@handlers.read(methods.RESOLVE_NAMES, rule=API_SESSION, slow=True)
def resolve_names(tx: Connection, call: Call, request: ResolveNamesRequest) -> ResolveNamesResponse:
    """The entries that each name may mean."""
    with collected() as bad:
        bad.require(len(request.names) <= MAX_NAMES, "names", f"must be at most {MAX_NAMES}")
        short = all(len(name) <= MAX_NAME_CHARACTERS for name in request.names)
        bad.require(short, "names", f"each must have at most {MAX_NAME_CHARACTERS} characters")
        bad.require(request.max_candidates >= 0, "max_candidates", "must not be negative")
    most = min(request.max_candidates or DEFAULT_CANDIDATES, MAX_CANDIDATES)
    domain_id = entries.domain_of(tx, call.caller.account_id)
    return ResolveNamesResponse(resolutions=[_resolution(tx, domain_id, name, most) for name in request.names])


@handlers.read(methods.LIST_ENTRIES, rule=API_SESSION)
def list_entries(tx: Connection, call: Call, request: ListEntriesRequest) -> ListEntriesResponse:
    """One page of entries, ordered by display name."""
    domain_id = entries.domain_of(tx, call.caller.account_id)
    page = pages.Page.asked(f"entries {domain_id}", request, call.result_octets, 2)
    name_key, address_key = page.key
    found = entries.listing(tx, domain_id, (name_key, address_key), page.most)
    answer = ListEntriesResponse()
    return page.fill(answer, answer.entries, found, _entry, lambda last: (last.name_key, last.address_key))


@handlers.read(methods.GET_ENTRY, rule=API_SESSION)
def get_entry(tx: Connection, call: Call, request: GetEntryRequest) -> GetEntryResponse:
    """The entry of an address."""
    domain_id = entries.domain_of(tx, call.caller.account_id)
    return GetEntryResponse(entry=_entry(entries.get(tx, domain_id, request.address)))


def _resolution(tx: Connection, domain_id: int, name: str, most: int) -> Resolution:
    found, resolved = entries.resolve(tx, domain_id, name, most)
    if resolved:
        state = ResolutionState.RESOLUTION_STATE_RESOLVED
    elif found:
        state = ResolutionState.RESOLUTION_STATE_AMBIGUOUS
    else:
        state = ResolutionState.RESOLUTION_STATE_UNRESOLVED
    return Resolution(state=state, candidates=map(_entry, found))


def _entry(entry: Entry) -> DirectoryEntry:
    kind = EntryKind.ENTRY_KIND_ACCOUNT if entry.kind == entries.ACCOUNT else EntryKind.ENTRY_KIND_ALIAS
    return DirectoryEntry(kind=kind, display_name=entry.display_name, address=entry.address)
