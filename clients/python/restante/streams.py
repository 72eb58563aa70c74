"""Server streams and uploads, with errors by reason."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from typing import Any, TypeVar

import grpc
import grpc.aio

from restante import errors
from restante.v1.content_pb2 import UploadContentRequest, UploadContentResponse, UploadKind

T = TypeVar("T")

MAX_CHUNK_OCTETS = 256 << 10
WRITE_FAILED = "Internal error from Core"  # grpc.aio's text for a write on an ended call


def call_metadata(
    base: tuple[tuple[str, str], ...], session: bytes = b"", client_address: str = ""
) -> tuple[tuple[str, str], ...]:
    """The metadata of one call: the process identity, the session and the address of its client."""
    entries = base
    if session:
        entries += (("authorization", "Bearer " + base64.urlsafe_b64encode(session).decode().rstrip("=")),)
    if client_address:
        entries += (("restante-client", client_address),)
    return entries


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn gRPC's exceptions around reads and writes of a call into a RestanteError.

    A call on a channel that was closed raises CancelledError without a cancelled task. This becomes Draining, as does
    a write that failed because the call had ended.
    """
    try:
        yield
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.INTERNAL and error.details() == WRITE_FAILED:
            raise errors.Draining("The connection was lost.") from None
        raise errors.from_rpc_error(error) from None
    except grpc.RpcError as error:
        raise errors.from_rpc_error(error) from None
    except asyncio.InvalidStateError as error:
        raise errors.Draining(str(error)) from None
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise errors.Draining("The connection was closed.") from None


async def responses(call: grpc.aio.UnaryStreamCall[Any, T]) -> AsyncIterator[T]:
    """The messages of a server stream. Leaving the loop early ends the call. Raises RestanteError."""
    try:
        while True:
            with translated():
                message = await call.read()
            if message is grpc.aio.EOF:
                return
            yield message  # type: ignore[misc]
    finally:
        call.cancel()  # without effect on an ended call


async def pieces(kind: UploadKind.ValueType, chunks: AsyncIterable[bytes]) -> AsyncIterator[UploadContentRequest]:
    """The requests of an upload, with chunks of any size cut to at most MAX_CHUNK_OCTETS."""
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
    """The response to an upload. Raises MessageTooLarge, InvalidContent, StoreFull.

    A refusal during a write may raise Draining, because gRPC then reports no reason. This is rare: the core continues
    to read for a while before it refuses.
    """
    with translated():
        return await call
