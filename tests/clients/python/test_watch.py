"""The Watch stream: notices in order, resumed after the last notice, each failure reported."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc.aio
import pytest

from restante import errors
from restante.v1 import sync_pb2_grpc
from restante.v1.sync_pb2 import (
    MailboxChanged,
    ResetReason,
    SessionsEnded,
    SyncMailboxRequest,
    SyncMailboxResponse,
    WatchMailboxesRequest,
    WatchMailboxesResponse,
    WatchRequest,
    WatchResponse,
)
from restante.v1.types_pb2 import FolderChanges
from tests.clients.python.conftest import Servers

Stream = asyncio.Queue[WatchResponse | None]


class Changes(sync_pb2_grpc.SyncServiceServicer):
    """Watch with answers by a test: it records requests, `tell` sends on the newest stream, `end` breaks that."""

    def __init__(self) -> None:
        self.requests: list[list[WatchRequest]] = []
        self.metadata: list[dict[str, str]] = []
        self.problem: errors.RestanteError | None = None  # the error that ends a stream
        self._streams: list[Stream] = []

    def tell(self, **notice: Any) -> None:
        self._streams[-1].put_nowait(WatchResponse(**notice))

    def end(self) -> None:
        self._streams[-1].put_nowait(None)

    async def Watch(
        self, request_iterator: AsyncIterator[WatchRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[WatchResponse]:
        taken: list[WatchRequest] = []
        stream: Stream = asyncio.Queue()
        self.requests.append(taken)
        self.metadata.append({key: str(value) for key, value in context.invocation_metadata() or ()})
        self._streams.append(stream)

        async def take() -> None:
            async for request in request_iterator:
                taken.append(request)  # noqa: PERF401 - seen as they come

        taking = asyncio.create_task(take())
        try:
            while (response := await stream.get()) is not None:
                yield response
            if self.problem is not None:
                status = errors.to_status(self.problem).SerializeToString()
                await context.abort(self.problem.code, "refused", (("grpc-status-details-bin", status),))
            await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        finally:
            taking.cancel()

    async def WatchMailboxes(
        self, request: WatchMailboxesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[WatchMailboxesResponse]:
        yield WatchMailboxesResponse()

    async def SyncMailbox(
        self, request: SyncMailboxRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[SyncMailboxResponse]:
        yield SyncMailboxResponse()


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
async def core(servers: Servers) -> Changes:
    changes = Changes()
    await servers.serve(changes)
    return changes


async def test_a_subscription_says_what_is_known_and_who_asks(servers: Servers, core: Changes) -> None:
    link = await servers.link()
    link.watch.subscribe(3, 7, 41, 2, b"token", lambda notice: None)
    await until(lambda: core.requests and core.requests[0])
    asked = core.requests[0][0].subscribe
    assert (asked.mailbox_id, asked.folder_id, asked.since_change_number, asked.epoch) == (3, 7, 41, 2)
    assert asked.session_token == b"token"
    assert asked.subscription_id >= 1


async def test_a_process_with_one_session_proves_it_on_the_stream(servers: Servers, core: Changes) -> None:
    link = await servers.link()
    link.session = lambda: b"own token"
    link.watch.start()
    await until(lambda: core.metadata)
    assert core.metadata[0]["authorization"].startswith("Bearer ")


async def test_the_end_of_the_streams_own_session_is_told_to_each_subscription(servers: Servers, core: Changes) -> None:
    link = await servers.link()
    link.session = lambda: b"own token"
    told: list[WatchResponse] = []
    for folder_id in (5, 6):
        link.watch.subscribe(1, folder_id, 0, 0, b"", told.append)
    await until(lambda: core.requests and len(core.requests[0]) == 2)
    core.problem = errors.SessionRevoked()
    core.end()
    await until(lambda: len(told) == 2)
    assert [errors.from_status(notice.rejected).reason for notice in told] == ["SESSION_REVOKED", "SESSION_REVOKED"]
    await asyncio.sleep(0.2)
    assert len(core.requests) == 1  # without a subscription
    link.watch.subscribe(1, 7, 0, 0, b"", lambda notice: None)  # for example with a new session
    await until(lambda: len(core.requests) == 2 and core.requests[1])


async def test_notices_come_in_order_to_their_own_subscription(servers: Servers, core: Changes) -> None:
    link = await servers.link()
    first: list[int] = []
    second: list[int] = []
    one = link.watch.subscribe(1, 5, 0, 0, b"", lambda notice: first.append(notice.folder.change_number))
    two = link.watch.subscribe(1, 0, 0, 0, b"", lambda notice: second.append(notice.mailbox.change_number))
    await until(lambda: core.requests and len(core.requests[0]) == 2)
    for number in range(1, 50):
        core.tell(subscription_id=one.subscription_id, folder=FolderChanges(change_number=number))
        core.tell(subscription_id=two.subscription_id, mailbox=MailboxChanged(change_number=number))
    await until(lambda: len(second) == 49)
    assert first == second == list(range(1, 50))


async def test_a_broken_stream_goes_on_from_what_was_told_with_the_present_token(
    servers: Servers, core: Changes
) -> None:
    link = await servers.link()
    tokens = [b"first"]
    told: list[int] = []
    watching = link.watch.subscribe(
        1, 5, 10, 4, lambda: tokens[-1], lambda notice: told.append(notice.folder.change_number)
    )
    await until(lambda: core.requests and core.requests[0])
    core.tell(subscription_id=watching.subscription_id, folder=FolderChanges(change_number=12))
    await until(lambda: told)
    tokens.append(b"second")
    core.end()
    await until(lambda: len(core.requests) == 2 and core.requests[1])
    resumed = core.requests[1][0].subscribe
    assert (resumed.since_change_number, resumed.epoch, resumed.session_token) == (12, 4, b"second")
    core.tell(subscription_id=watching.subscription_id, folder=FolderChanges(change_number=13))
    await until(lambda: told == [12, 13])


async def test_it_comes_back_when_the_core_does(servers: Servers, core: Changes) -> None:
    link = await servers.link()
    link.watch.subscribe(1, 5, 10, 0, b"", lambda notice: None)
    await until(lambda: core.requests and core.requests[0])
    await servers.stop()
    await asyncio.sleep(0.2)
    again = Changes()
    await servers.serve(again)
    await until(lambda: again.requests and again.requests[0])
    assert again.requests[0][0].subscribe.since_change_number == 10


async def test_draining_opens_a_stream_on_a_fresh_connection(servers: Servers, core: Changes) -> None:
    link = await servers.link()
    link.watch.subscribe(1, 5, 10, 0, b"", lambda notice: None)
    await until(lambda: core.requests and core.requests[0])
    before = link._channel
    core.tell(draining=True)
    await until(lambda: len(core.requests) == 2 and core.requests[1])
    assert link._channel is not before


async def test_a_connection_closed_under_it_is_replaced(servers: Servers, core: Changes) -> None:
    link = await servers.link()
    link.watch.subscribe(1, 5, 10, 0, b"", lambda notice: None)
    await until(lambda: core.requests and core.requests[0])
    old, link._channel = link._channel, link.target.open_channel()
    await old.close()  # the end of a retired connection's time
    await until(lambda: len(core.requests) == 2 and core.requests[1])


@pytest.mark.parametrize(
    "last",
    [{"reset_reason": ResetReason.RESET_REASON_TOO_SLOW}, {"rejected": errors.to_status(errors.FolderNotFound())}],
)
async def test_after_a_reset_or_refusal_there_is_nothing_more(
    servers: Servers, core: Changes, last: dict[str, Any]
) -> None:
    link = await servers.link()
    told: list[str | None] = []
    watching = link.watch.subscribe(1, 5, 10, 0, b"", lambda notice: told.append(notice.WhichOneof("notice")))
    await until(lambda: core.requests and core.requests[0])
    core.tell(subscription_id=watching.subscription_id, **last)
    core.tell(subscription_id=watching.subscription_id, folder=FolderChanges(change_number=12))
    core.end()
    await until(lambda: len(core.requests) == 2)
    assert told == list(last)
    assert core.requests[1] == []  # the client does not subscribe again


async def test_a_closed_subscription_is_told_to_the_server_and_hears_nothing(servers: Servers, core: Changes) -> None:
    link = await servers.link()
    told: list[WatchResponse] = []
    watching = link.watch.subscribe(1, 5, 10, 0, b"", told.append)
    other = link.watch.subscribe(1, 6, 10, 0, b"", told.append)
    await until(lambda: core.requests and len(core.requests[0]) == 2)
    watching.close()
    watching.close()
    core.tell(subscription_id=watching.subscription_id, folder=FolderChanges(change_number=12))
    core.tell(subscription_id=other.subscription_id, folder=FolderChanges(change_number=13))
    await until(lambda: len(core.requests[0]) == 3 and told)
    assert core.requests[0][2].unsubscribe == watching.subscription_id
    assert [notice.folder.change_number for notice in told] == [13]


async def test_one_watchers_fault_is_not_the_others(servers: Servers, core: Changes) -> None:
    def fail(notice: WatchResponse) -> None:
        raise RuntimeError("a fault of the watcher's own")

    link = await servers.link()
    told: list[WatchResponse] = []
    faulty = link.watch.subscribe(1, 5, 10, 0, b"", fail)
    other = link.watch.subscribe(1, 6, 10, 0, b"", told.append)
    await until(lambda: core.requests and len(core.requests[0]) == 2)
    core.tell(subscription_id=faulty.subscription_id, folder=FolderChanges(change_number=11))
    core.tell(subscription_id=other.subscription_id, folder=FolderChanges(change_number=12))
    await until(lambda: told)
    assert len(core.requests) == 1


async def test_gateways_hear_of_ended_sessions(servers: Servers, core: Changes) -> None:
    link = await servers.link()
    ended: list[SessionsEnded] = []
    link.watch.on_sessions_ended(ended.append)
    await until(lambda: core.requests)
    core.tell(sessions_ended=SessionsEnded(account_id=3, credential_version=2))
    await until(lambda: ended)
    assert (ended[0].account_id, ended[0].credential_version) == (3, 2)
