"""Changes of a header that copy the body at most once. *Pure.*

An edit has the ranges to remove and the octets to prepend; all other octets stay unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime

from restante_mail.header.authres import authserv_id, comparable_id
from restante_mail.header.fields import Field, fields, header_end, unfold
from restante_mail.octets import Buffer, take

__all__ = ["HeaderEdit", "received_edit", "resending_completed", "submission_edit"]

_OURS_ALONE = frozenset((b"return-path", b"delivered-to"))
_BLIND = frozenset((b"bcc", b"resent-bcc"))


@dataclass(frozen=True, slots=True)
class HeaderEdit:
    """Prepend `front`, and remove `drops`, the ascending ranges [start, end) of the content."""

    front: bytes = b""
    drops: tuple[tuple[int, int], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.front or self.drops)

    def kept(self, octets: int) -> Iterator[tuple[int, int]]:
        """The remaining ranges of a content of `octets`, in order, for a caller that streams them."""
        at = 0
        for start, end in self.drops:
            if at < start:
                yield at, start
            at = end
        if at < octets:
            yield at, octets

    def apply(self, content: Buffer) -> bytes:
        """The edited content, with each octet copied once. An empty edit returns bytes as the same object."""
        if not self and isinstance(content, bytes):
            return content
        view = memoryview(content)
        return b"".join([self.front, *(view[start:end] for start, end in self.kept(len(content)))])


def submission_edit(content: Buffer, now: datetime, message_id: str, author: str) -> HeaderEdit:
    """The edit of a submitted message (RFC 6409 8).

    It removes Bcc and Resent-Bcc, and adds a missing From (`author`, an address), Date (`now`, aware) and Message-ID
    (`message_id`, without brackets).
    """
    block = _block(content)
    present: set[bytes] = set()

    def drop(field: Field) -> bool:
        name = field.name.lower()
        present.add(name)
        return name in _BLIND

    drops = _ranges(block, drop)
    front = b""
    if b"from" not in present:
        front += b"From: " + author.encode("utf-8") + b"\r\n"
    if b"date" not in present:
        front += b"Date: " + format_datetime(now).encode("ascii") + b"\r\n"
    if b"message-id" not in present:
        front += b"Message-ID: <" + message_id.encode("utf-8") + b">\r\n"
    if not present and not block.startswith(b"\r\n"):
        front += b"\r\n"  # no header: without a blank line the text would follow the added fields
    return HeaderEdit(front, drops)


def resending_completed(header: bytes, now: datetime, message_id: str) -> bytes:
    """The header of a resent message with the missing fields of its latest resending (RFC 5322 3.6.6).

    These are Resent-Date (`now`, aware), which is required, and Resent-Message-ID (`message_id`, without brackets),
    added above its other Resent fields. If that resending has no Resent-From, the header is returned unchanged.
    """
    if b"resent-from" not in header.lower():
        return header
    start, present = -1, set[bytes]()
    for field in fields(header):
        name = field.name.lower()
        if name.startswith(b"resent-"):
            start = field.start if start < 0 else start
            present.add(name)
        elif start >= 0:
            break  # the fields of one resending are adjacent, above those of earlier ones
    if b"resent-from" not in present:
        return header
    missing = b""
    if b"resent-date" not in present:
        missing += b"Resent-Date: " + format_datetime(now).encode("ascii") + b"\r\n"
    if b"resent-message-id" not in present:
        missing += b"Resent-Message-ID: <" + message_id.encode("utf-8") + b">\r\n"
    return header[:start] + missing + header[start:]


def received_edit(content: Buffer, authserv_ids: Collection[str]) -> HeaderEdit:
    """The edit that removes forged fields of a received message: Return-Path and Delivered-To, which only final
    delivery may write (RFC 5321 4.4), and Authentication-Results with one of `authserv_ids` (RFC 8601 5).

    Detect loops before, since they need Delivered-To.
    """
    ours = {comparable_id(name) for name in authserv_ids}
    block = _block(content)

    def drop(field: Field) -> bool:
        name = field.name.lower()
        if name == b"authentication-results":
            return authserv_id(unfold(block[field.value_start : field.end])) in ours
        return name in _OURS_ALONE

    return HeaderEdit(drops=_ranges(block, drop))


def _block(content: Buffer) -> bytes:
    return take(content, 0, header_end(content))


def _ranges(block: bytes, drop: Callable[[Field], bool]) -> tuple[tuple[int, int], ...]:
    ranges: list[tuple[int, int]] = []
    for field in fields(block):
        if drop(field):
            if ranges and ranges[-1][1] == field.start:
                ranges[-1] = (ranges[-1][0], field.end)
            else:
                ranges.append((field.start, field.end))
    return tuple(ranges)
