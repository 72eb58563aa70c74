"""The parts of a message with their numbers, and the rule for attachments (RFC 9051 6.4.5.1). *Pure.*"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from restante_mail.mime.content_fields import ContentFields
from restante_mail.mime.parts import Part

__all__ = ["Numbered", "attachment_count", "numbered"]

_SIGNATURES = frozenset(("application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature"))
_SHOWN = frozenset(("text/plain", "text/html"))
_SHOWN_BY_HTML = frozenset(("image", "audio", "video", "font"))
_REPORTS = frozenset(("delivery-status", "disposition-notification", "external-body", "partial", "feedback-report"))


class Numbered(NamedTuple):
    """A part with its place in the tree."""

    number: tuple[int, ...]  # a multipart at the top of a message has that message's number, which is () for the root
    level: int  # 0 is the root
    part: Part
    attachment: bool  # an attachment of the message that it belongs to


def numbered(tree: Part, *, embedded: bool = True) -> Iterator[Numbered]:
    """The parts in the order of their octets, each before the parts in it.

    `embedded` False leaves out the parts of embedded messages.
    """
    waiting: list[tuple[tuple[int, ...], int, Part, bool]] = [(() if tree.is_multipart else (1,), 0, tree, False)]
    while waiting:
        number, level, part, in_html = waiting.pop()
        if part.is_multipart:
            yield Numbered(number, level, part, False)
            below = part.media_type == "multipart/related" and _has_html(part)
            children = enumerate(part.children, 1)
            waiting.extend(reversed([((*number, at), level + 1, child, below) for at, child in children]))
            continue
        yield Numbered(number, level, part, _is_attachment(part, in_html))
        if embedded and part.children:
            inner = part.children[0]
            waiting.append((number if inner.is_multipart else (*number, 1), level + 1, inner, False))


def attachment_count(tree: Part) -> int:
    """The number of attachments. An embedded message is one, with all its own attachments."""
    if not tree.fields.is_multipart:
        return int(_is_attachment(tree, in_html=False))
    count, waiting = 0, [tree]
    while waiting:
        part = waiting.pop()
        in_html = part.fields.media_type == "multipart/related" and _has_html(part)
        for child in part.children:
            fields = child.fields
            if fields.is_multipart:
                waiting.append(child)
            else:
                count += (fields.attachment or _attachment(fields))[in_html]
    return count


def _has_html(related: Part) -> bool:
    """Whether a multipart/related has HTML, directly or as one of several alternatives."""
    forms = [form for child in related.children for form in (child, *child.children)]
    return any(form.media_type == "text/html" for form in forms)


def _is_attachment(part: Part, in_html: bool) -> bool:
    """Whether the part is an attachment. Not attachments are text without a file name, parts that related HTML shows
    (`in_html`), signatures, and the machine-readable parts of reports."""
    return (part.fields.attachment or _attachment(part.fields))[in_html]


def _attachment(fields: ContentFields) -> tuple[bool, bool]:
    """Whether a part with these fields is an attachment, outside and inside of related HTML. Kept with the fields."""
    media_type = fields.media_type
    kind, _, subkind = media_type.partition("/")
    inside: bool | None = None
    if not fields.raw:
        outside = media_type not in _SHOWN
    elif media_type in _SIGNATURES:
        outside = False
    elif fields.disposition == "attachment":
        outside = True
    elif media_type in _SHOWN or (kind == "message" and subkind in _REPORTS):
        outside = bool(fields.filename)
    else:
        outside = True
        inside = not (fields.content_id and (kind in _SHOWN_BY_HTML or media_type == "text/css"))
    fields.attachment = outside, outside if inside is None else inside
    return fields.attachment
