"""The parser of octets to a tree of parts with offsets (RFC 2045, RFC 2046). *Pure.*

The octets must be canonical (`canonical.py`). The parser never raises, and copies only header blocks. It goes from
delimiter to delimiter in one pass. A delimiter line belongs to the innermost open multipart with its boundary, and ends
all parts that are open inside of it, including an unfinished header. The search for each boundary runs at the speed of
`find`, and only up to the next delimiter of an enclosing multipart; `Limits` bounds the total.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from restante_mail.header.words import decode_parameters
from restante_mail.limits import DEFAULT_LIMITS, Limits
from restante_mail.mime.content_fields import ContentFields, content_fields, fields_of_block
from restante_mail.mime.parts import Part
from restante_mail.octets import Buffer, count_lines, find, line_counts, take

__all__ = ["parse"]

_PADDING = re.compile(rb"[ \t]*+")
# Text after a closing delimiter is ignored, unless it could continue a longer boundary (RFC 2046 5.1.1).
_END_OF_CLOSING = re.compile(rb"[ \t]*+(?:\r\n|\Z|[^0-9A-Za-z'()+_,\-./:=? \t\r\n][^\r\n]*+(?:\r\n|\Z))")


def parse(buffer: Buffer, limits: Limits = DEFAULT_LIMITS) -> Part:
    """Parse a whole content. Never raises."""
    return _Scan(buffer, limits).root()


_Delimiter = tuple[int, int, bool]
"""The delimiter line [start, end), and whether it closes the multipart. A plain tuple, for speed."""


@dataclass(slots=True)
class _Boundary:
    """A boundary of open multiparts, and the progress of the search for it."""

    needle: bytes  # with LF and "--" before the boundary
    owners: list[int]  # stack indices of these multiparts, the innermost last
    found: _Delimiter | None = None
    searched: int = 0  # no delimiter except `found` begins before this offset


_Found = tuple[_Boundary, _Delimiter]


@dataclass(slots=True)
class _Open:
    """A part whose end is not found yet."""

    part: Part
    boundary: _Boundary | None = None
    first: int = -1  # the offset after a multipart's first delimiter, unless that closes it

    @property
    def default(self) -> str:
        """The type of a child without Content-Type (RFC 2046 5.1.5)."""
        return "message/rfc822" if self.part.media_type == "multipart/digest" else "text/plain"


class _Scan:
    """One scan of one content, with the rest of its limits."""

    def __init__(self, buffer: Buffer, limits: Limits) -> None:
        self._buffer, self._size, self._limits = buffer, len(buffer), limits
        self._stack: list[_Open] = []  # multiparts and embedded messages, from the root to the innermost
        self._leaf: Part | None = None  # the open part without children in the innermost one
        self._boundaries: list[_Boundary] = []  # the outermost first
        self._parts: list[Part] = []
        self._parts_left = limits.parts
        self._false_left = limits.false_delimiters
        self._structure_left = limits.structure_octets
        self._scan_left = max(limits.scanned_octets, 16 * self._size)

    def root(self) -> Part:
        found = self._begin(0, "text/plain")
        root = self._parts[0]
        root.body_end = max(root.body_start, self._size)
        if not self._stack:
            if root.fields.is_text or root.fields.is_message:
                root.lines = count_lines(self._buffer, root.body_start, root.body_end)
            return root
        while found is not None:
            boundary, (line, after, closing) = found
            owner = boundary.owners[-1]
            self._end_inside(owner, line)
            multipart = self._stack[owner]
            if closing:
                self._forget(multipart)
            elif self._parts_left > 0:
                if multipart.first < 0:
                    multipart.first = after
                found = self._begin(after, multipart.default)
                continue
            found = self._next(after)
        self._end_inside(0, self._size + 2)
        self._finish(self._stack[0])
        self._count_lines()
        return root

    def _begin(self, start: int, default: str) -> _Found | None:
        """Read the header at `start`, and the headers of embedded messages at the start of its body. Return the next
        delimiter."""
        stack = self._stack
        while True:
            self._parts_left -= 1
            following = self._next(start) if self._boundaries else None
            part = self._entity(start, following[1][0] if following else self._size, default)
            if stack:
                stack[-1].part.children.append(part)
            self._parts.append(part)
            fields = part.fields
            container = fields.is_multipart or fields.is_message
            if container and (len(stack) >= self._limits.depth or self._parts_left <= 0):
                part.fields, container = content_fields("application/octet-stream", fields.raw), False
            if not container:
                self._leaf = part
                return following
            stack.append(_Open(part))
            if fields.is_multipart:
                self._expect(_boundary(fields))
                return self._next(part.body_start)
            start, default = part.body_start, "text/plain"

    def _expect(self, boundary: bytes) -> None:
        """Search for this boundary from now on, for the part at the end of the stack."""
        multipart, place = self._stack[-1], len(self._stack) - 1
        if not boundary or not multipart.part.body_start:
            return
        needle = b"\n--" + boundary
        for known in self._boundaries:
            if known.needle == needle:
                known.owners.append(place)
                break
        else:
            known = _Boundary(needle, [place])
            self._boundaries.append(known)
        multipart.boundary = known

    def _forget(self, multipart: _Open) -> None:
        """Stop searching for the boundary of a multipart that has ended."""
        boundary, multipart.boundary = multipart.boundary, None
        if boundary is not None:
            boundary.owners.pop()
            if not boundary.owners:
                self._boundaries.remove(boundary)

    def _end_inside(self, owner: int, line: int) -> None:
        """End all parts inside of the one at stack index `owner`, at a delimiter at `line`. The CRLF before a delimiter
        belongs to it; for a part that ends with its header it is also the header's last line end."""
        stack, leaf, self._leaf = self._stack, self._leaf, None
        if len(stack) == owner + 1:
            if leaf is None:
                return
            first = leaf
            leaf.body_end = max(leaf.body_start, line - 2)
        else:
            ended = stack[owner + 1 :]
            del stack[owner + 1 :]
            first = ended[0].part
            first.body_end = end = max(first.body_start, line - 2)
            inside = [inner.part for inner in ended[1:]]
            for part in [*inside, leaf] if leaf is not None else inside:
                part.header_start, part.body_start = min(part.header_start, end), min(part.body_start, end)
                part.body_end = end
            for inner in reversed(ended):
                self._forget(inner)
                self._finish(inner)
        if first.header_start == line:  # two adjacent delimiter lines: each needs its own CRLF (RFC 2046 5.1.1)
            stack[owner].part.children.pop()

    def _finish(self, multipart: _Open) -> None:
        """Give a multipart without parts a single text part without header, which is its whole body. So no text is
        hidden, and every body structure has a part."""
        part = multipart.part
        if part.children or not part.fields.is_multipart:
            return
        if multipart.first < 0:
            only = Part(part.body_start, part.body_start, part.body_end, content_fields("text/plain", {}))
        else:  # delimiters only
            at = min(multipart.first, part.body_end)
            only = Part(at, at, at, content_fields(multipart.default, {}))
            if only.is_message:
                only.children.append(Part(at, at, at, content_fields("text/plain", {})))
        part.children.append(only)
        self._parts += only.walk()
        self._parts_left -= 1

    def _count_lines(self) -> None:
        counted = [part for part in self._parts if part.fields.is_text or part.fields.is_message]
        if not any(part.children for part in counted):  # then none is inside of another
            for part in counted:
                part.lines = count_lines(self._buffer, part.body_start, part.body_end)
            return
        counts = line_counts(self._buffer, [at for part in counted for at in (part.body_start, part.body_end)])
        for part in counted:
            part.lines = counts[part.body_end] - counts[part.body_start]

    # Headers ----------------------------------------------------------------------------------------------------------

    def _entity(self, start: int, end: int, default: str) -> Part:
        """Read the header of the entity in [start, end)."""
        buffer = self._buffer
        if end - start >= 2 and buffer[start : start + 2] == b"\r\n":
            return Part(start, start + 2, start + 2, content_fields(default, {}))
        self._scan_left -= min(end - start, self._limits.header_octets)
        blank = find(buffer, b"\r\n\r\n", start, end)
        body_start = end if blank < 0 else blank + 4
        limit = min(body_start, start + self._limits.header_octets)
        block = take(buffer, start, limit)
        part = Part(start, body_start, body_start, self._fields(block, default, cut=limit < body_start))
        if part.fields.is_multipart and b"\n--" in block:
            self._end_at_own_delimiter(part, block, default)
        return part

    def _end_at_own_delimiter(self, part: Part, block: bytes, default: str) -> None:
        """End a header without a blank line at the first delimiter of its own boundary."""
        boundary = _boundary(part.fields)
        needle = b"\n--" + boundary
        at = block.find(needle) if boundary else -1
        if at < 0 or self._delimiter(part.header_start + at, needle) is None:
            return
        shorter = self._fields(block[: at + 1], default, cut=False)
        if shorter.is_multipart and _boundary(shorter) == boundary:
            part.fields = shorter
            part.body_start = part.body_end = part.header_start + at + 1

    def _fields(self, block: bytes, default: str, cut: bool) -> ContentFields:
        """The Content-* fields of a header block; `cut` if its last field may be incomplete."""
        if self._structure_left <= 0:
            return content_fields(default, {})
        if cut:
            block = block[: block.rfind(b"\n") + 1]
        found = fields_of_block(block, default, self._limits.content_field_octets)
        self._structure_left -= found.octets
        return found

    # Delimiters -------------------------------------------------------------------------------------------------------

    def _next(self, at: int) -> _Found | None:
        """The first delimiter of an open multipart at or after `at`; of two at one offset, the outer one's."""
        first: _Found | None = None
        before = self._size + 1
        for boundary in self._boundaries:
            delimiter = boundary.found
            if delimiter is None or delimiter[0] < at:
                delimiter = self._search(boundary, at, before)
            if delimiter is not None and delimiter[0] < before:
                first, before = (boundary, delimiter), delimiter[0]
        return first

    def _search(self, boundary: _Boundary, at: int, before: int) -> _Delimiter | None:
        """The first delimiter of one boundary whose line begins in [at, before)."""
        needle = boundary.needle
        position, end = max(at, boundary.searched) - 1, min(before - 2 + len(needle), self._size)
        if end - position > self._scan_left:
            return None
        while (found_at := find(self._buffer, needle, position, end)) >= 0:
            self._scan_left -= found_at - position
            position = found_at + 1
            delimiter = self._delimiter(found_at, needle)
            if delimiter is not None:
                boundary.found, boundary.searched = delimiter, position + 1
                return delimiter
            self._false_left -= 1
            if self._false_left < 0:
                self._scan_left = 0
                return None
        self._scan_left -= max(end - position, 0)
        boundary.searched = max(boundary.searched, end - len(needle) + 2)
        return None

    def _delimiter(self, line_end: int, needle: bytes) -> _Delimiter | None:
        """The delimiter after this line end, or None. It is a whole line and may have trailing white space. A longer
        boundary with the same beginning is a different one (RFC 2046 5.1.1)."""
        buffer, size = self._buffer, self._size
        tail = line_end + len(needle)
        following = buffer[tail : tail + 2]
        if following == b"\r\n":
            return line_end + 1, tail + 2, False
        if following == b"--":
            closing = _END_OF_CLOSING.match(buffer, tail + 2)
            if closing is not None:
                return line_end + 1, closing.end(), True
        padding = _PADDING.match(buffer, tail)
        assert padding is not None  # it may be empty
        rest = padding.end()
        if rest >= size or buffer[rest : rest + 2] == b"\r\n":
            return line_end + 1, min(rest + 2, size), False
        return None


def _boundary(fields: ContentFields) -> bytes:
    for name, value in fields.parameters:
        if name.lower() == "boundary":
            return value.rstrip(" \t").encode("latin-1", "replace")
    if "boundary*" in fields.raw.get("type", "").lower():  # RFC 2231 syntax, although no boundary needs it
        return decode_parameters(fields.parameters).get("boundary", "").rstrip(" \t").encode("utf-8", "replace")
    return b""
