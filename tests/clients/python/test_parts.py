"""Part trees as values, messages from columns, conditions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from restante import query, rows
from restante.calls import Calls
from restante.contents import Contents
from restante.link import CoreLink
from restante.parts import Part, part_of
from restante.target import Target
from restante.v1.message_pb2 import MessagePart, MessageRows, SectionDecoding
from restante.v1.search_pb2 import FlagRestriction, Restriction
from restante.v1.types_pb2 import KeywordSet, MessageSummary

PLAIN = MessagePart(part=[1, 1], media_type="text/plain", charset="utf-8", transfer_encoding="base64", size_octets=9)
HTML = MessagePart(part=[1, 2], media_type="text/html")
PDF = MessagePart(part=[2], media_type="application/pdf", file_name="a.pdf", disposition="inline", attachment=True)
INNER = MessagePart(part=[3, 1], media_type="text/plain", file_name="inner.txt", attachment=True)
ATTACHED = MessagePart(
    part=[3],
    media_type="message/rfc822",
    attachment=True,
    summary=MessageSummary(subject="inner"),
    parts=[MessagePart(part=[3], media_type="multipart/mixed", parts=[INNER])],
)
TREE = MessagePart(
    media_type="multipart/mixed",
    parameters={"boundary": "b"},
    parts=[MessagePart(part=[1], media_type="multipart/alternative", parts=[PLAIN, HTML]), PDF, ATTACHED],
)


def labels(parts: list[Part]) -> list[str]:
    return [part.label for part in parts]


def test_a_part_has_the_properties_of_its_message() -> None:
    part = part_of(PLAIN)
    assert (part.number, part.media_type, part.charset, part.encoding) == ((1, 1), "text/plain", "utf-8", "base64")
    assert (part.size_octets, part.summary, part.children, part.is_attachment) == (9, None, (), False)
    assert (part_of(PDF).file_name, part_of(PDF).disposition) == ("a.pdf", "inline")
    assert part_of(TREE).parameters == {"boundary": "b"}


def test_parts_are_walked_in_order() -> None:
    tree = part_of(TREE)
    assert labels(list(tree.walk())) == ["0", "1", "1.1", "1.2", "2", "3", "3", "3.1"]
    assert labels(list(tree.of_message())) == ["0", "1", "1.1", "1.2", "2", "3"]


def test_an_attached_message_is_one_attachment_and_has_its_own() -> None:
    tree = part_of(TREE)
    assert labels(list(tree.attachments())) == ["2", "3"]
    attached = tree.children[2]
    assert attached.summary is not None
    assert attached.summary.subject == "inner"
    assert labels(list(attached.children[0].attachments())) == ["3.1"]


def test_text_is_found_outside_of_attachments_and_attached_messages() -> None:
    tree = part_of(TREE)
    text, html = tree.find("text/plain"), tree.find("text/html")
    assert text is not None
    assert html is not None
    assert (text.label, html.label) == ("1.1", "1.2")
    assert tree.find("application/pdf") is None
    assert part_of(ATTACHED).find("text/plain") is None


def test_a_section_of_a_part_is_decoded_unless_asked_otherwise() -> None:
    part = part_of(PDF)
    assert list(part.section().part) == [2]
    assert part.section().decoding == SectionDecoding.SECTION_DECODING_TRANSFER
    stored = part.section(SectionDecoding.SECTION_DECODING_UNSPECIFIED)
    assert stored.decoding == SectionDecoding.SECTION_DECODING_UNSPECIFIED


async def test_a_multipart_has_no_octets_of_its_own() -> None:
    link = CoreLink(Target("unix:/nowhere"))
    try:
        contents = Contents(Calls(link))
        with pytest.raises(ValueError, match=r"part 1 is a multipart/alternative"):
            await contents.read_text(7, part_of(TREE).children[0])
        with pytest.raises(ValueError, match=r"part 0 is a multipart/mixed"):
            await anext(contents.stream_part(7, part_of(TREE)))
    finally:
        await link.close()


def test_columns_that_were_not_asked_for_are_left_at_their_defaults() -> None:
    (message,) = rows.messages(MessageRows(message_ids=[7], uids=[3]))
    assert (message.message_id, message.uid, message.flag_names, message.received_at) == (7, 3, (), None)


def test_columns_become_messages() -> None:
    batch = MessageRows(
        message_ids=[7, 9],
        uids=[3, 4],
        flags=[1, 6],
        keyword_sets=[0, 1],
        keyword_table=[KeywordSet(), KeywordSet(keywords=["$Work"])],
        received_at_seconds=[0, 3600],
        received_offset_minutes=[0, 120],
        summaries=[MessageSummary(subject="a"), MessageSummary(subject="b")],
        parts=[PLAIN, TREE],
    )
    first, second = rows.messages(batch)
    assert first.seen
    assert second.flag_names == ("answered", "flagged", "$Work")
    assert second.received_at == datetime(1970, 1, 1, 3, tzinfo=timezone(timedelta(hours=2)))
    assert [first.summary.subject, second.summary.subject] == ["a", "b"]
    assert [first.parts, second.parts] == [part_of(PLAIN), part_of(TREE)]


def test_conditions_are_written_short() -> None:
    since = datetime(2026, 1, 1, tzinfo=UTC)
    found = query.all_of(query.unread(), query.any_of(query.text("from", "x"), query.negation(query.larger(9))))
    assert [each.WhichOneof("condition") for each in found.all_of.restrictions] == ["flags", "any_of"]
    assert query.all_of(query.keyword("$Work")) == query.keyword("$Work")
    assert query.received(since=since).time.not_before.seconds == int(since.timestamp())
    assert not query.received(since=since).time.HasField("before")
    assert query.flag("flagged") == Restriction(flags=FlagRestriction(mask=4, value=4))
