"""Search in any buffer: bytes, a memory map, a view. No search copies more than a chunk. *Pure.*"""

from __future__ import annotations

import re
from collections.abc import Iterable
from mmap import mmap

__all__ = ["Buffer", "count_lines", "find", "line_counts", "take"]

Buffer = bytes | bytearray | memoryview | mmap

_CHUNK = 1 << 18


def find(buffer: Buffer, needle: bytes, start: int, end: int) -> int:
    """Offset of the first `needle` inside [start, end), or -1."""
    if isinstance(buffer, memoryview):  # a view has no find; the regex engine reads any buffer in place
        match = re.compile(re.escape(needle)).search(buffer, start, end)
        return match.start() if match else -1
    return buffer.find(needle, start, end)


def take(buffer: Buffer, start: int, end: int) -> bytes:
    """A copy of the octets [start, end)."""
    return bytes(buffer[start:end])


def count_lines(buffer: Buffer, start: int, end: int) -> int:
    """The number of line ends in [start, end)."""
    if isinstance(buffer, bytes | bytearray):
        return buffer.count(b"\n", start, end)
    return sum(bytes(buffer[at : min(at + _CHUNK, end)]).count(b"\n") for at in range(start, end, _CHUNK))


def line_counts(buffer: Buffer, offsets: Iterable[int]) -> dict[int, int]:
    """{offset: number of line ends before it}, in one pass over the octets."""
    counts: dict[int, int] = {}
    last = total = 0
    in_memory = buffer if isinstance(buffer, bytes) else None
    for offset in sorted(set(offsets)):
        total += count_lines(buffer, last, offset) if in_memory is None else in_memory.count(b"\n", last, offset)
        counts[offset] = total
        last = offset
    return counts
