"""A search in large mail ends with its client, and delays no other client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from io import BytesIO
from pathlib import Path

import pytest

from restante.errors import from_status
from restante.link import CoreLink
from restante.v1 import methods
from restante.v1.batch_pb2 import ExecuteRequest
from restante.v1.content_pb2 import UPLOAD_KIND_MESSAGE
from restante.v1.folder_pb2 import GetFolderRequest
from restante.v1.message_pb2 import (
    DELETE_MODE_HARD,
    AppendMessageRequest,
    CopyMessagesRequest,
    DeleteMessagesRequest,
    MatchingMessages,
    MessageSet,
    SearchMessagesRequest,
)
from restante.v1.search_pb2 import TEXT_FIELD_ANY, Restriction, TextRestriction
from restante.v1.types_pb2 import IdRange, UidSet
from restante_gateways.net.authentication import AuthenticationPolicy
from tests.gateways.imap.conftest import start
from tests.gateways.imap.stage import Stage
from tests.server.api.served import Served, operation, request_id, served, token_metadata

pytestmark = pytest.mark.end_to_end

LINE = b"<p>" + b"<" * 70 + b"</p>\r\n"
LARGE = b"Subject: large\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + LINE * ((20 << 20) // len(LINE))
SMALL = b"Subject: small\r\n\r\nhere\r\n"
NOTHING = b'a SEARCH TEXT "absent"\r\n'


async def bring(link: CoreLink, token: bytes, content: bytes) -> int:
    """Append a message to the Inbox by upload and return the folder's id."""

    async def chunks() -> AsyncIterator[bytes]:
        yield content

    upload = await link.upload(UPLOAD_KIND_MESSAGE, chunks(), session=token)
    request = AppendMessageRequest(path=["Inbox"], upload_id=upload.upload_id, request_id=request_id())
    return (await link.execute(methods.APPEND_MESSAGE, request, session=token)).folder_id


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[Served]:
    """A core where a search takes minutes in alice's and carol's Inbox, and a moment in bob's."""
    async with served(tmp_path, TLS__AUTHENTICATION="except-loopback") as made:
        link = await made.link()
        for name in ("alice", "carol"):
            token = (await made.session(name)).session_token
            await bring(link, token, LARGE)
            inbox = await bring(link, token, LARGE)
            for _ in range(4):  # the messages share contents: the search is the cost
                copy = CopyMessagesRequest(
                    messages=MessageSet(uids=UidSet(folder_id=inbox, ranges=[IdRange(first=1, last=1_000)])),
                    target_folder_id=inbox,
                    request_id=request_id(),
                )
                await link.execute(methods.COPY_MESSAGES, copy, session=token)
        await bring(link, (await made.session("bob")).session_token, SMALL)
        await link.close()
        yield made


@pytest.fixture
async def gateway(core: Served, tmp_path: Path) -> AsyncIterator[Stage]:
    link = await core.link("imap")
    stage, _ = start(tmp_path, AuthenticationPolicy.EXCEPT_LOOPBACK, link, BytesIO())
    yield stage
    await stage.runtime.drain()
    await link.close()


async def selected(stage: Stage, name: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client with its user's Inbox selected."""
    endpoint = stage.endpoint()
    reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    writer.write(f"l LOGIN {name}@example.test {name}-demo\r\ns SELECT INBOX\r\n".encode())
    while not (line := await reader.readline()).startswith(b"s "):
        assert line, "closed"
    assert line.startswith(b"s OK"), line
    return reader, writer


async def within(seconds: float, true: Callable[[], bool]) -> float:
    """Wait until `true()` holds, and return the seconds waited."""
    began = time.monotonic()
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.01)
    return time.monotonic() - began


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_search_ends_with_its_client(core: Served, gateway: Stage, how: str) -> None:
    searches = core.core.searches
    _, writer = await selected(gateway, "alice")
    writer.write(NOTHING)
    await within(5, lambda: searches.running == 1)
    await asyncio.sleep(0.3)
    assert searches.running == 1
    if how == "close":
        writer.close()
    else:
        writer.transport.abort()
    await within(2, lambda: searches.running == 0)
    await asyncio.sleep(0.3)
    assert searches.running == 0


async def test_a_call_that_is_cancelled_ends_its_search(core: Served) -> None:
    searches, token = core.core.searches, (await core.session("alice")).session_token
    inbox = await core.call("FolderService/GetFolder", GetFolderRequest(path=["Inbox"]), token=token)
    absent = Restriction(text=TextRestriction(field=TEXT_FIELD_ANY, value="absent"))
    request = SearchMessagesRequest(folder_id=inbox.folder.folder_id, restriction=absent)
    calling = asyncio.create_task(core.call("MessageService/SearchMessages", request, token=token))
    await within(5, lambda: searches.running == 1)
    calling.cancel()
    await within(2, lambda: searches.running == 0)


@pytest.mark.parametrize("batched", [False, True])
async def test_a_bulk_change_that_is_cancelled_ends_its_search_and_changes_nothing(core: Served, batched: bool) -> None:
    searches, token = core.core.searches, (await core.session("alice")).session_token
    everywhere = Restriction(negation=Restriction(text=TextRestriction(field=TEXT_FIELD_ANY, value="absent")))
    matching = MessageSet(matching=MatchingMessages(restriction=everywhere))
    request = DeleteMessagesRequest(messages=matching, mode=DELETE_MODE_HARD)
    before = await core.call("FolderService/GetFolder", GetFolderRequest(path=["Inbox"]), token=token)
    if batched:
        stream = core.stub("BatchService/Execute")(metadata=token_metadata(token), timeout=30)
        deletion = operation("MessageService/DeleteMessages", request, token=token, timeout_milliseconds=60_000)
        await stream.write(ExecuteRequest(operations=[deletion]))
        await within(5, lambda: searches.running == 1)
        await stream.write(ExecuteRequest(cancel_operation_ids=[deletion.operation_id]))
        async with asyncio.timeout(5):
            (result,) = (await stream.read()).results
        assert from_status(result.status).reason == "CANCELLED"
        stream.cancel()
    else:
        calling = asyncio.create_task(core.call("MessageService/DeleteMessages", request, token=token))
        await within(5, lambda: searches.running == 1)
        calling.cancel()
    await within(2, lambda: searches.running == 0)
    after = await core.call("FolderService/GetFolder", GetFolderRequest(path=["Inbox"]), token=token)
    assert after.folder == before.folder


async def test_searches_in_large_mail_keep_nobody_waiting(core: Served, gateway: Stage) -> None:
    searches = core.core.searches
    writers = []
    for name in ("alice", "carol", "alice", "carol", "alice"):
        _, writer = await selected(gateway, name)
        writer.write(NOTHING)
        writers.append(writer)
    await within(5, lambda: searches.running == 2)  # one of each
    reader, writer = await selected(gateway, "bob")
    writers.append(writer)
    async with asyncio.timeout(15):
        writer.write(b'b SEARCH TEXT "here"\r\n')
        while (line := await reader.readline()) == b"* OK The search continues.\r\n":
            pass
        assert line == b"* SEARCH 1\r\n"
        link = await core.link()
        await bring(link, (await core.session("bob")).session_token, SMALL + b"x" * 78 * 20_000)
        await link.close()
    assert searches.running == 2
    for writer in writers:
        writer.close()
    await within(5, lambda: searches.running == 0)
