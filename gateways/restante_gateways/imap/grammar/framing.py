"""IMAP framing (RFC 3501 2.2, 4.3; RFC 7888), without I/O: octets in, whole commands out. *Pure.*

The reader finds the end of a command before anything parses it. A malformed command therefore costs one BAD and never
puts the stream out of sync, and the octets of a literal are never read as a command.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import TypeAlias

_LITERAL_HEADER = re.compile(rb"\{([0-9]{1,20})(\+?)\}\Z")
_MAX_LITERALS = 256  # in one command; each kept literal costs a copy of the command so far
_HEADER_OCTETS = 24  # longest literal header recognised at the end of a discarded line
_TAG = re.compile(rb"[!#$&',\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]{1,256}(?= )")
_ID = re.compile(_TAG.pattern + rb" (?i:ID) ")


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one command in octets. A literal is either kept in the command or streamed in chunks."""

    line: int  # all lines of a command together
    kept: int  # all literals kept with a command together
    streamed: int = 0  # one literal delivered in chunks (APPEND)
    discarded: int = 1 << 26  # a refused non-synchronising literal up to this size is read and discarded
    of_id: Limits | None = None  # limits of the ID command, if they differ


BEFORE_LOGIN = Limits(
    line=8_192,
    kept=4_096,
    of_id=Limits(line=65_536, kept=32_768),  # RFC 2971 3.3: 30 values of 1,024 octets, each perhaps escaped
)


@dataclass(frozen=True, slots=True)
class Command:
    """A whole command without its last CRLF. It contains its kept literals, each after its header and CRLF."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class LiteralStart:
    """A literal begins. The caller must call keep(), stream() or refuse() before the next event.

    `prefix` is the command so far, the literal's header included. The client waits for `+` if `synchronising`.
    """

    prefix: bytes
    size_octets: int
    synchronising: bool
    keepable: bool  # fits into the rest of Limits.kept


@dataclass(frozen=True, slots=True)
class LiteralChunk:
    """Octets of a streamed literal. A CommandRest event follows the last chunk."""

    octets: bytes
    last: bool


@dataclass(frozen=True, slots=True)
class CommandRest:
    """The rest of the line after a streamed literal, without CRLF. It must be empty, since APPEND has one message."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class TooLong:
    """A command exceeded a limit and was discarded. `fatal`: the stream is out of sync (CommandReader.out_of_sync)."""

    tag: bytes | None
    literal: bool
    fatal: bool


Event: TypeAlias = Command | LiteralStart | LiteralChunk | CommandRest | TooLong


class _Mode(enum.Enum):
    LINE = enum.auto()  # collecting the lines of a command
    ASKING = enum.auto()  # a literal was announced; waiting for keep(), stream() or refuse()
    KEEPING = enum.auto()  # reading a kept literal
    STREAMING = enum.auto()  # reading a streamed literal
    REST = enum.auto()  # reading the line after a streamed literal
    SKIPPING = enum.auto()  # discarding a refused literal
    SKIPPING_LINE = enum.auto()  # discarding a line of a refused command
    DEAD = enum.auto()  # out of sync


_LINE = _Mode.LINE


