"""The replies of a server, cut out of its octets (RFC 5321 4.2). *Pure.*"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

MAX_LINE_OCTETS = 8 << 10
MAX_REPLY_OCTETS = 32 << 10  # of all lines of one reply


class NotSmtp(Exception):
    """The octets are not an SMTP reply, or the reply is longer than the limits."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply: its code, and its text by lines, with octets that are not UTF-8 as surrogates."""

    code: int
    text: str

    @property
    def good(self) -> bool:
        """Whether the command succeeded (2yz)."""
        return 200 <= self.code < 300


class ReplyReader:
    """Reads the replies of pipelined commands, in order, from pieces of any size.

    Octets that arrive while no reply is expected are discarded, so that they cannot be paired with a later command.
    """

    def __init__(self) -> None:
        self._expected = 0
        self._ready: deque[Answer] = deque()
        self._line = bytearray()
        self._text: list[bytes] = []
        self._octets = 0  # of the lines in `_text`

    @property
    def is_ready(self) -> bool:
        """Whether a reply is complete."""
        return bool(self._ready)

    def expect(self, count: int) -> None:
        """Expect so many replies more."""
        self._expected += count

    def expect_none(self) -> None:
        """Expect no reply until `expect`, and discard what has arrived."""
        self._expected = 0
        self._ready.clear()
        self._forget()

    def feed(self, octets: bytes) -> None:
        """Add octets of the server. Raises NotSmtp."""
        start = 0
        while len(self._ready) < self._expected:
            end = octets.find(b"\n", start) + 1
            self._line += octets[start : end or len(octets)]
            if len(self._line) > MAX_LINE_OCTETS:
                raise NotSmtp
            if not end:
                return
            self._add(bytes(self._line))
            self._line.clear()
            start = end

    def next(self) -> Answer | None:
        """The next complete reply; None if it has not arrived."""
        if not self._ready:
            return None
        self._expected -= 1
        return self._ready.popleft()

    def _add(self, line: bytes) -> None:
        """Add a line with its end; a line without a hyphen after the code is the last one of its reply."""
        code = line[:3]
        self._octets += len(line)
        if not (len(code) == 3 and code.isdigit() and b"200" <= code < b"600") or self._octets > MAX_REPLY_OCTETS:
            raise NotSmtp
        self._text.append(line[4:].strip(b" \t\r\n"))
        if line[3:4] != b"-":
            self._ready.append(Answer(int(code), b"\n".join(self._text).decode("utf-8", "surrogateescape")))
            self._forget()

    def _forget(self) -> None:
        self._line.clear()
        self._text.clear()
        self._octets = 0
