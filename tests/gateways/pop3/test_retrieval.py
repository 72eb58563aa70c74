"""Reading messages: one stream for a client that reads on, any order, any cut, and a lost core."""

from __future__ import annotations

import asyncio
import random

import pytest

from restante import errors
from restante_gateways.pop3.retrieval import Retriever
from restante_gateways.pop3.settings import MaildropSettings
from restante_gateways.pop3.snapshot import Snapshot
from restante_gateways.pop3.walk import Cell
from tests.gateways.pop3.fake_core import FIRST_ID, FOLDER_ID, Account, FakeCore


class Drop:
    """A mailbox with a retriever on it."""

    def __init__(self, messages: list[bytes], batch_octets: int = 256 << 10, **settings: float) -> None:
        self.core = FakeCore(batch_octets)
        self.account: Account = self.core.account("alice")
        for message in messages:
            self.account.add(message)
        self.token = self.core.sessions.begin(self.account).session_token
        uids = list(self.account.messages)
        self.snapshot = Snapshot(1, uids, [FIRST_ID + uid for uid in uids], [len(message) for message in messages])
        self.retriever = Retriever(
            lambda request: self.core.stream_messages(request, session=self.token),
            FOLDER_ID,
            self.snapshot,
            MaildropSettings(**settings),
        )

    async def read(self, number: int) -> bytes:
        cell: Cell = await self.retriever.find(number)
        return cell.octets + b"".join([octets async for octets in self.retriever.rest(cell)])

    async def top(self, number: int, lines: int) -> bytes:
        return b"".join([octets async for octets in self.retriever.top(number, lines)])

    async def close(self) -> None:
        await self.retriever.close()
        assert self.core.open_streams == 0


def some_messages(count: int, most_octets: int = 300) -> list[bytes]:
    shuffled = random.Random(7)
    return [
        b"Subject: %d\r\n\r\n" % n + shuffled.randbytes(shuffled.randrange(most_octets)) + b"\r\n" for n in range(count)
    ]


async def test_a_walk_in_order_is_a_few_streams_not_one_a_message() -> None:
    messages = some_messages(700)
    drop = Drop(messages)
    assert [await drop.read(n) for n in range(1, 701)] == messages
    assert len(drop.core.streamed) == 4
    await drop.close()


@pytest.mark.parametrize("batch_octets", [1, 50, 1000])
async def test_any_order_and_any_cut(batch_octets: int) -> None:
    messages = some_messages(40)
    drop = Drop(messages, batch_octets)
    order = [random.Random(3).randint(1, 40) for _ in range(60)] + [40, 39, 38, 1, 2, 3, 5, 8, 13, 40, 40]
    for number in order:
        assert await drop.read(number) == messages[number - 1]
    await drop.close()


async def test_marked_messages_are_not_asked_for() -> None:
    drop = Drop(some_messages(10))
    drop.snapshot.delete(2)
    drop.snapshot.delete(3)
    await drop.read(1)
    await drop.read(4)
    asked = {
        uid for request in drop.core.streamed for run in request.messages.uids.ranges for uid in (run.first, run.last)
    }
    assert not asked & {2, 3}
    await drop.close()


@pytest.mark.parametrize("batch_octets", [1, 50, 256 << 10])
async def test_messages_that_leave_the_inbox_are_read_by_their_ids_and_the_walk_goes_on(batch_octets: int) -> None:
    messages = some_messages(60)
    drop = Drop(messages, batch_octets)
    read = [await drop.read(n) for n in (1, 2)]
    drop.account.leave(1, *range(4, 61, 3))
    read += [await drop.read(n) for n in range(3, 61)]
    assert read == messages
    assert await drop.read(1) == messages[0]
    asked_by_id = [r.messages.ids.message_ids for r in drop.core.streamed if r.messages.HasField("ids")]
    assert sum(map(len, asked_by_id)) == 20  # only of those
    assert len(drop.core.streamed) <= 20 + 4
    await drop.close()


async def test_top_of_a_message_that_left_the_inbox() -> None:
    message = b"A: b\r\n\r\n" + b"".join(b"line %d\r\n" % n for n in range(20_000))
    drop = Drop([message], 5000)
    drop.account.leave(1)
    assert await drop.top(1, 0) == b"A: b\r\n\r\n"
    assert await drop.top(1, 1) == b"A: b\r\n\r\nline 0\r\n"
    assert await drop.top(1, 2**31 - 1) == message
    await drop.close()