class CommandReader:
    """Octets in, events out. Returns one event at a time, because the reaction to it (STARTTLS, a refused literal)
    decides the meaning of the octets after it. Holds at most the limits' octets plus those of the last feed."""

    __slots__ = (
        "_announced",
        "_buffer",
        "_discarded",
        "_kept",
        "_literals",
        "_mode",
        "_pending",
        "_prefix",
        "_scanned",
        "limits",
    )

    def __init__(self, limits: Limits = BEFORE_LOGIN) -> None:
        self.limits = limits
        self.reset()

    def reset(self) -> None:
        """Discard all octets fed so far: nothing read before STARTTLS survives it (RFC 9051 11.1)."""
        self._buffer = bytearray()
        self._mode = _Mode.LINE
        self._scanned = 0  # octets of the buffer already searched for CRLF
        self._prefix = b""  # the command so far: earlier lines and kept literals
        self._kept = 0  # octets of kept literals in the prefix
        self._literals = 0  # number of kept literals in the prefix
        self._pending = 0  # octets of a literal not received yet
        self._discarded = 0  # octets discarded since the last good line
        self._announced: LiteralStart | None = None

    @property
    def out_of_sync(self) -> bool:
        """Whether a command could not be discarded to its end. No event follows, whatever is fed: the caller must end
        the connection."""
        return self._mode is _Mode.DEAD

    def feed(self, octets: bytes) -> None:
        """Append received octets."""
        self._buffer += octets

    def next_event(self) -> Event | None:
        """The next event, or None if more octets are needed."""
        if self._mode is _LINE:  # nearly always
            return self._next_line() if self._buffer else None
        while True:
            match self._mode:
                case _Mode.LINE:
                    return self._next_line()
                case _Mode.KEEPING:
                    if len(self._buffer) < self._pending:
                        return None
                    self._prefix += self._take(self._pending)
                    self._mode = _Mode.LINE
                case _Mode.STREAMING:
                    return self._next_chunk()
                case _Mode.REST:
                    return self._next_rest()
                case _Mode.SKIPPING:
                    self._pending -= self._throw_away(min(self._pending, len(self._buffer)))
                    if self._pending:
                        return None
                    self._mode = _Mode.SKIPPING_LINE
                case _Mode.SKIPPING_LINE:
                    if (event := self._skip_line()) is not None or self._mode is _Mode.SKIPPING_LINE:
                        return event
                case _Mode.ASKING:
                    raise RuntimeError("a literal waits for keep(), stream() or refuse()")
                case _Mode.DEAD:
                    return None

    def keep(self) -> None:
        """Make the announced literal a part of the command."""
        announced = self._answer()
        if not announced.keepable:
            raise RuntimeError("the literal is larger than one that may be kept")
        self._kept += announced.size_octets
        self._literals += 1
        self._prefix = announced.prefix + b"\r\n"
        self._mode, self._pending = _Mode.KEEPING, announced.size_octets

    def stream(self) -> None:
        """Deliver the announced literal in chunks. The caller has parsed the command's prefix, which is discarded."""
        announced = self._answer()
        self._mode, self._pending = _Mode.STREAMING, announced.size_octets

    def refuse(self) -> None:
        """Discard the command, including octets of a non-synchronising literal that the client is bound to send."""
        announced = self._answer()
        self._drop_command(announced.size_octets, announced.synchronising)

    def _answer(self) -> LiteralStart:
        announced = self._announced
        if announced is None:
            raise RuntimeError("no literal was announced")
        self._announced = None
        return announced

    def _limits_of(self, begun: bytes | bytearray) -> Limits:
        """The limits of the command with this beginning."""
        of_id = self.limits.of_id
        return of_id if of_id is not None and _ID.match(begun) else self.limits

    def _next_line(self) -> Event | None:
        limits = self.limits
        if limits.of_id is not None:
            limits = self._limits_of(self._prefix or self._buffer)
        allowed = limits.line - (len(self._prefix) - self._kept)
        end = self._find_line_end()
        if end is None:
            if len(self._buffer) <= allowed + 1:  # the last octet may be the CR of the line end
                return None
            tag = _tag_of(self._prefix or self._buffer)
            self._forget_command()
            self._mode = _Mode.SKIPPING_LINE
            return TooLong(tag, literal=False, fatal=False)
        line = self._take_line(end)
        header = _LITERAL_HEADER.search(line) if line.endswith(b"}") else None
        if end > allowed:
            tag = _tag_of(self._prefix or line)
            self._drop_after(header)
            return TooLong(tag, literal=False, fatal=self._mode is _Mode.DEAD)
        whole = self._prefix + line if self._prefix else line
        if header is None:
            self._forget_command()
            return Command(whole)
        return self._literal(whole, int(header[1]), synchronising=not header[2])

    def _literal(self, prefix: bytes, size: int, synchronising: bool) -> Event:
        keepable = size <= self._limits_of(prefix).kept - self._kept and self._literals < _MAX_LITERALS
        if not keepable and size > self.limits.streamed:
            self._drop_command(size, synchronising)
            return TooLong(_tag_of(prefix), literal=True, fatal=self._mode is _Mode.DEAD)
        self._mode = _Mode.ASKING
        self._announced = LiteralStart(prefix, size, synchronising, keepable)
        return self._announced

    def _next_chunk(self) -> Event | None:
        if self._pending and not self._buffer:
            return None
        chunk = self._take(min(self._pending, len(self._buffer)))
        self._pending -= len(chunk)
        if not self._pending:
            self._mode = _Mode.REST
        return LiteralChunk(chunk, last=not self._pending)

    def _next_rest(self) -> Event | None:
        end = self._find_line_end()
        if end is None:
            if len(self._buffer) <= self.limits.line + 1:
                return None
            self._forget_command()
            self._mode = _Mode.SKIPPING_LINE
            return TooLong(None, literal=False, fatal=False)
        line = self._take_line(end)
        self._drop_after(_LITERAL_HEADER.search(line))
        return CommandRest(line)

    def _skip_line(self) -> TooLong | None:
        """Discard a line except its end, which may announce one more literal."""
        end = self._find_line_end()
        if end is None:
            self._throw_away(max(0, len(self._buffer) - _HEADER_OCTETS))
            if self._discarded > self.limits.discarded:
                self._mode = _Mode.DEAD
                return TooLong(None, literal=False, fatal=True)
            return None
        self._throw_away(max(0, end - _HEADER_OCTETS))
        line = self._take(min(end, _HEADER_OCTETS))
        self._take(2)
        self._drop_after(_LITERAL_HEADER.search(line))
        return TooLong(None, literal=True, fatal=True) if self._mode is _Mode.DEAD else None

    def _drop_after(self, header: re.Match[bytes] | None) -> None:
        """End the command at the line just read, or discard the literal that the line announces."""
        if header is None:
            self._forget_command()
        else:
            self._drop_command(int(header[1]), synchronising=not header[2])

    def _drop_command(self, size: int, synchronising: bool) -> None:
        discarded = self._discarded
        self._forget_command()
        if synchronising:
            return  # refused before the client sent it: a new command follows (RFC 7888 3)
        if discarded + size > self.limits.discarded:
            self._mode = _Mode.DEAD
            return
        self._mode, self._pending, self._discarded = _Mode.SKIPPING, size, discarded

    def _forget_command(self) -> None:
        self._prefix, self._kept, self._literals, self._pending, self._discarded = b"", 0, 0, 0, 0
        self._mode = _Mode.LINE

    def _find_line_end(self) -> int | None:
        end = self._buffer.find(b"\r\n", self._scanned)
        if end >= 0:
            return end
        self._scanned = max(0, len(self._buffer) - 1)
        return None

    def _take_line(self, end: int) -> bytes:
        """The octets before a line end at `end`, which is removed, too."""
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        self._scanned = 0
        return line

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        self._scanned = 0
        return taken

    def _throw_away(self, count: int) -> int:
        del self._buffer[:count]
        self._scanned = max(0, self._scanned - count)
        self._discarded += count
        return count


def _tag_of(command: bytes | bytearray) -> bytes | None:
    """The tag of a command that is too long to parse; None if it has none."""
    tag = _TAG.match(command)
    return tag[0] if tag else None
