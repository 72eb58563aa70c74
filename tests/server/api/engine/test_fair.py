"""Limits of one account over all its streams and sessions, so that it cannot delay others."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from restante import errors
from restante.v1.batch_pb2 import ExecuteRequest, Operation, OperationResult
from restante.v1.folder_pb2 import GetFolderRequest, ListFoldersRequest
from restante.v1.session_pb2 import Scope
from restante.v1.sync_pb2 import (
    RESET_REASON_TOO_SLOW,
    MailboxChanged,
    Subscription,
    SyncMailboxRequest,
    WatchMailboxesRequest,
    WatchResponse,
)
from restante_process.config import Limits
from restante_server.api.engine.allowances import ADDRESS_SHARE, RETRY_SECONDS, Allowances, Resource
from restante_server.api.engine.batch import MAX_BATCH_OCTETS, Batch
from restante_server.api.engine.caller import Caller
from restante_server.api.engine.execute import (
    MAX_BEGUN_IN_TURN,
    MAX_SESSION_IN_FLIGHT,
    Execution,
    Executor,
)
from restante_server.api.services.watcher import Watcher
from restante_server.db.turns import CORE, Party
from tests.server.api.people import RPCS
from tests.server.api.served import Served, served, token_metadata

ALICE, BOB = Party("account:1"), Party("account:2")


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[Served]:
    bounds = {"LIMITS__ACCOUNT_STREAMS": "3", "LIMITS__ACCOUNT_SUBSCRIPTIONS": "4"}
    async with served(tmp_path, **bounds) as made:
        yield made
        async with asyncio.timeout(10):
            while made.core.allowances.parties:
                await asyncio.sleep(0.01)


# --- The count ------------------------------------------------------------------------------------------------------


def test_what_is_taken_is_bounded_for_each_party_and_nothing_is_left_of_what_is_given_back() -> None:
    allowances = Allowances(Limits(account_streams=2))
    allowances.take(ALICE, Resource.STREAMS)
    allowances.take(ALICE, Resource.STREAMS)
    with pytest.raises(errors.AccountLimitReached) as refused:
        allowances.take(ALICE, Resource.STREAMS)
    assert refused.value.metadata == {"resource": "streams", "limit": "2"}
    assert refused.value.retry_seconds
    allowances.take(BOB, Resource.STREAMS)
    for _ in range(1_000):
        allowances.take(CORE, Resource.STREAMS)  # acts for many
    somewhere = Caller(client_address="192.0.2.1").party
    for _ in range(2 * ADDRESS_SHARE):
        allowances.take(somewhere, Resource.STREAMS)
    with pytest.raises(errors.AccountLimitReached):
        allowances.take(somewhere, Resource.STREAMS)
    assert allowances.parties == 3
    allowances.give_back(somewhere, Resource.STREAMS, 2 * ADDRESS_SHARE)
    allowances.give_back(ALICE, Resource.STREAMS, 2)
    allowances.give_back(BOB, Resource.STREAMS)
    assert allowances.parties == 0


def test_work_counts_for_the_account_of_its_session_however_it_comes() -> None:
    session = Caller(account_id=7, session_id=1)
    assert replace(session, identity="imap", session_id=2).party == session.party == Party("account:7")
    assert Caller(identity="smtp").party == Party("gateway:smtp", many=True)
    assert Caller(client_address="192.0.2.1").party != Caller(client_address="192.0.2.2").party
    texts = ("2001:db8::1", "2001:db8::f:1", "2001:db8:0:7::1")
    one, same, other = (Caller(client_address=text).party for text in texts)
    assert one == same != other  # a host of IPv6 has a whole /64
    assert Caller().party == Caller(client_address="").party  # by the Unix socket, without an identity


# --- Operations -----------------------------------------------------------------------------------------------------


class Dispatcher:
    """A dispatcher whose operations wait until a test releases all."""

    def __init__(self, limits: Limits) -> None:
        self.allowances = Allowances(limits)
        self.go_on = asyncio.Event()
        self.running = 0
        self.began: list[int] = []  # accounts

    async def run(self, handler: Any, caller: Caller, request: Any, deadline: float, result_octets: int) -> Any:
        self.running += 1
        self.began.append(caller.account_id)
        try:
            await self.go_on.wait()
        finally:
            self.running -= 1
        return handler.method.response()

    def begin(self, *arguments: Any) -> Any:
        return self.run(*arguments)

    def may_cancel(self, handler: Any, request: Any, task: asyncio.Task[Any]) -> bool:
        return bool(handler.only_reads(request))


class Authenticator:
    """An authenticator for which the token is the account's number, with the session in memory."""

    def known(self, token: bytes, stream: Caller, client_address: str = "") -> Caller | None:
        return Caller(account_id=int(token))

    async def session(self, token: bytes, stream: Caller, client_address: str = "") -> Caller:
        return Caller(account_id=int(token))


