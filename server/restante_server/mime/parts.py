"""Octets to a tree of parts with offsets (RFC 2045, RFC 2046). *Pure.*

The octets are canonical (`canonical.py`). Nothing raises and nothing is copied but header blocks. An enclosing boundary
always wins over an inner one (RFC 2046 5.1.2), so a tree is found from the outside in, each range searched for one
delimiter at the speed of `find`; `Limits` bounds the sum of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from restante_server.mime.headers import StructuredValue, content_value, raw_fields, wanted
from restante_server.mime.limits import DEFAULT_LIMITS, Limits
from restante_server.mime.octets import Buffer, find, line_counts, take
from restante_server.mime.words import decode_parameters

__all__ = ["Part", "decode", "encode", "parse"]

CONTENT_FIELDS = (
    "content-type content-transfer-encoding content-id content-description content-disposition content-language "
    "content-location content-md5"
)
_WANTED = wanted(CONTENT_FIELDS)
_PADDING = re.compile(rb"[ \t]*+")
_VERSION = 1  # of the stored form


@dataclass(slots=True)
class Part:
    """One entity. Offsets count octets from the start of the content: header [header_start, body_start) with its blank
    line, body [body_start, body_end).

    `media_type` is lower case and says how the part was read: what is nested too deep is application/octet-stream.
    `content` holds the raw Content-* fields by lower-case name without that prefix ("type", "transfer-encoding"...),
    unfolded, one octet a character. The embedded message of a message/rfc822 is its only child.
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
        """Of the body, as encoded."""
        return self.body_end - self.body_start

    @property
    def is_multipart(self) -> bool:
        return self.media_type.startswith("multipart/")

    @property
    def is_message(self) -> bool:
        """An embedded message, whose only child is its root part. RFC 2046 5.2.1, RFC 6532 3.7."""
        return self.media_type in ("message/rfc822", "message/global")

    @property
    def type_value(self) -> StructuredValue:
        """Content-Type as it stands; an empty one when there is none."""
        return content_value(self.content.get("type", ""))

    @property
    def parameters(self) -> dict[str, str]:
        """Content-Type parameters as text, by lower-case name. RFC 2231."""
        return decode_parameters(self.type_value.parameters)

    @property
    def charset(self) -> str:
        """As declared, or empty."""
        raw = self.content.get("type", "")
        return self.parameters.get("charset", "") if "charset" in raw.lower() else ""

    @property
    def encoding(self) -> str:
        """Content-Transfer-Encoding in lower case, comments removed; "7bit" when there is none. RFC 2045 6.1."""
        raw = self.content.get("transfer-encoding", "")
        return (content_value(raw).kind.lower() or "7bit") if raw else "7bit"

    @property
    def disposition(self) -> str:
        """inline, attachment or another word, in lower case; empty when there is none. RFC 2183 2."""
        raw = self.content.get("disposition", "")
        return content_value(raw).kind.lower() if raw else ""

    @property
    def disposition_parameters(self) -> dict[str, str]:
        return decode_parameters(content_value(self.content.get("disposition", "")).parameters)

    @property
    def filename(self) -> str:
        """From Content-Disposition, else the name of Content-Type; as sent, so never a path to open. May be empty."""
        if "name" not in self.content.get("disposition", "").lower() + self.content.get("type", "").lower():
            return ""
        return self.disposition_parameters.get("filename") or self.parameters.get("name") or ""

    @property
    def content_id(self) -> str:
        """Without angle brackets; empty when there is none."""
        return self.content.get("id", "").strip("<> \t")

    def walk(self) -> Iterator[Part]:
        """This part and all below, in the order of the octets."""
        waiting = [self]
        while waiting:
            part = waiting.pop()
            yield part
            waiting.extend(reversed(part.children))


def parse(buffer: Buffer, limits: Limits = DEFAULT_LIMITS) -> Part:
    """The tree of a whole content. Never raises, whatever the octets."""
    return _Scan(buffer, limits).root()


