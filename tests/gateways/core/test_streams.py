"""StreamMessages resumes after a break."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest

from restante import errors
from restante.bulk import WholeBatches
from restante.v1.message_pb2 import (
    SECTION_KIND_WHOLE,
    MessageRows,
    MessageSet,
    Section,
    SectionCells,
    SectionRest,
    StreamMessagesRequest,
    StreamMessagesResponse,
)
from restante.v1.types_pb2 import IdRange, MessageIdSet, UidSet
from restante_gateways.core import streams

CONTENTS = {uid: random.Random(uid).randbytes(uid * 37 % 211 + 1) for uid in range(1, 30)}
PIECE = 50  # octets of a cell in one response


class Core:
    """A core that serves CONTENTS in small batches; each stream breaks after a number of responses."""

    def __init__(self, break_after: int | None) -> None:
        self.break_after, self.broken = break_after, 0
        self.gone: set[int] = set()
        self.requests: list[StreamMessagesRequest] = []

    async def open(self, request: StreamMessagesRequest) -> AsyncIterator[StreamMessagesResponse]:
        kept = StreamMessagesRequest()
        kept.CopyFrom(request)
        self.requests.append(kept)
        for sent, response in enumerate(self._responses(kept)):
            if sent == self.break_after:
                self.broken += 1
                raise errors.Draining("The connection was lost.")
            yield response

    def _responses(self, request: StreamMessagesRequest) -> list[StreamMessagesResponse]:
        made = []
        wanted = [
            uid
            for uid in CONTENTS
            if uid not in self.gone
            and (
                any(run.first <= uid <= run.last for run in request.messages.uids.ranges)
                or uid + 1_000 in request.messages.ids.message_ids
            )
        ]
        for uid in wanted:
            cells = [self._cell(uid, section) for section in request.sections]
            room, heads = PIECE, []
            for cell in cells:
                heads.append(cell[:room])
                room -= len(heads[-1])
            rows = MessageRows(uids=[uid], message_ids=[uid + 1_000])
            rows.sections.extend(
                SectionCells(octets=[head], total_octets=[len(cell)]) for head, cell in zip(heads, cells, strict=True)
            )
            made.append(StreamMessagesResponse(rows=rows))
            for index, (head, cell) in enumerate(zip(heads, cells, strict=True)):
                for at in range(len(head), len(cell), PIECE):
                    rest = SectionRest(
                        message_id=uid + 1_000, section_index=index, offset_octets=at, octets=cell[at : at + PIECE]
                    )
                    made.append(StreamMessagesResponse(rest=rest))
        return made

    @staticmethod
    def _cell(uid: int, section: Section) -> bytes:
        octets = CONTENTS[uid][section.offset_octets :]
        return octets[: section.length_octets] if section.HasField("length_octets") else octets


async def read(core: Core, request: StreamMessagesRequest) -> dict[int, list[bytes]]:
    """{uid: its sections}; each rest must continue exactly at the end of the octets before it."""
    whole, got = WholeBatches(), dict[int, list[bytes]]()
    length: dict[int, int] = {}

    def keep(rows: MessageRows) -> None:
        for row, uid in enumerate(rows.uids):
            assert uid not in got
            got[uid] = [cells.octets[row] for cells in rows.sections]

    async for response in streams.messages(core.open, request):
        if response.HasField("rows"):
            length = {index: len(cells.octets[-1]) for index, cells in enumerate(response.rows.sections)}
        else:
            assert response.rest.offset_octets == length[response.rest.section_index]
            length[response.rest.section_index] += len(response.rest.octets)
        for rows in whole.add(response):
            keep(rows)
    for rows in whole.end():
        keep(rows)
    return got


WHOLE = Section(kind=SECTION_KIND_WHOLE)
PART = Section(kind=SECTION_KIND_WHOLE, offset_octets=20, length_octets=90)


def by_uids(*sections: Section) -> StreamMessagesRequest:
    runs = [IdRange(first=1, last=9), IdRange(first=12, last=29)]
    return StreamMessagesRequest(messages=MessageSet(uids=UidSet(folder_id=5, ranges=runs)), sections=sections)


def by_ids(*sections: Section) -> StreamMessagesRequest:
    return StreamMessagesRequest(
        messages=MessageSet(ids=MessageIdSet(message_ids=range(1_003, 1_020))), sections=sections
    )


@pytest.mark.parametrize("request_", [by_uids(WHOLE), by_uids(WHOLE, PART), by_ids(WHOLE), by_ids(PART, WHOLE)])
@pytest.mark.parametrize("break_after", [1, 2, 3, 5, 8, None])
async def test_every_octet_comes_once_however_often_the_stream_breaks(
    request_: StreamMessagesRequest, break_after: int | None
) -> None:
    core = Core(break_after)
    expected = await read(Core(None), request_)
    assert await read(core, request_) == expected
    assert (core.broken > 3) is (break_after is not None)


async def test_a_stream_that_never_broke_is_one_call() -> None:
    core = Core(None)
    await read(core, by_uids(WHOLE))
    assert len(core.requests) == 1


async def test_a_message_that_is_gone_in_the_midst_of_its_octets_is_an_error() -> None:
    core = Core(2)
    received = []

    async def reading() -> None:
        async for response in streams.messages(core.open, by_uids(WHOLE), 0.2):
            received.append(response)
            if response.HasField("rest"):
                core.gone.add(response.rest.message_id - 1_000)

    with pytest.raises(errors.MessageNotFound):
        await reading()


async def test_a_core_that_stays_away_is_an_error_in_time() -> None:
    with pytest.raises(errors.Draining):
        await anext(streams.messages(Core(0).open, by_uids(WHOLE), 0.2))