@pytest.mark.parametrize("break_after", [1, 3])
async def test_a_message_that_leaves_while_its_stream_breaks_comes_whole(break_after: int) -> None:
    message = b"A: b\r\n\r\n" + b"x" * 5000 + b"\r\n"
    drop = Drop([message], 1000, read_pause_seconds=0.01)
    drop.core.break_after = break_after
    cell = await drop.retriever.find(1)
    drop.account.leave(1)
    assert cell.octets + b"".join([octets async for octets in drop.retriever.rest(cell)]) == message
    assert drop.core.breaks == 1
    await drop.close()


async def test_a_message_that_is_erased_is_gone_and_the_walk_goes_on() -> None:
    messages = some_messages(5)
    drop = Drop(messages)
    del drop.account.messages[2]
    assert await drop.read(1) == messages[0]
    with pytest.raises(errors.MessageNotFound):
        await drop.read(2)
    assert await drop.read(3) == messages[2]
    await drop.close()


async def test_top_of_messages_of_all_sizes() -> None:  # RFC 1939 7
    body = b"".join(b"line %d\r\n" % n for n in range(20_000))
    messages = [b"A: b\r\n\r\n" + body, b"A: b\r\n\r\n", b"A: b\r\n", b"\r\nbody\r\n"]
    drop = Drop(messages, 5000)
    assert await drop.top(1, 0) == b"A: b\r\n\r\n"
    assert await drop.top(1, 2) == b"A: b\r\n\r\nline 0\r\nline 1\r\n"
    assert await drop.top(1, 15_000) == b"A: b\r\n\r\n" + b"".join(b"line %d\r\n" % n for n in range(15_000))
    assert await drop.top(1, 2**31 - 1) == messages[0]
    assert await drop.top(2, 5) == messages[1]
    assert await drop.top(3, 0) == messages[2]
    assert await drop.top(4, 1) == messages[3]
    await drop.close()


@pytest.mark.parametrize("break_after", [0, 1, 2, 3])
async def test_a_stream_that_breaks_is_taken_up_where_it_broke(break_after: int) -> None:
    messages = [b"A: b\r\n\r\n" + bytes([65 + n]) * 5000 + b"\r\n" for n in range(4)]
    drop = Drop(messages, 1000, read_pause_seconds=0.01)
    drop.core.break_after = break_after
    read = [await drop.read(n) for n in (1, 2, 3, 4)]
    assert read == messages
    assert drop.core.breaks == 1
    await drop.close()


async def test_a_core_that_stays_away_is_waited_for_only_so_long() -> None:
    drop = Drop(some_messages(3), read_pause_seconds=0.01, read_seconds=0.05)
    drop.core.away = True
    with pytest.raises(errors.Draining):
        await drop.read(1)
    drop.core.away = False
    assert await drop.read(1) == drop.account.messages[1]
    await drop.close()


async def test_a_client_that_waits_for_a_slow_core_is_not_idle() -> None:
    messages = [bytes([65 + n]) * 2500 + b"\r\n" for n in range(4)]
    drop = Drop(messages, 1000, walk_idle_seconds=0.05)
    drop.core.delay_seconds = 0.15
    assert await drop.read(1) == messages[0]
    assert drop.core.open_streams == len(drop.core.streamed) == 1  # the walk was not cut
    await asyncio.sleep(0.3)
    assert drop.core.open_streams == 0  # and then it is
    await drop.close()


async def test_an_idle_client_holds_no_stream() -> None:
    messages = [bytes([65 + n]) * 5000 + b"\r\n" for n in range(4)]
    drop = Drop(messages, 1000, walk_idle_seconds=0.05)
    await drop.read(1)
    assert drop.core.open_streams == 1
    await asyncio.sleep(0.3)
    assert drop.core.open_streams == 0
    assert await drop.read(2) == messages[1]
    cell = await drop.retriever.find(3)
    parts = [cell.octets]
    async for octets in drop.retriever.rest(cell):
        await asyncio.sleep(0.06)  # slow, but not idle
        parts.append(octets)
    assert b"".join(parts) == messages[2]
    assert len(drop.core.streamed) == 2  # the second was not cut while in use
    await drop.close()