class Stream:
    """One Execute stream; the session token is the account's number."""

    def __init__(self, dispatcher: Dispatcher, identity: str = "") -> None:
        executor = Executor(RPCS.unary, dispatcher, Authenticator(), dispatcher.allowances)  # type: ignore[arg-type]
        self.execution = Execution(executor, Caller(identity=identity))
        self._requests: asyncio.Queue[Batch] = asyncio.Queue()
        self._feeding = asyncio.create_task(self.execution.feed(self._take()))
        self._numbers = itertools.count(1)
        self.answers = self.execution.answers()

    async def _take(self) -> AsyncIterator[Batch]:
        while True:
            yield await self._requests.get()

    @property
    def unread(self) -> int:
        """The number of requests that wait to be read."""
        return self._requests.qsize()

    async def send(self, account: int, count: int, *, octets: int = 0) -> None:
        self.put(account, count, octets=octets)
        for _ in range(10):
            await asyncio.sleep(0)

    def put(self, account: int, count: int, *, octets: int = 0) -> None:
        operations = [
            Operation(
                operation_id=next(self._numbers),
                session_token=b"%d" % account,
                independent=True,
                get_folder=GetFolderRequest(),
            )
            for number in range(count)
        ]
        self._requests.put_nowait(Batch(ExecuteRequest(operations=operations), octets))

    async def answered(self) -> list[OperationResult]:
        return list((await anext(self.answers)).results)

    async def end(self) -> None:
        self._feeding.cancel()
        self.execution.abandon()
        for _ in range(10):
            await asyncio.sleep(0)


async def test_operations_of_an_account_are_bounded_over_all_its_streams_until_it_takes_the_answers() -> None:
    dispatcher = Dispatcher(Limits(account_operations=5))
    allowances: Allowances = dispatcher.allowances
    one, other, bobs = Stream(dispatcher), Stream(dispatcher), Stream(dispatcher)
    await one.send(1, 3)
    await other.send(1, 4)
    await bobs.send(2, 1)
    assert dispatcher.running == 6
    refused = await other.answered()
    assert [errors.from_status(result.status).reason for result in refused] == ["TOO_MANY_OPERATIONS"] * 2
    assert errors.from_status(refused[0].status).retry_seconds
    dispatcher.go_on.set()
    for _ in range(10):
        await asyncio.sleep(0)
    assert dispatcher.running == 0
    assert allowances.held(ALICE, Resource.OPERATIONS) == 5  # done, with unread answers
    await one.send(1, 1)
    assert any(result.HasField("status") for result in await one.answered())
    assert allowances.held(ALICE, Resource.OPERATIONS) == 2
    await other.answered()
    await one.send(1, 5)
    assert not any(result.HasField("status") for result in await one.answered())
    for stream in (one, other, bobs):
        await stream.end()
    assert allowances.parties == 0


