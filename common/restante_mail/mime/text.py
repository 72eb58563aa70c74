"""Text of a content in pieces: preview, and text for search. *Pure.*

It decodes only text parts, so the size of attachments does not matter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from restante_mail.header.fields import fields, unfold
from restante_mail.header.words import decode_text
from restante_mail.mime.decoders import PartText, whole_text
from restante_mail.mime.parts import Part
from restante_mail.octets import Buffer, take
from restante_mail.text.html import TextOfHtml

__all__ = ["field_values", "header_text", "part_text", "preview", "text_chunks"]

_CHUNK = 1 << 16  # octets read at a time
_PREVIEW_CHUNK = 1_024
_PREVIEW_OCTETS = 1 << 16  # at most read of one part for a preview
_HEADER_TEXT_OCTETS = 1 << 20
_INVISIBLE = re.compile("[\u00ad\u034f\u200b-\u200f\u2060\ufeff]")  # mail programs pad previews with these


def part_text(buffer: Buffer, part: Part, limit: int | None = None, chunk: int = _CHUNK) -> Iterator[str]:
    """The visible text of one text part, in pieces: decoded, and without markup if it is HTML.

    Reads at most `limit` encoded octets.
    """
    markup = TextOfHtml() if part.fields.media_type == "text/html" else None
    end = part.body_end if limit is None else min(part.body_end, part.body_start + limit)
    if end - part.body_start <= chunk:
        text = whole_text(part, take(buffer, part.body_start, end))
        yield markup.feed(text, final=True) if markup else text
        return
    source = PartText(part)
    for at in range(part.body_start, end, chunk):
        text = source.feed(take(buffer, at, min(at + chunk, end)))
        yield markup.feed(text) if markup else text
    text = source.finish()
    yield markup.feed(text, final=True) if markup else text


def text_chunks(buffer: Buffer, tree: Part, limit: int | None = None) -> Iterator[str]:
    """The text of a body for search: all text parts, and the headers of embedded messages, separated by line ends.

    Reads at most `limit` encoded octets; the text ends there.
    """
    left = limit
    for part in tree.walk():
        if left is not None and left <= 0:
            return
        if part.media_type.startswith("text/"):
            yield from part_text(buffer, part, left)
            yield "\n"
            read = part.octets
        elif part.is_message and part.children:
            inner = part.children[0]
            most = _HEADER_TEXT_OCTETS if left is None else min(left, _HEADER_TEXT_OCTETS)
            block = take(buffer, inner.header_start, min(inner.body_start, inner.header_start + most))
            yield header_text(block)
            read = len(block)
        else:
            continue
        left = None if left is None else left - read


def header_text(block: bytes) -> str:
    """A header block as decoded text, one line for each field."""
    return "".join(
        f"{field.name.decode('ascii')}: {decode_text(unfold(block[field.value_start : field.end]))}\n"
        for field in fields(block)
    )


def field_values(block: bytes, name: str) -> list[str]:
    """The decoded values of the fields with this name, in order."""
    lowered = name.encode("latin-1", "replace").lower()
    return [
        decode_text(unfold(block[field.value_start : field.end]))
        for field in fields(block)
        if field.name.lower() == lowered
    ]


def preview(buffer: Buffer, tree: Part, characters: int = 200) -> str:
    """The first visible text in one line: from the first text/plain part, or if that is empty, the first text/html."""
    plain, html = _shown_texts(tree)
    text = _beginning(buffer, plain, characters) if plain else ""
    return text or (_beginning(buffer, html, characters) if html else "")


def _shown_texts(tree: Part) -> tuple[Part | None, Part | None]:
    """The first text/plain and the first text/html that are shown with the message: neither attachments nor parts of
    embedded messages."""
    plain = html = None
    waiting = [tree]
    while waiting and not (plain and html):
        part = waiting.pop()
        fields = part.fields
        if fields.is_multipart:
            waiting.extend(reversed(part.children))
        elif fields.is_text and fields.disposition != "attachment":
            if fields.media_type == "text/plain":
                plain = plain or part
            elif fields.media_type == "text/html":
                html = html or part
    return plain, html


def _beginning(buffer: Buffer, part: Part, characters: int) -> str:
    text = ""
    for piece in part_text(buffer, part, _PREVIEW_OCTETS, _PREVIEW_CHUNK):
        if not piece.isascii():
            piece = _INVISIBLE.sub("", piece)
        if not piece:
            continue
        text = " ".join((text + piece).split()) + (" " if piece[-1:].isspace() else "")
        if len(text) > characters:
            break
    return text[:characters].strip()
