"""No stream outlives its session: within five seconds of the end each stream ends or refuses requests."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio

from restante import errors
from restante.v1.admin_pb2 import BackupStoreRequest, SetPasswordRequest, UpdateAccountRequest
from restante.v1.batch_pb2 import ExecuteRequest, Operation
from restante.v1.content_pb2 import UPLOAD_KIND_ATTACHMENT, ReadContentRequest, UploadContentRequest
from restante.v1.folder_pb2 import ListFoldersRequest, OpenFolderRequest
from restante.v1.job_pb2 import JobState, WatchJobRequest
from restante.v1.mailbox_pb2 import GetMailboxRequest
from restante.v1.message_pb2 import SECTION_KIND_WHOLE, MessageSet, Section, StreamMessagesRequest
from restante.v1.session_pb2 import ChangePasswordRequest, LogoffRequest, RenewSessionRequest, Session
from restante.v1.sync_pb2 import Subscription, SyncMailboxRequest, WatchMailboxesRequest, WatchRequest
from restante.v1.types_pb2 import IdRange, UidSet
from restante_server.app import CoreProcess
from restante_server.db.operation import Write
from restante_server.upkeep import backup
from restante_server.upkeep.jobs import records
from restante_server.upkeep.jobs.records import ADMIN, Actor, NewJob
from tests.server.api.served import DOMAIN, STREAMING, Served, request_id, served, settings, token_metadata

together = pytest.mark.asyncio(loop_scope="module")

SECONDS = 5.0
INBOX = 1
ALL = MessageSet(uids=UidSet(folder_id=INBOX, ranges=[IdRange(first=1, last=99)]))
WHOLE = Section(kind=SECTION_KIND_WHOLE)


class SlowReads:
    """A database whose reads through the core never end, as the unfinished work of a session."""

    def __init__(self, database: Any) -> None:
        self._database = database

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    async def read(self, *_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()


@contextlib.contextmanager
def slow_reads(core: Served) -> Iterator[None]:
    quick = core.core.db
    core.core.db = SlowReads(quick)
    try:
        yield
    finally:
        core.core.db = quick


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def core(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with served(Path(tmp_path_factory.mktemp("ends"))) as made:
        yield made


# --- Open calls of a session -----------------------------------------------------------------------------------------


class Open:
    """A begun call. `ask` is a request that it must refuse when the session's end does not end the call."""

    def __init__(self, call: Any, ask: Callable[[], Awaitable[object]] | None = None) -> None:
        self.call, self._ask = call, ask
        self._reading = asyncio.ensure_future(self._read()) if ask is None else None

    async def _read(self) -> None:
        if hasattr(self.call, "read"):
            while await self.call.read() is not grpc.aio.EOF:
                pass
        await self.call

    @property
    def goes_on(self) -> bool:
        """Whether the call has not ended yet."""
        return self._reading is None or not self._reading.done()

    async def end(self) -> errors.RestanteError:
        """The error of the call's end or of its refusal. Fails when neither happens in time."""
        until = time.monotonic() + SECONDS
        try:
            if self._reading is not None:
                await asyncio.wait_for(self._reading, SECONDS)
            while self._ask is not None and time.monotonic() < until:
                await self._ask()
                await asyncio.sleep(0.1)
        except grpc.aio.AioRpcError as error:
            return errors.from_rpc_error(error)
        except errors.RestanteError as error:
            return error
        except TimeoutError:
            pass
        finally:
            if hasattr(self.call, "cancel"):
                self.call.cancel()
        pytest.fail(f"goes on {SECONDS:.0f} s after the end of its session")


def streaming(rpc: str, request: Any) -> Callable[[Served, bytes], Awaitable[Open]]:
    """A stream of responses to one request."""

    async def begin(core: Served, token: bytes) -> Open:
        return Open(core.stub(rpc, core.channel())(request, metadata=token_metadata(token), timeout=60))

    return begin


async def watch(core: Served, token: bytes) -> Open:
    call = core.stub("SyncService/Watch", core.channel())(metadata=token_metadata(token), timeout=60)
    await call.write(WatchRequest(subscribe=Subscription(subscription_id=1, folder_id=INBOX)))
    assert (await call.read()).HasField("subscribed")
    return Open(call)


async def watch_without_subscriptions(core: Served, token: bytes) -> Open:
    call = core.stub("SyncService/Watch", core.channel())(metadata=token_metadata(token), timeout=60)
    await call.write(WatchRequest(unsubscribe=1))
    return Open(call)


async def upload(core: Served, token: bytes) -> Open:
    call = core.stub("ContentService/UploadContent", core.channel())(metadata=token_metadata(token), timeout=60)
    await call.write(UploadContentRequest(kind=UPLOAD_KIND_ATTACHMENT, octets=b"the first piece"))
    return Open(call)


async def watch_job(core: Served, token: bytes) -> Open:
    """Watch a job of another core, which does nothing."""
    elsewhere = NewJob(records.JobKind.BACKUP_STORE, Actor(ADMIN, None), place="another core")
    job = await core.core.db.write(Write(lambda tx: records.start(tx, elsewhere)))
    return await streaming("JobService/WatchJob", WatchJobRequest(job_id=job.job_id))(core, token)


