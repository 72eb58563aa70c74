"""Two gateways on one real core: clients of one learn of changes by the other, and a session's end reaches both."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import pytest

from restante.v1 import folder_pb2, message_pb2, methods, session_pb2
from restante.v1.admin_pb2 import SetPasswordRequest
from restante.v1.message_pb2 import MessageSet
from restante.v1.types_pb2 import IdRange, UidSet
from restante_gateways.net.authentication import AuthenticationPolicy
from tests.gateways.imap.conftest import start
from tests.gateways.imap.stage import NAME, PASSWORD, Client, Stage, message
from tests.harness.core_process import CoreProcess

pytestmark = pytest.mark.end_to_end


@pytest.fixture
async def other(live: CoreProcess, stage: Stage, tmp_path: Path) -> AsyncIterator[Stage]:
    """A second gateway."""
    folder = tmp_path / "other"
    folder.mkdir()
    link = await live.link("imap")
    made, _ = start(folder, AuthenticationPolicy.EXCEPT_LOOPBACK, link, BytesIO())
    yield made
    await made.runtime.drain()
    await link.close()


async def append(client: Client, number: int) -> None:
    content = message(number)
    await client.ok(b"APPEND INBOX {%d+}\r\n%b" % (len(content), content))


async def told(client: Client, wanted: bytes) -> list[bytes]:
    """The lines to a client in IDLE, up to one with the ending `wanted`."""
    lines = [await client.line()]
    while not lines[-1].endswith(wanted):
        lines.append(await client.line())
    return lines


async def idling(stage: Stage) -> Client:
    client = await Client.open(stage, "INBOX")
    client.writer.write(b"i IDLE\r\n")
    assert (await client.line()).startswith(b"+")
    return client


async def test_changes_cross_from_one_gateway_to_the_other(stage: Stage, other: Stage) -> None:  # RFC 2177 3
    here, there = await Client.open(stage, "INBOX"), await idling(other)
    await append(here, 1)
    assert b"* 1 EXISTS" in await told(there, b" RECENT")
    await here.ok("STORE 1 +FLAGS (\\Deleted $Urgent)")
    assert (await told(there, b"))"))[-1].startswith(b"* 1 FETCH (FLAGS (\\Deleted $Urgent")
    await here.ok("EXPUNGE")
    assert await told(there, b"EXPUNGE") == [b"* 1 EXPUNGE"]
    there.writer.write(b"DONE\r\n")
    assert (await there.line()).startswith(b"i OK")


async def test_many_changes_at_once_cross_too(stage: Stage, other: Stage) -> None:
    here, there = await Client.open(stage, "INBOX"), await idling(other)
    for number in range(1, 6):
        await append(here, number)
    await told(there, b"* 5 EXISTS")
    await here.ok("STORE 1:5 +FLAGS.SILENT (\\Deleted)")
    await here.ok("UID EXPUNGE 2:4")
    lines = await told(there, b"* 2 EXPUNGE")
    assert [line for line in lines if line.endswith(b"EXPUNGE")] == [b"* 4 EXPUNGE", b"* 3 EXPUNGE", b"* 2 EXPUNGE"]


async def test_both_gateways_agree_on_every_uid(stage: Stage, other: Stage) -> None:  # RFC 3501 5.2
    clients = [await Client.open(place, "INBOX") for place in (stage, other, stage, other)]

    async def work(client: Client, first: int) -> None:
        for number in range(first, first + 6):
            await append(client, number % 28 + 1)
            await client.run("STORE 1 +FLAGS (\\Deleted)")
            if number % 3 == 0:
                await client.ok("EXPUNGE")

    async with asyncio.TaskGroup() as group:
        for at, client in enumerate(clients):
            group.create_task(work(client, at * 6))
    for client in clients:
        await client.ok("CHECK")
    views = [await client.ok("UID FETCH 1:* (FLAGS)") for client in clients]
    plain = [[line.replace(b" \\Recent", b"").replace(b"\\Recent", b"") for line in view] for view in views]
    assert plain[0] and plain.count(plain[0]) == 4


async def purge_everything(live: CoreProcess) -> None:
    """By another session of alice, delete all of the Archive permanently and purge all recoverable messages."""
    link = await live.link("imap")
    try:
        client = session_pb2.ClientContext(client_address="127.0.0.1", listener="imap", loopback=True)
        proof = f"\0{NAME}\0{PASSWORD}".encode()
        login = session_pb2.AuthenticateRequest(
            mechanism="PLAIN", response=proof, scope=session_pb2.SCOPE_IMAP, client=client
        )
        token = (await link.execute(methods.AUTHENTICATE, login)).session.session_token
        archive = await link.execute(methods.GET_FOLDER, folder_pb2.GetFolderRequest(path=["Archive"]), session=token)
        everything = MessageSet(
            uids=UidSet(folder_id=archive.folder.folder_id, ranges=[IdRange(first=1, last=1 << 31)])
        )
        delete = message_pb2.DeleteMessagesRequest(messages=everything, mode=message_pb2.DELETE_MODE_HARD)
        await link.execute(methods.DELETE_MESSAGES, delete, session=token)
        lost = message_pb2.ListRecoverableMessagesRequest()
        page = await link.execute(methods.LIST_RECOVERABLE_MESSAGES, lost, session=token)
        purge = message_pb2.PurgeRecoverableMessagesRequest(message_ids=[each.message_id for each in page.messages])
        assert (await link.execute(methods.PURGE_RECOVERABLE_MESSAGES, purge, session=token)).purged_count == 1
    finally:
        await link.close()


async def test_what_the_other_gateway_removed_is_read_through_move_purge_and_restart(
    live: CoreProcess, stage: Stage, other: Stage
) -> None:  # RFC 2180 4.1.2
    here = await Client.open(stage, "INBOX")
    for number in (1, 2, 3):
        await append(here, number)
    await here.ok("STORE 2 +FLAGS (\\Flagged)")
    there = await Client.open(other, "INBOX")
    await here.ok("STORE 2 +FLAGS.SILENT (\\Deleted)")
    await here.ok("EXPUNGE")
    await here.ok("MOVE 1 Archive")
    await purge_everything(live)
    live.restart()
    text = b"\r\n".join(await there.ok("FETCH 1:3 (UID FLAGS ENVELOPE BODY.PEEK[])"))
    for number in (1, 2, 3):
        assert b"UID %d" % number in text and b'"Number %d"' % number in text and message(number) in text + b"\r\n"
    # A line without an envelope is the announcement of \\Deleted, which may come before the removal or be passed over.
    (kept,) = (line for line in text.split(b"\r\n") if line.startswith(b"* 2 FETCH") and b"ENVELOPE" in line)
    assert b"\\Flagged" in kept
    told = await there.ok("STORE 1:3 +FLAGS (\\Answered)")
    assert [line.split(b" (")[0] for line in told[-3:]] == [b"* %d FETCH" % number for number in (1, 2, 3)]
    assert b"\\Answered" in told[-1] and not any(b"\\Answered" in line for line in told[:-1])
    assert (await there.status("COPY 1:3 Trash")).startswith(b"NO [EXPUNGEISSUED]")
    assert await there.ok("UID SEARCH ALL") == [b"* SEARCH 3"]


async def test_a_new_password_ends_the_reading_of_what_was_removed(
    live: CoreProcess, stage: Stage, other: Stage
) -> None:
    here, there = await Client.open(stage, "INBOX"), await Client.open(other)
    await append(here, 1)
    await there.ok("SELECT INBOX")
    await here.ok("MOVE 1 Archive")
    assert b"This is message 1." in await there.ok("FETCH 1 (BODY.PEEK[TEXT])")
    admin = await live.link("admin")
    await admin.execute(methods.SET_PASSWORD, SetPasswordRequest(address=NAME, password=f"new {secrets.token_hex(8)}"))
    await admin.close()
    there.writer.write(b"x FETCH 1 (BODY.PEEK[TEXT])\r\n")
    answer = await there.line()
    assert answer.startswith((b"* BYE", b"x NO")), answer


async def test_a_new_password_ends_sessions_within_seconds(live: CoreProcess, stage: Stage) -> None:
    client = await idling(stage)
    admin = await live.link("admin")
    request = SetPasswordRequest(address=NAME, password=f"new {secrets.token_hex(8)}")
    await admin.execute(methods.SET_PASSWORD, request)
    await admin.close()
    assert (await client.line()).startswith(b"* BYE")
    assert await client.line() == b""


async def test_a_core_that_restarts_is_found_again(live: CoreProcess, stage: Stage) -> None:
    busy, idle = await Client.open(stage, "INBOX"), await idling(stage)
    await append(busy, 1)
    await told(idle, b" RECENT")
    live.restart()
    await append(busy, 2)
    assert b"* 2 EXISTS" in await told(idle, b" RECENT")
    assert len(await busy.ok("UID SEARCH SUBJECT Number")) == 1
    await busy.ok("STORE 1:2 +FLAGS (\\Seen)")
    assert (await told(idle, b"))"))[-1].startswith(b"* ")
