"""Conversion of columnar batches to one value for each message. *Pure.*"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone

from restante.parts import Part, part_of
from restante.v1.checks_pb2 import MessageChecks
from restante.v1.message_pb2 import MessageColumn, MessageRows
from restante.v1.types_pb2 import Flag, MessageSummary

LISTING = (
    MessageColumn.MESSAGE_COLUMN_FLAGS,
    MessageColumn.MESSAGE_COLUMN_CHANGE_NUMBER,
    MessageColumn.MESSAGE_COLUMN_RECEIVED_AT,
    MessageColumn.MESSAGE_COLUMN_SIZE,
    MessageColumn.MESSAGE_COLUMN_SUMMARY,
    MessageColumn.MESSAGE_COLUMN_PREVIEW,
    MessageColumn.MESSAGE_COLUMN_FOLDER,
    MessageColumn.MESSAGE_COLUMN_CHECKS,
)
"""The columns for a list of messages."""

FLAGS = {
    "seen": Flag.FLAG_SEEN,
    "answered": Flag.FLAG_ANSWERED,
    "flagged": Flag.FLAG_FLAGGED,
    "deleted": Flag.FLAG_DELETED,
    "draft": Flag.FLAG_DRAFT,
}
"""Names of the flag bits."""

WITHOUT_PARTS = Part(number=(), media_type="")
"""The parts of a Message for which they were not requested."""


@dataclass(frozen=True, slots=True)
class Message:
    """Facts of one message; columns outside the request have their defaults."""

    message_id: int
    uid: int = 0
    folder_id: int = 0
    flags: int = 0  # sum of Flag bits
    keywords: tuple[str, ...] = ()
    change_number: int = 0
    received_at: datetime | None = None  # in the zone it was received in
    size_octets: int = 0
    summary: MessageSummary = field(default_factory=MessageSummary)
    preview: str = ""
    attachment_count: int = 0
    body_structure: bytes = b""
    envelope: bytes = b""
    parts: Part = WITHOUT_PARTS  # the whole message, with the parts in it
    checks: MessageChecks = field(default_factory=MessageChecks)  # at reception; empty: not checked

    @property
    def seen(self) -> bool:
        """Whether it has been read."""
        return bool(self.flags & Flag.FLAG_SEEN)

    @property
    def flag_names(self) -> tuple[str, ...]:
        """Names of its flags, in the order of their bits, then its keywords."""
        return (*(name for name, bit in FLAGS.items() if self.flags & bit), *self.keywords)


def received(seconds: int, offset_minutes: int) -> datetime:
    """A received time in its zone, or in UTC when the offset is not a possible zone."""
    zone = timezone(timedelta(minutes=offset_minutes)) if abs(offset_minutes) < 24 * 60 else UTC
    return datetime.fromtimestamp(seconds, zone)


def messages(rows: MessageRows) -> Iterator[Message]:
    """One value for each message of a batch, in its order."""
    keywords = [tuple(entry.keywords) for entry in rows.keyword_table]
    for index, message_id in enumerate(rows.message_ids):
        yield Message(
            message_id=message_id,
            uid=rows.uids[index] if rows.uids else 0,
            folder_id=rows.folder_ids[index] if rows.folder_ids else 0,
            flags=rows.flags[index] if rows.flags else 0,
            keywords=keywords[rows.keyword_sets[index]] if rows.keyword_sets and keywords else (),
            change_number=rows.change_numbers[index] if rows.change_numbers else 0,
            received_at=_received(rows, index),
            size_octets=rows.size_octets[index] if rows.size_octets else 0,
            summary=rows.summaries[index] if rows.summaries else MessageSummary(),
            preview=rows.previews[index] if rows.previews else "",
            attachment_count=rows.attachment_counts[index] if rows.attachment_counts else 0,
            body_structure=rows.body_structures[index] if rows.body_structures else b"",
            envelope=rows.envelopes[index] if rows.envelopes else b"",
            parts=part_of(rows.parts[index]) if rows.parts else WITHOUT_PARTS,
            checks=rows.checks[index] if rows.checks else MessageChecks(),
        )


def _received(rows: MessageRows, index: int) -> datetime | None:
    if not rows.received_at_seconds:
        return None
    offset = rows.received_offset_minutes[index] if rows.received_offset_minutes else 0
    return received(rows.received_at_seconds[index], offset)
