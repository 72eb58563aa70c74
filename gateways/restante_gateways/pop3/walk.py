"""Reading of single messages from one StreamMessages call, one batch ahead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import NamedTuple

from restante import errors
from restante.v1.message_pb2 import (
    SECTION_KIND_HEADER,
    SECTION_KIND_WHOLE,
    Section,
    SectionKind,
    StreamMessagesRequest,
    StreamMessagesResponse,
)

OpenStream = Callable[[StreamMessagesRequest], AsyncIterator[StreamMessagesResponse]]
"""Opens StreamMessages with the session's current token."""


class Want(NamedTuple):
    """The part of each message that a walk reads: at most `length` octets, 0 for all."""

    kind: SectionKind.ValueType
    length: int = 0

    def section(self) -> Section:
        """The section for the core's request."""
        return Section(kind=self.kind, length_octets=self.length or None)


WHOLE = Want(SECTION_KIND_WHOLE)
HEADER = Want(SECTION_KIND_HEADER)


@dataclass(slots=True)
class Cell:
    """The octets of one message in its batch; `total` is the full number of octets."""

    number: int
    octets: bytes
    total: int

    @property
    def whole(self) -> bool:
        """Whether the cell has all octets."""
        return len(self.octets) >= self.total


class Walk:
    """One StreamMessages call, read one batch ahead."""

    __slots__ = ("_ahead", "_batches", "_cells", "_position", "_rest", "_totals", "_uids")

    def __init__(self, batches: AsyncIterator[StreamMessagesResponse]) -> None:
        self._batches = batches
        self._uids: list[int] = []
        self._cells: list[bytes] = []
        self._totals: list[int] = []
        self._position = 0  # in the batch
        self._rest: StreamMessagesResponse | None = None  # read, but not used as a continuation yet
        self._ahead: asyncio.Future[StreamMessagesResponse | None] = asyncio.ensure_future(self._read())

    async def _read(self) -> StreamMessagesResponse | None:
        return await anext(self._batches, None)

    async def _next(self) -> StreamMessagesResponse | None:
        response = await asyncio.shield(self._ahead)
        if response is not None:
            self._ahead = asyncio.ensure_future(self._read())
        return response

    async def first(self) -> tuple[bytes, int] | None:
        """First octets and length of the first message; None if the stream has none."""
        response = await self._next()
        if response is None:
            return None
        self._take(response)
        self._position = 1
        return (self._cells[0], self._totals[0]) if self._cells else None

    async def seek(self, uid: int) -> tuple[bytes, int] | None:
        """First octets and length of the message `uid`, skipping earlier ones; None if the stream lacks it."""
        while True:
            while self._position < len(self._uids):
                found = self._uids[self._position]
                if found > uid:
                    return None
                self._position += 1
                if found == uid:
                    return self._cells[self._position - 1], self._totals[self._position - 1]
            response = await self._next()
            if response is None:
                return None
            if not response.HasField("rest"):  # else more octets of a skipped message
                self._take(response)

    def _take(self, response: StreamMessagesResponse) -> None:
        cells = response.rows.sections[0] if response.rows.sections else None
        self._uids = list(response.rows.uids)
        self._cells = list(cells.octets) if cells is not None else []
        self._totals = list(cells.total_octets) if cells is not None else []
        self._position = 0

    async def rest(self, missing: int) -> AsyncIterator[bytes]:
        """The `missing` octets of the message that `seek` or `first` returned last, the last one of its batch."""
        while missing > 0:
            response = await self._next()
            if response is None or not response.HasField("rest"):
                raise errors.Internal("a message came short")
            missing -= len(response.rest.octets)
            yield response.rest.octets

    async def close(self) -> None:
        """Cancel the call."""
        self._ahead.cancel()
        await asyncio.gather(self._ahead, return_exceptions=True)
        close = getattr(self._batches, "aclose", None)
        if close is not None:
            await close()
