"""An HTTP/2 client with a few frames (RFC 9113), for frames that gRPC's client never sends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, SETTINGS, PING, GOAWAY = 1, 4, 6, 7
ACK = END_STREAM = 1
END_HEADERS = 4


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """One frame (RFC 9113 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def headers(stream: int, fields: Iterable[tuple[str, str]]) -> bytes:
    """A HEADERS frame of fields in their literal form (RFC 7541 6.2.2), none of 127 octets or more."""
    block = b""
    for name, value in fields:
        assert len(name) < 127 and len(value) < 127
        block += b"\0" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()
    return frame(HEADERS, END_HEADERS, stream, block)


def begin_call(path: str, metadata: Iterable[tuple[str, str]] = ()) -> bytes:
    """A connection's first octets, with the beginning of a gRPC call on its first stream."""
    fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        *metadata,
    ]
    return PREFACE + frame(SETTINGS) + headers(1, fields)


async def frames_until_closed(reader: asyncio.StreamReader) -> list[tuple[int, int, bytes]]:
    """(kind, flags, payload) of each frame until the server closes."""
    found = []
    try:
        while True:
            head = await reader.readexactly(9)
            found.append((head[3], head[4], await reader.readexactly(int.from_bytes(head[:3], "big"))))
    except (asyncio.IncompleteReadError, ConnectionError):
        return found
