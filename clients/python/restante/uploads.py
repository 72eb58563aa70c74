"""Octets that are too many for one call, sent as a stream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from restante import errors
from restante.calls import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, Calls
from restante.retry import is_temporary
from restante.v1.content_pb2 import UploadContentResponse, UploadKind

CHUNK_OCTETS = 256 << 10

Source = bytes | Path
"""What is uploaded: octets or a file. Either can be read again when the connection breaks."""


async def _chunks(source: Source, told: Callable[[int], None]) -> AsyncIterator[bytes]:
    if isinstance(source, bytes):
        for start in range(0, len(source), CHUNK_OCTETS):
            yield source[start : start + CHUNK_OCTETS]
            told(min(start + CHUNK_OCTETS, len(source)))
        return
    done = 0
    with await asyncio.to_thread(source.open, "rb") as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK_OCTETS):
            yield chunk
            done += len(chunk)
            told(done)


class UploadCalls(Calls):
    """Uploads lapse after an hour when nothing uses them."""

    async def upload(
        self,
        kind: UploadKind.ValueType,
        source: Source,
        *,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> UploadContentResponse:
        """Upload octets; begun anew when the connection breaks, as long as `timeout_seconds` bring it further.

        Raises MessageTooLarge, InvalidContent, StoreFull, OSError.
        """
        total = len(source) if isinstance(source, bytes) else source.stat().st_size
        last, pause, furthest = time.monotonic(), FIRST_PAUSE_SECONDS, 0

        def told(done: int) -> None:
            nonlocal last, furthest
            if done > furthest:
                last, furthest = time.monotonic(), done
            if on_progress is not None:
                on_progress(done, total)

        while True:
            try:
                return await self.link.upload(kind, _chunks(source, told), session=self.token)
            except errors.RestanteError as error:
                if not is_temporary(error) or time.monotonic() + pause >= last + self.timeout_seconds:
                    raise
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
