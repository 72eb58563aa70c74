"""The computations of the checks of one message run on the event loop while they are short, else on threads.

Other sessions wait while the loop computes, and for a moment also while a thread does, since it holds Python's lock.
Many short computations, such as the signatures of a long ARC chain, therefore stay on the loop, with pauses between
them. A thread reads headers of 10,000 lines, and hashes headers of 1 MiB for each signature.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from restante_mail.authentication.dkim.content import Content

INLINE_OCTETS = 32_768  # of a header that is read on the event loop, and of a piece of content that is hashed there
INLINE_LINES = 1_000  # of a header that is read there
SHORT_HEADER_OCTETS = 131_072  # of a header whose signatures are verified there
TOGETHER = 4  # computations without a pause, each of about 0.1 ms; usual mail has fewer

Value = TypeVar("Value")


class Work:
    """The computations of one message."""

    def __init__(self) -> None:
        self._octets = self._lines = 0  # of the pieces in which the header came
        self._count = 0

    async def fed(self, content: Content, octets: bytes) -> None:
        """Feed the next octets to the content."""
        if content.header is None and not content.header_too_long:
            self._octets += len(octets)
            self._lines += octets.count(b"\n")
            inline = self._octets <= INLINE_OCTETS and self._lines <= INLINE_LINES
        else:
            inline = len(octets) <= INLINE_OCTETS
        if inline:
            content.feed(octets)
        else:
            await asyncio.to_thread(content.feed, octets)

    async def compute(self, work: Callable[[], Value]) -> Value:
        """See Compute."""
        if self._octets > SHORT_HEADER_OCTETS:
            return await asyncio.to_thread(work)
        self._count += 1
        if self._count % TOGETHER == 0:
            await asyncio.sleep(0)
        return work()
