"""Contents that are too large for one operation, sent to the core as they come, in bounded memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from restante import errors
from restante.v1 import content_pb2
from restante_gateways.core.link import Uploads
from restante_gateways.core.retry import Pauses, is_temporary

HELD_OCTETS = 1 << 20  # of each content, at its beginning: so much can be sent again
QUEUED_PIECES = 2  # TCP holds the client back while these wait
PATIENCE_SECONDS = 5.0  # for a core that is away


class Upload:
    """One message on its way: `feed`, then `finish` or `abandon`.

    An upload that breaks is begun anew, at another core where there is one, as long as all that was fed is still held;
    after that its error is the caller's.
    """

    def __init__(
        self,
        core: Uploads,
        token: Callable[[], bytes],
        client_address: str,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        """`token` gives the session's token at the moment of each attempt."""
        self._core, self._token, self._client_address = core, token, client_address
        self._patience_seconds = patience_seconds
        self._held: list[bytes] | None = []  # all octets yet; None: there were too many
        self._held_octets = 0
        self._begin()

    async def feed(self, octets: bytes) -> None:
        """The next octets. Returns when more may be fed. Raises the reason why the upload failed."""
        if self._held is not None:
            self._held.append(octets)
            self._held_octets += len(octets)
        if await self._put(octets):
            if self._held_octets > HELD_OCTETS:
                self._held = None
        else:
            await self._repair()

    async def finish(self) -> bytes:
        """The upload's id. Raises RestanteError."""
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
        """Forget it; harmless to repeat."""
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
        """Hand a piece over, waiting for room; False when the upload has ended meanwhile."""
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
        """The upload has ended early: begin anew with all that was fed, or raise the reason."""
        pauses = Pauses(self._patience_seconds)
        while True:
            error = self._sending.exception()
            if error is None:
                raise errors.Internal("the core ended an upload before its end")
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
