"""Command lines from a stream of octets. Only CRLF ends a line (RFC 5321 2.3.8). *Pure.*"""

from __future__ import annotations

import enum

MAX_LINE_OCTETS = 12_288  # without CRLF: the longest AUTH response, RFC 4954 4


class BadLine(enum.Enum):
    """The fault of a command line."""

    TOO_LONG = enum.auto()  # consumed to its end
    BARE_LF = enum.auto()  # the octets after it cannot be trusted to be commands
    BARE_CR = enum.auto()  # consumed to its end
    ENDLESS = enum.auto()  # a too long line without an end so far


class LineReader:
    """Octets in, lines out. Returns one line at a time, because its command (DATA, STARTTLS) decides the meaning of
    the octets after it."""

    def __init__(self, max_line_octets: int = MAX_LINE_OCTETS, max_skipped_octets: int = 1 << 20) -> None:
        self._max, self._max_skipped = max_line_octets, max_skipped_octets
        self._buffer = bytearray()
        self._searched = 0  # octets of the buffer already searched for LF
        self._skipped = 0  # octets discarded of a line that is too long

    def feed(self, data: bytes) -> None:
        """Append received octets."""
        self._buffer += data

    def next_line(self) -> bytes | BadLine | None:
        """The next line without its CRLF, or None if more octets are needed."""
        end = self._buffer.find(b"\n", self._searched)
        if end < 0:
            return self._without_end()
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        self._searched = 0
        was_skipping, self._skipped = self._skipped > 0, 0
        if not line.endswith(b"\r\n"):
            return BadLine.BARE_LF
        if was_skipping or len(line) - 2 > self._max:
            return BadLine.TOO_LONG
        if b"\r" in line[:-2]:
            return BadLine.BARE_CR
        return line[:-2]

    def _without_end(self) -> BadLine | None:
        if len(self._buffer) > self._max + 1:  # the last octet may be the CR of the end
            self._skipped += len(self._buffer) - 1
            del self._buffer[:-1]
        self._searched = len(self._buffer)
        return BadLine.ENDLESS if self._skipped > self._max_skipped else None

    def peek_line(self, verb: bytes) -> bool:
        """Whether the buffer has a whole line that begins with `verb` (upper case, with its space)."""
        if bytes(self._buffer[: len(verb)]).upper() != verb:
            return False
        return b"\n" in self._buffer

    @property
    def has_line(self) -> bool:
        """Whether `next_line` needs no more octets."""
        return self._buffer.find(b"\n", self._searched) >= 0

    def take_rest(self) -> bytes:
        """Remove and return all octets not consumed yet, for DATA; STARTTLS discards them."""
        return self.take(len(self._buffer))

    def take(self, limit: int) -> bytes:
        """Remove and return at most `limit` octets not consumed yet, for BDAT."""
        taken = bytes(self._buffer[:limit])
        del self._buffer[:limit]
        self._searched = self._skipped = 0
        return taken
