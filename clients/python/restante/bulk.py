"""Whole batches of messages from the pieces of StreamMessages. *Pure.*"""

from __future__ import annotations

from collections.abc import Iterator

from restante.v1.message_pb2 import MatchingMessages, MessageRows, MessageSet, StreamMessagesResponse
from restante.v1.types_pb2 import IdRange, MessageIdSet, UidSet


class WholeBatches:
    """Yields batches in which no cell is cut. A batch with a cut cell is held until the last piece has arrived."""

    def __init__(self) -> None:
        self._batch: MessageRows | None = None
        self._growing: dict[int, bytearray] = {}  # {section: the cut cell of the last message}

    def add(self, response: StreamMessagesResponse) -> Iterator[MessageRows]:
        """Add a response, and yield the batches that it completes."""
        if response.HasField("rest") and self._batch is not None:
            self._continue(response)
        elif response.HasField("rows"):
            yield from self.end()
            self._batch = response.rows
            self._growing = {
                index: bytearray(cells.octets[-1])
                for index, cells in enumerate(response.rows.sections)
                if cells.octets and len(cells.octets[-1]) < cells.total_octets[-1]
            }
        if not self._growing:
            yield from self.end()

    def end(self) -> Iterator[MessageRows]:
        """Yield the last batch, at the end of the stream. A message that was deleted during the read stays cut."""
        if self._batch is not None:
            for index, octets in self._growing.items():
                self._batch.sections[index].octets[-1] = bytes(octets)
            yield self._batch
        self._batch, self._growing = None, {}

    def _continue(self, response: StreamMessagesResponse) -> None:
        index = response.rest.section_index
        cell = self._growing.get(index)
        if self._batch is None or cell is None:
            return
        cell += response.rest.octets
        cells = self._batch.sections[index]
        if len(cell) >= cells.total_octets[-1]:
            cells.octets[-1] = bytes(self._growing.pop(index))


def is_empty(messages: MessageSet) -> bool:
    """Whether a set names no messages."""
    return not messages.HasField("matching") and not messages.uids.ranges and not messages.ids.message_ids


def behind(messages: MessageSet, batch: MessageRows) -> MessageSet:
    """The messages of a set that follow a batch; batches arrive in ascending order of UIDs or message ids."""
    if messages.HasField("matching"):
        return MessageSet(matching=_matching_behind(messages.matching, batch)) if batch.message_ids else messages
    if messages.HasField("uids"):
        if not batch.uids:
            return messages
        last, given = batch.uids[-1], messages.uids
        ranges = [IdRange(first=max(run.first, last + 1), last=run.last) for run in given.ranges if run.last > last]
        return MessageSet(uids=UidSet(folder_id=given.folder_id, ranges=ranges))
    if not batch.message_ids:
        return messages
    return MessageSet(
        ids=MessageIdSet(message_ids=[id for id in messages.ids.message_ids if id > batch.message_ids[-1]])
    )


def _matching_behind(matching: MatchingMessages, batch: MessageRows) -> MatchingMessages:
    left = MatchingMessages()
    left.CopyFrom(matching)
    left.above = batch.uids[-1] if matching.folder_id else batch.message_ids[-1]
    return left
