"""POP3 over a real core: many messages, other sessions, and restarts of the core."""

from __future__ import annotations

import asyncio
import secrets
import signal
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from restante.link import CoreLink
from restante.methods import Method
from restante.methods import Request as RequestType
from restante.methods import Response as ResponseType
from restante.v1 import folder_pb2, message_pb2, methods, session_pb2
from restante.v1.admin_pb2 import SetPasswordRequest
from restante.v1.message_pb2 import MessageSet
from restante.v1.types_pb2 import IdRange, UidSet
from restante_gateways.net.authentication import AuthenticationPolicy
from restante_gateways.net.runtime import Port, Runtime, RuntimeSettings
from restante_gateways.pop3.gateway import Pop3Settings, run
from tests.gateways.pop3.messages import MESSAGES
from tests.gateways.pop3.test_session import Client
from tests.harness.certificates import pair_maker
from tests.harness.core_process import CoreProcess

pytestmark = pytest.mark.end_to_end


@dataclass
class Other:
    """Another session of an account."""

    link: CoreLink
    token: bytes
    inbox: int

    async def call(self, method: Method[RequestType, ResponseType], request: RequestType) -> ResponseType:
        if "request_id" in request.DESCRIPTOR.fields_by_name:
            request.request_id = secrets.token_bytes(16)  # type: ignore[attr-defined]
        return await self.link.execute(method, request, session=self.token)


class Core(CoreProcess):
    """A core process with methods to prepare mail."""

    async def fill(self, address: str, password: str, messages: list[bytes]) -> None:
        """Put messages into the Inbox of a new account."""
        await self.account(address, password, fresh=True)
        async with self.session(address, password) as other:
            for message in messages:
                append = message_pb2.AppendMessageRequest(folder_id=other.inbox, content=message)
                await other.call(methods.APPEND_MESSAGE, append)

    @asynccontextmanager
    async def session(self, address: str, password: str) -> AsyncIterator[Other]:
        """A session like the IMAP gateway's."""
        link = await self.link("imap")
        try:
            client = session_pb2.ClientContext(client_address="127.0.0.1", listener="imap", loopback=True)
            request = session_pb2.AuthenticateRequest(
                mechanism="PLAIN",
                response=f"\0{address}\0{password}".encode(),
                scope=session_pb2.SCOPE_IMAP,
                client=client,
            )
            token = (await link.execute(methods.AUTHENTICATE, request)).session.session_token
            folders = await link.execute(methods.LIST_FOLDERS, folder_pb2.ListFoldersRequest(), session=token)
            (inbox,) = [f.folder_id for f in folders.folders if f.role == folder_pb2.FOLDER_ROLE_INBOX]
            yield Other(link, token, inbox)
        finally:
            await link.close()


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Core]:
    core = Core(tmp_path_factory.mktemp("pop3") / "data", RESTANTE_LIMITS__MAX_MESSAGE_OCTETS="600000")
    core.start()
    yield core
    core.stop()


@dataclass
class Served:
    """A gateway on that core."""

    core: Core
    port: int
    tls: ssl.SSLContext

    async def dial(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20))
        assert (await client.line()).startswith("+OK")
        return client

    async def open(self, messages: list[bytes]) -> Client:
        """A session of alice with these messages."""
        await self.core.fill("alice@example.test", "alice-demo", messages)
        return await self.again()

    async def again(self) -> Client:
        client = await self.dial()
        await client.ask("USER alice@example.test")
        answer = await client.ask("PASS alice-demo")
        assert answer.startswith("+OK"), answer
        return client


@pytest.fixture
async def served(core: Core, tmp_path: Path) -> AsyncIterator[Served]:
    pair = pair_maker(tmp_path)("server", "localhost")
    settings = RuntimeSettings("pop3", (pair,), AuthenticationPolicy.EXCEPT_LOOPBACK, drain_seconds=2.0)
    runtime, link = Runtime(settings), await core.link("pop3")
    gateway = asyncio.ensure_future(run(Pop3Settings({"pop3": Port()}), link, runtime))
    while not runtime.listeners:
        await asyncio.sleep(0.01)
    port = runtime.addresses()["pop3"][0].port
    yield Served(core, port, ssl.create_default_context(cafile=str(pair.certificate)))
    runtime.draining.set()
    await gateway
    await link.close()


async def test_a_walk_over_many_messages_brings_each_whole(served: Served) -> None:
    messages = [b"Subject: %d\r\n\r\n" % n + b".%d\r\n" % n * (n * n % 900) for n in range(150)]
    messages[77] = b"Subject: large\r\n\r\n" + b".large\r\n" * 60_000  # more than one batch holds
    client = await served.open(messages)
    client.writer.write(b"".join(b"RETR %d\r\nDELE %d\r\n" % (n, n) for n in range(1, 151)))
    for message in messages:
        assert await client.line() == f"+OK {len(message)} octets\r\n"
        assert await client.rest() == message.replace(b"\r\n.", b"\r\n..") + b".\r\n"
        assert await client.line() == "+OK marked\r\n"
    assert await client.ask("QUIT") == "+OK bye, 150 messages deleted\r\n"
    client = await served.again()
    assert await client.ask("STAT") == "+OK 0 0\r\n"


