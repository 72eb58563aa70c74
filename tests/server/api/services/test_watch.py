"""Watch over a real listener: no notice is lost or out of order, and ended sessions get no more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.rpc.status_pb2 import Status
from sqlalchemy import Connection

from restante import errors
from restante.link import CoreLink
from restante.v1.admin_pb2 import SetPasswordRequest, UpdateAccountRequest
from restante.v1.folder_pb2 import CreateFolderRequest, DeleteFolderRequest
from restante.v1.message_pb2 import (
    DELETE_MODE_SOFT,
    FLAG_OPERATION_REPLACE,
    SECTION_KIND_WHOLE,
    AppendMessageRequest,
    DeleteMessagesRequest,
    MessageSet,
    Section,
    StreamMessagesRequest,
    UpdateMessagesRequest,
)
from restante.v1.session_pb2 import ChangePasswordRequest, LogoffRequest, RenewSessionRequest, Scope
from restante.v1.sync_pb2 import (
    RESET_REASON_EPOCH_CHANGED,
    RESET_REASON_FOLDER_GONE,
    RESET_REASON_HISTORY_GONE,
    RESET_REASON_TOO_SLOW,
    Subscription,
    SyncMailboxRequest,
    WatchMailboxesRequest,
    WatchRequest,
    WatchResponse,
)
from restante.v1.types_pb2 import IdRange, UidSet
from restante_server.api.engine import notify
from restante_server.api.engine.caller import Caller
from restante_server.api.services import watcher as served_watcher
from restante_server.db import effects
from restante_server.db.errors import DatabaseError
from restante_server.db.operation import Write
from restante_server.directory import rights, states
from restante_server.store import changes
from tests.server.api.served import Served, request_id, served, token_metadata

MESSAGE = b"Subject: a\r\n\r\nb\r\n"
INBOX = 1
MANY = 40  # messages: more than gRPC holds between its ends
NEW_MAILBOX = 1  # the change number of the folders that come with an account


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as made:
        yield made


class Watcher:
    """One Watch stream, of a native client with a session or of a gateway."""

    def __init__(self, core: Served, *, token: bytes = b"", identity: str = "") -> None:
        metadata = (*core.identity(identity), *token_metadata(token))
        self.call = core.stub("SyncService/Watch", core.channel())(metadata=metadata)
        self._reading: asyncio.Future[Any] | None = None

    async def subscribe(self, subscription_id: int = 1, **wanted: Any) -> WatchResponse:
        """Subscribe, by default from a mailbox's beginning, and return the core's answer."""
        wanted.setdefault("since_change_number", NEW_MAILBOX if "folder_id" in wanted else 0)
        request = Subscription(subscription_id=subscription_id, **wanted)
        await self.call.write(WatchRequest(subscribe=request))
        while (notice := await self.read()).WhichOneof("notice") not in ("subscribed", "rejected", "reset_reason"):
            pass
        assert notice.subscription_id == subscription_id
        return notice

    async def read(self, seconds: float = 10.0) -> WatchResponse:
        """The next notice. A read that times out continues in the next read, because a cancelled read ends the call."""
        reading = self._reading or asyncio.ensure_future(self.call.read())
        done, _ = await asyncio.wait([reading], timeout=seconds)
        self._reading = None if done else reading
        if not done:
            raise TimeoutError
        response = reading.result()
        assert isinstance(response, WatchResponse), "the stream ended"
        return response

    async def silent(self, seconds: float = 0.5) -> None:
        """Check that no notice arrives for `seconds`."""
        with pytest.raises(TimeoutError):
            await self.read(seconds)


def reason(notice: WatchResponse) -> str:
    """The reason of a subscription's refusal; empty when it was not refused."""
    return errors.from_status(notice.rejected).reason


async def append(core: Served, token: bytes, folder_id: int = INBOX, content: bytes = MESSAGE) -> int:
    """Append a message and return its change number."""
    request = AppendMessageRequest(folder_id=folder_id, content=content, request_id=request_id())
    answer = await core.call("MessageService/AppendMessage", request, token=token)
    return int(answer.commit.change_number)


async def token_of(core: Served, name: str = "bob") -> bytes:
    return (await core.session(name)).session_token


def short_tokens(core: Served, seconds: int) -> None:
    """Set the lifetime of tokens issued later."""
    sessions = core.core.authenticator._sessions
    sessions._settings = replace(sessions._settings, token_seconds=seconds)


