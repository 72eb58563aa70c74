"""Facts of sessions outside transcripts: calls to the core, streams, faults, ends."""

from __future__ import annotations

import asyncio
import re

import pytest

from restante import errors
from restante.v1 import sync_pb2
from restante.v1.message_pb2 import AppendMessageResponse, DeleteMode
from restante_gateways.imap.folders.settings import FolderSettings
from restante_gateways.net.authentication import AuthenticationPolicy
from tests.gateways.imap.conftest import Running
from tests.gateways.imap.stage import Client, message
from tests.harness.faulty_link import until


async def deliver(running: Running, count: int) -> None:
    """Deliver messages that are not \\Recent any more."""
    for number in range(1, count + 1):
        await running.core.deliver("alice", message(number))
    await running.core.claim_recent("alice")


async def heard(running: Running, stored: AppendMessageResponse) -> None:
    """Wait for the notice of an added message."""
    await running.link.watch.hear(stored.commit.change_number)


async def read(running: Running, message_id: int) -> bytes:
    """The octets of a message."""
    return await (await running.core.user("alice")).contents.read(message_id)


# --- costs of commands ---


async def test_commands_cost_the_calls_they_need(running: Running) -> None:  # docs/design.md "RPC budget"
    await deliver(running, 5)
    client = await Client.open(running, "INBOX")
    running.link.calls_since()
    for command in (
        "FETCH 1:* (FLAGS UID)",
        "UID FETCH 1:* FLAGS",
        "SEARCH UNSEEN",
        "NOOP",
        "UID SEARCH UID 2:3",
        "EXPUNGE",
    ):
        await client.ok(command)
        assert running.link.calls_since() == ["GetChangeNumbers"], command
    for command, calls in [
        ("FETCH 1:5 ENVELOPE", ["BatchGetMessages"]),
        ("FETCH 1 BODY.PEEK[]", ["BatchGetMessages"]),
        ("FETCH 1 BODY[]", ["UpdateMessages", "BatchGetMessages"]),
        ("FETCH 1 BODY[]", ["BatchGetMessages"]),
        ("FETCH 1:5 BODY.PEEK[]", ["StreamMessages", "GetChangeNumbers"]),
        ("FETCH 1:5 BODY.PEEK[HEADER]", ["BatchGetMessages"]),
        ("FETCH 1:5 (BODY.PEEK[HEADER.FIELDS (TO)] BODY.PEEK[]<0.100>)", ["BatchGetMessages"]),
        ("STORE 2 +FLAGS (\\Deleted)", ["UpdateMessages"]),
        ("EXPUNGE", ["DeleteMessages"]),
        ("COPY 1 Archive", ["CopyMessages"]),
        ("STATUS INBOX (MESSAGES)", ["GetChangeNumbers"]),
        ("STATUS Archive (MESSAGES)", ["GetFolder"]),
        ("SEARCH SUBJECT x", ["SearchMessages"]),
    ]:
        await client.ok(command)
        assert running.link.calls_since() == calls, command


async def test_a_folder_that_is_known_is_not_read_again(running: Running) -> None:
    await deliver(running, 5)
    first = await Client.open(running, "INBOX")
    assert "OpenFolder" in running.link.calls_since()
    await Client.open(running, "INBOX")
    assert running.link.calls_since().count("OpenFolder") == 0
    for _ in range(2):
        await first.ok("SELECT INBOX")
        assert running.link.calls_since() == ["GetChangeNumbers"]
        await first.ok("EXAMINE Archive")
        assert running.link.calls_since()[0] in ("GetFolder", "GetChangeNumbers")
    await first.ok("STATUS INBOX (MESSAGES RECENT UNSEEN)")
    assert running.link.calls_since() == ["GetChangeNumbers"], "one question about both folders"


async def test_a_folder_stays_watched_for_a_while(running: Running) -> None:
    await deliver(running, 3)
    client = await Client.open(running, "INBOX")
    await client.ok("UNSELECT")
    await heard(running, await running.core.deliver("alice", message(4)))
    running.link.calls_since()
    assert b"* 4 EXISTS" in await client.ok("SELECT INBOX")
    assert running.link.calls_since() == ["GetFolder"]
    assert len(running.link.watch.subscriptions) == 1


