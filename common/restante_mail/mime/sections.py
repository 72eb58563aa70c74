"""The offsets of a stored message's sections, by part number (RFC 3501 6.4.5). *Pure.*

A message is a head (the fields added by delivery) followed by a content. Offsets of a tree count within the content.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence

from restante_mail.mime.parts import Part, decode, root_offsets

__all__ = ["Kind", "begins_with_head", "find_part", "parse_section", "section", "stored_section"]


class Kind(enum.Enum):
    """The octets of a part that a section has: BODY[1], BODY[1.HEADER], BODY[1.TEXT], BODY[1.MIME]."""

    WHOLE = ""
    HEADER = "HEADER"
    TEXT = "TEXT"
    MIME = "MIME"


_SECTION = re.compile(r"((?:[1-9][0-9]{0,9}(?:\.[1-9][0-9]{0,9}){0,999})?)\.?(HEADER|TEXT|MIME|)", re.IGNORECASE)


def parse_section(text: str) -> tuple[tuple[int, ...], Kind] | None:
    """Parse a section without fields, such as "", "HEADER" or "1.2.MIME", to path and kind; None if malformed."""
    match = _SECTION.fullmatch(text)
    if match is None or text.startswith(".") or text.endswith("."):
        return None
    path = tuple(int(number) for number in match[1].split(".")) if match[1] else ()
    kind = Kind(match[2].upper())
    if path and kind is not Kind.WHOLE and "." + match[2] != text[len(match[1]) :]:
        return None
    return None if kind is Kind.MIME and not path else (path, kind)


def find_part(tree: Part, path: Sequence[int]) -> Part | None:
    """The part with this number; () is the root. Part 1 of a message without multipart is its text."""
    part, inside = tree, tree  # the next number is relative to `inside`
    for depth, number in enumerate(path):
        if depth:
            if part.is_message and part.children:
                inside = part.children[0]
            elif part.is_multipart and part is not inside:
                inside = part
            else:
                return None
        if inside.is_multipart:
            if not 1 <= number <= len(inside.children):
                return None
            part = inside.children[number - 1]
        elif number == 1:
            part = inside
        else:
            return None
    return part


def section(tree: Part, path: Sequence[int], kind: Kind = Kind.WHOLE) -> tuple[int, int] | None:
    """(offset, length) in the content, or None if the section does not exist. RFC 3501 6.4.5."""
    part = find_part(tree, path)
    if part is None:
        return None
    if path:
        if kind is Kind.MIME:
            return part.header_start, part.body_start - part.header_start
        if kind is Kind.WHOLE:
            return part.body_start, part.octets
        if not (part.is_message and part.children):  # HEADER and TEXT of a part refer to its embedded message
            return None
        part = part.children[0]
    return _of_message(part.header_start, part.body_start, part.body_end, kind)


def stored_section(stored: bytes, path: Sequence[int], kind: Kind = Kind.WHOLE) -> tuple[int, int] | None:
    """As `section`, for the stored form of a tree. Decodes the tree only to find a part."""
    return section(decode(stored), path, kind) if path else _of_message(*root_offsets(stored), kind)


def _of_message(header_start: int, body_start: int, body_end: int, kind: Kind) -> tuple[int, int] | None:
    if kind is Kind.WHOLE:
        return header_start, body_end - header_start
    if kind is Kind.HEADER:
        return header_start, body_start - header_start
    if kind is Kind.TEXT:
        return body_start, body_end - body_start
    return None


def begins_with_head(path: Sequence[int], kind: Kind) -> bool:
    """Whether the head comes before these octets of the content: in the whole message and in its header."""
    return not path and kind in (Kind.WHOLE, Kind.HEADER)