@pytest.fixture
def no_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the retry delay an hour, so that it does not pass during a test."""
    monkeypatch.setitem(RETRY_SECONDS, "operations", 3_600.0)


@pytest.mark.usefixtures("no_retry")
async def test_a_native_stream_is_not_read_while_its_account_has_all_that_it_may_have() -> None:
    dispatcher = Dispatcher(Limits(account_operations=4))
    greedy, second, bobs = Stream(dispatcher), Stream(dispatcher), Stream(dispatcher)
    await greedy.send(1, 6)
    await second.send(1, 4)
    assert dispatcher.running == 4
    for stream in (greedy, second):
        await stream.send(1, 2)
        assert stream.unread == 1
    await bobs.send(2, 1)
    assert dispatcher.running == 5
    assert len(await greedy.answered()) == 2  # both refused
    dispatcher.go_on.set()
    for _ in range(10):
        await asyncio.sleep(0)
    assert (greedy.unread, second.unread) == (1, 1)  # answered, with unread answers
    assert len(await greedy.answered()) == 4
    for _ in range(10):
        await asyncio.sleep(0)
    assert (greedy.unread, second.unread) == (0, 1)  # the first waiting stream, and no more at once
    for stream in (greedy, second, bobs):
        await stream.end()
    assert dispatcher.allowances.parties == 0


@pytest.mark.usefixtures("no_retry")
async def test_a_native_stream_is_not_read_while_its_session_has_all_that_it_may_have() -> None:
    dispatcher = Dispatcher(Limits())
    stream = Stream(dispatcher)
    await stream.send(1, MAX_SESSION_IN_FLIGHT + 1)
    await stream.send(1, 1)
    assert stream.unread == 1
    dispatcher.go_on.set()
    for _ in range(10):
        await asyncio.sleep(0)
    await stream.answered()
    for _ in range(10):
        await asyncio.sleep(0)
    assert stream.unread == 0
    await stream.end()
    assert dispatcher.allowances.parties == 0


async def test_a_native_stream_is_read_when_the_retry_delay_has_passed_one_stream_at_a_time() -> None:
    dispatcher = Dispatcher(Limits(account_operations=4))
    streams = [Stream(dispatcher) for _ in range(3)]
    for stream in streams:
        await stream.send(1, 5)
        await stream.send(1, 1)
    assert [stream.unread for stream in streams] == [1, 1, 1]
    order: list[int] = []
    async with asyncio.timeout(10):
        while len(order) < len(streams):
            await asyncio.sleep(0.001)
            order += [number for number, stream in enumerate(streams) if not stream.unread and number not in order]
    assert order == [0, 1, 2]
    for stream in streams:
        await stream.end()
    assert dispatcher.allowances.parties == 0


@pytest.mark.usefixtures("no_retry")
async def test_a_gateways_stream_is_read_on_whatever_one_account_does() -> None:
    dispatcher = Dispatcher(Limits(account_operations=4))
    gateway = Stream(dispatcher, "imap")
    await gateway.send(1, 60)
    await gateway.send(1, 1)
    await gateway.send(2, 1)
    assert gateway.unread == 0
    assert dispatcher.began == [1, 1, 1, 1, 2]
    await gateway.end()


@pytest.mark.usefixtures("no_retry")
async def test_a_refused_operation_costs_no_task() -> None:
    dispatcher = Dispatcher(Limits(account_operations=4))
    stream = Stream(dispatcher)
    await stream.send(1, 4)
    made: list[Any] = []

    def factory(loop: asyncio.AbstractEventLoop, work: Any, **others: Any) -> asyncio.Task[Any]:
        made.append(work)
        return asyncio.Task(work, loop=loop, **others)

    asyncio.get_running_loop().set_task_factory(factory)
    await stream.send(1, 50)
    asyncio.get_running_loop().set_task_factory(None)
    assert made == []
    assert len(await stream.answered()) == 50
    await stream.end()


async def test_an_operation_is_begun_after_few_of_another_account_however_many_came_before() -> None:
    dispatcher = Dispatcher(Limits(account_operations=1_000))
    greedy = [Stream(dispatcher) for _ in range(8)]
    bobs = Stream(dispatcher)
    for stream in greedy:
        stream.put(1, MAX_SESSION_IN_FLIGHT)
    await bobs.send(2, 1)
    async with asyncio.timeout(10):
        while dispatcher.running < 8 * MAX_SESSION_IN_FLIGHT + 1:
            await asyncio.sleep(0.001)
    assert dispatcher.began.index(2) <= 2 * MAX_BEGUN_IN_TURN
    for stream in (*greedy, bobs):
        await stream.end()


async def test_requests_of_a_native_stream_are_bounded_by_their_octets_together() -> None:
    dispatcher = Dispatcher(Limits())
    native, gateway = Stream(dispatcher), Stream(dispatcher, "smtp")
    for stream in (native, gateway):
        for _ in range(6):
            await stream.send(1, 2, octets=MAX_BATCH_OCTETS)
    assert (native.unread, gateway.unread) == (2, 0)
    dispatcher.go_on.set()
    for _ in range(10):
        await asyncio.sleep(0)
    assert native.unread == 0
    for _ in range(20):  # all counts are back at zero
        await native.send(1, 2, octets=MAX_BATCH_OCTETS)
    assert native.unread == 0
    for stream in (native, gateway):
        await stream.end()


async def test_a_client_that_goes_away_leaves_nothing_counted() -> None:
    dispatcher = Dispatcher(Limits(account_operations=5))
    stream = Stream(dispatcher)
    await stream.send(1, 5)
    assert dispatcher.allowances.held(ALICE, Resource.OPERATIONS) == 5
    await stream.end()
    assert dispatcher.allowances.parties == 0
    done = Stream(dispatcher)
    dispatcher.go_on.set()
    await done.send(1, 5)
    await done.end()  # with unread answers
    assert dispatcher.allowances.parties == 0


async def test_unary_calls_count_too(core: Served) -> None:
    alice, bob = await core.session("alice"), await core.session("bob")
    allowances: Allowances = core.core.allowances
    party = Party(f"account:{alice.account_id}")
    allowances.take(party, Resource.OPERATIONS, allowances.limits[Resource.OPERATIONS])
    with pytest.raises(errors.TooManyOperations):
        await core.call("FolderService/ListFolders", ListFoldersRequest(), token=alice.session_token)
    await core.call("FolderService/ListFolders", ListFoldersRequest(), token=bob.session_token)
    allowances.give_back(party, Resource.OPERATIONS, allowances.limits[Resource.OPERATIONS])
    await core.call("FolderService/ListFolders", ListFoldersRequest(), token=alice.session_token)


# --- Streams --------------------------------------------------------------------------------------------------------


async def follow(core: Served, token: bytes) -> Any:
    """Start a follower. Raises the error of a refusal."""
    call = core.stub("SyncService/SyncMailbox", core.channel())(
        SyncMailboxRequest(follow=True), metadata=token_metadata(token)
    )
    try:
        await call.read()
    except grpc.aio.AioRpcError as error:
        raise errors.from_rpc_error(error) from None
    return call


async def test_streams_of_an_account_are_bounded_over_all_its_sessions_and_kinds(core: Served) -> None:
    sessions = [await core.session("alice") for _ in range(2)]
    first = await follow(core, sessions[0].session_token)
    await follow(core, sessions[1].session_token)
    watching = core.stub("SyncService/WatchMailboxes", core.channel())(
        WatchMailboxesRequest(subscriptions=[Subscription(subscription_id=1)]),
        metadata=token_metadata(sessions[0].session_token),
    )
    await watching.read()
    with pytest.raises(errors.AccountLimitReached) as refused:
        await follow(core, sessions[1].session_token)
    assert refused.value.metadata == {"resource": "streams", "limit": "3"}
    await follow(core, (await core.session("bob")).session_token)
    first.cancel()
    async with asyncio.timeout(10):
        while core.core.allowances.held(Party(f"account:{sessions[0].account_id}"), Resource.STREAMS) > 2:
            await asyncio.sleep(0.01)
    await follow(core, sessions[1].session_token)
    for channel in core._channels:  # with all that is open
        await channel.close()


# --- Watch ----------------------------------------------------------------------------------------------------------


async def watcher_of(core: Served, token: bytes = b"", identity: str = "") -> Watcher:
    """A Watch stream whose client reads nothing until the test does."""
    caller = Caller(identity=identity, encrypted=True)
    if token:
        caller = await core.core.authenticator.session(token, caller)
    return Watcher(core.dispatcher.call(caller, float("inf")))


def told(watcher: Watcher, kind: str) -> dict[int, WatchResponse]:
    """{subscription: its latest waiting notice of this kind}"""
    return {
        queued.notice.subscription_id: queued.notice
        for queued in watcher._notices
        if queued.notice.WhichOneof("notice") == kind
    }


async def test_subscriptions_of_an_account_are_bounded_over_all_its_streams(core: Served) -> None:
    alice = await core.session("alice", Scope.SCOPE_IMAP, identity="imap")
    bob = await core.session("bob", Scope.SCOPE_IMAP, identity="imap")
    gateways = [await watcher_of(core, identity="imap") for _ in range(2)]
    for number, gateway in enumerate(gateways):
        for folder_id in range(1, 4):
            await gateway.subscribe(
                Subscription(subscription_id=folder_id, folder_id=folder_id, session_token=alice.session_token)
            )
        refused = {n: errors.from_status(notice.rejected) for n, notice in told(gateway, "rejected").items()}
        assert {n: (error.reason, error.metadata) for n, error in refused.items()} == (
            {}
            if number == 0
            else {n: ("ACCOUNT_LIMIT_REACHED", {"resource": "subscriptions", "limit": "4"}) for n in (2, 3)}
        )
    await gateways[1].subscribe(Subscription(subscription_id=9, folder_id=1, session_token=bob.session_token))
    assert 9 in told(gateways[1], "subscribed")
    gateways[0].close()
    await gateways[1].subscribe(Subscription(subscription_id=2, folder_id=2, session_token=alice.session_token))
    assert 2 in told(gateways[1], "subscribed")
    gateways[1].close()
    assert core.core.allowances.held(Party(f"account:{alice.account_id}"), Resource.SUBSCRIPTIONS) == 0


async def test_subscriptions_to_one_folder_are_counted_each(core: Served) -> None:
    alice = await core.session("alice")
    watcher = await watcher_of(core, alice.session_token)
    for number in range(1, 7):
        await watcher.subscribe(Subscription(subscription_id=number, folder_id=1))
    assert set(told(watcher, "subscribed")) == {1, 2, 3, 4}
    await watcher.subscribe(Subscription(subscription_id=4, folder_id=1))  # replaces the previous one
    assert 4 not in told(watcher, "rejected")
    watcher.close()


async def test_who_does_not_read_is_reset_alone_and_holds_no_more_than_the_account_may(core: Served) -> None:
    """Notices of one account on two streams count together; others on the same stream continue."""
    allowances: Allowances = core.core.allowances
    allowances.limits[Resource.QUEUED_OCTETS] = 5_000
    alice = await core.session("alice", Scope.SCOPE_IMAP, identity="imap")
    bob = await core.session("bob", Scope.SCOPE_IMAP, identity="imap")
    party = Party(f"account:{alice.account_id}")
    gateways = [await watcher_of(core, identity="imap") for _ in range(2)]
    for gateway in gateways:
        for number, session in enumerate((alice, bob), 1):
            await gateway.subscribe(Subscription(subscription_id=number, session_token=session.session_token))
    large = MailboxChanged(folder_ids=range(1, 400))
    while not told(gateways[1], "reset_reason"):
        for gateway in gateways:
            gateway._tell(WatchResponse(subscription_id=1, mailbox=large))
            assert allowances.held(party, Resource.QUEUED_OCTETS) <= 5_000
    assert told(gateways[1], "reset_reason")[1].reset_reason == RESET_REASON_TOO_SLOW
    for gateway in gateways:
        assert 2 in gateway._subscriptions
        assert 2 in told(gateway, "subscribed")
        gateway.close()
    assert allowances.held(party, Resource.QUEUED_OCTETS) == 0
