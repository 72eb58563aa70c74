"""Reading of messages: one server stream over the following messages, while the client retrieves them in order.

The stream's request has the messages' UIDs in the Inbox, in a few ranges. It does not return a message that another
session has moved or removed since login. The gateway then reads it by its id, which works for at least an hour, in any
folder: a number means the same message for the whole session (RFC 1939 3).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from restante import errors
from restante.v1.message_pb2 import (
    SECTION_KIND_WHOLE,
    MessageSet,
    Section,
    StreamMessagesRequest,
)
from restante.v1.types_pb2 import IdRange, MessageIdSet, UidSet
from restante_gateways.core.retry import is_temporary
from restante_gateways.pop3.protocol import TopCutter
from restante_gateways.pop3.settings import MaildropSettings
from restante_gateways.pop3.snapshot import Snapshot
from restante_gateways.pop3.walk import HEADER, WHOLE, Cell, OpenStream, Walk, Want

WINDOWS = (2, 32, 512, 1 << 30)  # messages in one request, more with each request while the client goes on in order
MAX_SKIPPED, MAX_SKIPPED_OCTETS = 16, 262_144  # skipped in a walk; above it a new walk is cheaper
TOP_OCTETS = 16_384  # first request of TOP, before adding room for the lines


class Retriever:
    """Reads the messages of one session, one at a time."""

    def __init__(self, open_stream: OpenStream, folder_id: int, snapshot: Snapshot, settings: MaildropSettings) -> None:
        self._open_stream, self._folder_id, self._snapshot = open_stream, folder_id, snapshot
        self._settings = settings
        self._walk: Walk | None = None  # over the following messages
        self._single: Walk | None = None  # over the message found last, if it was read by its id
        self._want = WHOLE
        self._next_number = 0  # next number of the walk
        self._last_number = 0  # last number of the walk
        self._stride = 0  # index into WINDOWS
        self._used_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def find(self, number: int, want: Want = WHOLE) -> Cell:
        """The first octets of a message. Waits `read_seconds` for an unreachable core.

        Raises MessageNotFound if another session removed it and it is erased by now, and any other RestanteError.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + self._settings.read_seconds
        self._used_at = math.inf  # in use while the core answers
        try:
            return await self._find(number, want, until)
        finally:
            self._used_at = loop.time()

    async def _find(self, number: int, want: Want, until: float) -> Cell:
        loop = asyncio.get_running_loop()
        while True:
            try:
                if self._single is not None:
                    await self._close_single()
                if not self._on_the_way(number, want):
                    await self._begin(number, want)
                assert self._walk is not None
                found = await self._walk.seek(self._snapshot.uid(number))
                if found is None:
                    found = await self._open_single(number, want.section())
            except errors.RestanteError as error:
                await self.close()
                if not is_temporary(error) or loop.time() >= until:
                    raise
                await asyncio.sleep(self._settings.read_pause_seconds)
                continue
            self._next_number = number + 1
            if found is None or found[1] < 0:
                raise errors.MessageNotFound
            return Cell(number, *found)

    async def _open_single(self, number: int, section: Section) -> tuple[bytes, int] | None:
        """First octets and length of one message by its id, in any folder; None if it is erased."""
        messages = MessageSet(ids=MessageIdSet(message_ids=[self._snapshot.message_id(number)]))
        request = StreamMessagesRequest(messages=messages, sections=[section], include_removed=True)
        self._single = Walk(self._open_stream(request))
        return await self._single.first()

    async def _close_single(self) -> None:
        single, self._single = self._single, None
        if single is not None:
            await single.close()

    async def rest(self, cell: Cell) -> AsyncIterator[bytes]:
        """The missing octets of `cell`. `find` must be the last call before.

        Resumes a broken stream at the same octet, since contents never change. Raises RestanteError.
        """
        loop, held = asyncio.get_running_loop(), len(cell.octets)
        until = loop.time() + self._settings.read_seconds
        self._used_at = math.inf  # in use while the client reads
        while held < cell.total:
            try:
                walk = self._single or self._walk
                if walk is None:
                    octets = await self._resume(cell, held)
                    held += len(octets)
                    yield octets
                    continue
                async for octets in walk.rest(cell.total - held):
                    held += len(octets)
                    until = loop.time() + self._settings.read_seconds
                    yield octets
            except errors.RestanteError as error:
                await self.close()
                if not is_temporary(error) or loop.time() >= until:
                    raise
                await asyncio.sleep(self._settings.read_pause_seconds)
        self._used_at = loop.time()

    async def _resume(self, cell: Cell, held: int) -> bytes:
        """Open a stream for the octets of one message after its first `held`; return the next octets."""
        section = Section(kind=self._want.kind, offset_octets=held, length_octets=cell.total - held)
        found = await self._open_single(cell.number, section)
        if found is None or found[1] != cell.total - held:
            raise errors.MessageNotFound
        return found[0]

    async def top(self, number: int, lines: int) -> AsyncIterator[bytes]:
        """The header and `lines` lines of the body (RFC 1939 7). Raises the errors of `find`, before any octets."""
        if lines == 0:
            cell = await self.find(number, HEADER)
            yield cell.octets
            async for octets in self.rest(cell):
                yield octets
            return
        cutter = TopCutter(lines)
        length = TOP_OCTETS + min(lines, 4096) * 80
        cell = await self.find(number, Want(SECTION_KIND_WHOLE, length))
        yield cutter.feed(cell.octets)
        async for octets in self.rest(cell):
            yield cutter.feed(octets)
        if cell.total < length:
            return
        async with aclosing(self._behind(number, length)) as behind:
            async for octets in behind:
                if cutter.done:
                    break
                yield cutter.feed(octets)

    async def _behind(self, number: int, offset: int) -> AsyncGenerator[bytes]:
        """The octets of a message from `offset` on."""
        await self.close()
        section = Section(kind=SECTION_KIND_WHOLE, offset_octets=offset)
        found = await self._open_single(number, section)
        if found is None:
            raise errors.MessageNotFound
        assert self._single is not None
        try:
            yield found[0]
            async for octets in self._single.rest(found[1] - len(found[0])):
                yield octets
        finally:
            await self._close_single()

    async def close(self) -> None:
        """Close all open streams."""
        await self._close_single()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        walk, self._walk = self._walk, None
        if walk is not None:
            await walk.close()

    def _on_the_way(self, number: int, want: Want) -> bool:
        """Whether the open walk reaches a message without skipping much."""
        if self._walk is None or want != self._want or not self._next_number <= number <= self._last_number:
            return False
        skipped = number - self._next_number
        return skipped == 0 or (
            skipped <= MAX_SKIPPED and self._snapshot.octets_of(self._next_number, number) <= MAX_SKIPPED_OCTETS
        )

    async def _begin(self, number: int, want: Want) -> None:
        """Open a walk at `number`: a wider one than before if the client goes on in order, else a narrow one."""
        walking = number == self._next_number or self._next_number == 0
        self._stride = min(self._stride + 1, len(WINDOWS) - 1) if walking and self._next_number else 0
        await self.close()
        self._want = want
        window = WINDOWS[self._stride]
        runs = [IdRange(first=first, last=last) for first, last in self._snapshot.following(number, window)]
        messages = MessageSet(uids=UidSet(folder_id=self._folder_id, ranges=runs))
        request = StreamMessagesRequest(messages=messages, sections=[want.section()])
        self._walk = Walk(self._open_stream(request))
        self._next_number, self._last_number = number, number + window - 1
        self._timer = asyncio.get_running_loop().call_later(self._settings.walk_idle_seconds, self._check_idle)

    def _check_idle(self) -> None:
        """Close the walk of a pausing client, which would hold batches in memory."""
        loop = asyncio.get_running_loop()
        self._timer = None
        if self._walk is None:
            return
        if loop.time() < self._used_at + self._settings.walk_idle_seconds:  # used meanwhile, or in use
            self._timer = loop.call_later(self._settings.walk_idle_seconds, self._check_idle)
            return
        walk, self._walk = self._walk, None
        task = loop.create_task(walk.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
