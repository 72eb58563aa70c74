"""Frames on a stream of octets, for Execute and server streams between processes of one machine. *Pure.*

A frame is the size of its content (4 octets, big-endian), its kind (1 octet) and the content. The client begins with
HELLO, its metadata as for a call; then each MESSAGE is a request, and END says that no other follows. From the server
each MESSAGE is a response. It closes the connection after END, or after STATUS, a google.rpc.Status with the reason.

A HELLO with the entry RPC, such as "MessageService/StreamMessages", begins a call of that RPC, whose response alone
streams: one request follows, and no END. Without the entry the connection is an Execute stream.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from enum import IntEnum

SOCKET_NAME = "call.sock"
"""Beside core.sock, whose name is as long. An incompatible form of frames would get another name."""
MAX_HELLO_OCTETS = 4_096
RPC = "rpc"
FIRST_ROOM_OCTETS = 64 << 10  # of a FrameBuffer

_HEAD = struct.Struct("!IB")


class Kind(IntEnum):
    """The kind of a frame."""

    HELLO = 1
    MESSAGE = 2
    END = 3
    STATUS = 4


class MalformedFrame(ValueError):
    """The octets are no frame that may come here."""


class FrameTooLarge(MalformedFrame):
    """A frame has more than the permitted octets."""

    def __init__(self, octets: int, max_octets: int) -> None:
        super().__init__(f"a frame of {octets} octets; at most {max_octets} are permitted")


def frame(kind: Kind, content: bytes = b"") -> bytes:
    """One frame."""
    return _HEAD.pack(len(content), kind) + content


def head(kind: Kind, octets: int) -> bytes:
    """The beginning of a frame whose content has this many octets, and is sent separately."""
    return _HEAD.pack(octets, kind)


def hello(metadata: Mapping[str, str]) -> bytes:
    """The first frame of a client. Names and values are ASCII without line ends, as in gRPC."""
    return frame(Kind.HELLO, "\n".join(f"{name}: {value}" for name, value in metadata.items()).encode("ascii"))


def parse_hello(content: bytes) -> dict[str, str]:
    """The metadata in the content of a first frame. Raises MalformedFrame."""
    try:
        entries = [line.partition(": ") for line in content.decode("ascii").splitlines()]
    except UnicodeDecodeError:
        raise MalformedFrame("the first frame is not ASCII") from None
    if not all(name and colon for name, colon, _ in entries):
        raise MalformedFrame("the first frame has a line that is not NAME: VALUE")
    return {name: value for name, _, value in entries}


class FrameReader:
    """Cuts octets into frames. It holds less than a frame of `max_octets`, and the octets fed last."""

    def __init__(self, max_octets: int) -> None:
        """`max_octets` limits the content of the frames to come, and may be changed between them."""
        self.max_octets = max_octets
        self._buffer = bytearray()

    def feed(self, octets: bytes) -> None:
        """Add octets as they arrive."""
        self._buffer += octets

    def next_frame(self) -> tuple[Kind, bytes] | None:
        """The next whole frame, None while it is incomplete. Raises MalformedFrame as soon as that is certain."""
        buffer = self._buffer
        if len(buffer) < _HEAD.size:
            return None
        kind, octets = _parse_head(buffer, 0, self.max_octets)
        end = _HEAD.size + octets
        if len(buffer) < end:
            return None
        content = bytes(memoryview(buffer)[_HEAD.size : end])
        del buffer[:end]
        return kind, content


class FrameBuffer:
    """Memory into which octets are received, and which is cut into frames without copying them.

    It has FIRST_ROOM_OCTETS, and that much more than the largest frame so far.
    """

    def __init__(self, max_octets: int) -> None:
        """`max_octets` limits the content of a frame."""
        self._max_octets = max_octets
        self._buffer = bytearray(FIRST_ROOM_OCTETS)
        self._start = self._end = 0  # of the octets that are in no frame yet

    @property
    def room(self) -> memoryview:
        """The free memory; empty until `next_frame` has returned None."""
        return memoryview(self._buffer)[self._end :]

    def received(self, count: int) -> None:
        """Note that so many octets of `room` have been filled."""
        self._end += count

    def next_frame(self) -> tuple[Kind, memoryview] | None:
        """The next whole frame, whose content is valid until the next call; None while it is incomplete, and there is
        room then. Raises MalformedFrame as soon as that is certain."""
        start, held, wanted = self._start, self._end - self._start, _HEAD.size
        if held >= wanted:
            kind, octets = _parse_head(self._buffer, start, self._max_octets)
            wanted += octets
            if held >= wanted:
                self._start += wanted
                return kind, memoryview(self._buffer)[start + _HEAD.size : self._start]
        begun = self._buffer[start : self._end]
        if wanted > len(self._buffer):
            self._buffer = bytearray(wanted + FIRST_ROOM_OCTETS)
        self._buffer[:held] = begun
        self._start, self._end = 0, held
        return None


def _parse_head(buffer: bytearray, at: int, max_octets: int) -> tuple[Kind, int]:
    octets, number = _HEAD.unpack_from(buffer, at)
    if number not in _KINDS:
        raise MalformedFrame(f"a frame of unknown kind {number}")
    if octets > max_octets:
        raise FrameTooLarge(octets, max_octets)
    return _KINDS[number], octets


_KINDS = {int(kind): kind for kind in Kind}