@pytest.mark.parametrize("folders", [FolderSettings(linger_seconds=0.01)])
async def test_a_view_that_nobody_has_open_is_kept_and_brought_up_to_date(running: Running) -> None:
    await deliver(running, 3)
    client = await Client.open(running, "INBOX")
    await client.ok("UNSELECT")
    await until(lambda: not running.link.watch.subscriptions)
    await running.core.deliver("alice", message(4))
    running.link.calls_since()
    lines = await client.ok("SELECT INBOX")
    assert b"* 4 EXISTS" in lines and b"* 1 RECENT" in lines
    assert running.link.calls_since() == ["GetFolder", "ReadFolderChanges"]


@pytest.mark.parametrize("folders", [FolderSettings(linger_seconds=0.01)])
async def test_sessions_on_one_folder_share_one_watch(running: Running) -> None:
    await deliver(running, 1)
    clients = [await Client.open(running, "INBOX") for _ in range(4)]
    assert len(running.link.watch.subscriptions) == 1
    for client in clients:
        client.writer.close()
    await until(lambda: not running.link.watch.subscriptions)


@pytest.mark.parametrize("folders", [FolderSettings(claim_after_seconds=0.05)])
async def test_recent_messages_are_reported_to_one_session_and_claimed_for_it(running: Running) -> None:
    claim = running.link.hold("ClaimRecent")  # RFC 3501 2.3.2
    await running.core.deliver("alice", message(1))
    clients = [await Client.open(running, "INBOX") for _ in range(3)]
    assert [b"\\Recent" in (await client.ok("FETCH 1 FLAGS"))[0] for client in clients] == [True, False, False]
    async with asyncio.timeout(5):
        await claim.begun.wait()
    assert (await running.core.folder("alice")).recent_uid == 1
    claim.release()
    await claimed(running, 2)
    await heard(running, await running.core.deliver("alice", message(2)))
    assert b"* 1 RECENT" in await clients[1].ok("NOOP")
    for client in clients:
        await client.ok("UNSELECT")
    await claimed(running, 3)
    assert running.link.calls.count("ClaimRecent") == 2


async def claimed(running: Running, recent_uid: int) -> None:
    """Wait until the Inbox's messages below a UID are claimed as recent."""
    async with asyncio.timeout(5):
        while (await running.core.folder("alice")).recent_uid != recent_uid:
            await asyncio.sleep(0.01)


# --- much, in little memory ---


async def test_a_stream_of_many_and_large_messages_arrives_whole(running: Running) -> None:
    contents = [message(n) + b"x" * 70 * n + b"\r\n" for n in range(1, 31)]
    contents[7] += b"large\r\n" * 20_000
    for content in contents:
        await running.core.deliver("alice", content)
    client = await Client.open(running, "INBOX")
    client.writer.write(b"a FETCH 1:* (UID BODY.PEEK[] BODY.PEEK[HEADER] BODY.PEEK[TEXT])\r\n")
    for number, content in enumerate(contents, start=1):
        header, text = content.split(b"\r\n\r\n", 1)
        header += b"\r\n\r\n"
        expected = b"* %d FETCH (UID %d BODY[] {%d}\r\n%b BODY[HEADER] {%d}\r\n%b BODY[TEXT] {%d}\r\n%b)\r\n" % (
            number, number, len(content), content, len(header), header, len(text), text,
        )  # fmt: skip
        async with asyncio.timeout(5):
            assert await client.reader.readexactly(len(expected)) == expected
    assert (await client.line()).startswith(b"a OK")


