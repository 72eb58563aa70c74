"""SyncService.Watch and WatchMailboxes: a stream that informs a client process of committed changes."""

from __future__ import annotations

from collections.abc import AsyncIterator

from restante.errors import InvalidArgument
from restante.v1.session_pb2 import Scope
from restante.v1.sync_pb2 import WatchMailboxesRequest, WatchMailboxesResponse, WatchRequest, WatchResponse
from restante_server.api.engine import access
from restante_server.api.engine.call import Call
from restante_server.api.engine.registry import Handlers
from restante_server.api.services import watcher as watchers
from restante_server.api.services.watcher import Watcher

handlers = Handlers()

WATCHERS = access.identities("imap", "pop3", "smtp", or_sessions=(Scope.SCOPE_API, Scope.SCOPE_IMAP))


@handlers.stream("SyncService", "Watch", rule=WATCHERS, own_end=True)
async def watch(call: Call, requests: AsyncIterator[WatchRequest]) -> AsyncIterator[WatchResponse]:
    """See SyncService.Watch."""
    watcher = Watcher(call)
    core = call.core
    taking = core.tasks.spawn(watcher.take(requests), "watch requests")
    taking.add_done_callback(watcher.taken)
    stop_draining = core.tasks.on_drain(watcher.drain)
    try:
        async for notice in watcher.notices():
            yield notice
    finally:
        stop_draining()
        taking.cancel()
        watcher.close()


@handlers.stream("SyncService", "WatchMailboxes", rule=WATCHERS, own_end=True)
async def watch_mailboxes(call: Call, request: WatchMailboxesRequest) -> AsyncIterator[WatchMailboxesResponse]:
    """See SyncService.WatchMailboxes."""
    if len(request.subscriptions) > watchers.MAX_SUBSCRIPTIONS:
        raise InvalidArgument(field="subscriptions", problem=f"must be at most {watchers.MAX_SUBSCRIPTIONS}")
    watcher = Watcher(call)
    stop_draining = call.core.tasks.on_drain(watcher.drain)
    try:
        for wanted in request.subscriptions:
            await watcher.subscribe(wanted)
        async for notice in watcher.notices():
            yield WatchMailboxesResponse(notice=notice)
    finally:
        stop_draining()
        watcher.close()