def executing(metadata_token: bool) -> Callable[[Served, bytes], Awaitable[Open]]:
    """An Execute stream with repeated requests for the folder list."""

    async def begin(core: Served, token: bytes) -> Open:
        metadata = token_metadata(token) if metadata_token else ()
        call = core.stub("BatchService/Execute", core.channel())(metadata=metadata, timeout=60)

        async def ask() -> None:
            operation = Operation(operation_id=1, list_folders=ListFoldersRequest())
            if not metadata_token:
                operation.session_token = token
            await call.write(ExecuteRequest(operations=[operation]))
            (result,) = (await call.read()).results
            if result.HasField("status"):
                raise errors.from_status(result.status)
            assert result.list_folders.folders

        await ask()
        return Open(call, ask)

    return begin


async def unary(core: Served, token: bytes) -> Open:
    async def ask() -> None:
        await core.call("MailboxService/GetMailbox", GetMailboxRequest(), token=token)

    await ask()
    return Open(None, ask)


BEGUN: dict[str, Callable[[Served, bytes], Awaitable[Open]]] = {
    "unary": unary,
    "BatchService/Execute": executing(metadata_token=True),
    "BatchService/Execute by token": executing(metadata_token=False),
    "SyncService/Watch": watch,
    "SyncService/Watch without subscriptions": watch_without_subscriptions,
    "SyncService/WatchMailboxes": streaming(
        "SyncService/WatchMailboxes",
        WatchMailboxesRequest(subscriptions=[Subscription(subscription_id=1, folder_id=INBOX)]),
    ),
    "SyncService/SyncMailbox": streaming("SyncService/SyncMailbox", SyncMailboxRequest(follow=True)),
    "ContentService/UploadContent": upload,
    "JobService/WatchJob": watch_job,
}
AT_WORK: dict[str, Any] = {
    # These calls end without the session's end, unless their reads take time.
    "FolderService/OpenFolder": OpenFolderRequest(folder_id=INBOX),
    "MessageService/StreamMessages": StreamMessagesRequest(messages=ALL, sections=[WHOLE]),
    "ContentService/ReadContent": ReadContentRequest(message_id=1, section=WHOLE),
    "SyncService/SyncMailbox": SyncMailboxRequest(),
    "JobService/WatchJob": WatchJobRequest(job_id=1),
}
OF_GATEWAYS = {"TransportService/Accept", "TransportService/LeaseOutbound", "TransportService/ReadOutbound"}


def test_every_stream_that_a_session_may_open_is_in_the_tables() -> None:
    tried = {name.partition(" ")[0] for name in BEGUN} | set(AT_WORK)
    assert {rpc for rpc in STREAMING if rpc not in tried} == OF_GATEWAYS


# --- Ends of a session -----------------------------------------------------------------------------------------------


def lifetime(core: Served, seconds: int) -> None:
    """Set the lifetime of tokens issued later."""
    sessions = core.core.directory.sessions
    sessions._settings = replace(sessions._settings, token_seconds=seconds)


async def log_off(core: Served, token: bytes) -> None:
    await core.call("SessionService/Logoff", LogoffRequest(), token=token)


async def change_password(core: Served, token: bytes) -> None:
    other = (await core.session("alice")).session_token
    change = ChangePasswordRequest(old_password="alice-demo", new_password="another-demo")
    await core.call("SessionService/ChangePassword", change, token=other)


async def disable(core: Served, token: bytes) -> None:
    await core.call(
        "AdminService/UpdateAccount",
        UpdateAccountRequest(address=f"alice@{DOMAIN}", enabled=False),
        identity="admin",
    )


async def expire(core: Served, token: bytes) -> None:
    """Let the token expire, within a second or two."""


async def log_off_elsewhere(core: Served, token: bytes) -> None:
    """Log off at another core, which writes rows to the database and sends this core no hint."""
    with unheard(core):
        await log_off(core, token)


async def disable_elsewhere(core: Served, token: bytes) -> None:
    with unheard(core):
        await disable(core, token)


@contextlib.contextmanager
def unheard(core: Served) -> Iterator[None]:
    notifier, sessions = core.core.notifier, core.core.directory.sessions
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(notifier, "sessions_ended", lambda *_: None)
        patched.setattr(sessions, "forget_session", lambda *_: None)
        patched.setattr(sessions, "forget_account", lambda *_: None)
        yield


ENDINGS = [log_off, change_password, disable, expire, log_off_elsewhere, disable_elsewhere]


@pytest_asyncio.fixture(loop_scope="module")
async def restored(core: Served) -> AsyncIterator[None]:
    """Restore the token lifetime and alice's account after each test."""
    yield
    lifetime(core, 900)
    await settle(core)
    assert len(core.core.guards) == 0, "a stream that has ended is watched no more"


async def settle(core: Served) -> None:
    address = f"alice@{DOMAIN}"
    await core.call("AdminService/UpdateAccount", UpdateAccountRequest(address=address, enabled=True), identity="admin")
    request = SetPasswordRequest(address=address, password="alice-demo")
    await core.call("AdminService/SetPassword", request, identity="admin")


