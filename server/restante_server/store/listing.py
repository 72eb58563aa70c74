"""The listing of a content: made once from its facts, and the same for every message that has the content."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from restante.v1.types_pb2 import MailAddress, MessageSummary
from restante_mail.header.addresses import Address, shown
from restante_mail.header.summary import Summary
from restante_mail.mime.facts import Facts
from restante_mail.text.fold import fold

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOST_ADDRESSES = 1_000  # kept of one header field, in a summary and in the folded keys
MOST_REFERENCES = 20  # kept in a summary
LONGEST_KEY = 2_000  # characters of a folded key
_FEW_ADDRESSES, _SHORT_ADDRESSES = 8, 512  # of a field that is kept: addresses, and characters of them together
_MICROSECOND = timedelta(microseconds=1)

# RFC 5256 2.1: marks of replies and forwarding, with their counters and mailing list blobs.
_LEADER = re.compile(r"(?:(?:\[[^\[\]]*+\]\s*+)*+(?:re|fwd?)\s*+(?:\[[^\[\]]*+\]\s*+)?+:\s*+)++")
_MARKED = ("re", "fw", "[")  # a mark at the beginning begins so; one at the end ends with ")"
_BLOB = re.compile(r"\[[^\[\]]*+\]\s*+(?=\S)")
_TRAILER = re.compile(r"(?:\(fwd\)|\s)+\Z")
_FORWARDED = re.compile(r"\[fwd:(.*)\]\Z", re.DOTALL)


class Listing(NamedTuple):
    """The columns of a `listing` row."""

    envelope: bytes
    body_structure: bytes
    body: bytes
    summary: bytes  # serialised restante.v1.MessageSummary
    preview: str
    attachment_count: int
    sent_at: int | None  # microseconds since 1970-01-01 UTC
    sent_offset_minutes: int
    subject_key: str
    sort_subject_key: str
    sort_from_key: str
    from_key: str
    to_key: str
    cc_key: str
    bcc_key: str
    checks: bytes = b""  # serialised restante.v1.MessageChecks of a received message; empty: not checked
    check_results: int = 0  # the results alone, see restriction.CheckMethod


def listing_of(facts: Facts) -> Listing:
    """The listing of a content. It takes about as long as storing the row: make it before the write is queued."""
    summary = facts.summary
    subject_key = fold(summary.subject)[:LONGEST_KEY]
    author = _people(summary.from_)
    return Listing(
        envelope=facts.envelope,
        body_structure=facts.body_structure,
        body=facts.body,
        summary=summary_message(summary).SerializeToString(),
        preview=storable(facts.preview),
        attachment_count=facts.attachment_count,
        sent_at=None if summary.sent_at is None else microseconds(summary.sent_at),
        sent_offset_minutes=summary.sent_offset_minutes,
        subject_key=storable(subject_key),
        sort_subject_key=storable(base_subject(subject_key)),
        sort_from_key=author.sort_key,
        from_key=author.key,
        to_key=_people(summary.to).key,
        cc_key=_people(summary.cc).key,
        bcc_key=_people(summary.bcc).key,
    )


def microseconds(moment: datetime) -> int:
    """An aware time as the tables hold it: microseconds since 1970-01-01 UTC."""
    return (moment - EPOCH) // _MICROSECOND


def base_subject(folded: str) -> str:
    """A folded subject without the marks of replies and forwarding. RFC 5256 2.1."""
    text = folded.strip()
    while text.startswith(_MARKED) or text.endswith(")"):
        before = text
        text = _LEADER.sub("", _TRAILER.sub("", text), count=1) if _LEADER.match(text) else _TRAILER.sub("", text)
        blob = _BLOB.match(text)
        if blob is not None:
            text = text[blob.end() :]
        forwarded = _FORWARDED.match(text)
        if forwarded is not None:
            text = forwarded[1]
        text = text.strip()
        if text == before:
            break
    return text


def summary_message(summary: Summary) -> MessageSummary:
    """The contract's summary of a header."""
    made = MessageSummary(
        subject=storable(summary.subject),
        internet_message_id=storable(f"<{summary.message_id}>" if summary.message_id else ""),
        in_reply_to=storable(f"<{summary.in_reply_to[0]}>" if summary.in_reply_to else ""),
    )
    if summary.sent_at is not None:
        since, sent_at = microseconds(summary.sent_at), made.sent_at
        sent_at.seconds, sent_at.nanos = since // 1_000_000, since % 1_000_000 * 1_000
    # Most messages have only some of these fields, and an empty one costs as much time as a full one.
    if summary.from_:
        _add(made.authors.add, summary.from_)
    if summary.sender:
        _add(made.sender.add, summary.sender)
    if summary.reply_to:
        _add(made.reply_to.add, summary.reply_to)
    if summary.to:
        _add(made.to.add, summary.to)
    if summary.cc:
        _add(made.cc.add, summary.cc)
    if summary.bcc:
        _add(made.bcc.add, summary.bcc)
    if summary.references:
        made.references.extend([storable(f"<{each}>") for each in _trimmed(summary.references)])
    if summary.list_id:
        made.list_id = storable(summary.list_id)
    return made


def _add(add: Callable[..., MailAddress], people: tuple[Address, ...]) -> None:
    for name, address, group in _people(people).addresses:
        add(display_name=name, address=address, group_name=group)


def _trimmed(references: tuple[str, ...]) -> tuple[str, ...]:
    """The references that a summary keeps: of many, the first, which began the thread, and the last ones."""
    if len(references) <= MOST_REFERENCES:
        return references
    return references[0], *references[1 - MOST_REFERENCES :]


class _People(NamedTuple):
    """One address field as a listing shows it, without the addresses above MOST_ADDRESSES."""

    addresses: list[Address]  # storable
    key: str  # all of them as one folded text, as the text conditions of a search compare it
    sort_key: str  # the first one folded


def _people(people: tuple[Address, ...]) -> _People:
    if not people:
        return _NOBODY
    few = len(people) <= _FEW_ADDRESSES and sum(len(one) for person in people for one in person) <= _SHORT_ADDRESSES
    return _known_people(people) if few else _as_shown(people)


def _as_shown(people: tuple[Address, ...]) -> _People:
    people = people[:MOST_ADDRESSES]
    return _People(
        [Address(storable(name), storable(address), storable(group)) for name, address, group in people],
        storable(fold(shown(people))),
        storable(fold(people[0].address)[:LONGEST_KEY]),
    )


_known_people = lru_cache(2_048)(_as_shown)  # the same few correspondents are in most mail
_NOBODY = _People([], "", "")


def storable(text: str) -> str:
    """The text without NUL, which PostgreSQL refuses, and without lone surrogates, which no database or protobuf
    takes."""
    if text.isascii():
        return text.replace("\0", "")
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
