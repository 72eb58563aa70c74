"""Server streams that resume after a broken connection, at another core if there is one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from restante import errors
from restante.bulk import behind, is_empty
from restante.v1.message_pb2 import (
    MessageRows,
    MessageSet,
    Section,
    SectionRest,
    StreamMessagesRequest,
    StreamMessagesResponse,
)
from restante.v1.types_pb2 import IdRange, MessageIdSet, UidSet
from restante_gateways.core.retry import Pauses, is_temporary

PATIENCE_SECONDS = 5.0  # for an unreachable core, since the last response

OpenMessages = Callable[[StreamMessagesRequest], AsyncIterator[StreamMessagesResponse]]


async def messages(
    open_stream: OpenMessages, request: StreamMessagesRequest, patience_seconds: float = PATIENCE_SECONDS
) -> AsyncIterator[StreamMessagesResponse]:
    """Run StreamMessages, resuming after the last octet received. Message contents never change, so the octets fit.

    Raises the core's refusal, the stream's error if no core answers in time, and MessageNotFound if the interrupted
    message no longer exists.
    """
    progress, pauses = _Progress(request), Pauses(patience_seconds)
    while True:
        cut = progress.cut_request()
        try:
            async for response in open_stream(progress.request() if cut is None else cut):
                pauses.begin_anew()
                for responses in progress.take(response) if cut is None else progress.take_cut(response):
                    yield responses
            if cut is None:
                return
            if progress.cut_request() is not None:
                raise errors.MessageNotFound
            if not progress.is_left:
                return
        except errors.RestanteError as error:
            if not progress.is_resumable or not is_temporary(error) or not await pauses.wait():
                raise


class _Progress:
    """The progress of a stream. *Pure.*"""

    def __init__(self, request: StreamMessagesRequest) -> None:
        self._request = request
        self._last: MessageRows | None = None
        self._missing: dict[int, int] = {}  # section index to octets of the last message not received yet
        self._sections: list[int] = []  # sections in the request for the rest of the last message
        self.is_resumable = True

    @property
    def _left(self) -> MessageSet:
        """The messages after the last one received."""
        return self._request.messages if self._last is None else behind(self._request.messages, self._last)

    @property
    def is_left(self) -> bool:
        """Whether any messages are left."""
        return not is_empty(self._left)

    def request(self) -> StreamMessagesRequest:
        """The request for the messages after the last one received."""
        request = StreamMessagesRequest()
        request.CopyFrom(self._request)
        request.messages.CopyFrom(self._left)
        return request

    def cut_request(self) -> StreamMessagesRequest | None:
        """The request for the missing octets of the last message; None if none are missing."""
        if not self._missing or self._last is None:
            return None
        self._sections = sorted(self._missing)
        request = StreamMessagesRequest(
            mailbox_id=self._request.mailbox_id,
            messages=self._one(self._last),
            columns=self._request.columns,
            sections=[self._rest_of(index) for index in self._sections],
            include_removed=self._request.include_removed,
        )
        return request

    def take(self, response: StreamMessagesResponse) -> tuple[StreamMessagesResponse, ...]:
        """Record a response to `request`, and return it for the caller."""
        if response.HasField("rest"):
            self._came(response.rest.section_index, len(response.rest.octets))
        elif response.HasField("rows"):
            rows = self._last = response.rows
            self.is_resumable = bool(rows.uids if self._request.messages.HasField("uids") else rows.message_ids)
            self._missing = {
                index: cells.total_octets[-1] - len(cells.octets[-1])
                for index, cells in enumerate(rows.sections)
                if cells.octets and len(cells.octets[-1]) < cells.total_octets[-1]
            }
        return (response,)

    def take_cut(self, response: StreamMessagesResponse) -> list[StreamMessagesResponse]:
        """Record a response to `cut_request`, and return it as continuations of the last message's cells."""
        pieces = [(response.rest.section_index, response.rest.octets)] if response.HasField("rest") else []
        if response.HasField("rows"):
            pieces = [(at, cells.octets[-1]) for at, cells in enumerate(response.rows.sections) if cells.octets]
        assert self._last is not None
        message_id = self._last.message_ids[-1]
        responses = []
        for at, octets in pieces:
            index = self._sections[at]
            if octets:
                rest = SectionRest(
                    message_id=message_id, section_index=index, offset_octets=self._offset(index), octets=octets
                )
                self._came(index, len(octets))
                responses.append(StreamMessagesResponse(rest=rest))
        return responses

    def _came(self, index: int, octets: int) -> None:
        left = self._missing.get(index, 0) - octets
        if left > 0:
            self._missing[index] = left
        else:
            self._missing.pop(index, None)

    def _offset(self, index: int) -> int:
        """The number of octets of a section received so far."""
        assert self._last is not None
        return self._last.sections[index].total_octets[-1] - self._missing.get(index, 0)

    def _rest_of(self, index: int) -> Section:
        section = Section()
        section.CopyFrom(self._request.sections[index])
        section.offset_octets = self._request.sections[index].offset_octets + self._offset(index)
        section.length_octets = self._missing[index]
        return section

    def _one(self, rows: MessageRows) -> MessageSet:
        folder_id = self._request.messages.uids.folder_id
        if folder_id:
            last = rows.uids[-1]
            return MessageSet(uids=UidSet(folder_id=folder_id, ranges=[IdRange(first=last, last=last)]))
        return MessageSet(ids=MessageIdSet(message_ids=[rows.message_ids[-1]]))