@pytest.mark.faults
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_a_session_outlives_the_core(served: Served, how: signal.Signals) -> None:
    """The gateway recovers without help, the unique ids stay, and QUIT deletes (RFC 1939 6, 7)."""
    client = await served.open([MESSAGES["plain"], MESSAGES["dots"], MESSAGES["short"]])
    await client.ask("UIDL")
    ids = await client.rest()
    assert (await client.ask("RETR 1")).startswith("+OK")
    await client.rest()
    await client.ask("DELE 1")
    await asyncio.to_thread(served.core.stop, how)
    assert (await client.ask("RETR 3")).startswith("-ERR [SYS/TEMP]")
    newcomer = await served.dial()
    await newcomer.ask("USER alice@example.test")
    assert (await newcomer.ask("PASS alice-demo")).startswith("-ERR [SYS/TEMP]")
    await asyncio.to_thread(served.core.start)
    assert (await client.ask("RETR 3")).startswith("+OK")
    assert await client.rest() == MESSAGES["short"].replace(b"\r\n.", b"\r\n..") + b".\r\n"
    assert await client.ask("QUIT") == "+OK bye, 1 messages deleted\r\n"
    client = await served.again()
    await client.ask("UIDL")
    assert [line.split()[1] for line in (await client.rest()).split(b"\r\n")[:2]] == [
        line.split()[1] for line in ids.split(b"\r\n")[1:3]
    ]
    await client.ask("QUIT")


async def test_what_other_sessions_move_and_remove_stays_for_the_session(served: Served) -> None:
    """RFC 1939 3, 5, 6: numbers, unique ids and messages stay; QUIT deletes from the Inbox alone."""
    large = b"Subject: large\r\n\r\n" + b"large\r\n" * 60_000  # more than one batch holds
    messages = [MESSAGES["plain"], MESSAGES["dots"], MESSAGES["short"], large, MESSAGES["plain"], MESSAGES["dots"]]
    client = await served.open(messages)
    await client.ask("UIDL")
    ids = await client.rest()
    await client.ask("LIST")
    sizes = await client.rest()
    async with served.core.session("alice@example.test", "alice-demo") as other:
        folders = (await other.call(methods.LIST_FOLDERS, folder_pb2.ListFoldersRequest())).folders
        (archive,) = [f.folder_id for f in folders if f.role == folder_pb2.FOLDER_ROLE_ARCHIVE]

        def at(uid: int) -> MessageSet:
            return MessageSet(uids=UidSet(folder_id=other.inbox, ranges=[IdRange(first=uid, last=uid)]))

        move = message_pb2.MoveMessagesRequest(messages=at(1), target_folder_id=archive)
        await other.call(methods.MOVE_MESSAGES, move)
        for uid, mode in (
            (2, message_pb2.DELETE_MODE_SOFT),
            (3, message_pb2.DELETE_MODE_SOFT),
            (4, message_pb2.DELETE_MODE_HARD),
            (5, message_pb2.DELETE_MODE_TO_TRASH),
        ):
            await other.call(methods.DELETE_MESSAGES, message_pb2.DeleteMessagesRequest(messages=at(uid), mode=mode))
        lost = await other.call(methods.LIST_RECOVERABLE_MESSAGES, message_pb2.ListRecoverableMessagesRequest())
        (third,) = [m.message_id for m in lost.messages if m.size_octets == len(MESSAGES["short"])]
        purge = message_pb2.PurgeRecoverableMessagesRequest(message_ids=[third])
        assert (await other.call(methods.PURGE_RECOVERABLE_MESSAGES, purge)).purged_count == 1

        for number, message in enumerate(messages, 1):
            sent = message.replace(b"\r\n.", b"\r\n..") + b".\r\n"
            assert await client.ask(f"RETR {number}") == f"+OK {len(message)} octets\r\n"
            assert await client.rest() == sent
            assert (await client.ask(f"TOP {number} 100000")).startswith("+OK")
            assert await client.rest() == sent
        await client.ask("UIDL")
        assert await client.rest() == ids
        await client.ask("LIST")
        assert await client.rest() == sizes
        for number in range(1, 7):
            assert await client.ask(f"DELE {number}") == "+OK marked\r\n"
        assert await client.ask("QUIT") == "+OK bye, 1 messages deleted, another session had removed 5\r\n"

        folders = (await other.call(methods.LIST_FOLDERS, folder_pb2.ListFoldersRequest())).folders
        counts = {f.role: f.message_count for f in folders}
        assert counts[folder_pb2.FOLDER_ROLE_INBOX] == 0
        assert counts[folder_pb2.FOLDER_ROLE_ARCHIVE] == 1  # the moved message stays where it is
        assert counts[folder_pb2.FOLDER_ROLE_TRASH] == 1


async def test_a_new_password_ends_the_sessions_under_the_old_one(served: Served) -> None:
    """Within 5 seconds (docs/design.md "Session tokens")."""
    client = await served.open([MESSAGES["plain"]])
    admin = await served.core.link("admin")
    try:
        request = SetPasswordRequest(address="alice@example.test", password="another-one")
        await admin.execute(methods.SET_PASSWORD, request)
    finally:
        await admin.close()
    async with asyncio.timeout(5):
        assert (await client.line()).startswith("-ERR [AUTH]")
        assert await client.line() == ""
