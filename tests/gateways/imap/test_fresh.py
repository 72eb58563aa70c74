"""An acknowledged change shows in the next command that may report it, with or without a notice of the watch."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from restante import errors
from restante.client import Client as MailClient
from restante.v1.message_pb2 import AppendMessageResponse, DeleteMode
from tests.gateways.imap.conftest import Running
from tests.gateways.imap.stage import Client, message


class StaleGateway:
    """A client of a gateway that gets no notices of the watch, and the changes by other sessions."""

    def __init__(self, running: Running, client: Client, user: MailClient, stored: list[AppendMessageResponse]) -> None:
        self.running, self.client, self.user = running, client, user
        self.stored = stored  # messages 1 to 4

    async def deliver(self, number: int, folder: str = "Inbox") -> None:
        await self.running.core.deliver("alice", message(number), folder=folder)

    async def mark(self, number: int, flag: str) -> None:
        """Store a flag by another session."""
        await self.user.messages.set_flags(self.stored[number - 1].message_id, [flag])

    async def expunge(self, number: int) -> None:
        """Expunge a message by another session."""
        await self.user.messages.delete(self.stored[number - 1].message_id, DeleteMode.DELETE_MODE_HARD)

    def asked(self) -> list[str]:
        """The calls to the core since the last check."""
        return self.running.link.calls_since()


@pytest.fixture
async def stale(running: Running) -> AsyncIterator[StaleGateway]:
    stored = [await running.core.deliver("alice", message(number)) for number in range(1, 5)]
    client = await Client.open(running, "INBOX")
    running.link.watch.lossy = True
    made = StaleGateway(running, client, await running.core.user("alice"), stored)
    made.asked()
    yield made
    made.client.writer.close()


REPORTING = [
    "NOOP",
    "CHECK",
    "ID NIL",
    "ENABLE CONDSTORE",
    "FETCH 2 FLAGS",
    "FETCH 2 (UID)",
    "UID FETCH 1:* (FLAGS)",
    "FETCH 2 ENVELOPE",
    "FETCH 2 BODY.PEEK[]",
    "FETCH 1:4 BODY.PEEK[]",
    "FETCH 2 BODY[]",
    "FETCH 1:* (FLAGS) (CHANGEDSINCE 1)",
    "SEARCH ALL",
    "UID SEARCH SEEN",
    "SEARCH SUBJECT Number",
    "SEARCH RETURN (COUNT) UNSEEN BODY message",
    "STORE 2 +FLAGS (\\Answered)",
    "UID STORE 2 +FLAGS.SILENT (\\Answered)",
    "UID STORE 99 +FLAGS (\\Answered)",
    "COPY 2 Archive",
    "COPY 2 INBOX",
    "UID COPY 99 Archive",
    "MOVE 2 Archive",
    "APPEND INBOX {4+}\r\nhi\r\n",
    "APPEND Sent {4+}\r\nhi\r\n",
    "EXPUNGE",
    "UID EXPUNGE 1:4",
    "STATUS INBOX (MESSAGES)",
    "STATUS Sent (MESSAGES)",
    'LIST "" *',
    'LSUB "" *',
    "CREATE plans",
    "DELETE Junk",
    "SUBSCRIBE plans",
    "GETQUOTAROOT INBOX",
]


@pytest.mark.parametrize("command", REPORTING)
async def test_every_command_that_may_report_shows_acknowledged_changes(stale: StaleGateway, command: str) -> None:
    await stale.deliver(5)
    await stale.mark(4, "flagged")
    lines = await stale.client.ok(command)
    assert any(b"EXISTS" in line for line in lines), lines
    assert any(line.startswith(b"* 4 FETCH") or b"* 3 FETCH" in line for line in lines if b"\\Flagged" in line), lines


@pytest.mark.parametrize(
    "command", ["COPY 1 nowhere", "MOVE 1 nowhere", "FETCH 1 BODY[9]", "CREATE Inbox", "DELETE nowhere"]
)
async def test_also_a_command_that_the_core_refuses_does(stale: StaleGateway, command: str) -> None:
    await stale.deliver(5)
    *lines, _ = await stale.client.run(command)
    assert b"* 5 EXISTS" in lines


@pytest.mark.parametrize("command", [c for c in REPORTING if c.split()[0] not in ("FETCH", "STORE", "SEARCH")])
async def test_what_was_expunged_shows_where_numbers_may_shift(stale: StaleGateway, command: str) -> None:
    await stale.expunge(3)
    assert b"* 3 EXPUNGE" in await stale.client.ok(command)


@pytest.mark.parametrize("command", ["FETCH 1 FLAGS", "SEARCH ALL", "STORE 1 +FLAGS (\\Seen)"])
async def test_what_was_expunged_is_held_back_where_numbers_may_not_shift(stale: StaleGateway, command: str) -> None:
    await stale.expunge(3)
    assert not any(b"EXPUNGE" in line for line in await stale.client.ok(command))
    assert b"* 3 EXPUNGE" in await stale.client.ok("NOOP")


@pytest.mark.parametrize(
    ("command", "calls"),
    [
        ("NOOP", ["GetChangeNumbers"]),
        ("FETCH 1 FLAGS", ["GetChangeNumbers"]),
        ("FETCH 1 ENVELOPE", ["BatchGetMessages"]),
        ("STORE 1 +FLAGS (\\Seen)", ["UpdateMessages"]),
        ("APPEND INBOX {4+}\r\nhi\r\n", ["AppendMessage"]),
        ("APPEND Sent {4+}\r\nhi\r\n", ["GetFolder", "AppendMessage"]),
        ("SEARCH UNSEEN SUBJECT Number", ["SearchMessages"]),
    ],
)
async def test_where_nothing_has_changed_that_costs_no_second_operation(
    stale: StaleGateway, command: str, calls: list[str]
) -> None:
    for _ in range(2):
        await stale.client.ok(command)
        assert stale.asked() == calls or calls[0] == "GetFolder", "a name is looked for once"
        calls = calls[1:] if calls[0] == "GetFolder" else calls


async def test_ones_own_append_is_no_news(stale: StaleGateway) -> None:
    await stale.client.ok("APPEND INBOX {4+}\r\nhi\r\n")
    stale.asked()
    assert await stale.client.ok("NOOP") == []
    assert stale.asked() == ["GetChangeNumbers"]


async def test_an_append_behind_what_others_have_done_reads_that(stale: StaleGateway) -> None:
    await stale.mark(2, "flagged")
    lines = await stale.client.ok("APPEND INBOX {4+}\r\nhi\r\n")
    assert b"* 5 EXISTS" in lines and b"* 2 FETCH (FLAGS (\\Flagged \\Recent))" in lines
    assert stale.asked() == ["AppendMessage", "ReadFolderChanges"]


async def test_what_happens_in_another_folder_costs_nothing(stale: StaleGateway) -> None:
    await stale.deliver(7, "Archive")
    assert await stale.client.ok("NOOP") == []
    assert stale.asked() == ["GetChangeNumbers"]


@pytest.mark.parametrize("command", ["EXPUNGE", "UID EXPUNGE 2", "CLOSE"])
async def test_what_another_has_marked_deleted_is_removed(stale: StaleGateway, command: str) -> None:
    await stale.mark(2, "deleted")
    await stale.client.ok(command)
    with pytest.raises(errors.MessageNotFound):
        await stale.user.messages.get(stale.stored[1].message_id)


@pytest.mark.parametrize("command", ["SEARCH SEEN", "SEARCH SEEN SUBJECT Number", "SEARCH NOT UNSEEN BODY message"])
async def test_a_search_knows_the_flags_that_another_has_stored(stale: StaleGateway, command: str) -> None:
    await stale.mark(2, "seen")
    assert b"* SEARCH 2" in await stale.client.ok(command)


async def test_the_start_of_idle_shows_it_and_so_does_its_end(stale: StaleGateway) -> None:
    await stale.deliver(5)
    stale.client.writer.write(b"i IDLE\r\n")
    assert [(await stale.client.line())[:10] for _ in range(3)] == [b"+ idling", b"* 5 EXISTS", b"* 5 RECENT"]
    await stale.deliver(6)
    stale.client.writer.write(b"DONE\r\n")
    assert [await stale.client.line() for _ in range(3)] == [b"* 6 EXISTS", b"* 6 RECENT", b"i OK IDLE completed."]


@pytest.mark.parametrize("command", ["SELECT", "EXAMINE"])
async def test_a_folder_that_is_open_already_is_opened_as_it_is_now(stale: StaleGateway, command: str) -> None:
    other = await Client.open(stale.running, "INBOX")
    await stale.deliver(5)
    await stale.expunge(1)
    assert b"* 4 EXISTS" in await other.ok(f"{command} INBOX")
    assert {b"* 1 EXPUNGE", b"* 4 EXISTS"} <= set(await stale.client.ok("NOOP"))
    other.writer.close()


async def test_the_status_of_any_folder_is_as_of_now(stale: StaleGateway) -> None:
    await stale.deliver(5)
    await stale.deliver(6, "Archive")
    assert b"* STATUS INBOX (MESSAGES 5)" in await stale.client.ok("STATUS INBOX (MESSAGES)")
    assert b"* STATUS Archive (MESSAGES 1)" in await stale.client.ok("STATUS Archive (MESSAGES)")


async def test_a_core_that_is_away_fails_what_would_be_guessed_and_noop_never(stale: StaleGateway) -> None:
    await stale.deliver(5)
    stale.running.link.refuse(errors.StoreBusy())
    assert await stale.client.ok("NOOP") == []  # RFC 9051 6.1.2: it always succeeds
    assert await stale.client.ok("CHECK") == []
    for command in ("FETCH 1 FLAGS", "SEARCH ALL", "STORE 1 +FLAGS (\\Seen)", "EXPUNGE", "FETCH 1 ENVELOPE"):
        assert (await stale.client.status(command)).startswith(b"NO [UNAVAILABLE]"), command
    stale.client.writer.write(b"i IDLE\r\n")
    assert (await stale.client.line()).startswith(b"+")
    stale.client.writer.write(b"DONE\r\n")
    assert await stale.client.line() == b"i OK IDLE completed."
    stale.running.link.heal()
    assert b"* 5 EXISTS" in await stale.client.ok("NOOP")


async def test_a_command_that_failed_for_want_of_the_core_does_not_ask_again(stale: StaleGateway) -> None:
    stale.running.link.refuse(errors.StoreBusy())
    await stale.client.run("FETCH 1 ENVELOPE")
    assert stale.asked() == ["BatchGetMessages"]


async def test_a_folder_that_was_deleted_elsewhere_ends_the_session(stale: StaleGateway) -> None:
    await stale.user.folders.create("plans")
    client = await Client.open(stale.running, "plans")
    await stale.user.folders.delete("plans")
    *_, last = [line async for line in _until_closed(client, b"a NOOP\r\n")]
    assert last == b"* BYE The folder was deleted."


async def test_a_store_that_was_restored_ends_the_session(stale: StaleGateway) -> None:
    await stale.running.core.restart_restored()
    *_, last = [line async for line in _until_closed(stale.client, b"a NOOP\r\n")]
    assert last == b"* BYE The store was restored; please log in again."


async def test_a_session_that_is_over_learns_it_by_noop(stale: StaleGateway) -> None:
    await stale.running.core.end_sessions("alice")
    *_, last = [line async for line in _until_closed(stale.client, b"a NOOP\r\n")]
    assert last.startswith(b"* BYE The login session has ended")


async def _until_closed(client: Client, octets: bytes) -> Any:
    client.writer.write(octets)
    while line := await client.line():
        yield line


# --- folders that are opened and described from their views ---


@pytest.mark.parametrize("command", ["SELECT", "EXAMINE"])
async def test_a_folder_renamed_elsewhere_is_no_longer_found_under_its_name(stale: StaleGateway, command: str) -> None:
    plans = await stale.user.folders.create("plans")
    client = await Client.open(stale.running, "plans")
    await client.ok("SELECT INBOX")
    await stale.user.folders.move(plans.folder_id, "schemes")
    assert (await client.status(f"{command} plans")).startswith(b"NO [NONEXISTENT]")
    assert (await client.status("STATUS plans (MESSAGES)")).startswith(b"NO [NONEXISTENT]")
    await client.ok(f"{command} schemes")
    client.writer.close()


async def test_a_folder_that_took_a_name_over_is_opened_under_it(stale: StaleGateway) -> None:
    plans = await stale.user.folders.create("plans")
    client = await Client.open(stale.running, "plans")
    await client.ok("SELECT INBOX")
    await stale.user.folders.move(plans.folder_id, "schemes")
    await stale.user.folders.create("plans")
    await stale.deliver(5, "plans")
    assert b"* STATUS plans (MESSAGES 1)" in await client.ok("STATUS plans (MESSAGES)")
    assert b"* 1 EXISTS" in await client.ok("SELECT plans")
    assert b"* 0 EXISTS" in await client.ok("SELECT schemes")
    client.writer.close()


async def test_a_deleted_folder_is_found_neither_by_select_nor_by_status(stale: StaleGateway) -> None:
    await stale.user.folders.create("plans")
    client = await Client.open(stale.running, "plans")
    await client.ok("SELECT INBOX")
    await stale.user.folders.delete("plans")
    assert (await client.status("STATUS plans (MESSAGES)")).startswith(b"NO [NONEXISTENT]")
    assert (await client.status("SELECT plans")).startswith(b"NO [NONEXISTENT]")
    client.writer.close()


async def test_a_folder_below_a_renamed_one_is_looked_up_each_time(stale: StaleGateway) -> None:
    await stale.user.folders.create("plans/old")
    client = await Client.open(stale.running, "plans/old")
    await client.ok("SELECT INBOX")
    await stale.user.folders.move("plans", "schemes")
    assert (await client.status("STATUS plans/old (MESSAGES)")).startswith(b"NO [NONEXISTENT]")
    assert (await client.status("SELECT plans/old")).startswith(b"NO [NONEXISTENT]")
    client.writer.close()


async def test_counts_from_a_view_are_as_of_now(stale: StaleGateway) -> None:
    items = "(MESSAGES UNSEEN UIDNEXT RECENT)"
    await stale.deliver(5)
    await stale.mark(2, "seen")
    await stale.expunge(3)
    for _ in range(2):  # from the core, then from the view
        lines = await stale.client.ok(f"STATUS INBOX {items}")
        assert any(line.startswith(b"* STATUS INBOX (MESSAGES 4 UNSEEN 3 UIDNEXT 6") for line in lines), lines
    assert stale.asked()[-1] == "GetChangeNumbers"


# --- messages fetched one after another ---


@pytest.mark.parametrize("uid", ["", "UID "])
async def test_messages_fetched_in_order_are_read_ahead(stale: StaleGateway, uid: str) -> None:
    for number in range(5, 13):
        await stale.deliver(number)
    await stale.client.ok("NOOP")
    stale.asked()
    for number in range(1, 13):
        lines = await stale.client.ok(f"{uid}FETCH {number} (FLAGS BODY.PEEK[])")
        assert b"This is message %d." % number in lines, lines
    calls = stale.asked()
    assert calls.count("BatchGetMessages") == 3 and len(calls) == 12, "one call a command"


async def test_a_message_read_ahead_is_answered_with_the_flags_of_now(stale: StaleGateway) -> None:
    for number in (1, 2):
        await stale.client.ok(f"FETCH {number} BODY.PEEK[]")  # reads 3 and 4, too
    await stale.mark(3, "flagged")
    await stale.expunge(4)
    stale.asked()
    lines = await stale.client.ok("FETCH 3 (BODY.PEEK[] FLAGS)")  # other items
    assert any(line.startswith(b"* 3 FETCH (FLAGS (\\Flagged") for line in lines), lines
    lines = await stale.client.ok("FETCH 4 (BODY.PEEK[] FLAGS)")
    assert b"This is message 4." in lines and b"EXPUNGE" not in b"".join(lines)
    assert b"* 4 EXPUNGE" in await stale.client.ok("NOOP")


async def test_a_message_read_ahead_becomes_seen_all_the_same(stale: StaleGateway) -> None:
    for number in (1, 2, 3, 4):
        lines = await stale.client.ok(f"FETCH {number} BODY[]")
        assert any(b"FLAGS (\\Seen" in line for line in lines), lines
    assert stale.asked().count("UpdateMessages") == 4
    assert b"* SEARCH 1 2 3 4" in await stale.client.ok("SEARCH SEEN")


async def test_commands_that_arrive_together_share_the_question_for_the_change_number(stale: StaleGateway) -> None:
    await stale.deliver(5)
    await stale.mark(4, "flagged")
    commands = ["NOOP", "FETCH 2 (FLAGS)", "SEARCH ALL", "FETCH 4 FLAGS"]
    stale.client.writer.write(b"".join(b"p%d %b\r\n" % (at, each.encode()) for at, each in enumerate(commands)))
    lines: list[bytes] = []
    while not lines or not lines[-1].startswith(b"p3 "):
        lines.append(await stale.client.line())
    assert b"* 5 EXISTS" in lines and b"* SEARCH 1 2 3 4 5" in lines
    assert stale.asked() == ["GetChangeNumbers", "ReadFolderChanges"]
    await stale.deliver(6)
    assert b"* 6 EXISTS" in await stale.client.ok("NOOP"), "a command that came later"
