"""Server streams and uploads, with errors by reason."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, TypeVar

import grpc
import grpc.aio

from restante import errors
from restante.v1.content_pb2 import UploadContentRequest, UploadContentResponse, UploadKind

T = TypeVar("T")

MAX_CHUNK_OCTETS = 256 << 10


def call_metadata(
    base: tuple[tuple[str, str], ...], session: bytes = b"", client_address: str = ""
) -> tuple[tuple[str, str], ...]:
    """The entries of one call: the process identity, the session and the address of its client."""
    entries = base
    if session:
        entries += (("authorization", "Bearer " + base64.urlsafe_b64encode(session).decode().rstrip("=")),)
    if client_address:
        entries += (("restante-client", client_address),)
    return entries


async def responses(call: grpc.aio.UnaryStreamCall[Any, T]) -> AsyncIterator[T]:
    """The messages of a server stream. Leaving the loop early ends the call; errors come as RestanteError."""
    try:
        while True:
            message = await call.read()
            if message is grpc.aio.EOF:
                return
            yield message  # type: ignore[misc]
    except grpc.RpcError as error:
        raise errors.from_rpc_error(error) from None
    finally:
        call.cancel()  # nothing happens when it is over


async def pieces(kind: UploadKind.ValueType, chunks: AsyncIterable[bytes]) -> AsyncIterator[UploadContentRequest]:
    """The requests of an upload: octets of any size in chunks that fit."""
    first = True
    async for chunk in chunks:
        for start in range(0, len(chunk), MAX_CHUNK_OCTETS):
            octets = chunk[start : start + MAX_CHUNK_OCTETS]
            yield UploadContentRequest(kind=kind, octets=octets) if first else UploadContentRequest(octets=octets)
            first = False
    if first:
        yield UploadContentRequest(kind=kind)


async def upload(
    call: grpc.aio.StreamUnaryCall[UploadContentRequest, UploadContentResponse],
) -> UploadContentResponse:
    """The response to an upload. Raises MessageTooLarge, InvalidContent, StoreFull."""
    try:
        return await call
    except grpc.RpcError as error:
        raise errors.from_rpc_error(error) from None
