"""Text of a content in pieces: preview, text for search, attachments. *Pure.*

It decodes only text parts, so the size of attachments does not matter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from restante_mail.header.fields import fields, raw_fields, unfold, wanted
from restante_mail.header.words import decode_text
from restante_mail.mime import transfer
from restante_mail.mime.parts import Part
from restante_mail.octets import Buffer, take
from restante_mail.text.charsets import TextDecoder
from restante_mail.text.html import TextOfHtml

__all__ = ["Attachment", "attachments", "decoded", "field_values", "header_text", "part_text", "preview", "text_chunks"]

_CHUNK = 1 << 16  # octets read at a time
_PREVIEW_CHUNK = 1_024
_PREVIEW_OCTETS = 1 << 16  # at most read of one part for a preview
_HEADER_TEXT_OCTETS = 1 << 20
_SUBJECT = wanted("subject")
_SIGNATURES = frozenset(("application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature"))
_SHOWN = frozenset(("text/plain", "text/html"))
_SHOWN_BY_HTML = frozenset(("image", "audio", "video", "font"))
_REPORTS = frozenset(("delivery-status", "disposition-notification", "external-body", "partial", "feedback-report"))
_INVISIBLE = re.compile("[\u00ad\u034f\u200b-\u200f\u2060\ufeff]")  # mail programs pad previews with these


class Attachment(NamedTuple):
    """An attachment. `octets` is its encoded size; `path` is its part number."""

    path: tuple[int, ...]
    name: str  # as sent, may be empty
    media_type: str
    octets: int


def decoded(buffer: Buffer, part: Part, limit: int | None = None, chunk: int = _CHUNK) -> Iterator[bytes]:
    """The decoded body of a leaf, in pieces; at most `limit` encoded octets are read.

    Malformed encodings are decoded as far as possible (RFC 2045 6.7 and 6.8); an unknown one gives the raw octets.
    """
    end = part.body_end if limit is None else min(part.body_end, part.body_start + limit)
    raw = (take(buffer, at, min(at + chunk, end)) for at in range(part.body_start, end, chunk))
    return transfer.decoded(part.encoding, raw)


def part_text(buffer: Buffer, part: Part, limit: int | None = None, chunk: int = _CHUNK) -> Iterator[str]:
    """The visible text of one text part, in pieces: decoded, and without markup if it is HTML."""
    decoder = TextDecoder(part.charset)
    markup = TextOfHtml() if part.media_type == "text/html" else None
    for octets in decoded(buffer, part, limit, chunk):
        text = decoder.feed(octets)
        yield markup.feed(text) if markup else text
    text = decoder.feed(b"", final=True)
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
    plain = html = None
    for part in _shown(tree):
        if part.media_type == "text/plain":
            plain = plain or part
        elif part.media_type == "text/html":
            html = html or part
        if plain:
            break
    text = _beginning(buffer, plain, characters) if plain else ""
    if not text and plain and not html:
        html = next((part for part in _shown(tree) if part.media_type == "text/html"), None)
    return text or (_beginning(buffer, html, characters) if html else "")


def _shown(tree: Part) -> Iterator[Part]:
    """Leaves shown with the message: neither attachments nor parts of embedded messages."""
    waiting = [tree]
    while waiting:
        part = waiting.pop()
        if part.is_multipart:
            waiting.extend(reversed(part.children))
        elif not part.is_message and not (part.content and part.disposition == "attachment"):
            yield part


def _beginning(buffer: Buffer, part: Part, characters: int) -> str:
    text = ""
    for piece in part_text(buffer, part, _PREVIEW_OCTETS, _PREVIEW_CHUNK):
        if not piece.isascii():
            piece = _INVISIBLE.sub("", piece)
        text = " ".join((text + piece).split()) + (" " if piece[-1:].isspace() else "")
        if len(text) > characters:
            break
    return text[:characters].strip()


def attachments(buffer: Buffer, tree: Part) -> list[Attachment]:
    """The attachments in order. An embedded message is one attachment, including its own attachments."""
    found: list[Attachment] = []
    waiting: list[tuple[tuple[int, ...], Part, bool]] = [((), tree, False)]
    while waiting:
        path, part, in_html = waiting.pop()
        if part.is_multipart:
            below = part.media_type == "multipart/related" and _has_html(part)
            waiting.extend(reversed([((*path, at), child, below) for at, child in enumerate(part.children, 1)]))
        elif _is_attachment(part, in_html):
            found.append(Attachment(path or (1,), _name(buffer, part), part.media_type, part.octets))
    return found


def _has_html(related: Part) -> bool:
    """Whether a multipart/related has HTML, directly or as one of several alternatives."""
    forms = [form for child in related.children for form in (child, *child.children)]
    return any(form.media_type == "text/html" for form in forms)


def _is_attachment(part: Part, in_html: bool) -> bool:
    """Whether the part is an attachment. Not attachments are text without a file name, parts that related HTML shows
    (`in_html`), signatures, and the machine-readable parts of reports."""
    media_type = part.media_type
    if not part.content:
        return media_type not in _SHOWN
    if media_type in _SIGNATURES:
        return False
    if part.disposition == "attachment":
        return True
    kind, _, subkind = media_type.partition("/")
    if media_type in _SHOWN or (kind == "message" and subkind in _REPORTS):
        return bool(part.filename)
    return not (in_html and part.content_id and (kind in _SHOWN_BY_HTML or media_type == "text/css"))


def _name(buffer: Buffer, part: Part) -> str:
    name = part.filename
    if not name and part.is_message and part.children:  # the name of an embedded message is its subject
        inner = part.children[0]
        block = take(buffer, inner.header_start, min(inner.body_start, inner.header_start + 65_536))
        subjects = raw_fields(block, _SUBJECT, 8_192).get("subject", [""])
        name = decode_text(subjects[0])
    return name
