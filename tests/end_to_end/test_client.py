"""The asynchronous and the blocking SDK with the running platform."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import pytest

from restante import errors, query
from restante.client import Client
from restante.drafts import OutgoingFile
from restante.sync_client import SyncClient
from restante.v1 import methods
from restante.v1.folder_pb2 import FolderRole, GetFolderRequest
from restante.v1.message_pb2 import DeleteMode, FlagOperation, Section, SectionKind
from tests.harness.demo import Demo

pytestmark = pytest.mark.end_to_end

MESSAGE = b"From: dan@example.org\r\nSubject: %s\r\nDate: Mon, 2 Mar 2026 10:00:00 +0100\r\n\r\nHello.\r\n"


def connected(demo: Demo, name: str = "alice", password: str | None = None) -> object:
    return Client.connect(
        f"localhost:{demo.port('api')}",
        user=demo.address(name),
        password=password or demo.password(name),
        root_certificates=demo.ca.read_bytes(),
    )


@pytest.fixture
async def alice(demo: Demo) -> AsyncIterator[Client]:
    async with connected(demo) as client:  # type: ignore[attr-defined]
        yield client


@pytest.fixture
async def folder(alice: Client) -> AsyncIterator[str]:
    """A folder for this test alone."""
    name = f"Test {secrets.token_hex(5)}"
    await alice.folders.create(name)
    yield name
    await alice.folders.delete(name)


async def test_a_wrong_password_is_its_own_error(demo: Demo) -> None:
    with pytest.raises(errors.AuthenticationFailed):
        async with connected(demo, "bob", "not bob's"):  # type: ignore[attr-defined]
            pass


async def test_one_reads_ones_own_writes(alice: Client, folder: str) -> None:
    for number in range(20):
        made = await alice.messages.append(folder, MESSAGE % b"%d" % number)
        assert (await alice.folders.get(folder)).message_count == number + 1
        assert (await alice.messages.get(made.message_id)).summary.subject == str(number)
    commit = alice.calls.min_commit()
    assert commit is not None
    assert commit.change_number >= 20


async def test_lists_go_on_over_pages(alice: Client, folder: str) -> None:
    for number in range(25):
        await alice.messages.append(folder, MESSAGE % b"%d" % number)
    found = [message async for message in alice.messages.query(folder, page_size=4)]
    assert len({message.message_id for message in found}) == 25
    unread = [
        message
        async for message in alice.messages.query(folder, query.all_of(query.unread(), query.text("subject", "7")))
    ]
    assert sorted(message.summary.subject for message in unread) == ["17", "7"]


async def test_a_message_keeps_what_it_was_given(alice: Client, folder: str) -> None:
    when = datetime(2020, 5, 4, 3, 2, 1, tzinfo=UTC)
    made = await alice.messages.append(
        folder, b"Subject: x\n\nbare\nlines", flags=["seen", "flagged"], keywords=["$Work"], received_at=when
    )
    assert made.line_ends_changed
    message = await alice.messages.get(made.message_id)
    assert message.flag_names == ("seen", "flagged", "$Work")
    assert message.received_at == when
    assert await alice.contents.read(made.message_id) == b"Subject: x\r\n\r\nbare\r\nlines"
    text = Section(kind=SectionKind.SECTION_KIND_TEXT, offset_octets=2, length_octets=4)
    assert await alice.contents.read(made.message_id, text) == b"re\r\n"


async def test_a_large_message_is_uploaded_and_read_by_stream(alice: Client, folder: str, tmp_path: Path) -> None:
    body = b"".join(os.urandom(30).hex().encode() + b"\r\n" for _ in range(30_000))
    file = tmp_path / "message.eml"
    file.write_bytes(MESSAGE % b"large" + body)
    seen: list[tuple[int, int]] = []
    made = await alice.messages.append(folder, file, on_progress=lambda done, total: seen.append((done, total)))
    assert made.size_octets == file.stat().st_size
    assert seen[-1] == (made.size_octets, made.size_octets)
    assert await alice.contents.read(made.message_id) == file.read_bytes()


async def test_flags_moves_copies_and_deletions(alice: Client, folder: str) -> None:
    ids = [(await alice.messages.append(folder, MESSAGE % b"%d" % number)).message_id for number in range(5)]
    assert await alice.messages.set_flags(ids, ["seen"]) == 5
    assert await alice.messages.set_flags(ids[:2], ["seen"], operation=FlagOperation.FLAG_OPERATION_REMOVE) == 2
    assert (await alice.folders.get(folder)).unread_count == 2
    other = await alice.folders.create(f"{folder}/below")
    assert other.path == [folder, "below"]
    assert await alice.messages.move(ids[0], other) == 1
    assert await alice.messages.copy(ids[1:3], other) == 2
    assert (await alice.messages.get(ids[0])).folder_id == other.folder_id
    assert await alice.messages.delete(ids[3:], DeleteMode.DELETE_MODE_SOFT) == 2
    deleted = [message.message_id async for message in alice.messages.recoverable()]
    assert set(ids[3:]) <= set(deleted)
    assert await alice.messages.recover(ids[3:4]) == ids[3:4]
    assert await alice.messages.purge(ids[4:]) == 1
    assert (await alice.messages.get(ids[3])).folder_id == (await alice.folders.get(folder)).folder_id
    await alice.messages.delete([ids[0]], DeleteMode.DELETE_MODE_HARD)
    with pytest.raises(errors.MessageNotFound):
        await alice.messages.get(ids[0])
    await alice.folders.delete(other)


async def test_every_rpc_is_in_reach(alice: Client) -> None:
    request = GetFolderRequest(role=FolderRole.FOLDER_ROLE_INBOX)
    assert (await alice.execute(methods.GET_FOLDER, request)).folder.path == ["Inbox"]
    with pytest.raises(errors.FolderNotFound) as caught:
        await alice.execute(methods.GET_FOLDER, GetFolderRequest(folder_id=987654))
    assert caught.value.metadata == {"folder_id": "987654"}


async def test_a_watched_folder_tells_changes_at_once(alice: Client, folder: str) -> None:
    await alice.messages.append(folder, MESSAGE % b"before")
    async with aclosing(alice.changes.watch(folder, snapshot=True)) as events:  # type: ignore[type-var]
        first = await anext(events)
        assert first.fresh
        assert len(first.changes.uids) == 1
        made = await alice.messages.append(folder, MESSAGE % b"after")
        async with asyncio.timeout(5):
            event = await anext(events)
        assert list(event.changes.message_ids) == [made.message_id]
        assert not event.fresh


async def test_a_mailbox_can_be_watched(alice: Client, folder: str) -> None:
    watching = alice.changes.watch_mailbox()
    next_event = asyncio.ensure_future(anext(watching))
    await asyncio.sleep(0.3)
    made = await alice.messages.append(folder, MESSAGE % b"x")
    async with asyncio.timeout(5):
        event = await next_event
    assert event.change_number >= made.commit.change_number
    await watching.aclose()  # type: ignore[attr-defined]


async def test_mail_is_sent_with_files_and_its_fate_is_known(alice: Client, demo: Demo) -> None:
    subject, large = f"Files {secrets.token_hex(5)}", os.urandom(700_000)
    draft = await alice.drafts.compose(
        to=["Bob <bob@example.test>", "elsewhere@example.org"],
        subject=subject,
        text="see below",
        attachments=[OutgoingFile(large, "large.bin"), OutgoingFile(b"a,b\n", "small.csv")],
    )
    sent = await alice.submissions.submit(draft)
    states = {
        each.forward_path: each.state
        for each in (await alice.submissions.get(sent.submission.submission_id)).recipients
    }
    assert set(states) == {"bob@example.test", "elsewhere@example.org"}
    async with asyncio.timeout(20):
        while True:
            try:
                await alice.submissions.cancel(sent.submission.submission_id)
                break
            except errors.SubmissionNotCancellable:  # the relay leases it for a moment, then leaves it in the queue
                await asyncio.sleep(0.2)
    async with connected(demo, "bob") as bob:  # type: ignore[attr-defined]
        (received,) = [each async for each in bob.messages.query("INBOX", query.text("subject", subject))]
        opened = await bob.messages.open(received.message_id, mark_seen=True)
        assert opened.facts.seen
        first, second = opened.root.attachments()
        assert [first.file_name, second.file_name] == ["large.bin", "small.csv"]
        assert second.media_type == "text/csv"
        assert b"".join([piece async for piece in bob.contents.stream_part(received.message_id, first)]) == large
        text = opened.root.find("text/plain")
        assert text is not None
        assert (await bob.contents.read_text(received.message_id, text)).strip() == "see below"


async def test_the_address_book_finds_people(alice: Client) -> None:
    (found,) = await alice.directory.resolve(["bob"])
    assert [entry.address for entry in found.candidates] == ["bob@example.test"]
    assert "carol@example.test" in [entry.address async for entry in alice.directory.list()]


async def test_a_token_that_was_kept_goes_on_and_is_renewed(demo: Demo, alice: Client) -> None:
    before = alice.session.token
    await alice.session.renew()
    assert alice.session.token != before
    resumed = Client.connect(
        f"localhost:{demo.port('api')}", token=alice.session.token, root_certificates=demo.ca.read_bytes()
    )
    async with resumed as again:
        assert (await again.account.get()).address == demo.address("alice")


async def test_logging_off_ends_it(demo: Demo) -> None:
    async with connected(demo, "bob") as bob:  # type: ignore[attr-defined]
        await bob.account.log_off()
        with pytest.raises((errors.SessionRevoked, errors.InvalidSession)):
            await bob.mailboxes.get()


def test_the_blocking_client_has_the_same(demo: Demo) -> None:
    with SyncClient.connect(
        f"localhost:{demo.port('api')}",
        user=demo.address("bob"),
        password=demo.password("bob"),
        root_certificates=demo.ca.read_bytes(),
    ) as bob:
        assert bob.account.get().address == demo.address("bob")
        assert bob.server().limits.max_batch_operations == 256
        assert "Inbox" in ["/".join(folder.path) for folder in bob.folders.list()]
        first_two = list(islice(bob.messages.query("INBOX"), 2))  # an iterator that is left early
        assert len(first_two) == 2
        assert b"Subject:" in bob.contents.read(first_two[0].message_id)
        name = f"Test {secrets.token_hex(5)}"
        made = bob.messages.append(bob.folders.create(name), MESSAGE % b"blocking")
        assert bob.messages.get(made.message_id).summary.subject == "blocking"
        with pytest.raises(errors.FolderNotFound):
            bob.folders.get("No such folder")
        events = bob.changes.watch(name, snapshot=True)
        assert next(events).fresh
        bob.messages.set_flags(made.message_id, ["flagged"])
        assert list(next(events).changes.message_ids) == [made.message_id]
        assert bob.folders.delete(name) == 1
