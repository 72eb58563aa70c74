"""ContentService: uploading and reading octets."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

from google.protobuf.message import Message
from sqlalchemy import Connection

from restante.errors import DeadlineExceeded, InvalidArgument, InvalidSession, PartNotFound
from restante.v1 import methods
from restante.v1.content_pb2 import (
    GetUploadRequest,
    GetUploadResponse,
    ReadContentRequest,
    ReadContentResponse,
    UploadChunkRequest,
    UploadChunkResponse,
    UploadContentRequest,
    UploadContentResponse,
    UploadKind,
)
from restante_mail.mime.decoders import Decoding
from restante_server.api.engine import access
from restante_server.api.engine.allowances import Resource
from restante_server.api.engine.call import Call
from restante_server.api.engine.registry import Handlers
from restante_server.api.services import convert
from restante_server.api.services.section_octets import Source, cut, decoded_total, pieces
from restante_server.db.operation import Write
from restante_server.directory.rights import Claim
from restante_server.store import contents, decoded, messages, uploads
from restante_server.store.contents import Cut
from restante_server.store.staging import Form, Staged

handlers = Handlers()

CHUNK_OCTETS = 256 << 10
MAX_DECODED_OCTETS = 4 * decoded.AT_ONCE_OCTETS  # text grows at most threefold in UTF-8
MAX_PIECE_OCTETS = 512 << 10
UPLOAD_SECONDS = 3_600.0  # for one stream; an upload by pieces expires after the same time
SHED_OCTETS = 4 << 20  # approximate octets that one write of `uploads.shed` frees
FORMS = {UploadKind.UPLOAD_KIND_MESSAGE: Form.MAKE_CANONICAL, UploadKind.UPLOAD_KIND_ATTACHMENT: Form.ANY}


def form(kind: int) -> Form:
    """The form required of an upload's octets. Raises InvalidArgument."""
    known = FORMS.get(UploadKind.ValueType(kind))
    if known is None:
        raise InvalidArgument(field="kind", problem="must be MESSAGE or ATTACHMENT")
    return known


@handlers.stream("ContentService", "UploadContent", rule=access.UPLOAD_SESSION)
async def upload_content(call: Call, requests: AsyncIterator[UploadContentRequest]) -> UploadContentResponse:
    """See ContentService.UploadContent."""
    first = await anext(aiter(requests), None)
    if first is None:
        raise InvalidArgument(field="kind", problem="is missing: the stream ended without a request")
    writer = call.core.contents.writer(form(first.kind))
    with _OnItsWay(call) as coming:
        try:
            async with asyncio.timeout(UPLOAD_SECONDS):
                coming.add(len(first.octets))
                await writer.feed(first.octets)
                async for request in requests:
                    coming.add(len(request.octets))
                    await writer.feed(request.octets)
                await call.read(coming.require)
                staged = await writer.finish()
        except TimeoutError:
            writer.abandon()
            raise DeadlineExceeded from None
        except BaseException:
            writer.abandon()
            raise
        upload_id = secrets.token_bytes(16)

        def run(tx: Connection) -> int:
            uploads.begin(tx, upload_id, call.caller.account_id, first.kind, call.now)
            return uploads.finish(tx, upload_id, coming.octets, staged, call.now)

        try:
            await call.core.db.write(Write(run, rows=3, octets=staged.octets), deadline=call.deadline)
        except BaseException as error:
            call.core.contents.forget(staged, after=error)
            raise
    return UploadContentResponse(
        upload_id=upload_id, size_octets=staged.size_octets, line_ends_changed=staged.line_ends_changed
    )


class _OnItsWay:
    """Counts an upload's octets for the account while they are not yet in the store."""

    def __init__(self, call: Call) -> None:
        self._call, self._party = call, call.caller.party
        self.octets = 0

    def __enter__(self) -> _OnItsWay:
        return self

    def __exit__(self, *_: object) -> None:
        self._call.core.allowances.give_back(self._party, Resource.UPLOAD_OCTETS, self.octets)

    def add(self, octets: int) -> None:
        """Count more octets. Raises AccountLimitReached."""
        self._call.core.allowances.take(self._party, Resource.UPLOAD_OCTETS, octets)
        self.octets += octets

    def require(self, tx: Connection) -> None:
        """Raises AccountLimitReached if the account's uploads, those in the store included, exceed its limits.

        Call it before staging the octets, because staged octets take room for an hour.
        """
        coming = self._call.core.allowances.held(self._party, Resource.UPLOAD_OCTETS)
        uploads.require(tx, self._call.caller.account_id, _limits(self._call), octets=coming, uploads=1)


def _limits(call: Call) -> uploads.Limits:
    limits = call.core.settings.limits
    return uploads.Limits(limits.account_uploads, limits.account_upload_octets)


async def _known(call: Call, request: UploadChunkRequest, claims: tuple[Claim, ...]) -> Message | None:
    """The first answer to a repeated first piece. Later pieces have no request id."""
    response = None if request.upload_id else await call.known_answer(request, claims)
    return await _assemble(call, response) if isinstance(response, UploadChunkResponse) and request.last else response


