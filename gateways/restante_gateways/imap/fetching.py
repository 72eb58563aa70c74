"""Carrying FETCH out: which calls it takes, and rows to responses as they come."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from restante import errors
from restante.v1 import message_pb2, methods, types_pb2
from restante_gateways.imap.errors import Refusal
from restante_gateways.imap.grammar.fetch import FetchFact, FetchItem, FetchSection, SectionText
from restante_gateways.imap.grammar.flags import SystemFlag
from restante_gateways.imap.grammar.responses import NO
from restante_gateways.imap.grammar.sets import Range, Span
from restante_gateways.imap.view.departed import Lapsed
from restante_gateways.imap.view.rows import BrokenRows, RowWriter
from restante_gateways.net.connection import ConnectionLost

if TYPE_CHECKING:
    from restante_gateways.imap.session import Session

VIEW_FACTS = frozenset((FetchFact.FLAGS, FetchFact.UID, FetchFact.MODSEQ))
_COLUMNS = {
    FetchFact.INTERNALDATE: message_pb2.MESSAGE_COLUMN_RECEIVED_AT,
    FetchFact.SIZE: message_pb2.MESSAGE_COLUMN_SIZE,
    FetchFact.ENVELOPE: message_pb2.MESSAGE_COLUMN_ENVELOPE,
    FetchFact.BODY: message_pb2.MESSAGE_COLUMN_BODY,
    FetchFact.BODYSTRUCTURE: message_pb2.MESSAGE_COLUMN_BODY_STRUCTURE,
}
_KINDS = {
    SectionText.WHOLE: message_pb2.SECTION_KIND_WHOLE,
    SectionText.HEADER: message_pb2.SECTION_KIND_HEADER,
    SectionText.HEADER_FIELDS: message_pb2.SECTION_KIND_HEADER_FIELDS,
    SectionText.HEADER_FIELDS_NOT: message_pb2.SECTION_KIND_HEADER_FIELDS_NOT,
    SectionText.TEXT: message_pb2.SECTION_KIND_TEXT,
    SectionText.MIME: message_pb2.SECTION_KIND_MIME,
}
_MAX_SECTIONS = 32  # of one request
_FEW_ROWS = 50  # up to here one operation of a batch is cheaper than a stream of its own
_FEW_CELLS = 4
_MOST_MESSAGE_IDS = 1_000  # of one request


async def fetch(s: Session, spans: list[Span], items: tuple[FetchItem, ...]) -> None:
    """Write a FETCH response for each message at these positions.

    What was removed, though the client was not told yet, is read by its message id, wherever it is now: RFC 2180 4.1.2.
    Raises Lapsed when the core has nothing of it any more.
    """
    if VIEW_FACTS.issuperset(items):
        await _fetch_from_view(s, spans, items)
        return
    sections = [item for item in items if isinstance(item, FetchSection)]
    if len(sections) > _MAX_SECTIONS:
        raise Refusal(NO("Too many sections at once.", b"LIMIT"))
    seen_now: list[Range] = []
    if not s.view.read_only and any(section.sets_seen for section in sections):
        seen_now = await _mark_seen(s, spans)
    writer = RowWriter(s.view, items, seen_now, s.condstore)
    wanted = message_pb2.StreamMessagesRequest(
        columns=[_COLUMNS[item] for item in items if isinstance(item, FetchFact) and item in _COLUMNS],
        sections=map(_section, sections),
    )
    try:
        if there := s.view.still_there(spans):
            wanted.messages.CopyFrom(s.message_set(there))
            await _write_rows(s, writer, wanted, sum(stop - first for first, stop in there))
        removed = list(s.view.message_ids(writer.missing(spans)).items())
        for start in range(0, len(removed), _MOST_MESSAGE_IDS):
            some = dict(removed[start : start + _MOST_MESSAGE_IDS])
            writer.expect(some)
            wanted.messages.CopyFrom(types_pb2.MessageSet(message_ids=some))
            wanted.include_removed = True
            await _write_rows(s, writer, wanted, len(some))
    except (errors.RestanteError, BrokenRows):
        if not writer.unfinished:
            raise
        s.connection.abort()  # whatever we said now, the client would take for the rest of the message
        raise ConnectionLost from None
    if writer.missing(spans):
        raise Lapsed


async def _write_rows(s: Session, writer: RowWriter, wanted: message_pb2.StreamMessagesRequest, count: int) -> None:
    async for answer in _rows(s, wanted, count):
        if isinstance(answer, message_pb2.SectionRest):
            s.write(writer.continued(answer))
        else:
            s.write(writer.batch(answer))
        await s.flow()
    writer.finish()


async def _fetch_from_view(s: Session, spans: list[Span], items: tuple[FetchItem, ...]) -> None:
    with_uid, with_change_number = FetchFact.UID in items, FetchFact.MODSEQ in items
    if FetchFact.FLAGS in items:
        blocks = s.view.flag_responses(spans, with_uid, with_change_number)
    else:
        blocks = s.view.number_responses(spans, with_uid, with_change_number)
    await s.write_blocks(blocks)


async def _mark_seen(s: Session, spans: list[Span]) -> list[Range]:
    """Mark what is unread as read, and say what that was: its FETCH bears the new FLAGS (RFC 3501 6.4.5)."""
    view = s.view
    before, unseen = view.folder.change_number, view.without_flag(SystemFlag.SEEN, view.still_there(spans))
    if not unseen:
        return []
    response = await s.call(
        methods.UPDATE_MESSAGES,
        message_pb2.UpdateMessagesRequest(
            messages=s.message_set(unseen),
            operation=message_pb2.FLAG_OPERATION_ADD,
            flags=int(SystemFlag.SEEN),
            changes_since=s.changes_since(unseen),
        ),
        follow=False,
    )
    marked = view.uid_ranges(unseen)
    await s.absorb(response.changes, response.commit)
    view.note_own_change(before, response.commit.change_number, marked)
    return marked


async def _rows(
    s: Session, wanted: message_pb2.StreamMessagesRequest, count: int
) -> AsyncIterator[message_pb2.MessageRows | message_pb2.SectionRest]:
    """Batches of rows, and what continues their last cells: by one operation for a little, by a stream for much."""
    if count <= _FEW_ROWS and count * len(wanted.sections) <= _FEW_CELLS:
        request = message_pb2.BatchGetMessagesRequest(
            messages=wanted.messages,
            columns=wanted.columns,
            sections=wanted.sections,
            include_removed=wanted.include_removed,
        )
        try:
            yield (await s.call(methods.BATCH_GET_MESSAGES, request)).rows
            return
        except errors.ResultTooLarge:
            pass  # the stream has no such limit
    async for answer in s.stream_messages(wanted):
        yield answer.rest if answer.HasField("rest") else answer.rows


def _section(item: FetchSection) -> message_pb2.Section:
    section = message_pb2.Section(
        part=item.section.part,
        kind=_KINDS[item.section.text],
        fields=[name.decode("ascii", "replace") for name in item.section.fields],
    )
    if item.partial is not None:
        section.offset_octets, section.length_octets = item.partial.offset, item.partial.count
    return section
