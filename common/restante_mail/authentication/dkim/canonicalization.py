"""Canonicalization of header fields and bodies (RFC 6376 3.4). *Pure.*

Bodies come in pieces of any size. The work is done by operations on whole pieces, not line by line.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

__all__ = ["Body", "Canonicalization", "RelaxedBody", "new_body", "relaxed_field"]

_BLANK_LINES = 4_096  # empty lines that are written at once


class Canonicalization(Enum):
    """An algorithm of c=. The value is its name there."""

    SIMPLE = "simple"
    RELAXED = "relaxed"


def relaxed_field(octets: bytes) -> bytes:
    """A whole header field in relaxed form, with its CRLF (RFC 6376 3.4.2)."""
    name, _, value = octets.partition(b":")
    if b"\r" in value:
        value = value.replace(b"\r\n", b"")
    return name.rstrip(b" \t").lower() + b":" + _single_spaces(value).strip(b" ") + b"\r\n"


class Body:
    """A body in simple form (RFC 6376 3.4.3): the joined results of `feed` and `finish`.

    It holds back the line ends at the end as their number, and at most two other octets.
    """

    __slots__ = ("_held", "_lines", "_written")

    def __init__(self) -> None:
        self._held = b""
        self._lines = 0  # line ends, which are written when another line follows
        self._written = False

    def feed(self, octets: bytes) -> Iterator[bytes]:
        """The next canonical octets, without those held back."""
        octets, self._held = self._split(self._held + octets if self._held else octets)
        end = _start_of_line_ends(octets)
        if end:
            yield from self._write(octets[:end] if end < len(octets) else octets)
        self._lines += (len(octets) - end) // 2

    def finish(self) -> Iterator[bytes]:
        """The end of the body: one CRLF, unless the canonical body is empty."""
        rest = self._rest()
        if rest:
            yield from self._write(rest)
        if self._written or not self._may_be_empty():
            yield b"\r\n"

    def _write(self, octets: bytes) -> Iterator[bytes]:
        while self._lines:
            lines = min(self._lines, _BLANK_LINES)
            self._lines -= lines
            yield b"\r\n" * lines
        self._written = True
        yield octets

    def _split(self, octets: bytes) -> tuple[bytes, bytes]:
        """Canonical octets, and the octets at the end whose form depends on the next ones."""
        return (octets[:-1], b"\r") if octets.endswith(b"\r") else (octets, b"")

    def _rest(self) -> bytes:
        """The canonical form of held octets at the end of the body, where a CR without LF is no line end."""
        return self._held

    def _may_be_empty(self) -> bool:
        return False


class RelaxedBody(Body):
    """A body in relaxed form (RFC 6376 3.4.4)."""

    __slots__ = ()

    def _split(self, octets: bytes) -> tuple[bytes, bytes]:
        octets = _single_spaces(octets)
        if b" " in octets:
            octets = octets.replace(b" \r\n", b"\r\n")
        if not octets.endswith((b" ", b"\r")):
            return octets, b""
        end = len(octets) - (2 if octets.endswith(b" \r") else 1)
        return octets[:end], octets[end:]

    def _rest(self) -> bytes:
        return self._held if self._held.endswith(b"\r") else b""

    def _may_be_empty(self) -> bool:
        return True


def new_body(form: Canonicalization) -> Body:
    """A body that is written in this form."""
    return RelaxedBody() if form is Canonicalization.RELAXED else Body()


def _single_spaces(octets: bytes) -> bytes:
    """`octets` with each run of white space as one space. Each round halves the runs."""
    if b"\t" in octets:
        octets = octets.replace(b"\t", b" ")
    while b"  " in octets:
        octets = octets.replace(b"  ", b" ")
    return octets


def _start_of_line_ends(octets: bytes) -> int:
    """The offset of the CRLFs at the end."""
    if not octets.endswith(b"\r\n"):
        return len(octets)
    start = len(octets.rstrip(b"\r\n"))
    ends = octets[start:]
    if len(ends) > 2:  # a bare CR or LF is an octet of its line
        bare = max(ends.rfind(b"\r\r"), ends.rfind(b"\n\n")) + 1
        start += bare + ends.startswith(b"\n", bare)
    return start