@pytest.mark.parametrize("size", [2, 5_000, 512 << 10, (512 << 10) + 1, 600_000])
async def test_messages_of_any_size_are_appended_octet_for_octet(running: Running, size: int) -> None:  # RFC 3501 4.3
    content = (b"0123456789abcdef\r\n" * (size // 18 + 1))[: size - 2] + b"\r\n"
    client = await Client.open(running, "INBOX")
    client.writer.write(b"a APPEND INBOX {%d+}\r\n" % len(content))
    for start in range(0, len(content), 50_000):
        client.writer.write(content[start : start + 50_000])
        await client.writer.drain()
    client.writer.write(b"\r\n")
    while not (line := await client.line()).startswith(b"a "):
        pass
    assert line.startswith(b"a OK [APPENDUID")
    (stored,) = await running.core.inbox("alice")
    assert await read(running, stored.message_id) == content
    assert ("UploadContent" in running.link.calls) == (size > 512 << 10)


async def test_an_empty_message_is_refused(running: Running) -> None:
    client = await Client.open(running, "INBOX")
    assert await client.status(b"APPEND INBOX {0+}\r\n") == b"NO [CANNOT] The message is empty."
    assert not await running.core.inbox("alice")


async def test_an_upload_that_fails_does_not_lose_the_place(running: Running) -> None:
    client = await Client.open(running, "INBOX")
    content = b"a\0b" + b"x" * 590_000
    client.writer.write(b"a APPEND INBOX {%d+}\r\n%b\r\n" % (len(content), content))
    assert (await client.line()).startswith(b"a NO [CANNOT]")
    assert await client.ok("NOOP") == []


async def test_a_client_that_leaves_amid_a_message_adds_nothing(running: Running) -> None:
    for size in (1000, 590_000):
        client = await Client.open(running, "INBOX")
        client.writer.write(b"a APPEND INBOX {%d+}\r\n" % size + b"x" * 900)
        await client.writer.drain()
        client.writer.close()
    await until(lambda: running.open_connections() == 0)
    assert not await running.core.inbox("alice")


async def test_a_client_that_stops_reading_holds_only_a_little(running: Running) -> None:
    await running.core.deliver("alice", message(1) + b"large\r\n" * 70_000)
    client = await Client.open(running, "INBOX")
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    client.writer.write(b"".join(b"a%d FETCH 1 BODY.PEEK[]\r\n" % n for n in range(40)))
    await asyncio.sleep(0.3)
    served = running.link.calls.count("BatchGetMessages")
    assert served < 40
    other = await Client.open(running, "INBOX")  # other sessions do not wait
    assert await other.ok("NOOP") == []


def large(number: int) -> bytes:
    return message(number) + b"large\r\n" * 60_000  # more than one response of the stream holds


async def test_a_fetch_goes_on_behind_the_last_octet_when_its_stream_breaks(running: Running) -> None:
    for number in range(1, 4):
        await running.core.deliver("alice", large(number))
    client = await Client.open(running, "INBOX")
    running.link.break_streams_after(1)  # amid a literal
    client.writer.write(b"a FETCH 1:* BODY.PEEK[]\r\nb LOGOUT\r\n")
    async with asyncio.timeout(20):
        heard = await client.reader.read()
    assert running.link.calls.count("StreamMessages") > 3
    at = 0
    for number in range(1, 4):
        at = heard.index(b"* %d FETCH (BODY[] {%d}\r\n" % (number, len(large(number))) + large(number) + b")\r\n", at)
    assert b"\r\na OK" in heard[at:]


@pytest.mark.parametrize("stream_patience_seconds", [0.3])
async def test_a_message_that_breaks_off_for_good_ends_the_connection(running: Running) -> None:
    for number in range(1, 4):
        await running.core.deliver("alice", large(number))
    client = await Client.open(running, "INBOX")
    running.link.break_streams_after(1, then=errors.Draining())
    client.writer.write(b"a FETCH 1:* BODY.PEEK[]\r\n")
    async with asyncio.timeout(5):
        heard = await client.reader.read()
    assert heard.startswith(b"* 1 FETCH") and b"a NO" not in heard
    other = await Client.open(running, "INBOX")
    assert (await other.status("FETCH 1:* BODY.PEEK[]")).startswith(b"NO [UNAVAILABLE]")


# --- searches that take long, or find much ---


async def test_more_matches_than_an_answer_of_the_core_holds_are_found_in_pieces(running: Running) -> None:
    await deliver(running, 12)
    client = await Client.open(running, "INBOX")
    for command, found in [("SEARCH SUBJECT 1", b"* SEARCH 1 10 11 12"), ("SEARCH 2:11 SUBJECT 1", b"* SEARCH 10 11")]:
        running.link.refuse(errors.ResultTooLarge(rpc="MessageService/SearchMessages"), "SearchMessages", times=1)
        running.link.calls_since()
        assert (await client.ok(command))[0] == found
        assert running.link.calls_since() == ["SearchMessages"] * 2


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_search_is_given_up_when_its_client_leaves(running: Running, how: str) -> None:
    await deliver(running, 2)
    searches = running.link.hold("SearchMessages")
    client = await Client.open(running, "INBOX")
    client.writer.write(b'a SEARCH TEXT "message"\r\n')
    async with asyncio.timeout(5):
        await searches.begun.wait()
    client.writer.close() if how == "close" else client.writer.transport.abort()
    async with asyncio.timeout(1):
        await searches.cancelled.wait()


async def test_a_search_is_given_up_when_its_session_is_over(running: Running) -> None:
    await deliver(running, 2)
    searches = running.link.hold("SearchMessages")
    client = await Client.open(running, "INBOX")
    client.writer.write(b'a SEARCH TEXT "message"\r\n')
    async with asyncio.timeout(5):
        await searches.begun.wait()
    await running.core.end_sessions("alice")
    assert (await client.line()).startswith(b"a NO [EXPIRED]")
    assert searches.cancelled.is_set()
    assert (await client.line()).startswith(b"* BYE")


async def test_a_client_that_only_sends_no_more_is_answered_however_long_its_search_takes(running: Running) -> None:
    await deliver(running, 2)
    searches = running.link.hold("SearchMessages")
    client = await Client.open(running, "INBOX")
    client.writer.write(b'a SEARCH TEXT "message"\r\n')
    client.writer.write_eof()
    await asyncio.sleep(1.0)
    assert not searches.cancelled.is_set()
    searches.release()
    lines = []
    while line := await client.line():
        lines.append(line)
    signs = lines.count(b"* OK The search continues.")
    assert 1 <= signs <= 5 and lines[signs:] == [b"* SEARCH 1 2", b"a OK SEARCH completed."]


@pytest.mark.parametrize("reason", [errors.DeadlineExceeded, errors.TooManyOperations])
async def test_a_search_that_cannot_be_finished_says_so(running: Running, reason: type[errors.RestanteError]) -> None:
    await deliver(running, 2)
    client = await Client.open(running, "INBOX")
    running.link.refuse(reason(), "SearchMessages")
    status = await client.status('SEARCH TEXT "message"')
    assert status.startswith(b"NO [LIMIT] ") and b"search" in status


# --- two sessions with changes of the same message ---


async def test_another_change_within_a_silent_store_is_reported(running: Running) -> None:  # RFC 3501 6.4.6
    await deliver(running, 2)
    client = await Client.open(running, "INBOX")
    user, (first, _) = await running.core.user("alice"), await running.core.inbox("alice")

    async def meanwhile() -> None:  # neither in a notice of the watch nor known before the STORE's answer
        await user.messages.set_flags(first.message_id, ["flagged"])

    running.link.watch.lossy = True
    running.link.before("UpdateMessages", meanwhile)
    assert await client.ok("STORE 1:2 +FLAGS.SILENT (\\Seen)") == [b"* 1 FETCH (FLAGS (\\Flagged \\Seen))"]


@pytest.mark.parametrize("items", ["(FLAGS BODY.PEEK[])", "BODY[]"])
async def test_no_keyword_is_in_a_fetch_before_it_was_announced(running: Running, items: str) -> None:
    for number in range(1, 41):  # RFC 3501 7.2.6
        await running.core.deliver("alice", message(number % 28 + 1) + (b"large " * 2_000 + b"\r\n") * 10)
    reading, storing = await Client.open(running, "INBOX"), await Client.open(running, "INBOX")
    reading.writer.transport.pause_reading()  # type: ignore[attr-defined]  # so that the answer takes its time
    for number in range(4):
        reading.writer.write(b"a%d FETCH 1:* %b\r\n" % (number, items.encode()))
    for number in range(40, 0, -1):
        await storing.ok(f"STORE {number} +FLAGS.SILENT (work-{number})")
    reading.writer.transport.resume_reading()  # type: ignore[attr-defined]
    announced, permanent, used = set[bytes](), set[bytes](), set[bytes]()
    while not (line := await reading.line()).startswith(b"a3 "):
        names = set(re.findall(rb"work-\d+", line))
        if line.startswith(b"* FLAGS"):
            announced = names
        elif line.startswith(b"* OK [PERMANENTFLAGS"):
            permanent = names
        else:
            used |= names
            assert names <= announced and names <= permanent, line
    assert line.startswith(b"a3 OK") and len(used) == 40


async def test_flags_in_a_fetch_are_those_of_the_store_just_before(running: Running) -> None:
    running.link.watch.lossy = True
    await deliver(running, 2)
    client = await Client.open(running, "INBOX")
    await client.ok("STORE 1 +FLAGS.SILENT (\\Seen)")
    assert await client.ok("FETCH 1 FLAGS") == [b"* 1 FETCH (FLAGS (\\Seen))"]
    await client.ok("FETCH 2 BODY[TEXT]")
    assert await client.ok("FETCH 2 FLAGS") == [b"* 2 FETCH (FLAGS (\\Seen))"]


async def removed_unheard(running: Running) -> tuple[Client, Client]:
    """Two clients; the first has removed message 2 of 3, and the gateway's view has no notice of it."""
    stored = [
        await running.core.deliver("alice", message(number), flags=["deleted" if number == 2 else "seen"])
        for number in (1, 2, 3)
    ]
    await running.core.claim_recent("alice")
    here, there = await Client.open(running, "INBOX"), await Client.open(running, "INBOX")
    running.link.watch.lossy = True
    user = await running.core.user("alice")
    await user.messages.delete(stored[1].message_id, DeleteMode.DELETE_MODE_HARD)
    return here, there


async def test_what_left_unheard_is_read_by_its_id(running: Running) -> None:  # RFC 2180 4.1.2
    client, other = await removed_unheard(running)
    running.link.calls.clear()
    text = b"\r\n".join(await client.ok("FETCH 1:3 (FLAGS BODY.PEEK[TEXT])"))
    assert [line for line in text.split(b"\r\n") if line.startswith(b"* ")] == [
        b"* 1 FETCH (FLAGS (\\Seen) BODY[TEXT] {20}",
        b"* 3 FETCH (FLAGS (\\Seen) BODY[TEXT] {20}",
        b"* 2 FETCH (FLAGS (\\Deleted) BODY[TEXT] {20}",
    ]
    assert text.count(b"This is message") == 3
    assert running.link.calls == ["BatchGetMessages", "BatchGetMessages", "ReadFolderChanges"]
    told = await other.ok("STORE 1:3 +FLAGS (\\Flagged)")
    assert [line.split(b" (")[0] for line in told] == [b"* 1 FETCH", b"* 2 FETCH", b"* 3 FETCH"]
    assert b"This is message 2." in await other.ok("UID FETCH 2 (BODY[TEXT])")  # and it cannot be marked any more


@pytest.mark.parametrize("command", ["COPY", "MOVE"])
async def test_what_left_unheard_keeps_its_neighbours_from_being_copied(running: Running, command: str) -> None:
    client, _ = await removed_unheard(running)
    assert (await client.status(f"{command} 1:3 Archive")).startswith(b"NO [EXPUNGEISSUED]")
    assert (await running.core.folder("alice", "Archive")).message_count == 0
    assert (await client.status(f"UID {command} 1:3 Archive")).startswith(b"OK")
    assert (await running.core.folder("alice", "Archive")).message_count == 2


async def test_what_can_be_read_no_more_ends_the_session(running: Running) -> None:
    client, other = await removed_unheard(running)
    await running.core.end_reading_leases()
    assert b"* 2 FETCH (FLAGS (\\Deleted))" in await other.ok("FETCH 1:3 (FLAGS)")  # the view has this change
    client.writer.write(b"x FETCH 1:3 (BODY.PEEK[TEXT])\r\n")
    while (line := await client.line()).startswith((b"* 1 FETCH", b"* 3 FETCH", b"This", b")")):
        pass
    assert line.startswith(b"* BYE"), line
    assert await client.line() == b""


async def test_many_large_messages_that_were_removed_arrive_whole(running: Running) -> None:
    octets = [
        b"Subject: %d\r\n\r\n" % size + b"x" * 70 + b"\r\n" + b"y\r\n" * size for size in (2_000, 10, 1_000, 30_000)
    ]
    for content in octets:
        await running.core.deliver("alice", content)
    here, there = await Client.open(running, "INBOX"), await Client.open(running, "INBOX")
    await here.ok("STORE 1:* +FLAGS.SILENT (\\Deleted)")
    await here.ok("EXPUNGE")
    text = b"\r\n".join(await there.ok("FETCH 1:4 (BODY[])"))
    for number, content in enumerate(octets, start=1):
        assert b"* %d FETCH (BODY[] {%d}\r\n%b" % (number, len(content), content) in text + b"\r\n"


async def test_a_gap_in_the_notices_of_the_watch_is_filled(running: Running) -> None:
    await deliver(running, 2)
    client = await Client.open(running, "INBOX")
    running.link.watch.lossy = True
    await heard(running, await running.core.deliver("alice", message(3)))
    running.link.watch.lossy = False
    await heard(running, await running.core.deliver("alice", message(4)))
    assert await client.ok("NOOP") == [b"* 4 EXISTS", b"* 2 RECENT"]


@pytest.mark.parametrize("folders", [FolderSettings(retry_seconds=0.02)])
async def test_a_gap_is_filled_though_the_core_is_away_at_first(running: Running) -> None:
    await deliver(running, 2)
    client = await Client.open(running, "INBOX")
    client.writer.write(b"i IDLE\r\n")
    assert (await client.line()).startswith(b"+")
    running.link.watch.lossy = True
    await heard(running, await running.core.deliver("alice", message(3)))
    running.link.watch.lossy = False
    running.link.calls_since()
    running.link.refuse(errors.StoreBusy(), times=2)
    await running.core.deliver("alice", message(4))  # no notice follows this one
    assert await client.line() == b"* 4 EXISTS"
    assert running.link.calls == ["ReadFolderChanges"] * 3


@pytest.mark.parametrize("reason", [sync_pb2.RESET_REASON_TOO_SLOW, sync_pb2.RESET_REASON_HISTORY_GONE])
async def test_a_watch_that_was_reset_is_begun_again(running: Running, reason: sync_pb2.ResetReason.ValueType) -> None:
    await deliver(running, 1)
    client = await Client.open(running, "INBOX")
    (before,) = running.link.watch.subscriptions
    running.link.watch.lossy = True
    stored = await running.core.deliver("alice", message(2))
    await heard(running, stored)
    running.link.watch.lossy = False
    running.link.watch.reset(reason)
    await until(lambda: [each.since for each in running.link.watch.subscriptions] == [stored.commit.change_number])
    assert running.link.watch.subscriptions != (before,)
    assert await client.ok("NOOP") == [b"* 2 EXISTS", b"* 1 RECENT"]


async def test_a_restored_store_ends_sessions_and_serves_new_ones(running: Running) -> None:  # docs/design.md "Epoch"
    await deliver(running, 2)
    client = await Client.open(running, "INBOX")
    await running.core.restart_restored()
    assert (await client.line()).startswith(b"* BYE")
    again = await Client.open(running, "INBOX")
    assert len(await again.ok("FETCH 1:* FLAGS")) == 2
    await until(lambda: running.link.watch.connected)
    assert await again.ok("NOOP") == []


# --- bad days ---


async def test_a_core_that_is_away_is_a_temporary_error(running: Running) -> None:
    await deliver(running, 1)
    client = await Client.open(running, "INBOX")
    running.link.refuse(errors.Draining())
    for command in ("STATUS Junk (MESSAGES)", "FETCH 1 BODY.PEEK[]", "STORE 1 +FLAGS (\\Seen)", "SELECT Junk"):
        assert (await client.status(command)).startswith(b"NO [UNAVAILABLE]"), command
    assert (await client.status(b"APPEND INBOX {4+}\r\nhi\r\n")).startswith(b"NO [UNAVAILABLE]")
    running.link.heal()
    assert b"* 1 EXISTS" in await client.ok("SELECT INBOX")


async def test_a_full_mailbox_says_so(running: Running) -> None:  # RFC 9208 4.3.1
    await running.core.set_quota("alice", 2048)
    client = await Client.open(running)
    assert (await client.status(b"APPEND INBOX {3000+}\r\n" + b"x" * 3000)).startswith(b"NO [OVERQUOTA]")
    assert await client.ok('GETQUOTA ""') == [b'* QUOTA "" (STORAGE 0 2)']


async def test_a_session_that_is_over_ends_its_idle(running: Running) -> None:  # docs/design.md "Session tokens"
    client = await Client.open(running, "INBOX")
    client.writer.write(b"a IDLE\r\n")
    assert (await client.line()).startswith(b"+")
    await running.core.end_sessions("alice")
    assert (await client.line()).startswith(b"* BYE")
    assert await client.line() == b""


async def test_a_revoked_token_ends_the_session(running: Running) -> None:
    client = await Client.open(running)
    running.link.refuse(errors.SessionRevoked())
    assert (await client.status("STATUS INBOX (MESSAGES)")).startswith(b"NO [EXPIRED]")
    assert (await client.line()).startswith(b"* BYE")


async def test_draining_says_goodbye_after_the_command_under_way(running: Running) -> None:
    idle, busy = await Client.open(running, "INBOX"), await Client.open(running, "INBOX")
    busy.writer.write(b"a APPEND INBOX {5+}\r\n12")
    await asyncio.sleep(0.05)
    draining = asyncio.ensure_future(running.runtime.drain())
    assert (await idle.line()).startswith(b"* BYE")
    busy.writer.write(b"345\r\n")
    while not (line := await busy.line()).startswith(b"a "):
        pass
    assert line.startswith(b"a OK [APPENDUID")
    assert (await busy.line()).startswith(b"* BYE")
    await draining


async def test_endless_nonsense_ends_the_connection(running: Running) -> None:
    client = await Client.open(running)
    client.writer.write(b"x\r\n" * 100)
    answers = 0
    while (line := await client.line()).startswith(b"* BAD"):
        answers += 1
    assert answers < 50 and line.startswith(b"* BYE")


async def test_an_endless_line_ends_the_connection(running: Running) -> None:
    client = await Client.open(running)
    try:
        for _ in range(2_000):
            client.writer.write(b"x" * 4_096)
            await client.writer.drain()
    except ConnectionError:
        pass
    assert (await client.line()).startswith(b"* BAD")


async def test_a_half_closed_connection_is_answered(running: Running) -> None:
    client = await Client.open(running)
    client.writer.write(b"a NOOP\r\n")
    client.writer.write_eof()
    assert (await client.line()).startswith(b"a OK")
    assert await client.line() == b""


@pytest.mark.parametrize("policy", [AuthenticationPolicy.REQUIRED])
async def test_without_tls_no_password_is_taken(running: Running) -> None:  # RFC 3501 6.2.3
    endpoint = running.endpoint()
    client = Client(*await asyncio.open_connection(endpoint.host, endpoint.port))
    greeting = await client.line()
    assert b" LOGINDISABLED" in greeting and b" STARTTLS" in greeting and b"AUTH=" not in greeting
    assert (await client.status("LOGIN alice@example.test alice-demo")).startswith(b"NO [PRIVACYREQUIRED]")
    assert (await client.status("AUTHENTICATE PLAIN")).startswith(b"NO [PRIVACYREQUIRED]")
    assert "Authenticate" not in running.link.calls


async def test_the_log_names_commands_and_never_what_was_said(running: Running) -> None:
    client = await Client.open(running, "INBOX")
    await client.run("LOGOUT")
    running.runtime.commands.flush()
    log = running.log.getvalue()
    assert b'"command":"LOGIN","outcome":"ok"' in log and b'"command":"LOGOUT"' in log
    assert b"alice-demo" not in log and b"INBOX" not in log


async def test_a_wrong_name_is_not_logged(running: Running) -> None:
    client = await Client.open(running)
    await client.run("LOGOUT")
    other = Client(*await asyncio.open_connection(running.endpoint().host, running.endpoint().port))
    await other.line()
    await other.status("LOGIN mallory@example.test x")
    running.runtime.commands.flush()
    assert b"mallory" not in running.log.getvalue()


async def test_what_is_octets_out_is_what_came_in(running: Running) -> None:  # RFC 3501 4.3
    hard = [
        b"Subject: \xff\xfe 8-bit\r\n\r\nbody\r\n",
        b"no header at all\r\n",
        b"\r\n",
        b"\r\nonly a body\r\n",
        b"X: " + b"y" * 100_000 + b"\r\n\r\n",
        b"".join(b"H%d: v\r\n" % n for n in range(3_000)) + b"\r\nend\r\n",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\nno boundary comes\r\n",
    ]
    client = await Client.open(running, "INBOX")
    for content in hard:
        await client.ok(b"APPEND INBOX {%d+}\r\n%b" % (len(content), content))
    for number, content in enumerate(hard, start=1):
        client.writer.write(b"a FETCH %d (BODY.PEEK[] ENVELOPE BODYSTRUCTURE)\r\n" % number)
        head = await client.line()
        while not head.endswith(b"BODY[] {%d}" % len(content)):
            literal = int(head.rpartition(b"{")[2].rstrip(b"}"))  # an envelope's 8-bit subject
            await client.reader.readexactly(literal)
            head = await client.line()
        assert await client.reader.readexactly(len(content)) == content
        assert await client.line() == b")"
        assert (await client.line()).startswith(b"a OK")
