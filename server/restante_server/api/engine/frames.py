"""The socket of frames, and Execute in them, for gateways of this machine (docs/design.md "Frames";
`restante_process.frames` has the form).

A connection is one Execute stream, or a call whose response streams (`frame_streams`). Requests of Execute are taken as
they arrive, and whatever has been answered in a turn of the event loop is written together, without a task.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from restante.errors import InvalidSession, UnknownOperation, to_status
from restante_process.frames import (
    MAX_HELLO_OCTETS,
    RPC,
    FrameReader,
    FrameTooLarge,
    Kind,
    MalformedFrame,
    frame,
    parse_hello,
)
from restante_server.api.engine.batch import parse
from restante_server.api.engine.batches import Batches
from restante_server.api.engine.execute import Execution
from restante_server.api.engine.faults import translate
from restante_server.api.engine.frame_streams import FramedRpc, StreamConnection
from restante_server.api.engine.grpc_options import MAX_RECEIVED_OCTETS
from restante_server.api.engine.identity import LOCAL

log = logging.getLogger(__name__)

HELLO_SECONDS = 10.0  # for the first frame
CLOSE_SECONDS = 5.0  # for the client to close the connection after the last frame


class FrameServer:
    """Serves Execute streams of `batches` and calls of `rpcs` on a Unix socket that only our own user can reach."""

    def __init__(self, batches: Batches, rpcs: Mapping[str, FramedRpc]) -> None:
        """`rpcs` by service and name: "MessageService/StreamMessages"."""
        self.batches, self.rpcs = batches, rpcs
        self.connections: set[Connection | StreamConnection] = set()
        self._listener: asyncio.Server | None = None
        self._idle = asyncio.Event()  # there is no connection

    async def start(self, path: Path) -> None:
        """Accept connections. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_unix_server(lambda: Connection(self), sock=_bound(path))

    async def stop(self, grace_seconds: float) -> None:
        """Accept no more, let the streams finish for `grace_seconds`, then end the rest.

        The caller has announced the draining.
        """
        if self._listener is not None:
            self._listener.close()
        for connection in list(self.connections):
            connection.close_unproven()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_seconds):
                while self.connections:
                    self._idle.clear()
                    await self._idle.wait()
        for connection in list(self.connections):
            connection.abort()

    def forget(self, connection: Connection | StreamConnection) -> None:
        """Remove an ended connection."""
        self.connections.discard(connection)
        if not self.connections:
            self._idle.set()