async def renewed(core: Served, token: bytes) -> bytes:
    answer = await core.call("SessionService/RenewSession", RenewSessionRequest(), token=token)
    return bytes(answer.session.session_token)


async def test_a_subscription_ends_with_its_token_and_goes_on_with_a_renewed_one(core: Served) -> None:
    short_tokens(core, 2)
    token = await token_of(core)
    short_tokens(core, 900)
    long, fresh = await token_of(core), await renewed(core, token)
    watcher = Watcher(core, token=long)
    await watcher.subscribe(1, folder_id=INBOX, session_token=token)
    ended = await watcher.read()
    assert ended.subscription_id == 1 and reason(ended) == "SESSION_EXPIRED"
    await append(core, long)
    await watcher.silent(0.2)
    again = await watcher.subscribe(1, folder_id=INBOX, session_token=fresh)
    assert again.subscribed == NEW_MAILBOX
    assert len((await watcher.read()).folder.uids) == 1, "what came meanwhile is told"
    await append(core, long)
    assert len((await watcher.read()).folder.uids) == 1


async def test_a_subscription_renewed_in_time_is_not_ended(core: Served) -> None:
    short_tokens(core, 2)
    token = await token_of(core)
    short_tokens(core, 900)
    watcher = Watcher(core, token=await token_of(core))
    await watcher.subscribe(1, folder_id=INBOX, session_token=token)
    await watcher.subscribe(1, folder_id=INBOX, session_token=await renewed(core, token))
    await watcher.silent(2.5)
    await append(core, await token_of(core))
    assert len((await watcher.read()).folder.uids) == 1


async def test_a_stream_whose_own_token_a_subscription_uses_ends_with_it(core: Served) -> None:
    short_tokens(core, 2)
    watcher = Watcher(core, token=await token_of(core))
    await watcher.subscribe(1, folder_id=INBOX)
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await watcher.read()
    assert isinstance(errors.from_rpc_error(ended.value), errors.SessionExpired)


async def test_a_follower_ends_with_its_token(core: Served) -> None:
    short_tokens(core, 2)
    call = core.stub("SyncService/SyncMailbox")(
        SyncMailboxRequest(follow=True), metadata=token_metadata(await token_of(core)), timeout=20
    )
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        _ = [told async for told in call]
    assert isinstance(errors.from_rpc_error(ended.value), errors.SessionExpired)


async def test_changes_come_once_and_in_the_order_of_their_numbers(core: Served) -> None:
    token = await token_of(core)
    watcher = Watcher(core, token=token)
    assert (await watcher.subscribe(folder_id=INBOX)).subscribed == NEW_MAILBOX
    writers = [asyncio.create_task(append(core, token)) for _ in range(40)]
    uids: list[int] = []
    reached = NEW_MAILBOX
    while len(uids) < 40:
        notice = (await watcher.read()).folder
        assert notice.since_change_number == reached < notice.change_number
        reached = notice.change_number
        uids += notice.uids
        assert all(number <= reached for number in notice.change_numbers)
    assert uids == sorted(set(uids))
    assert max([await writer for writer in writers]) == reached


async def test_a_stream_that_resumes_hears_what_it_missed(core: Served) -> None:
    token = await token_of(core)
    first = await append(core, token)
    watcher = Watcher(core, token=token)
    assert (await watcher.subscribe(folder_id=INBOX, since_change_number=first)).subscribed == first
    watcher.call.cancel()
    missed = [await append(core, token) for _ in range(3)]
    again = Watcher(core, token=token)
    await again.subscribe(folder_id=INBOX, since_change_number=first)
    notice = (await again.read()).folder
    assert list(notice.change_numbers) == missed and notice.change_number == missed[-1]


async def test_a_mailbox_watched_from_an_old_number_is_announced_at_once(core: Served) -> None:
    """This holds even when other watchers of the mailbox have had the notice already."""
    token = await token_of(core)
    other = Watcher(core, token=token)
    await other.subscribe()
    number = await append(core, token)
    while (await other.read()).mailbox.change_number < number:
        pass
    watcher = Watcher(core, token=token)
    await watcher.subscribe()
    assert (await watcher.read(2)).mailbox.change_number == number


