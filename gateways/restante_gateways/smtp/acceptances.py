"""Contents on their way to the core: by the Accept stream, by SubmitMessage, and by uploads."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Protocol, TypeVar

import grpc

from restante import accept, errors
from restante.errors import RestanteError
from restante.methods import Method, Request, Response
from restante.v1 import content_pb2, methods, transport_pb2
from restante_gateways.smtp import envelopes
from restante_gateways.smtp.core import Envelope, OutcomeUnknown

T = TypeVar("T")
Token = Callable[[], bytes]

KEPT_OCTETS = 131_072  # contents up to this size are held until the core has them, and sent again when it falls over
PATIENCE_SECONDS = 20.0  # for an answer that was lost: a core is back within 5
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0
LOST_CODES = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN)


class AcceptStream(Protocol):
    """`restante.accept.AcceptStream`, as far as it is used."""

    def start(self, begin: transport_pb2.AcceptBegin) -> accept.Acceptance:
        """Begin an acceptance."""

    async def take(self, begin: transport_pb2.AcceptBegin, content: bytes) -> int:
        """A whole acceptance in one piece; its name in queue and trace. Raises RestanteError."""


class Link(Protocol):
    """`restante.link.CoreLink`, as far as it is used."""

    @property
    def accept(self) -> AcceptStream:
        """The process's Accept stream."""

    async def execute(
        self,
        method: Method[Request, Response],
        request: Request,
        *,
        session: bytes = b"",
        client_address: str = "",
        timeout: float = 30.0,
        independent: bool = False,
    ) -> Response:
        """One operation. Raises RestanteError."""

    async def upload(
        self,
        kind: content_pb2.UploadKind.ValueType,
        chunks: AsyncIterable[bytes],
        *,
        session: bytes = b"",
        client_address: str = "",
    ) -> content_pb2.UploadContentResponse:
        """One upload. Raises RestanteError."""


class MxAcceptance:
    """Mail from another MTA, by the Accept stream. A small content is held until it is settled."""

    def __init__(self, link: Link, envelope: Envelope) -> None:
        self._link = link
        self._begin = envelopes.begin(envelope, os.urandom(16))
        self._held: list[bytes] = []
        self._held_octets = 0
        self._streaming: accept.Acceptance | None = None  # of a content too large to be held

    async def feed(self, content: bytes) -> None:
        """See Acceptance."""
        if self._streaming is not None:
            await self._streaming.feed(content)
            return
        self._held.append(content)
        self._held_octets += len(content)
        if self._held_octets > KEPT_OCTETS:
            self._streaming = self._link.accept.start(self._begin)
            held, self._held = b"".join(self._held), []
            await self._streaming.feed(held)

    async def commit(self) -> str:
        """See Acceptance."""
        if self._streaming is None:
            return str(await settle(self._send_held))
        try:
            return str(await self._streaming.commit())
        except RestanteError as error:
            if answer_was_lost(error):
                raise OutcomeUnknown from error
            raise

    async def _send_held(self) -> int:
        return await self._link.accept.take(self._begin, b"".join(self._held))

    async def abandon(self) -> None:
        """See Acceptance."""
        if self._streaming is not None:
            self._streaming.abort()


class UserSubmission:
    """Mail from a user, by SubmitMessage; a content too large for an operation is uploaded first."""

    def __init__(self, link: Link, envelope: Envelope, token: Token) -> None:
        self._link, self._envelope, self._token = link, envelope, token
        self._request = envelopes.submission(envelope, os.urandom(16))
        self._held: list[bytes] = []
        self._held_octets = 0
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue(maxsize=2)  # empty octets end the upload
        self._upload: asyncio.Task[content_pb2.UploadContentResponse] | None = None

    async def feed(self, content: bytes) -> None:
        """See Acceptance."""
        if self._upload is None:
            self._held.append(content)
            self._held_octets += len(content)
            if self._held_octets <= KEPT_OCTETS:
                return
            content, self._held = b"".join(self._held), []
            self._upload = asyncio.create_task(self._run_upload())
        await self._put(self._upload, content)

    async def _run_upload(self) -> content_pb2.UploadContentResponse:
        return await self._link.upload(
            content_pb2.UPLOAD_KIND_MESSAGE,
            self._pieces_to_come(),
            session=self._token(),
            client_address=self._envelope.peer.client.host,
        )

    async def _pieces_to_come(self) -> AsyncIterable[bytes]:
        while piece := await self._pieces.get():
            yield piece

    async def _put(self, upload: asyncio.Task[content_pb2.UploadContentResponse], piece: bytes) -> None:
        """Hands a piece to the upload, waiting for room, unless the upload has failed: then raises why."""
        putting = asyncio.create_task(self._pieces.put(piece))
        try:
            await asyncio.wait([putting, upload], return_when=asyncio.FIRST_COMPLETED)
        finally:
            putting.cancel()
        if upload.done():
            upload.result()

    async def commit(self) -> str:
        """See Acceptance."""
        if self._upload is None:
            self._request.content = b"".join(self._held)
        else:
            await self._put(self._upload, b"")
            self._request.upload_id = (await self._upload).upload_id  # nothing is sent before: a failure is just that
        return await settle(self._submit)

    async def _submit(self) -> str:
        answer = await self._link.execute(
            methods.SUBMIT_MESSAGE,
            self._request,
            session=self._token(),
            client_address=self._envelope.peer.client.host,
            independent=True,
        )
        return str(answer.submission.submission_id)

    async def abandon(self) -> None:
        """See Acceptance."""
        if self._upload is not None:
            self._upload.cancel()
            await asyncio.gather(self._upload, return_exceptions=True)


async def settle(attempt: Callable[[], Awaitable[T]]) -> T:
    """Repeats an attempt whose answer was lost; it has a request_id, so that all of them are one.

    Raises what the core answers, and OutcomeUnknown when it never does.
    """
    loop = asyncio.get_running_loop()
    until, pause = loop.time() + PATIENCE_SECONDS, FIRST_PAUSE_SECONDS
    while True:
        try:
            return await attempt()
        except RestanteError as error:
            if not answer_was_lost(error):
                raise
            if loop.time() + pause > until:
                raise OutcomeUnknown from error
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def answer_was_lost(error: RestanteError) -> bool:
    """Whether the core may have done what was asked although it did not say so."""
    if isinstance(error, errors.UnknownReason):
        return error.status_code in LOST_CODES
    return isinstance(error, errors.Draining | errors.DeadlineExceeded)
