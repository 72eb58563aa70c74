"""The tree of a content's parts with their offsets, and its stored form (RFC 2045, RFC 2046). *Pure.*"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from restante_mail.header.fields import StructuredValue, content_value, kept, transfer_encoding
from restante_mail.header.words import decode_parameters

__all__ = ["Part", "decode", "encode", "root_offsets"]

_VERSION = 1  # of the stored form
_ROOT = b"[%d,[" % _VERSION


@dataclass(slots=True)
class Part:
    """One entity. Offsets count octets from the start of the content: header [header_start, body_start) with its blank
    line, body [body_start, body_end).

    `media_type` is in lower case, and is the type that the scanner applied: application/octet-stream for a part nested
    too deep. `content` has the raw Content-* fields by lower-case name without that prefix ("type",
    "transfer-encoding"...), unfolded, with one character for each octet. The embedded message of a message/rfc822 is
    its only child.
    """

    header_start: int
    body_start: int
    body_end: int
    lines: int = 0  # line ends in the body
    media_type: str = "text/plain"
    content: dict[str, str] = field(default_factory=dict)
    children: list[Part] = field(default_factory=list)

    @property
    def octets(self) -> int:
        """Size of the encoded body."""
        return self.body_end - self.body_start

    @property
    def is_multipart(self) -> bool:
        return self.media_type.startswith("multipart/")

    @property
    def is_message(self) -> bool:
        """Whether this is an embedded message, whose only child is its root part (RFC 2046 5.2.1, RFC 6532 3.7)."""
        return self.media_type in ("message/rfc822", "message/global")

    @property
    def type_value(self) -> StructuredValue:
        """The parsed Content-Type; an empty value if it is absent."""
        return content_value(self.content.get("type", ""))

    @property
    def parameters(self) -> dict[str, str]:
        """Content-Type parameters as text, by lower-case name. RFC 2231."""
        return decode_parameters(self.type_value.parameters)

    @property
    def charset(self) -> str:
        """The declared charset, or empty."""
        raw = self.content.get("type", "")
        return _charset(raw) if "charset" in raw.lower() else ""

    @property
    def encoding(self) -> str:
        """The transfer encoding; see `header.fields.transfer_encoding`."""
        raw = self.content.get("transfer-encoding")
        return transfer_encoding(raw) if raw else "7bit"

    @property
    def disposition(self) -> str:
        """The disposition in lower case, such as inline or attachment; empty without a Content-Disposition. A value
        with only a file name means attachment, like an unknown word in RFC 2183 2.8."""
        raw = self.content.get("disposition", "")
        if not raw:
            return ""
        kind, _, parameters = content_value(raw)
        named = not kind and any(name.lower().startswith("filename") for name, _value in parameters)
        return "attachment" if named else kind.lower()

    @property
    def disposition_parameters(self) -> dict[str, str]:
        return decode_parameters(content_value(self.content.get("disposition", "")).parameters)

    @property
    def filename(self) -> str:
        """The file name from Content-Disposition, else from Content-Type; may be empty. It is unchecked input, so never
        open it as a path."""
        if "name" not in self.content.get("disposition", "").lower() + self.content.get("type", "").lower():
            return ""
        return self.disposition_parameters.get("filename") or self.parameters.get("name") or ""

    @property
    def content_id(self) -> str:
        """The Content-ID without angle brackets; empty if it is absent."""
        return self.content.get("id", "").strip("<> \t")

    @property
    def languages(self) -> list[str]:
        """The raw tags of Content-Language (RFC 3282 2)."""
        return [tag.strip() for tag in self.content.get("language", "").split(",") if tag.strip()]

    def walk(self) -> Iterator[Part]:
        """This part and all its descendants, in the order of their octets."""
        waiting = [self]
        while waiting:
            part = waiting.pop()
            yield part
            waiting.extend(reversed(part.children))


@kept
def _charset(raw: str) -> str:
    return decode_parameters(content_value(raw).parameters).get("charset", "")


def encode(tree: Part) -> bytes:
    """The stored form of a tree: compact JSON, which `decode` reads."""
    return json.dumps([_VERSION, _packed(tree)], separators=(",", ":"), check_circular=False).encode("ascii")


def _packed(part: Part) -> list[Any]:
    row = [part.header_start, part.body_start, part.body_end, part.lines, part.media_type, part.content]
    return [*row, [_packed(child) for child in part.children]] if part.children else row


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
    return Part(row[0], row[1], row[2], row[3], row[4], row[5], children)