class _Scan:
    """One run over one content, with what is left of its budgets."""

    def __init__(self, buffer: Buffer, limits: Limits) -> None:
        self._buffer, self._size, self._limits = buffer, len(buffer), limits
        self._parts_left = limits.parts
        self._false_left = limits.false_delimiters
        self._structure_left = limits.structure_octets
        self._scan_left = max(limits.scanned_octets, 16 * self._size)

    def root(self) -> Part:
        root = self._entity(0, self._size, self._size, "text/plain")
        waiting = [(root, 0)]
        everything = [root]
        while waiting:  # a stack of our own: depth costs no recursion
            part, depth = waiting.pop()
            children = self._children(part, depth)
            part.children = children
            everything += children
            waiting.extend((child, depth + 1) for child in reversed(children))
        self._count_lines(everything)
        return root

    def _count_lines(self, parts: list[Part]) -> None:
        if len(parts) == 1:
            counts = line_counts(self._buffer, (parts[0].body_start, parts[0].body_end))
        else:
            counts = line_counts(self._buffer, [at for part in parts for at in (part.body_start, part.body_end)])
        for part in parts:
            part.lines = counts[part.body_end] - counts[part.body_start]

    def _entity(self, start: int, end: int, line_end: int, default: str) -> Part:
        """Read the header of [start, end). The CRLF in [end, line_end) belongs to a delimiter, but where a part ends
        with its header it is the header's last line end as well."""
        self._parts_left -= 1
        buffer = self._buffer
        if take(buffer, start, min(start + 2, line_end)) == b"\r\n":
            return Part(start, start + 2, max(end, start + 2), media_type=default)
        self._scan_left -= min(line_end - start, self._limits.header_octets)
        blank = find(buffer, b"\r\n\r\n", start, line_end)
        body_start = line_end if blank < 0 else blank + 4
        part = Part(start, body_start, max(end, body_start), media_type=default)
        limit = min(body_start, start + self._limits.header_octets)
        self._read_content_fields(part, take(buffer, start, limit), cut=limit < body_start)
        return part

    def _read_content_fields(self, part: Part, block: bytes, cut: bool) -> None:
        if self._structure_left <= 0:
            return
        if cut:  # the last field may be half of one
            block = block[: block.rfind(b"\n") + 1]
        content = part.content
        for name, values in raw_fields(block, _WANTED, self._limits.content_field_octets).items():
            content[name[8:]] = values[0]
            self._structure_left -= len(values[0])
        raw = content.get("type")
        if raw:
            value = content_value(raw)
            if value.subkind:  # "text" alone is no type: RFC 2045 5.2 says how to read it
                part.media_type = f"{value.kind}/{value.subkind}".lower()

    def _children(self, part: Part, depth: int) -> list[Part]:
        if part.is_multipart:
            if depth >= self._limits.depth or self._parts_left <= 0:
                part.media_type = "application/octet-stream"
                return []
            return self._split(part)
        if part.is_message:
            if depth >= self._limits.depth or self._parts_left <= 0:
                part.media_type = "application/octet-stream"
                return []
            return [self._entity(part.body_start, part.body_end, part.body_end, "text/plain")]
        return []

    def _split(self, part: Part) -> list[Part]:
        """The body parts of a multipart. One without any is read as a single text part without header, its whole body:
        nothing a person wrote is hidden, and every body structure has its part."""
        default = "message/rfc822" if part.media_type == "multipart/digest" else "text/plain"  # RFC 2046 5.1.5
        boundary = self._boundary(part)
        starts = list(self._delimiters(part, boundary)) if boundary else []
        children: list[Part] = []
        for index, (_cut, begin, closing) in enumerate(starts):
            if closing or self._parts_left <= 0:
                break
            if index + 1 < len(starts):
                line_end = starts[index + 1][0]
                if line_end == begin:  # a line repeated: each delimiter has a CRLF of its own (RFC 2046 5.1.1)
                    continue
                end = max(begin, line_end - 2)
            else:
                end = line_end = part.body_end
            children.append(self._entity(begin, end, max(line_end, begin), default))
        if not children:
            self._parts_left -= 1
            if starts and not starts[0][2]:  # nothing but delimiters
                return [Part(starts[0][1], starts[0][1], starts[0][1], media_type=default)]
            return [Part(part.body_start, part.body_start, part.body_end)]
        return children

    @staticmethod
    def _boundary(part: Part) -> bytes:
        for name, value in part.type_value.parameters:
            if name.lower() == "boundary":
                return value.rstrip(" \t").encode("latin-1", "replace")
        if "boundary*" in part.content.get("type", "").lower():  # RFC 2231, though nobody needs it here
            return part.parameters.get("boundary", "").rstrip(" \t").encode("utf-8", "replace")
        return b""

    def _delimiters(self, part: Part, boundary: bytes) -> Iterator[tuple[int, int, bool]]:
        """(start of the delimiter line, start of what follows it, whether it closes), to the closing one.

        RFC 2046 5.1.1: a line of its own, white space may follow; a longer boundary that begins alike is another one.
        """
        buffer, end = self._buffer, part.body_end
        at = part.body_start - 1  # the LF of the blank line: a delimiter may come first
        needle = b"\n--" + boundary
        if at < 0 or end - at > self._scan_left:
            return
        self._scan_left -= end - at
        found = 0
        while found <= self._limits.parts:
            at = find(buffer, needle, at, end)
            if at < 0:
                return
            tail = at + len(needle)
            closing = take(buffer, tail, min(tail + 2, end)) == b"--"
            match = _PADDING.match(buffer, tail + 2 if closing else tail, end)
            assert match is not None  # it may be empty
            rest = match.end()
            if rest >= end or take(buffer, rest, min(rest + 2, end)) == b"\r\n":
                yield at + 1, min(rest + 2, end), closing
                if closing:
                    return
                found += 1
                at = rest  # its CRLF may begin the next delimiter
                continue
            self._false_left -= 1
            if self._false_left < 0:
                return
            at = tail
        return


def encode(tree: Part) -> bytes:
    """The stored form of a tree: compact JSON. `decode` gives the same tree back."""
    return json.dumps([_VERSION, _packed(tree)], separators=(",", ":"), check_circular=False).encode("ascii")


def _packed(part: Part) -> list[Any]:
    row = [part.header_start, part.body_start, part.body_end, part.lines, part.media_type, part.content]
    return [*row, [_packed(child) for child in part.children]] if part.children else row


def decode(stored: bytes) -> Part:
    """The tree that `encode` stored. Raises ValueError for a version that this release does not know."""
    version, row = json.loads(stored)
    if version != _VERSION:
        raise ValueError(f"a stored part tree of version {version}, not {_VERSION}")
    return _unpacked(row)


def _unpacked(row: list[Any]) -> Part:
    children = [_unpacked(child) for child in row[6]] if len(row) > 6 else []
    return Part(row[0], row[1], row[2], row[3], row[4], row[5], children)
