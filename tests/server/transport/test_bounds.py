"""Hostile requests: numbers outside the tables' range, endless uploads, sets of mail that are too large together."""

from __future__ import annotations

import asyncio
import os
import secrets
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from restante.errors import Internal, InvalidArgument, InvalidPageToken, LimitExceeded, MessageTooLarge
from restante.v1.admin_pb2 import TraceMessagesRequest
from restante.v1.content_pb2 import UploadChunkRequest, UploadKind
from restante.v1.folder_pb2 import ListFoldersRequest
from restante.v1.message_pb2 import AppendMessageRequest, Attachment, Draft, ListRecoverableMessagesRequest
from restante.v1.queue_pb2 import ListQueueRequest
from restante.v1.submission_pb2 import ListSubmissionsRequest
from restante.v1.types_pb2 import MailAddress
from restante_process import config
from restante_server.api.engine.writes import KEPT
from restante_server.api.services import contents as _contents  # noqa: F401 - registers its handlers
from restante_server.api.services import folders as _folders  # noqa: F401 - registers its handlers
from restante_server.api.services import messages as _messages  # noqa: F401 - registers its handlers
from restante_server.api.services import pages
from restante_server.api.services import queue as _queue  # noqa: F401 - registers its handlers
from restante_server.store import messages
from restante_server.transport.oversight import Wanted
from restante_server.transport.settings import TransportSettings
from restante_server.transport.states import State
from tests.server.transport.world import MESSAGE, World

LISTS: list[tuple[Any, str, int]] = [
    (ListSubmissionsRequest, "submissions", 1),
    (ListRecoverableMessagesRequest, "recoverable", 2),
    (ListFoldersRequest, "folders", 1),
    (ListQueueRequest, "queue ", 2),
    (TraceMessagesRequest, f"trace {Wanted()}", 1),
]


@pytest.mark.parametrize("number", ["9" * 30, str(1 << 63), "-1", "x", "٣", "1e3"])
@pytest.mark.parametrize(("request_type", "of", "parts"), LISTS)
async def test_a_page_token_with_a_number_that_none_was_given_is_refused(
    world: World, request_type: Any, of: str, parts: int, number: str
) -> None:
    request = request_type(page_token=pages.token(of, *[number] * parts))
    caller = world.gateway("admin") if request_type in (ListQueueRequest, TraceMessagesRequest) else None
    with pytest.raises(InvalidPageToken):
        await world.run(request, caller or world.session("alice"))


@pytest.mark.parametrize("seconds", [1 << 62, 253_402_300_800, -62_135_596_801])
async def test_a_moment_that_no_calendar_has_is_refused(world: World, seconds: int) -> None:
    append = AppendMessageRequest(
        request_id=secrets.token_bytes(16), folder_id=1, content=MESSAGE, received_at=Timestamp(seconds=seconds)
    )
    with pytest.raises(InvalidArgument):
        await world.run(append, world.session("alice"))
    with pytest.raises(InvalidArgument):
        await world.submit("alice", MESSAGE, recipients=["bob@example.test"], send_at=Timestamp(seconds=seconds))


async def test_an_upload_by_pieces_is_refused_as_soon_as_it_is_too_large(world: World) -> None:
    contents = world.core.contents
    contents.settings = replace(contents.settings, max_message_octets=1_000)
    alice = world.session("alice")
    first = UploadChunkRequest(
        kind=UploadKind.UPLOAD_KIND_ATTACHMENT, octets=b"x" * 900, request_id=secrets.token_bytes(16)
    )
    upload_id = (await world.run(first, alice)).upload_id
    with pytest.raises(MessageTooLarge):
        await world.run(UploadChunkRequest(upload_id=upload_id, offset_octets=900, octets=b"x" * 101), alice)
    last = UploadChunkRequest(upload_id=upload_id, offset_octets=900, octets=b"x" * 100, last=True)
    assert (await world.run(last, alice)).size_octets == 1_000


async def test_an_upload_may_be_attached_twice(world: World) -> None:
    attached = await world.upload("alice", b"\x00\x01", UploadKind.UPLOAD_KIND_ATTACHMENT)
    both = [Attachment(file_name=name, upload_id=attached) for name in ("a.bin", "b.bin")]
    await world.submit("alice", draft=Draft(to=[MailAddress(address="bob@example.test")], attachments=both))
    assert (await world.letters("bob"))[0].content.count(b"AAE=") == 2


async def test_mail_of_one_group_does_not_overrun_a_quota_that_nobody_promised(world: World) -> None:
    """Two of the messages fit when checked in turn; a check at the same moment must not admit more."""
    await world.add_account("dora@example.test", quota_octets=3 * len(MESSAGE))
    await world.add_alias("team@example.test", "dora@example.test", "bob@example.test")
    answers = await asyncio.gather(*(world.accept(["team@example.test"]) for _ in range(12)))
    states = [
        state for answer in answers for path, state, _ in await world.states(answer.transport_id) if "dora" in path
    ]
    assert 1 <= states.count(State.DELIVERED) <= 2
    assert len(await world.letters("dora")) == states.count(State.DELIVERED)
    await world.lease()  # the reports to dave


async def test_one_mailbox_that_takes_no_more_does_not_hold_up_the_deliveries_of_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An example is an Inbox without free UIDs: its mail waits, and is tried again."""
    world.transport.settings = replace(world.transport.settings, direct_deliveries=0)  # every recipient is queued
    stuck = (await world.accept(["carol@example.test"])).transport_id
    others = (await world.accept(["bob@example.test"])).transport_id
    full = world.people["carol"].mailbox_id
    plain = messages.add_all

    def place(tx: Any, placements: Any, **named: Any) -> Any:
        if any(placement.place.mailbox_id == full for placement in placements):
            raise LimitExceeded(limit="uids", value=1)
        return plain(tx, placements, **named)

    monkeypatch.setattr(messages, "add_all", place)
    await world.settle()
    assert await world.states(others) == [("bob@example.test", State.DELIVERED, "2.1.5")]
    assert await world.states(stuck) == [("carol@example.test", State.PENDING, "4.3.0")]
    monkeypatch.undo()
    await world.pass_time(3_600 * 1_000_000)
    assert (await world.states(stuck))[0][1] is State.DELIVERED


async def test_what_is_left_of_a_content_is_never_sent_as_the_message(world: World) -> None:
    """When a disk lost the end of a file, the relay gets an error, and neither half a message nor an endless loop."""
    large = MESSAGE.replace(b"dave@example.org", b"alice@example.test").replace(
        b"To: alice@example.test", b"To: a@b.example"
    )
    large += b"x" * 200_000 + b"\r\n"  # complete, so that the sent and the kept message share one file
    submitted = await world.submit("alice", upload_id=await world.upload("alice", large))
    (lease,) = await world.lease()
    (file,) = [path for path in world.core.contents.directory.rglob("*") if path.is_file() and path.stat().st_size]
    whole = file.read_bytes()
    for kept in (100_000, 0):
        os.truncate(file, kept)
        async with asyncio.timeout(10):
            with pytest.raises(OSError, match="shorter"):
                await world.read_outbound(lease)
    with pytest.raises(Internal):
        async with asyncio.timeout(10):
            await world.submit("alice", message_id=submitted.sent_message_id)
    file.write_bytes(whole)
    assert len(await world.read_outbound(lease)) > 200_000


def test_the_rows_of_a_submission_stay_as_long_as_a_repeat_is_answered_from_them() -> None:
    configured = config.Config(transport=config.Transport(trace_days=1))
    assert TransportSettings.of(configured).trace_microseconds > max(KEPT.values())
