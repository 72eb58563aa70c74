"""Whole batches of messages from the pieces of a stream."""

from __future__ import annotations

from collections.abc import Iterable

from restante import query
from restante.bulk import WholeBatches, behind
from restante.v1.message_pb2 import (
    MatchingMessages,
    MessageRows,
    MessageSet,
    SectionCells,
    SectionRest,
    StreamMessagesResponse,
)
from restante.v1.types_pb2 import IdRange, MessageIdSet, UidSet


def rows(*ids: int, cells: Iterable[SectionCells] = ()) -> StreamMessagesResponse:
    return StreamMessagesResponse(rows=MessageRows(message_ids=ids, uids=ids, sections=cells))


def rest(section_index: int, octets: bytes) -> StreamMessagesResponse:
    return StreamMessagesResponse(rest=SectionRest(section_index=section_index, octets=octets))


def test_a_batch_comes_when_all_its_cells_are_whole() -> None:
    cut = [
        SectionCells(octets=[b"whole", b"he"], total_octets=[5, 4]),
        SectionCells(octets=[b"", b""], total_octets=[-1, 6]),  # the first has no such part
    ]
    whole = WholeBatches()
    assert list(whole.add(rows(1, 2, cells=cut))) == []
    assert list(whole.add(rest(0, b"ad"))) == []
    assert list(whole.add(rest(1, b"bo"))) == []
    (batch,) = whole.add(rest(1, b"dy--"))
    assert [list(cells.octets) for cells in batch.sections] == [[b"whole", b"head"], [b"", b"body--"]]
    assert list(whole.end()) == []


def test_a_message_that_was_removed_while_it_was_read_stays_cut_and_hides_no_other() -> None:
    whole = WholeBatches()
    assert list(whole.add(rows(1, cells=[SectionCells(octets=[b"he"], total_octets=[4])]))) == []
    first, second = whole.add(rows(2, cells=[SectionCells(octets=[b"head"], total_octets=[4])]))
    assert (first.sections[0].octets[0], second.message_ids[0]) == (b"he", 2)
    assert list(whole.add(rows(3, cells=[SectionCells(octets=[b""], total_octets=[4])]))) == []
    (third,) = whole.end()
    assert (third.message_ids[0], third.sections[0].octets[0]) == (3, b"")


def test_what_was_told_is_not_asked_for_again() -> None:
    told = MessageRows(message_ids=[4, 7], uids=[3, 5])
    assert behind(MessageSet(ids=MessageIdSet(message_ids=[9, 4, 7, 8])), told) == MessageSet(
        ids=MessageIdSet(message_ids=[9, 8])
    )
    ranges = [IdRange(first=1, last=2), IdRange(first=4, last=6), IdRange(first=8, last=9)]
    rest = [IdRange(first=6, last=6), IdRange(first=8, last=9)]
    assert behind(MessageSet(uids=UidSet(folder_id=5, ranges=ranges)), told) == MessageSet(
        uids=UidSet(folder_id=5, ranges=rest)
    )
    seen = query.flag("seen")
    for folder_id, above in ((5, 5), (0, 7)):
        given = MatchingMessages(folder_id=folder_id, restriction=seen, below=9)
        left = MatchingMessages(folder_id=folder_id, restriction=seen, above=above, below=9)
        assert behind(MessageSet(matching=given), told) == MessageSet(matching=left)
    assert behind(MessageSet(ids=MessageIdSet(message_ids=[1])), MessageRows()) == MessageSet(
        ids=MessageIdSet(message_ids=[1])
    )
