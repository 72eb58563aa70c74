"""The octets that no content of SMTP may have, however it is framed (RFC 5321 2.3.8, 4.5.3.1). *Pure.*"""

from __future__ import annotations

import enum

from restante_mail.canonical import line_ends


class ContentFault(enum.Enum):
    """The reason for a refusal of the content, after all of it has been read."""

    BARE_LINE_END = enum.auto()  # CR or LF alone, which other software may read as a line end
    NUL = enum.auto()
    LINE_TOO_LONG = enum.auto()
    TOO_BIG = enum.auto()


class ContentScanner:
    """Pieces of a content in, the same octets out, until the first fault. Returns no octet after it.

    Holds back at most one octet: a CR whose LF may begin the next piece.
    """

    def __init__(self, max_octets: int, max_line_octets: int) -> None:
        """`max_octets` limits the content as SIZE measures it (RFC 1870 5), `max_line_octets` a line without CRLF."""
        self._max_octets, self._max_line = max_octets, max_line_octets
        self._held_cr = False
        self._line_octets = 0  # length so far of an unfinished line
        self.fault: ContentFault | None = None
        self.size_octets = 0  # of content returned
        self.discarded_octets = 0  # fed after the first fault

    def feed(self, octets: bytes) -> bytes:
        """The octets that may be passed on; empty after a fault."""
        if self.fault is None:
            if self._held_cr:
                octets, self._held_cr = b"\r" + octets, False
            if octets.endswith(b"\r"):
                octets, self._held_cr = octets[:-1], True
            self.fault = self._fault_in(octets)
        if self.fault is not None:
            self.discarded_octets += len(octets)
            return b""
        self.size_octets += len(octets)
        return octets

    def finish(self) -> None:
        """Note the end of the content. A CR that is its last octet is a fault."""
        if self._held_cr and self.fault is None:
            self.fault = ContentFault.BARE_LINE_END

    def _fault_in(self, piece: bytes) -> ContentFault | None:
        found = line_ends(piece)  # a piece never ends between CR and LF
        if found.bare_cr or found.bare_lf:
            return ContentFault.BARE_LINE_END
        if found.nul:
            return ContentFault.NUL
        if self._has_long_line(piece):
            return ContentFault.LINE_TOO_LONG
        return ContentFault.TOO_BIG if self.size_octets + len(piece) > self._max_octets else None

    def _has_long_line(self, piece: bytes) -> bool:
        """Whether a line exceeds the limit. Jumps to the last line end within each limit's length."""
        start = -self._line_octets  # where the line began, before this piece
        while len(piece) - start > self._max_line:
            end = piece.rfind(b"\r\n", max(0, start), max(0, start + self._max_line + 2))
            if end < 0:
                return True
            start = end + 2
        last = piece.rfind(b"\r\n", max(0, start))
        self._line_octets = len(piece) - (last + 2 if last >= 0 else start)
        return False
