"""The offsets of a stored message's sections, by part number (RFC 3501 6.4.5). *Pure.*

A message is a head (the fields added by delivery) followed by a content. Offsets of a tree count within the content.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from restante_mail.mime.parts import Part

__all__ = ["Kind", "Piece", "find_part", "parse_section", "pieces", "section"]


class Kind(enum.Enum):
    """The octets of a part that a section has: BODY[1], BODY[1.HEADER], BODY[1.TEXT], BODY[1.MIME]."""

    WHOLE = ""
    HEADER = "HEADER"
    TEXT = "TEXT"
    MIME = "MIME"


class Piece(NamedTuple):
    """`length` octets at `offset` of the head or of the content."""

    source: Literal["head", "content"]
    offset: int
    length: int


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
    if kind is Kind.WHOLE:
        return part.header_start, part.body_end - part.header_start
    if kind is Kind.HEADER:
        return part.header_start, part.body_start - part.header_start
    if kind is Kind.TEXT:
        return part.body_start, part.octets
    return None


def pieces(head_octets: int, tree: Part, path: Sequence[int] = (), kind: Kind = Kind.WHOLE) -> list[Piece] | None:
    """The octets of a delivered message's section, in order; None if the section does not exist. The whole message and
    its header include the head; all other sections are in the content alone."""
    found = section(tree, path, kind)
    if found is None:
        return None
    offset, length = found
    with_head = not path and kind in (Kind.WHOLE, Kind.HEADER) and head_octets > 0
    return [*([Piece("head", 0, head_octets)] if with_head else []), Piece("content", offset, length)]