class Connection(asyncio.Protocol):
    """One gateway's connection."""

    def __init__(self, server: FrameServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._reader = FrameReader(MAX_HELLO_OCTETS)
        self._execution: Execution | None = None
        self._problem: status_pb2.Status | None = None  # ends the stream after the operations in flight
        self._ended = False  # the stream takes no further request
        self._reading = True  # False: the stream has reached a limit
        self._writable = True
        self._flushing = False
        self._closed = False  # the last frame is written
        self._limit: asyncio.TimerHandle  # of the time for the first frame, and again for the client's close

    # --- the transport's calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's class is not derived from it
        self._server.connections.add(self)
        self._limit = self._loop.call_later(HELLO_SECONDS, self._refuse, MalformedFrame("no first frame in time"))

    def data_received(self, data: bytes) -> None:
        if not self._ended:
            self._reader.feed(data)
            self._flushing = True  # what is answered at once is written below
            self._take()
            self._flush()

    def pause_writing(self) -> None:
        self._writable = False  # answers wait in the execution, which limits them

    def resume_writing(self) -> None:
        self._writable = True
        self._changed()

    def eof_received(self) -> None:
        self.abort()  # the client is gone: one that only ends its requests sends END

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self._limit.cancel()
        if self._execution is not None:
            self._server.batches.close(self._execution)
        self._server.forget(self)

    # --- frames ---

    def close_unproven(self) -> None:
        """Close the connection if its client has not sent the first frame."""
        if self._execution is None:
            self._transport.abort()

    def abort(self) -> None:
        """End the connection now."""
        self._transport.abort()

    def _take(self) -> None:
        try:
            while self._reading and not self._ended and (found := self._reader.next_frame()) is not None:
                self._receive(*found)
        except Exception as error:  # noqa: BLE001 - every failure gets a status with a reason
            self._refuse(error)

    def _receive(self, kind: Kind, content: bytes) -> None:
        execution = self._execution
        if execution is None:
            self._begin(kind, content)
        elif kind is Kind.MESSAGE:
            execution.take(parse(content))
            if execution.is_full:
                self._reading = False
                self._transport.pause_reading()
        elif kind is Kind.END:
            self._end()
        else:
            raise MalformedFrame(f"a client may not send {kind.name} here")

    def _begin(self, kind: Kind, content: bytes) -> None:
        if kind is not Kind.HELLO:
            raise MalformedFrame(f"the first frame is {kind.name}")
        batches, metadata = self._server.batches, parse_hello(content)
        caller = batches.executor.authenticator.process(metadata, LOCAL)
        if not caller.identity:
            raise InvalidSession("Only a process with an identity may use this socket.")
        if RPC in metadata:
            self._hand_over(metadata)
            return
        self._limit.cancel()
        self._reader.max_octets = MAX_RECEIVED_OCTETS
        self._execution = batches.open(caller, self._changed)

    def _hand_over(self, metadata: Mapping[str, str]) -> None:
        """Let the connection be a call of the RPC that its first frame names."""
        server = self._server
        rpc = server.rpcs.get(metadata[RPC])
        if rpc is None:
            raise UnknownOperation(operation=metadata[RPC])
        self._limit.cancel()
        self._ended = True
        self._reader.max_octets = MAX_RECEIVED_OCTETS
        call = StreamConnection(self._transport, self._reader, rpc, metadata, server.forget)
        self._transport.set_protocol(call)
        server.connections.add(call)
        server.connections.discard(self)
        call.take()

    def _end(self) -> None:
        """Take nothing more, and close after the last answer."""
        self._ended = True
        if self._execution is not None:
            self._execution.end()

    def _refuse(self, error: Exception) -> None:
        """End the connection with the reason, as gRPC does: after the answers to a faulty batch's predecessors, but at
        once for octets that are no frame, or for a caller without proof."""
        if isinstance(error, FrameTooLarge):
            self._problem = status_pb2.Status(code=grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], message=str(error))
        elif isinstance(error, MalformedFrame | DecodeError):
            self._problem = status_pb2.Status(code=grpc.StatusCode.INTERNAL.value[0], message=str(error))
        else:
            self._problem = to_status(translate(error, "Execute"))
        log.warning("a connection of Execute ends: %s", self._problem.message)
        if self._execution is None or isinstance(error, MalformedFrame | DecodeError):
            self._close()
        else:
            self._end()

    # --- answers ---

    def _changed(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Write what has been answered in this turn of the loop, as long as the client takes it."""
        execution = self._execution
        if execution is None or self._closed:
            self._flushing = False
            return
        while execution.is_ready and self._writable:
            self._transport.write(frame(Kind.MESSAGE, execution.answer().SerializeToString()))
        self._flushing = False
        if execution.is_over:
            self._close()
        elif not self._reading and not execution.is_full:
            self._reading = True
            self._transport.resume_reading()
            self._take()

    def _close(self) -> None:
        """Write the outcome. The client closes the connection: while it still writes, it could not read the outcome."""
        if self._closed:
            return
        self._ended = self._closed = True
        if self._problem is None:
            self._transport.write(frame(Kind.END))
        else:
            self._transport.write(frame(Kind.STATUS, self._problem.SerializeToString()))
        self._transport.write_eof()
        self._limit.cancel()
        self._limit = self._loop.call_later(CLOSE_SECONDS, self._transport.abort)


def _bound(path: Path) -> socket.socket:
    """A Unix socket of our user alone. Nobody can connect before `listen`."""
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX)
    try:
        made.bind(os.fspath(path))
        os.chmod(path, 0o600)
    except OSError:
        made.close()
        raise
    return made
