"""The content between 354 and the final dot (RFC 5321 4.1.1.4, 4.5.2). *Pure.*"""

from __future__ import annotations

import enum
import re

from restante_mail.canonical import line_ends

_END = b"\r\n.\r\n"
_DOT = re.compile(rb"\r\n\.")  # searched at twice the speed of `find` and `replace`, and absent from most chunks


class DataFault(enum.Enum):
    """The reason for a refusal of the content, after all of it has been read."""

    BARE_LINE_END = enum.auto()  # CR or LF alone, which other software may read as a line end
    NUL = enum.auto()
    LINE_TOO_LONG = enum.auto()
    TOO_BIG = enum.auto()


class DataScanner:
    """Chunks of any length in, content out, without doubled dots, up to CRLF.CRLF.

    No other sequence ends the content (LF.LF, LF.CRLF, CRLF.LF are part of it), which prevents the smuggling of a
    second message. After the first fault it returns no more content, but still reads to the real end.
    """

    def __init__(self, max_octets: int, max_line_octets: int) -> None:
        """`max_octets` limits the content as SIZE measures it (RFC 1870 5), `max_line_octets` a line without CRLF."""
        self._max_octets, self._max_line = max_octets, max_line_octets
        # Octets that may begin the end sequence. The initial CRLF belongs to the DATA command, not to the content; it
        # makes a dot in the first line a dot at the start of a line.
        self._held = b"\r\n"
        self._not_content = 2
        self._line_octets = 0  # length so far of an unfinished line
        self.finished = False
        self.fault: DataFault | None = None
        self.size_octets = 0  # of content returned
        self.discarded_octets = 0  # read after the first fault
        self.rest = b""  # octets after the end; set when finished

    def feed(self, chunk: bytes) -> bytes:
        """The content that this chunk completes; empty after a fault."""
        if self.finished:
            raise ValueError("the content has ended")
        data = self._held + chunk
        dot = _DOT.search(data)
        end = data.find(_END, dot.start()) if dot is not None else -1
        if end >= 0:
            self.finished, self.rest, self._held = True, data[end + len(_END) :], b""
            piece = data[: end + 2]
        else:
            kept = _length_of_beginning(data)
            self._held = data[len(data) - kept :]
            piece = data[: len(data) - kept]
        if self.fault is None:
            self.fault = self._fault_in(piece)
        if self.fault is not None:
            self.discarded_octets += len(piece)
            return b""
        doubled = dot is not None and dot.start() != end
        content = piece.replace(b"\r\n.", b"\r\n") if doubled else piece
        if self._not_content and content:
            content, self._not_content = content[self._not_content :], 0
        if self.size_octets + len(content) > self._max_octets:
            self.fault = DataFault.TOO_BIG
            return b""
        self.size_octets += len(content)
        return content

    def _fault_in(self, piece: bytes) -> DataFault | None:
        found = line_ends(piece)  # a piece never ends between CR and LF
        if found.bare_cr or found.bare_lf:
            return DataFault.BARE_LINE_END
        if found.nul:
            return DataFault.NUL
        return DataFault.LINE_TOO_LONG if self._has_long_line(piece) else None

    def _has_long_line(self, piece: bytes) -> bool:
        """Whether a line, dot included, exceeds the limit. Jumps to the last line end within each limit's length."""
        start = -self._line_octets  # where the line began, before this piece
        while len(piece) - start > self._max_line:
            end = piece.rfind(b"\r\n", max(0, start), max(0, start + self._max_line + 2))
            if end < 0:
                return True
            start = end + 2
        last = piece.rfind(b"\r\n", max(0, start))
        self._line_octets = len(piece) - (last + 2 if last >= 0 else start)
        return False


def _length_of_beginning(data: bytes) -> int:
    """The number of trailing octets that may begin the end sequence."""
    for length in range(len(_END) - 1, 0, -1):
        if data.endswith(_END[:length]):
            return length
    return 0
