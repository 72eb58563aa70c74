"""Reading messages: one stream for a client that reads on, any order, any cut, and a lost core."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import pytest

from restante import errors
from restante.client import Client
from restante.v1.message_pb2 import DeleteMode, StreamMessagesRequest
from restante_gateways.pop3.retrieval import Retriever
from restante_gateways.pop3.settings import MaildropSettings
from restante_gateways.pop3.snapshot import Snapshot
from restante_gateways.pop3.walk import Cell
from tests.harness.faulty_link import FaultyLink
from tests.harness.local_core import LocalCore, open_local_core


class Drop:
    """A mailbox with a retriever on it."""

    def __init__(
        self, core: LocalCore, link: FaultyLink, user: Client, snapshot: Snapshot, retriever: Retriever
    ) -> None:
        self.core, self.link, self.user = core, link, user
        self.snapshot, self.retriever = snapshot, retriever

    @property
    def streamed(self) -> list[StreamMessagesRequest]:
        return [request for request in self.link.requests if isinstance(request, StreamMessagesRequest)]

    async def leave(self, *uids: int) -> None:
        """Move messages to another folder by another session."""
        ids = [message.message_id for message in await self.core.inbox("alice") if message.uid in uids]
        await self.user.messages.move(ids, "Archive")

    async def read(self, number: int) -> bytes:
        cell: Cell = await self.retriever.find(number)
        return cell.octets + b"".join([octets async for octets in self.retriever.rest(cell)])

    async def top(self, number: int, lines: int) -> bytes:
        return b"".join([octets async for octets in self.retriever.top(number, lines)])


class Open(Protocol):
    """Opens a Drop."""

    async def __call__(self, messages: list[bytes], *, cut: int | None = None, copies: int = 0, **s: float) -> Drop: ...


@pytest.fixture
async def opened(store_template: Path, tmp_path: Path) -> AsyncIterator[Open]:
    """Opens one Drop on these messages; its streams must be closed at the end of the test."""
    made: list[Drop] = []

    async def open_drop(messages: list[bytes], *, cut: int | None = None, copies: int = 0, **settings: float) -> Drop:
        """`cut`: octets of a response; `copies`: how often the Inbox is copied into itself."""
        link, user = await core.link("", FaultyLink), await core.user("alice")
        for message in messages:
            await core.deliver("alice", message)
        for _ in range(copies):
            await user.messages.copy([message.message_id for message in await core.inbox("alice")], "Inbox")
        if cut is not None:
            link.cut_streams_to(cut)
        folder, found = await core.folder("alice"), await core.inbox("alice")
        snapshot = Snapshot(
            folder.uid_validity,
            [message.uid for message in found],
            [message.message_id for message in found],
            [message.size_octets for message in found],
        )
        retriever = Retriever(
            lambda request: link.stream_messages(request, session=user.session.token),
            folder.folder_id,
            snapshot,
            MaildropSettings(**settings),
        )
        drop = Drop(core, link, user, snapshot, retriever)
        made.append(drop)
        return drop

    async with open_local_core(store_template, tmp_path / "core") as core:
        yield open_drop
        for drop in made:
            await drop.retriever.close()
            assert drop.link.open_streams == 0


def some_messages(count: int, most_octets: int = 300) -> list[bytes]:
    shuffled = random.Random(7)
    return [
        b"Subject: %d\r\n\r\n" % n + bytes(shuffled.choices(b"abc. ", k=shuffled.randrange(most_octets))) + b"\r\n"
        for n in range(count)
    ]


async def test_a_walk_in_order_is_a_few_streams_not_one_a_message(opened: Open) -> None:
    messages = some_messages(20)
    drop = await opened(messages, copies=5)
    assert [await drop.read(n) for n in range(1, 641)] == messages * 32
    assert len(drop.streamed) == 4


@pytest.mark.parametrize("batch_octets", [1, 50, 1000])
async def test_any_order_and_any_cut(opened: Open, batch_octets: int) -> None:
    messages = some_messages(40)
    drop = await opened(messages, cut=batch_octets)
    order = [random.Random(3).randint(1, 40) for _ in range(60)] + [40, 39, 38, 1, 2, 3, 5, 8, 13, 40, 40]
    for number in order:
        assert await drop.read(number) == messages[number - 1]


async def test_marked_messages_are_not_asked_for(opened: Open) -> None:
    drop = await opened(some_messages(10))
    drop.snapshot.delete(2)
    drop.snapshot.delete(3)
    await drop.read(1)
    await drop.read(4)
    asked = {uid for request in drop.streamed for run in request.messages.uids.ranges for uid in (run.first, run.last)}
    assert not asked & {2, 3}


@pytest.mark.parametrize("batch_octets", [1, 50, 256 << 10])
async def test_messages_that_leave_the_inbox_are_read_by_their_ids_and_the_walk_goes_on(
    opened: Open, batch_octets: int
) -> None:
    messages = some_messages(60)
    drop = await opened(messages, cut=batch_octets)
    read = [await drop.read(n) for n in (1, 2)]
    await drop.leave(1, *range(4, 61, 3))
    read += [await drop.read(n) for n in range(3, 61)]
    assert read == messages
    assert await drop.read(1) == messages[0]
    asked_by_id = [r.messages.ids.message_ids for r in drop.streamed if r.messages.HasField("ids")]
    assert sum(map(len, asked_by_id)) == 20  # only of those
    assert len(drop.streamed) <= 20 + 4


async def test_top_of_a_message_that_left_the_inbox(opened: Open) -> None:
    message = b"A: b\r\n\r\n" + b"".join(b"line %d\r\n" % n for n in range(20_000))
    drop = await opened([message], cut=5000)
    await drop.leave(1)
    assert await drop.top(1, 0) == b"A: b\r\n\r\n"
    assert await drop.top(1, 1) == b"A: b\r\n\r\nline 0\r\n"
    assert await drop.top(1, 2**31 - 1) == message


@pytest.mark.parametrize("break_after", [1, 3])
async def test_a_message_that_leaves_while_its_stream_breaks_comes_whole(opened: Open, break_after: int) -> None:
    message = b"A: b\r\n\r\n" + b"x" * 5000 + b"\r\n"
    drop = await opened([message], cut=1000, read_pause_seconds=0.01)
    drop.link.break_streams_after(break_after, once=True)
    cell = await drop.retriever.find(1)
    await drop.leave(1)
    assert cell.octets + b"".join([octets async for octets in drop.retriever.rest(cell)]) == message
    assert drop.link.breaks == 1


async def test_a_message_that_is_erased_is_gone_and_the_walk_goes_on(opened: Open) -> None:
    messages = some_messages(5)
    drop = await opened(messages)
    erased = (await drop.core.inbox("alice"))[1]
    await drop.user.messages.delete(erased.message_id, DeleteMode.DELETE_MODE_HARD)
    await drop.core.end_reading_leases()
    assert await drop.read(1) == messages[0]
    with pytest.raises(errors.MessageNotFound):
        await drop.read(2)
    assert await drop.read(3) == messages[2]


async def test_top_of_messages_of_all_sizes(opened: Open) -> None:  # RFC 1939 7
    body = b"".join(b"line %d\r\n" % n for n in range(20_000))
    messages = [b"A: b\r\n\r\n" + body, b"A: b\r\n\r\n", b"A: b\r\n", b"\r\nbody\r\n"]
    drop = await opened(messages, cut=5000)
    assert await drop.top(1, 0) == b"A: b\r\n\r\n"
    assert await drop.top(1, 2) == b"A: b\r\n\r\nline 0\r\nline 1\r\n"
    assert await drop.top(1, 15_000) == b"A: b\r\n\r\n" + b"".join(b"line %d\r\n" % n for n in range(15_000))
    assert await drop.top(1, 2**31 - 1) == messages[0]
    assert await drop.top(2, 5) == messages[1]
    assert await drop.top(3, 0) == messages[2]
    assert await drop.top(4, 1) == messages[3]


@pytest.mark.parametrize("break_after", [0, 1, 2, 3])
async def test_a_stream_that_breaks_is_taken_up_where_it_broke(opened: Open, break_after: int) -> None:
    messages = [b"A: b\r\n\r\n" + bytes([65 + n]) * 5000 + b"\r\n" for n in range(4)]
    drop = await opened(messages, cut=1000, read_pause_seconds=0.01)
    drop.link.break_streams_after(break_after, once=True)
    read = [await drop.read(n) for n in (1, 2, 3, 4)]
    assert read == messages
    assert drop.link.breaks == 1


async def test_a_core_that_stays_away_is_waited_for_only_so_long(opened: Open) -> None:
    messages = some_messages(3)
    drop = await opened(messages, read_pause_seconds=0.01, read_seconds=0.05)
    drop.link.refuse(errors.Draining())
    with pytest.raises(errors.Draining):
        await drop.read(1)
    drop.link.heal()
    assert await drop.read(1) == messages[0]


async def test_a_client_that_waits_for_a_slow_core_is_not_idle(opened: Open) -> None:
    messages = [bytes([65 + n]) * 2500 + b"\r\n" for n in range(4)]
    drop = await opened(messages, cut=1000, walk_idle_seconds=0.05)
    drop.link.slow_streams(0.15)
    assert await drop.read(1) == messages[0]
    assert drop.link.open_streams == len(drop.streamed) == 1  # the walk was not cut
    await asyncio.sleep(0.3)
    assert drop.link.open_streams == 0  # and then it is


async def test_an_idle_client_holds_no_stream(opened: Open) -> None:
    messages = [bytes([65 + n]) * 5000 + b"\r\n" for n in range(4)]
    drop = await opened(messages, cut=1000, walk_idle_seconds=0.05)
    await drop.read(1)
    assert drop.link.open_streams == 1
    await asyncio.sleep(0.3)
    assert drop.link.open_streams == 0
    assert await drop.read(2) == messages[1]
    cell = await drop.retriever.find(3)
    parts = [cell.octets]
    async for octets in drop.retriever.rest(cell):
        await asyncio.sleep(0.06)  # slow, but not idle
        parts.append(octets)
    assert b"".join(parts) == messages[2]
    assert len(drop.streamed) == 2  # the second was not cut while in use
