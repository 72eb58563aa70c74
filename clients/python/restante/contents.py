"""Octets of messages and their parts: reading, and uploading those that are too large for one call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path

from restante import errors
from restante.calls import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, Calls
from restante.parts import Part
from restante.retry import is_temporary
from restante.v1.content_pb2 import ReadContentRequest, ReadContentResponse, UploadContentResponse, UploadKind
from restante.v1.message_pb2 import Section, SectionDecoding, SectionKind

INLINE_OCTETS = 256 << 10  # a call carries at most these octets of a message or of files; larger ones are uploaded
CHUNK_OCTETS = 256 << 10

Source = bytes | Path
"""The octets to upload, or the path of a file. The client reads either again when the connection breaks."""

Progress = Callable[[int, int], None]
"""A callback with the octets done and the total octets."""


class Contents:
    """Octets of messages. Unused uploads lapse after an hour."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def read(self, message_id: int, section: Section | None = None, *, mailbox_id: int = 0) -> bytes:
        """All the octets of a message or section. Raises MessageNotFound, PartNotFound."""
        return b"".join([octets async for octets in self.stream(message_id, section, mailbox_id=mailbox_id)])

    async def stream(
        self,
        message_id: int,
        section: Section | None = None,
        *,
        on_progress: Progress | None = None,
        mailbox_id: int = 0,
    ) -> AsyncIterator[bytes]:
        """Octets of a message or of a section of it. The client resumes the stream after a break.

        Raises MessageNotFound, PartNotFound.
        """
        wanted = Section(kind=SectionKind.SECTION_KIND_WHOLE)
        if section is not None:
            wanted.CopyFrom(section)
        start, length = wanted.offset_octets, wanted.length_octets if wanted.HasField("length_octets") else None
        done = total = 0

        def opened() -> AsyncIterator[ReadContentResponse]:
            wanted.offset_octets = start + done
            if length is not None:
                wanted.length_octets = length - done
            request = ReadContentRequest(mailbox_id=mailbox_id, message_id=message_id, section=wanted)
            return self._calls.link.read_content(request, session=self._calls.token)

        async with aclosing(self._calls.resumed(opened)) as chunks:
            async for chunk in chunks:
                if chunk.total_octets and not total:
                    total = chunk.total_octets
                done += len(chunk.octets)
                if on_progress is not None:
                    on_progress(done, total)
                if chunk.octets:
                    yield chunk.octets

    async def stream_part(
        self, message_id: int, part: Part, *, on_progress: Progress | None = None, mailbox_id: int = 0
    ) -> AsyncIterator[bytes]:
        """Octets of a part without its transfer encoding. The client resumes the stream after a break.

        Raises MessageNotFound, PartNotFound, and ValueError for a multipart, which has no octets of its own.
        """
        if part.is_multipart:
            raise ValueError(f"part {part.label} is a {part.media_type}: read the parts in it")
        async for octets in self.stream(message_id, part.section(), on_progress=on_progress, mailbox_id=mailbox_id):
            yield octets

    async def read_text(self, message_id: int, part: Part, *, mailbox_id: int = 0) -> str:
        """The text of a text part, decoded; line ends are LF. Raises as `stream_part`."""
        if part.is_multipart:
            raise ValueError(f"part {part.label} is a {part.media_type}: read the parts in it")
        section = part.section(SectionDecoding.SECTION_DECODING_TEXT)
        octets = await self.read(message_id, section, mailbox_id=mailbox_id)
        return octets.decode().replace("\r\n", "\n")

    async def upload(
        self,
        kind: UploadKind.ValueType,
        source: Source,
        *,
        on_progress: Progress | None = None,
    ) -> UploadContentResponse:
        """Upload octets. The client restarts the upload after a break, unless `timeout_seconds` brought no progress.

        Raises MessageTooLarge, InvalidContent, StoreFull, OSError.
        """
        total = len(source) if isinstance(source, bytes) else source.stat().st_size
        last, pause, furthest = time.monotonic(), FIRST_PAUSE_SECONDS, 0

        def sent(done: int) -> None:
            nonlocal last, furthest
            if done > furthest:
                last, furthest = time.monotonic(), done
            if on_progress is not None:
                on_progress(done, total)

        while True:
            try:
                return await self._calls.link.upload(kind, _chunks(source, sent), session=self._calls.token)
            except errors.RestanteError as error:
                if not is_temporary(error) or time.monotonic() + pause >= last + self._calls.timeout_seconds:
                    raise
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


async def _chunks(source: Source, on_sent: Callable[[int], None]) -> AsyncIterator[bytes]:
    if isinstance(source, bytes):
        for start in range(0, len(source), CHUNK_OCTETS):
            yield source[start : start + CHUNK_OCTETS]
            on_sent(min(start + CHUNK_OCTETS, len(source)))
        return
    done = 0
    with await asyncio.to_thread(source.open, "rb") as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK_OCTETS):
            yield chunk
            done += len(chunk)
            on_sent(done)