async def session_for(core: Served, end: Any) -> Session:
    lifetime(core, 2 if end is expire else 900)
    session = await core.session("alice")
    lifetime(core, 900)
    return session


@together
@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("end", ENDINGS, ids=lambda end: end.__name__)
@pytest.mark.parametrize("name", BEGUN)
async def test_what_is_open_does_not_outlive_its_session(core: Served, name: str, end: Any) -> None:
    token = (await session_for(core, end)).session_token
    begun = await BEGUN[name](core, token)
    await asyncio.sleep(0.2)
    assert begun.goes_on
    await end(core, token)
    assert isinstance(await begun.end(), errors.SessionExpired if end is expire else errors.SessionRevoked)


@together
@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("end", ENDINGS, ids=lambda end: end.__name__)
@pytest.mark.parametrize("rpc", AT_WORK)
async def test_work_in_hand_does_not_outlive_its_session(core: Served, rpc: str, end: Any) -> None:
    token = (await session_for(core, end)).session_token
    with slow_reads(core):
        begun = await streaming(rpc, AT_WORK[rpc])(core, token)
        await asyncio.sleep(0.2)
        assert begun.goes_on
        await end(core, token)
        assert isinstance(await begun.end(), errors.SessionExpired if end is expire else errors.SessionRevoked)


@together
@pytest.mark.usefixtures("restored")
async def test_a_job_goes_on_when_the_session_that_began_it_ends(core: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()
    monkeypatch.setattr(backup, "write", lambda *_: done.wait(20))
    token = (await core.session("alice")).session_token
    request = BackupStoreRequest(directory=str(core.directory / "backups" / "one"), request_id=request_id())
    job = (await core.call("AdminService/BackupStore", request, token=token)).job
    begun = await streaming("JobService/WatchJob", WatchJobRequest(job_id=job.job_id))(core, token)
    await asyncio.sleep(0.3)
    await log_off(core, token)
    try:
        assert isinstance(await begun.end(), errors.SessionRevoked)
    finally:
        done.set()
    call = core.stub("JobService/WatchJob")(WatchJobRequest(job_id=job.job_id), metadata=core.identity("admin"))
    steps = [step async for step in call]
    assert steps[-1].job.state == JobState.JOB_STATE_SUCCEEDED


@together
@pytest.mark.usefixtures("restored")
async def test_work_in_hand_goes_on_when_the_session_is_renewed(core: Served) -> None:
    """A large message to a slow client may take longer than a token's lifetime."""
    token = (await session_for(core, expire)).session_token
    with slow_reads(core):
        begun = await streaming("ContentService/ReadContent", AT_WORK["ContentService/ReadContent"])(core, token)
        await asyncio.sleep(0.2)  # until the core runs it
        renewed = await core.call("SessionService/RenewSession", RenewSessionRequest(), token=token)
        await asyncio.sleep(2.5)
        assert begun.goes_on
        await log_off(core, renewed.session.session_token)
        assert isinstance(await begun.end(), errors.SessionRevoked)


@together
@pytest.mark.usefixtures("restored")
async def test_the_other_sessions_of_an_account_are_left_alone(core: Served) -> None:
    one, other = [(await core.session("alice")).session_token for _ in range(2)]
    staying = [await BEGUN[name](core, other) for name in ("SyncService/Watch", "ContentService/UploadContent")]
    await log_off(core, one)
    await asyncio.sleep(1.5)
    assert all(begun.goes_on for begun in staying)
    await log_off(core, other)
    assert all([isinstance(await begun.end(), errors.SessionRevoked) for begun in staying])


# --- Several cores ---------------------------------------------------------------------------------------------------


@pytest.mark.postgres
@pytest.mark.slow
async def test_what_one_core_ends_ends_at_the_other(empty_postgres_url: str, tmp_path: Path) -> None:
    async with served(tmp_path, STORE__URL=empty_postgres_url) as first:
        directory = tmp_path / "second" / "data"
        directory.mkdir(parents=True, mode=0o700)
        chosen = settings(directory, first.authority, STORE__URL=empty_postgres_url)
        async with CoreProcess.open(chosen) as process:
            second = Served(process, directory, first.authority)
            try:
                for end in (log_off, change_password, disable):
                    await _ends_at_the_other(first, second, end)
                    await settle(second)
                    await asyncio.sleep(1.5)  # until the first core knows of it
            finally:
                await second.close()


async def _ends_at_the_other(first: Served, second: Served, end: Any) -> None:
    session = await first.session("alice")
    begun = [await begin(first, session.session_token) for begin in BEGUN.values()]
    with slow_reads(first):
        begun += [await streaming(rpc, request)(first, session.session_token) for rpc, request in AT_WORK.items()]
        await asyncio.sleep(0.3)
        assert all(each.goes_on for each in begun)
        await end(second, session.session_token)
        ended = await asyncio.gather(*(each.end() for each in begun))
    assert {type(error) for error in ended} == {errors.SessionRevoked}, end.__name__