@handlers.direct(methods.UPLOAD_CHUNK, rule=access.UPLOAD_SESSION, known=_known)
async def upload_chunk(call: Call, request: UploadChunkRequest) -> UploadChunkResponse:
    """See ContentService.UploadChunk."""
    if len(request.octets) > MAX_PIECE_OCTETS:
        raise InvalidArgument(field="octets", problem=f"must be at most {MAX_PIECE_OCTETS} octets")
    call.core.contents.require_room()
    account_id, limits = call.caller.account_id, _limits(call)
    most = call.core.contents.settings.max_message_octets

    def first_piece(tx: Connection) -> UploadChunkResponse:
        upload_id = secrets.token_bytes(16)
        uploads.require(tx, account_id, limits, octets=len(request.octets), uploads=1)
        uploads.begin(tx, upload_id, account_id, request.kind, call.now)
        return add(tx, uploads.get(tx, upload_id, account_id, call.now))

    def later_piece(tx: Connection) -> UploadChunkResponse:
        found = uploads.get(tx, request.upload_id, account_id, call.now)
        if found.content_id is None:
            return add(tx, found)
        return UploadChunkResponse(upload_id=request.upload_id, received_octets=found.received_octets, finished=True)

    def add(tx: Connection, found: uploads.Upload) -> UploadChunkResponse:
        received = uploads.add_piece(tx, found, account_id, request.offset_octets, request.octets, most, limits)
        return UploadChunkResponse(upload_id=found.upload_id, received_octets=received)

    if request.upload_id:
        write = Write(later_piece, octets=len(request.octets))
        response = await call.core.db.write(write, deadline=call.deadline)
    else:
        form(request.kind)
        response = await call.write(request, first_piece, claims=(), octets=len(request.octets))
    return await _assemble(call, response) if request.last else response


async def _assemble(call: Call, response: UploadChunkResponse) -> UploadChunkResponse:
    """Make one content of all pieces, after the last one has come."""
    upload_id, account_id = response.upload_id, call.caller.account_id
    found = await call.core.db.read(uploads.get, upload_id, account_id, call.now)
    if found.content_id is None:
        with _OnItsWay(call) as copied:  # assembling, also for a repeated last piece, takes the octets a second time
            copied.add(found.received_octets)
            await _make_content(call, found)
        found = await call.core.db.read(uploads.get, upload_id, account_id, call.now)
    while await call.core.db.write(Write(partial(uploads.shed, upload_id=upload_id), octets=SHED_OCTETS)):
        continue
    stored = await call.core.db.read(contents.load, [found.content_id or 0])
    return UploadChunkResponse(
        upload_id=upload_id,
        received_octets=found.received_octets,
        finished=True,
        size_octets=sum(content.size_octets for content in stored.values()),
        line_ends_changed=found.line_ends_changed,
    )


async def _make_content(call: Call, found: uploads.Upload) -> None:
    writer = call.core.contents.writer(form(found.kind))
    offset = 0
    try:
        while (piece := await call.core.db.read(uploads.next_piece, found.upload_id, offset)) is not None:
            offset += len(piece)
            await writer.feed(piece)
            if not piece:
                break
        staged = await writer.finish()
    except BaseException:
        writer.abandon()
        raise
    try:
        finish = partial(_finish, call, found.upload_id, offset, staged)
        finished = await call.core.db.write(Write(finish, rows=4, octets=staged.octets))
    except BaseException as error:
        call.core.contents.forget(staged, after=error)
        raise
    if not finished:
        call.core.contents.forget(staged)


def _finish(call: Call, upload_id: bytes, received: int, staged: Staged, tx: Connection) -> bool:
    """Finish an upload; False if it is finished, because the client sent the same last piece twice at the same time."""
    if uploads.get(tx, upload_id, call.caller.account_id, call.now).content_id is not None:
        return False
    uploads.finish(tx, upload_id, received, staged, call.now)
    return True


@handlers.read(methods.GET_UPLOAD, rule=access.UPLOAD_SESSION)
def get_upload(tx: Connection, call: Call, request: GetUploadRequest) -> GetUploadResponse:
    """See ContentService.GetUpload."""
    if not call.caller.account_id:
        raise InvalidSession
    found = uploads.get(tx, request.upload_id, call.caller.account_id, call.now)
    return GetUploadResponse(received_octets=found.received_octets, finished=found.content_id is not None)


@handlers.stream("ContentService", "ReadContent", rule=access.READ_SESSION)
async def read_content(call: Call, request: ReadContentRequest) -> AsyncIterator[ReadContentResponse]:
    """See ContentService.ReadContent."""
    source = Source(call.claim(request.mailbox_id), request.message_id, convert.wanted(request.section, "section"))
    first = await call.read(partial(_beginning, directory=call.core.contents.directory, source=source))
    total = first.total if first is not None else await decoded_total(call, source)
    if total < 0:
        raise PartNotFound(part=".".join(map(str, request.section.part)))
    octets = first.octets if first is not None else b""
    yield ReadContentResponse(total_octets=total, octets=octets[:CHUNK_OCTETS])
    for at in range(CHUNK_OCTETS, len(octets), CHUNK_OCTETS):
        yield ReadContentResponse(octets=octets[at : at + CHUNK_OCTETS])
    if len(octets) < total:
        async for piece in pieces(call, source.behind(len(octets), total)):
            yield ReadContentResponse(octets=piece)


def _beginning(tx: Connection, *, directory: Path, source: Source) -> Cut | None:
    """The beginning of a section; None for a decoded one whose length takes reading more."""
    if source.wanted.decoding is Decoding.NONE:
        return cut(tx, directory, source, CHUNK_OCTETS)
    content_id, _ = messages.content_of(tx, source.claim.place(tx), source.message_id)
    stored = contents.load(tx, [content_id])[content_id]
    return decoded.beginning(tx, directory, stored, source.wanted, MAX_DECODED_OCTETS).cut
