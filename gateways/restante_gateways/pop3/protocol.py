"""POP3 syntax: lines in, responses and dot-stuffed messages out (RFC 1939 3, RFC 2449 4). *Pure.*"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

MAX_LINE_OCTETS = 8192  # a command with its CRLF; RFC 2449 4 requires 255
LISTING_LINES = 2048  # lines of a listing made at once: about 32 KiB


@dataclass(frozen=True, slots=True)
class LineTooLong:
    """A line exceeded its limit and was discarded; the next line is independent of it."""


class LineReader:
    """Octets in, lines out. Only CRLF ends a line."""

    __slots__ = ("_buffer", "_discarding", "_position", "max_octets")

    def __init__(self, max_octets: int = MAX_LINE_OCTETS) -> None:
        self.max_octets = max_octets  # of one line with its CRLF; callers may change it between lines
        self._buffer = b""
        self._position = 0  # the octets before it were returned
        self._discarding = False

    def feed(self, data: bytes) -> None:
        """Append octets. The buffer holds at most one unfinished line and the octets of the last feed."""
        self._buffer = self._buffer[self._position :] + data if self._position < len(self._buffer) else data
        self._position = 0

    def next_line(self) -> bytes | LineTooLong | None:
        """The next line without its CRLF, or None if more octets are needed."""
        while True:
            end = self._buffer.find(b"\r\n", self._position)
            if end < 0:
                return self._unfinished()
            start, self._position = self._position, end + 2
            if self._discarding:
                self._discarding = False
            elif end + 2 - start > self.max_octets:
                return LineTooLong()
            else:
                return self._buffer[start:end]

    def _unfinished(self) -> LineTooLong | None:
        waiting = len(self._buffer) - self._position
        if waiting < self.max_octets:
            return None
        # The last octet may be the CR of the line end.
        self._buffer, self._position = self._buffer[-1:], 0
        if self._discarding:
            return None
        self._discarding = True
        return LineTooLong()

    def clear(self) -> None:
        """Discard all octets fed so far: nothing sent before TLS counts after it (RFC 2595 4)."""
        self._buffer, self._position, self._discarding = b"", 0, False


class DotStuffer:
    """Doubles leading dots of a message in chunks of any size (RFC 1939 3)."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b"\r\n"  # the last two octets so far; initially, at the start of a line

    def feed(self, chunk: bytes) -> bytes:
        """The chunk with an additional dot before each dot at the start of a line."""
        if not chunk:
            return b""
        stuffed = chunk.replace(b"\r\n.", b"\r\n..")
        tail = self._tail
        if chunk[0] == 0x2E:
            if tail == b"\r\n":
                stuffed = b"." + stuffed
        elif tail[-1] == 0x0D and chunk[:2] == b"\n.":
            stuffed = b"\n." + stuffed[1:]
        self._tail = chunk[-2:] if len(chunk) > 1 else tail[-1:] + chunk
        return stuffed

    def finish(self) -> bytes:
        """The end: the last line's CRLF if it is missing, and the final dot."""
        return b".\r\n" if self._tail == b"\r\n" else b"\r\n.\r\n"


def stuffed(message: bytes) -> bytes:
    """A whole message with doubled dots and its end."""
    body = message.replace(b"\r\n.", b"\r\n..")
    first = b"." if message[:1] == b"." else b""
    return first + body + (b".\r\n" if message[-2:] == b"\r\n" or not message else b"\r\n.\r\n")


class TopCutter:
    """Cuts a message in chunks after the header, the blank line, and the first `lines` of the body (RFC 1939 7)."""

    __slots__ = ("_done", "_in_header", "_tail", "_wanted")

    def __init__(self, lines: int) -> None:
        self._wanted = lines
        self._in_header = True
        self._tail = b"\r\n"  # a message that begins with a blank line has no header
        self._done = False

    @property
    def done(self) -> bool:
        """Whether the response is complete, so that the rest of the message is not part of it."""
        return self._done

    def feed(self, chunk: bytes) -> bytes:
        """The part of the chunk that belongs to the response; empty once `done`."""
        if self._done or not chunk:
            return b""
        start = 0
        if self._in_header:
            joined = self._tail + chunk
            blank = joined.find(b"\r\n\r\n")
            if blank < 0:
                self._tail = joined[-3:]
                return chunk
            self._in_header = False
            start = blank + 4 - len(self._tail)
            self._tail = b""
        return chunk[: self._body_end(chunk, start)]

    def _body_end(self, chunk: bytes, start: int) -> int:
        """The end of the response in `chunk`, whose body lines begin at `start`."""
        if self._wanted == 0:
            self._done = True
            return start
        if start == 0 and self._tail == b"\r" and chunk[:1] == b"\n":
            self._wanted -= 1
            start = 1
        while self._wanted:
            end = chunk.find(b"\r\n", start)
            if end < 0:
                self._tail = chunk[-1:]
                return len(chunk)
            start = end + 2
            self._wanted -= 1
        self._done = True
        return start


@dataclass(frozen=True, slots=True)
class Response:
    """One status line (RFC 1939 3), with an optional response code (RFC 2449 8, RFC 3206 4)."""

    ok: bool
    text: str
    code: str = ""

    def __bytes__(self) -> bytes:
        code = f"[{self.code}] " if self.code else ""
        return f"{'+OK' if self.ok else '-ERR'} {code}{self.text}\r\n".encode("ascii", "replace")

    @property
    def outcome(self) -> str:
        """One word for logs and metrics."""
        return "ok" if self.ok else self.code.lower() or "err"


def positive(text: str) -> Response:
    """A positive response: `+OK text`."""
    return Response(True, text)


def negative(text: str, code: str = "") -> Response:
    """A negative response: `-ERR [code] text`."""
    return Response(False, text, code)


def listing(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of a multi-line response and its dot, in pieces of LISTING_LINES. Lines must not begin with a dot."""
    piece: list[bytes] = []
    for line in lines:
        piece.append(line)
        if len(piece) == LISTING_LINES:
            yield b"\r\n".join(piece) + b"\r\n"
            piece.clear()
    piece.append(b".\r\n")
    yield b"\r\n".join(piece)


def split_command(line: bytes) -> tuple[str, bytes]:
    """The verb in capitals, and the octets after its space, further spaces included (for `PASS`)."""
    verb, _, argument = line.partition(b" ")
    return verb.decode("ascii", "replace").upper(), argument


class Malformed(ValueError):
    """An argument is missing, superfluous or not a number; the text goes to the client."""


def nothing(argument: bytes) -> None:
    """Raise Malformed if the command has an argument."""
    if argument.strip():
        raise Malformed("this command takes no argument")


def number(argument: bytes, *, what: str = "message number", least: int = 1) -> int:
    """Parse a decimal number of at most ten digits. Raises Malformed."""
    digits = argument.strip(b" ")
    if not digits.isdigit() or len(digits) > 10 or int(digits) < least:
        raise Malformed(f"{what} expected")
    return int(digits)
