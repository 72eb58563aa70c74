"""Uploads of contents that are too large for one operation, streamed to the core in bounded memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from restante import errors
from restante.v1 import content_pb2
from restante_gateways.core.link import Uploads
from restante_gateways.core.retry import Pauses, is_temporary

HELD_OCTETS = 1 << 20  # of each content, from its beginning, kept for a repetition
QUEUED_PIECES = 2  # a full queue delays reading, so that TCP slows the client
PATIENCE_SECONDS = 5.0  # for an unreachable core


class Upload:
    """The upload of one message: `feed`, then `finish` or `abandon`.

    A broken upload restarts, at another core if there is one, as long as all octets fed so far are held. After that
    the caller receives its error.
    """

    def __init__(
        self,
        core: Uploads,
        token: Callable[[], bytes],
        client_address: str,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        """Each attempt calls `token` for the session's current token."""
        self._core, self._token, self._client_address = core, token, client_address
        self._patience_seconds = patience_seconds
        self._held: list[bytes] | None = []  # all octets so far; None: more than HELD_OCTETS
        self._held_octets = 0
        self._begin()

    async def feed(self, octets: bytes) -> None:
        """Send the next octets; return when more may be fed. Raises the error of a failed upload."""
        if self._held is not None:
            self._held.append(octets)
            self._held_octets += len(octets)
        if await self._put(octets):
            if self._held_octets > HELD_OCTETS:
                self._held = None
        else:
            await self._repair()

    async def finish(self) -> bytes:
        """End the content and return the upload's id. Raises RestanteError."""
        await self._put(None)
        pauses = Pauses(self._patience_seconds)
        while True:
            try:
                return (await self._sending).upload_id
            except errors.RestanteError as error:
                if self._held is None or not is_temporary(error) or not await pauses.wait():
                    raise
            self._begin()
            await self._put_held()
            await self._put(None)

    async def abandon(self) -> None:
        """Cancel the upload. Idempotent."""
        self._sending.cancel()
        await asyncio.gather(self._sending, return_exceptions=True)

    def _begin(self) -> None:
        pieces: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=QUEUED_PIECES)
        self._pieces = pieces
        self._sending = asyncio.ensure_future(
            self._core.upload(
                content_pb2.UPLOAD_KIND_MESSAGE,
                _until_none(pieces),
                session=self._token(),
                client_address=self._client_address,
            )
        )

    async def _put(self, piece: bytes | None) -> bool:
        """Queue a piece, waiting for room. Return False if the upload has ended meanwhile."""
        if self._sending.done():
            return False
        if not self._pieces.full():
            self._pieces.put_nowait(piece)
            return True
        putting = asyncio.ensure_future(self._pieces.put(piece))
        try:
            waited: set[asyncio.Future[Any]] = {putting, self._sending}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            putting.cancel()
        return not self._sending.done()

    async def _put_held(self) -> bool:
        assert self._held is not None
        for piece in self._held:
            if not await self._put(piece):
                return False
        return True

    async def _repair(self) -> None:
        """Restart an upload that ended early with all octets fed so far, or raise its error."""
        pauses = Pauses(self._patience_seconds)
        while True:
            error = self._sending.exception()
            if error is None:
                raise errors.Internal("the core ended the upload stream too early")
            if self._held is None or not isinstance(error, errors.RestanteError) or not is_temporary(error):
                raise error
            if not await pauses.wait():
                raise error
            self._begin()
            if await self._put_held():
                return


async def _until_none(pieces: asyncio.Queue[bytes | None]) -> AsyncIterator[bytes]:
    while (piece := await pieces.get()) is not None:
        yield piece