async def test_the_sdk_resumes_by_itself(core: Served) -> None:
    token = await token_of(core)
    link: CoreLink = await core.link("imap")
    by_gateway = (await core.session("bob", Scope.SCOPE_IMAP, identity="imap")).session_token
    heard: list[WatchResponse] = []
    link.watch.subscribe(0, INBOX, NEW_MAILBOX, 0, by_gateway, heard.append)
    async with asyncio.timeout(10):
        while not heard:
            await asyncio.sleep(0.01)
        await append(core, token)
        while not any(notice.folder.uids for notice in heard):
            await asyncio.sleep(0.01)
        old = link._channel
        await old.close()  # the connection breaks
        link._channel = link.target.open_channel()
        await append(core, token)
        while not any(2 in notice.folder.uids for notice in heard):
            await asyncio.sleep(0.01)
    await link.close()
    told = [uid for notice in heard for uid in notice.folder.uids]
    assert told == [1, 2]


async def test_a_lost_hint_is_made_good(core: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    token = await token_of(core)
    watcher = Watcher(core, token=token)
    await watcher.subscribe(folder_id=INBOX)
    monkeypatch.setattr(core.core.notifier, "changed", lambda _: None)
    number = await append(core, token)
    began = time.monotonic()
    assert (await watcher.read(notify.COMPARE_SECONDS + 3)).folder.change_number == number
    assert time.monotonic() - began < notify.COMPARE_SECONDS + 2


async def test_a_late_hint_of_another_folder_loses_nothing(core: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hints of another core may arrive out of order, so the core looks for the skipped numbers in every folder."""
    token = await token_of(core)
    watcher = Watcher(core, token=token)
    await watcher.subscribe(folder_id=INBOX)
    number = await append(core, token)
    assert (await watcher.read()).folder.change_number == number
    tell = core.core.notifier.changed
    monkeypatch.setattr(core.core.notifier, "changed", lambda _: None)
    late = await append(core, token)  # its hint is not there yet ...
    monkeypatch.setattr(core.core.notifier, "changed", tell)
    await append(core, token, folder_id=2)  # ... when that of a later change to another folder is
    assert (await watcher.read(1)).folder.change_number == late


async def test_a_folder_that_was_quiet_for_longer_than_removals_are_kept_is_watched(core: Served) -> None:
    token = await token_of(core)
    mailbox_id = (await core.session("bob")).mailbox_id
    await append(core, token, folder_id=2)
    removed = MessageSet(uids=UidSet(folder_id=2, ranges=[IdRange(first=1, last=1)]))
    delete = DeleteMessagesRequest(messages=removed, mode=DELETE_MODE_SOFT)
    await core.call("MessageService/DeleteMessages", delete, token=token)
    forget = partial(changes.forget_history, place=rights.system(mailbox_id), before=1 << 62)
    assert await core.core.db.write(Write(forget, mailboxes=frozenset({mailbox_id}))) == 1
    watcher = Watcher(core, token=token)
    await watcher.subscribe(folder_id=INBOX)  # from the number that the folder has: nothing happened since
    await watcher.silent()
    number = await append(core, token)
    assert (await watcher.read()).folder.change_number == number


async def test_changes_of_other_folders_are_not_announced(core: Served) -> None:
    token = await token_of(core)
    watcher = Watcher(core, token=token)
    await watcher.subscribe(folder_id=INBOX, since_change_number=await append(core, token))
    await append(core, token)
    assert (await watcher.read()).folder.uids == [2]
    await append(core, token, folder_id=2)
    await watcher.silent()
    await watcher.call.write(WatchRequest(unsubscribe=1))
    await asyncio.sleep(0.1)
    await append(core, token)
    await watcher.silent()


async def test_a_deleted_folder_and_a_past_epoch_reset_the_watch(core: Served) -> None:
    token = await token_of(core)
    made = CreateFolderRequest(path=["brief"], request_id=request_id())
    folder = (await core.call("FolderService/CreateFolder", made, token=token)).folder.folder_id
    watcher = Watcher(core, token=token)
    await watcher.subscribe(folder_id=folder)
    await core.call("FolderService/DeleteFolder", DeleteFolderRequest(folder_id=folder), token=token)
    while not (notice := await watcher.read()).reset_reason:
        pass
    assert notice.reset_reason == RESET_REASON_FOLDER_GONE
    assert (await watcher.subscribe(folder_id=INBOX, epoch=99)).reset_reason == RESET_REASON_EPOCH_CHANGED
    assert reason(await watcher.subscribe(folder_id=999)) == "FOLDER_NOT_FOUND"
    assert reason(await watcher.subscribe(subscription_id=0)) == "INVALID_ARGUMENT"


# --- A client that does not read ------------------------------------------------------------------------------------


def core_caller() -> Caller:
    """The caller of the stream with a session's token."""
    return Caller(encrypted=True)


async def test_a_watcher_that_lags_is_reset_and_holds_little(core: Served) -> None:
    token = await token_of(core)
    caller = await core.core.authenticator.session(token, core_caller())
    lagging = served_watcher.Watcher(core.dispatcher.call(caller, float("inf")), most_queued=50)
    await lagging.subscribe(Subscription(subscription_id=7, folder_id=INBOX))
    await append(core, token)
    number = 0
    async with asyncio.timeout(30):
        while lagging._subscriptions:
            number += 1
            flag = UpdateMessagesRequest(
                messages=MessageSet(uids=UidSet(folder_id=INBOX, ranges=[IdRange(first=1, last=1)])),
                operation=FLAG_OPERATION_REPLACE,
                keywords=[f"k{number % 3}"],
            )
            await core.call("MessageService/UpdateMessages", flag, token=token)
    assert number >= 48  # as many as the queue holds, or more when one notice covers several
    assert len(lagging._notices) <= 50
    async with aclosing(lagging.notices()) as notices:  # type: ignore[type-var]
        notice = await anext(notices)
    assert (notice.subscription_id, notice.reset_reason) == (7, RESET_REASON_TOO_SLOW)  # never silence
    assert not core.core.notifier._watched


async def test_the_last_word_to_a_subscription_outlives_the_reset_of_the_others(
    core: Served,
) -> None:
    token = await token_of(core)
    caller = await core.core.authenticator.session(token, core_caller())
    lagging = served_watcher.Watcher(core.dispatcher.call(caller, float("inf")), most_queued=6)
    await lagging.subscribe(Subscription(subscription_id=1, folder_id=999))  # there is none
    await lagging.subscribe(Subscription(subscription_id=2))
    await lagging.subscribe(Subscription(subscription_id=3, folder_id=INBOX))
    async with asyncio.timeout(30):
        while lagging._subscriptions:
            await append(core, token)
    told = [queued.notice for queued in lagging._notices]
    assert [reason(notice) for notice in told if notice.subscription_id == 1] == ["FOLDER_NOT_FOUND"]
    for one in (2, 3):  # no notice after the reset, though both subscriptions match the commit
        assert [notice.reset_reason for notice in told if notice.subscription_id == one] == [RESET_REASON_TOO_SLOW]
    lagging.close()


async def test_a_mailbox_whose_number_cannot_be_read_is_reset(core: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    caller = await core.core.authenticator.session(await token_of(core), core_caller())
    watcher = served_watcher.Watcher(core.dispatcher.call(caller, float("inf")))

    async def broken(read: object) -> int:
        raise DatabaseError("a fault of ours")

    monkeypatch.setattr(core.core, "short_read", broken)
    await watcher.subscribe(Subscription(subscription_id=5))
    async with aclosing(watcher.notices()) as notices, asyncio.timeout(5):  # type: ignore[type-var]
        assert (await anext(notices)).HasField("subscribed")
        assert (await anext(notices)).reset_reason == RESET_REASON_HISTORY_GONE


async def test_octets_are_bounded_as_well_as_notices(core: Served) -> None:
    caller = await core.core.authenticator.session(await token_of(core), core_caller())
    lagging = served_watcher.Watcher(core.dispatcher.call(caller, float("inf")), most_queued_octets=10_000)
    await lagging.subscribe(Subscription(subscription_id=1, folder_id=INBOX))
    for _ in range(100):
        lagging._tell(WatchResponse(subscription_id=1, rejected=Status(message="x" * 1_000)))
        assert lagging._notices.octets == sum(queued.octets for queued in lagging._notices) <= 11_100
    lagging.close()


async def test_subscriptions_are_bounded(core: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_watcher, "MAX_SUBSCRIPTIONS", 3)
    token = await token_of(core)
    watcher = Watcher(core, token=token)
    for number in (1, 2, 3, 3):  # the last replaces the one before
        assert (await watcher.subscribe(number, folder_id=number)).HasField("subscribed")
    refused = errors.from_status((await watcher.subscribe(4, folder_id=4)).rejected)
    assert isinstance(refused, errors.LimitExceeded)
    assert refused.metadata == {"limit": "stream_subscriptions", "value": "3"}
    many = WatchMailboxesRequest(subscriptions=[Subscription(subscription_id=n) for n in range(1, 5)])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await core.stub("SyncService/WatchMailboxes")(many, metadata=token_metadata(token)).read()
    assert isinstance(errors.from_rpc_error(caught.value), errors.InvalidArgument)


# --- Sessions that end, within 5 seconds -----------------------------------------------------------------------------


async def end_by_password(core: Served, token: bytes) -> None:
    change = ChangePasswordRequest(old_password="bob-demo", new_password="another-demo")
    await core.call("SessionService/ChangePassword", change, token=token)


async def end_by_administrator(core: Served, token: bytes) -> None:
    change = SetPasswordRequest(address="bob@example.test", password="another-demo")
    await core.call("AdminService/SetPassword", change, identity="admin")


async def end_by_disabling(core: Served, token: bytes) -> None:
    change = UpdateAccountRequest(address="bob@example.test", enabled=False)
    await core.call("AdminService/UpdateAccount", change, identity="admin")


ENDINGS = [end_by_password, end_by_administrator, end_by_disabling]


@pytest.mark.parametrize("end", ENDINGS)
async def test_a_gateway_receives_the_end_of_sessions_and_its_subscriptions_end(core: Served, end: Any) -> None:
    gateway = Watcher(core, identity="imap")
    bob = await core.session("bob", Scope.SCOPE_IMAP, identity="imap")
    carol = await core.session("carol", Scope.SCOPE_IMAP, identity="imap")
    await gateway.subscribe(1, session_token=bob.session_token, folder_id=INBOX)
    await gateway.subscribe(2, session_token=carol.session_token, folder_id=INBOX)
    native = await token_of(core)
    began = time.monotonic()
    await end(core, native)
    rejected, ended = await gateway.read(5), await gateway.read(5)
    assert time.monotonic() - began < 5
    assert (rejected.subscription_id, reason(rejected)) == (1, "SESSION_REVOKED")
    assert ended.sessions_ended.account_id == bob.account_id
    assert ended.sessions_ended.credential_version > bob.credential_version
    assert reason(await gateway.subscribe(3, session_token=bob.session_token)) == "SESSION_REVOKED"
    await append(core, await token_of(core, "carol"))  # the other subscriptions of the stream continue
    while not (notice := await gateway.read()).folder.uids:
        assert notice.HasField("sessions_ended")
    assert notice.subscription_id == 2


@pytest.mark.parametrize("end", ENDINGS)
async def test_the_watch_of_an_ended_session_ends(core: Served, end: Any) -> None:
    watcher = Watcher(core, token=await token_of(core))
    await watcher.subscribe(folder_id=INBOX)
    await end(core, await token_of(core))
    assert (await watcher.read(5)).sessions_ended.account_id
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await watcher.read(5)
    assert isinstance(errors.from_rpc_error(caught.value), errors.SessionRevoked)


async def test_logging_off_ends_that_session_alone(core: Served) -> None:
    one, other = await token_of(core), await token_of(core)
    ending, staying = Watcher(core, token=one), Watcher(core, token=other)
    await ending.subscribe(folder_id=INBOX)
    await staying.subscribe(folder_id=INBOX)
    await core.call("SessionService/Logoff", LogoffRequest(), token=one)
    await ending.read(5)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ending.read(5)
    assert isinstance(errors.from_rpc_error(caught.value), errors.SessionRevoked)
    await append(core, other)
    assert (await staying.read()).folder.uids == [1]


async def test_what_another_core_ended_is_noticed_within_five_seconds(core: Served) -> None:
    """The other core only writes rows to the database."""
    watcher = Watcher(core, token=await token_of(core))
    await watcher.subscribe(folder_id=INBOX)
    core.core.notifier.sessions_ended, tell = lambda *_: None, core.core.notifier.sessions_ended
    await end_by_administrator(core, b"")
    core.core.notifier.sessions_ended = tell
    began = time.monotonic()
    assert (await watcher.read(5)).sessions_ended.account_id
    with pytest.raises(grpc.aio.AioRpcError):
        await watcher.read(5)
    assert time.monotonic() - began < 5


def _revoke_elsewhere(tx: Connection, *, caller: Caller) -> None:
    """Revoke sessions like another core, without this core's effects."""
    states.revoke(tx, caller.account_id, caller.session_id, b"", 900)
    effects.take(tx)


async def test_a_session_logged_off_at_another_core_hears_of_no_more_mail(core: Served) -> None:
    token, other = await token_of(core), await token_of(core)
    native, gateway = Watcher(core, token=token), Watcher(core, identity="imap")
    await native.subscribe(folder_id=INBOX)
    by_gateway = (await core.session("bob", Scope.SCOPE_IMAP, identity="imap")).session_token
    await gateway.subscribe(folder_id=INBOX, session_token=by_gateway)
    for one, identity in ((token, ""), (by_gateway, "imap")):
        caller = await core.core.authenticator.session(one, Caller(identity=identity))
        await core.core.db.write(Write(partial(_revoke_elsewhere, caller=caller)))
    await asyncio.sleep(1.5)  # a core looks every second
    await append(core, other)
    while (notice := await gateway.read()).HasField("sessions_ended"):
        pass  # recent changes by the administrator are announced again for a while
    assert reason(notice) == "SESSION_REVOKED"
    assert (await native.read()).HasField("sessions_ended")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await native.read()
    assert isinstance(errors.from_rpc_error(caught.value), errors.SessionRevoked)


async def test_a_stream_of_messages_stops_when_its_session_ends(core: Served) -> None:
    token = await token_of(core)
    line = b"x" * 70 + b"\r\n"
    for _ in range(MANY):
        await append(core, token, content=b"Subject: large\r\n\r\n" + line * 6_000)
    request = StreamMessagesRequest(
        messages=MessageSet(uids=UidSet(folder_id=INBOX, ranges=[IdRange(first=1, last=99)])),
        sections=[Section(kind=SECTION_KIND_WHOLE)],
    )
    call = core.stub("MessageService/StreamMessages", core.channel())(request, metadata=token_metadata(token))
    assert (await call.read()).rows.uids
    await asyncio.sleep(0.3)  # gRPC's windows are full by then
    await end_by_administrator(core, token)
    await asyncio.sleep(1.5)
    octets = 0

    async def take_the_rest() -> None:
        nonlocal octets
        while (response := await call.read()) is not grpc.aio.EOF:
            octets += response.ByteSize()

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await take_the_rest()
    assert isinstance(errors.from_rpc_error(caught.value), errors.SessionRevoked)
    assert octets < MANY * 6_000 * 72


async def test_a_change_that_its_author_knows_by_the_response_is_announced_to_others_together(core: Served) -> None:
    token = await token_of(core)
    await append(core, token)
    caller = await core.core.authenticator.session(token, core_caller())
    watcher = served_watcher.Watcher(core.dispatcher.call(caller, float("inf")))
    await watcher.subscribe(Subscription(subscription_id=7, folder_id=INBOX))
    for number in range(20):
        flag = UpdateMessagesRequest(
            messages=MessageSet(uids=UidSet(folder_id=INBOX, ranges=[IdRange(first=1, last=1)])),
            operation=FLAG_OPERATION_REPLACE,
            keywords=[f"k{each}" for each in range(number + 1)],
            changes_since=0,
        )
        await core.call("MessageService/UpdateMessages", flag, token=token)
    told: list[WatchResponse] = []
    async with asyncio.timeout(5):
        async for notice in watcher.notices():
            told.append(notice)
            if any(len(keywords.keywords) == 20 for keywords in notice.folder.keyword_table):
                break
    assert len(told) < 20
    watcher.close()


async def test_a_fault_while_subscribing_ends_the_stream_instead_of_leaving_it_deaf(
    core: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = (await core.session("alice")).session_token

    async def broken(*_: Any) -> None:
        raise ZeroDivisionError

    watcher = Watcher(core, token=token)
    await watcher.subscribe()
    monkeypatch.setattr(core.core.authenticator, "session", broken)
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await watcher.subscribe(2)
    assert failure.value.code() is grpc.StatusCode.INTERNAL
