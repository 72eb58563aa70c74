"""The tree of a content's parts with their offsets, and its stored form (RFC 2045, RFC 2046). *Pure.*"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from restante_mail.header.words import decode_parameters
from restante_mail.mime.content_fields import ContentFields, content_fields, language_tags

__all__ = ["Part", "decode", "encode", "root_offsets"]

_VERSION = 1  # of the stored form
_ROOT = b"[%d,[" % _VERSION


@dataclass(slots=True)
class Part:
    """One entity. Offsets count octets from the start of the content: header [header_start, body_start) with its blank
    line, body [body_start, body_end). The embedded message of a message/rfc822 is its only child.
    """

    header_start: int
    body_start: int
    body_end: int
    fields: ContentFields
    lines: int = 0  # line ends in the body of a text or an embedded message; 0 for other parts
    children: list[Part] = field(default_factory=list)

    @property
    def octets(self) -> int:
        """Size of the encoded body."""
        return self.body_end - self.body_start

    @property
    def media_type(self) -> str:
        return self.fields.media_type

    @property
    def content(self) -> dict[str, str]:
        """The raw Content-* fields (see ContentFields)."""
        return self.fields.raw

    @property
    def is_multipart(self) -> bool:
        return self.fields.is_multipart

    @property
    def is_message(self) -> bool:
        """Whether this is an embedded message, whose only child is its root part (RFC 2046 5.2.1, RFC 6532 3.7)."""
        return self.fields.is_message

    @property
    def parameters(self) -> dict[str, str]:
        """Content-Type parameters as text, by lower-case name. RFC 2231."""
        return decode_parameters(self.fields.parameters)

    @property
    def charset(self) -> str:
        """The declared charset, or empty."""
        return self.fields.charset

    @property
    def encoding(self) -> str:
        """The transfer encoding; see `header.fields.transfer_encoding`."""
        return self.fields.encoding

    @property
    def disposition(self) -> str:
        """The disposition in lower case, such as inline or attachment; empty without a Content-Disposition."""
        return self.fields.disposition

    @property
    def filename(self) -> str:
        """The file name; may be empty. It is unchecked input, so never open it as a path."""
        return self.fields.filename

    @property
    def content_id(self) -> str:
        """The Content-ID without angle brackets; empty if it is absent."""
        return self.fields.content_id

    @property
    def languages(self) -> list[str]:
        """The raw tags of Content-Language (RFC 3282 2)."""
        return language_tags(self.content.get("language", ""))

    def walk(self) -> Iterator[Part]:
        """This part and all its descendants, in the order of their octets."""
        waiting = [self]
        while waiting:
            part = waiting.pop()
            yield part
            waiting.extend(reversed(part.children))


def encode(tree: Part) -> bytes:
    """The stored form of a tree: compact JSON, which `decode` reads."""
    return f"[{_VERSION},{_packed(tree)}]".encode("ascii")


def _packed(part: Part) -> str:
    fields = part.fields
    stored = fields.stored
    if stored is None:
        stored = fields.stored = f"{_json(fields.media_type)},{_json(fields.raw)}"
    row = f"[{part.header_start},{part.body_start},{part.body_end},{part.lines},{stored}"
    return f"{row},[{','.join(map(_packed, part.children))}]]" if part.children else f"{row}]"


_json = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def decode(stored: bytes) -> Part:
    """The tree of a stored form. Raises ValueError for an unknown version."""
    version, row = json.loads(stored)
    if version != _VERSION:
        raise ValueError(f"a stored part tree of version {version}, not {_VERSION}")
    return _unpacked(row)


def root_offsets(stored: bytes) -> tuple[int, int, int]:
    """(header_start, body_start, body_end) of the root in a stored form, without decoding the tree.

    Raises ValueError for an unknown version.
    """
    if not stored.startswith(_ROOT):
        raise ValueError(f"a stored part tree of another version than {_VERSION}")
    header_start, body_start, body_end, _ = stored[len(_ROOT) :].split(b",", 3)
    return int(header_start), int(body_start), int(body_end)


def _unpacked(row: list[Any]) -> Part:
    children = [_unpacked(child) for child in row[6]] if len(row) > 6 else []
    return Part(row[0], row[1], row[2], content_fields(row[4], row[5]), row[3], children)
