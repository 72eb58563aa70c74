"""The Execute multiplexer: operations of any number of sessions on one stream.

Whatever waits when the stream is free goes into one batch; there is no timer. What is beyond the 64 operations that the
server takes of one session at a time is held back, in order; other sessions pass it. A stream that breaks is replaced,
and what it had not answered is sent again: every operation either carries a request_id or is harmless to repeat.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message

from restante import errors, streams
from restante.methods import Method, Request, Response
from restante.v1 import methods
from restante.v1.batch_pb2 import ExecuteRequest, ExecuteResponse, Operation, OperationResult

MAX_BATCH_OPERATIONS = 256
MAX_BATCH_OCTETS = 1 << 20
MAX_IN_FLIGHT = 1_000  # of the 1024 at which the server stops reading
MAX_SESSION_IN_FLIGHT = 64  # beyond, the server answers TOO_MANY_OPERATIONS
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0

OpenStream = Callable[[bool], grpc.aio.StreamStreamCall[ExecuteRequest, ExecuteResponse]]


class StreamLost(Exception):
    """The stream broke before the operation was answered. `cause` is what gRPC said."""

    def __init__(self, cause: errors.RestanteError) -> None:
        super().__init__(str(cause))
        self.cause = cause


@dataclass(eq=False, slots=True)
class _Waiting:
    operation: Operation
    octets: int
    future: asyncio.Future[OperationResult]


class _Stream:
    """One Execute call."""

    def __init__(self, call: grpc.aio.StreamStreamCall[ExecuteRequest, ExecuteResponse]) -> None:
        self._call = call
        self._queue: deque[_Waiting] = deque()
        self._flying: dict[int, _Waiting] = {}
        self._of_session: dict[bytes, int] = {}  # {token: its operations in the queue or flying}
        self._held: dict[bytes, deque[_Waiting]] = {}  # {token: those beyond what one session may have there}
        self._cancelled: list[int] = []
        self._wake = asyncio.Event()
        self.usable = True  # new operations may be sent on it
        self.drained = False  # the server asked for another connection
        self._tasks = (asyncio.create_task(self._write()), asyncio.create_task(self._read()))

    def put(self, waiting: _Waiting) -> None:
        if token := waiting.operation.session_token:
            count = self._of_session.get(token, 0)
            if count >= MAX_SESSION_IN_FLIGHT:
                self._held.setdefault(token, deque()).append(waiting)
                return
            self._of_session[token] = count + 1
        self._queue.append(waiting)
        self._wake.set()

    def give_up(self, waiting: _Waiting) -> None:
        """Nobody waits for this any more."""
        if waiting.operation.operation_id in self._flying:
            self._cancelled.append(waiting.operation.operation_id)
            self._wake.set()
        elif waiting in self._queue:
            self._queue.remove(waiting)
            self._gone(waiting)
        elif (held := self._held.get(waiting.operation.session_token)) and waiting in held:
            held.remove(waiting)

    def _gone(self, waiting: _Waiting) -> None:
        """Neither in the queue nor flying any more: the session's next one may go."""
        token = waiting.operation.session_token
        if not token:
            return
        if held := self._held.get(token):
            self._queue.append(held.popleft())
            self._wake.set()
        elif self._of_session[token] > 1:
            self._held.pop(token, None)
            self._of_session[token] -= 1
        else:
            self._held.pop(token, None)
            del self._of_session[token]

    async def close(self) -> None:
        """End the call; what was not answered is lost."""
        self.usable = False
        for task in self._tasks:
            task.cancel()
        self._call.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._lose(errors.Draining("The connection was closed."))

    async def _write(self) -> None:
        try:
            while True:
                request = self._collect()
                if request is not None:
                    with streams.translated():
                        await self._call.write(request)
                elif not self.usable and not self._flying:
                    with streams.translated():
                        await self._call.done_writing()
                    return
                else:
                    self._wake.clear()
                    await self._wake.wait()
        except errors.RestanteError as error:
            self._lose(error)

    def _collect(self) -> ExecuteRequest | None:
        request, octets = ExecuteRequest(), 0
        queue = self._queue
        while queue and len(request.operations) < MAX_BATCH_OPERATIONS and len(self._flying) < MAX_IN_FLIGHT:
            if octets and octets + queue[0].octets > MAX_BATCH_OCTETS:
                break
            waiting = queue.popleft()
            if waiting.future.done():
                self._gone(waiting)
                continue
            octets += waiting.octets
            request.operations.append(waiting.operation)
            self._flying[waiting.operation.operation_id] = waiting
        request.cancel_operation_ids.extend(self._cancelled)
        self._cancelled.clear()
        return request if request.operations or request.cancel_operation_ids else None

    async def _read(self) -> None:
        try:
            while True:
                with streams.translated():
                    response = await self._call.read()
                if not isinstance(response, ExecuteResponse):  # grpc.aio.EOF
                    break
                for result in response.results:
                    waiting = self._flying.pop(result.operation_id, None)
                    if waiting is None:
                        continue
                    self._gone(waiting)
                    if not waiting.future.done():
                        waiting.future.set_result(result)
                if response.draining:
                    self.usable, self.drained = False, True
                if self._queue or not self.usable:
                    self._wake.set()
            self._lose(errors.Draining("The server ended the stream."))
        except errors.RestanteError as error:
            self._lose(error)

    def _lose(self, cause: errors.RestanteError) -> None:
        self.usable = False
        held = itertools.chain.from_iterable(self._held.values())
        for waiting in (*self._flying.values(), *self._queue, *held):
            if not waiting.future.done():
                waiting.future.set_exception(StreamLost(cause))
        self._flying.clear()
        self._queue.clear()
        self._held.clear()
        self._of_session.clear()
        self._wake.set()


class Multiplexer:
    """Runs operations for a whole process."""

    def __init__(self, open_stream: OpenStream, *, patience_seconds: float = 5.0) -> None:
        """`open_stream` begins an Execute call; its argument asks for a fresh connection, since the last one drained.

        `patience_seconds` is how long an operation waits for a core that is away before it fails as Draining.
        """
        self._open_stream, self._patience_seconds = open_stream, patience_seconds
        self._ids = itertools.count(1)
        self._stream: _Stream | None = None
        self._retiring: set[_Stream] = set()

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
        """The response to one operation. Raises the class of its reason; after `timeout` seconds DeadlineExceeded."""
        deadline = time.monotonic() + timeout
        result: OperationResult | None = None
        patience, pause = min(deadline, time.monotonic() + self._patience_seconds), FIRST_PAUSE_SECONDS
        while result is None:
            try:
                result = await self._once(method, request, session, client_address, deadline, independent)
            except StreamLost as lost:
                if not _may_repeat(method, request, lost.cause) or time.monotonic() + pause >= patience:
                    raise lost.cause from None
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        if result.HasField("status"):
            raise errors.from_status(result.status)
        response: Any = getattr(result, method.field)
        return response  # type: ignore[no-any-return]

    async def close(self) -> None:
        """End every stream."""
        streams = [*self._retiring, *([self._stream] if self._stream is not None else [])]
        self._stream = None
        await asyncio.gather(*(stream.close() for stream in streams))

    async def _once(
        self,
        method: Method[Any, Any],
        request: Message,
        session: bytes,
        client_address: str,
        deadline: float,
        independent: bool,
    ) -> OperationResult:
        left = deadline - time.monotonic()
        if left <= 0:
            raise errors.DeadlineExceeded
        operation = Operation(
            operation_id=next(self._ids),
            session_token=session,
            client_address=client_address,
            timeout_milliseconds=max(1, int(left * 1_000)),
            independent=independent,
        )
        getattr(operation, method.field).CopyFrom(request)
        loop = asyncio.get_running_loop()
        waiting = _Waiting(operation, operation.ByteSize(), loop.create_future())
        stream = self._current()
        stream.put(waiting)
        alarm = loop.call_later(left + 1.0, _expire, waiting)  # the server answers in time; this is for when it cannot
        try:
            return await waiting.future
        except (asyncio.CancelledError, errors.DeadlineExceeded):
            stream.give_up(waiting)
            raise
        finally:
            alarm.cancel()

    def _current(self) -> _Stream:
        if self._stream is None or not self._stream.usable:
            drained = self._stream is not None and self._stream.drained
            if self._stream is not None:
                self._retire(self._stream)
            self._stream = _Stream(self._open_stream(drained))
        return self._stream

    def _retire(self, stream: _Stream) -> None:
        """Let a stream that takes nothing new finish what it has."""
        self._retiring.add(stream)
        tasks = asyncio.gather(*stream._tasks, return_exceptions=True)
        tasks.add_done_callback(lambda _: self._retiring.discard(stream))


def _expire(waiting: _Waiting) -> None:
    if not waiting.future.done():
        waiting.future.set_exception(errors.DeadlineExceeded())


def _may_repeat(method: Method[Any, Any], request: Any, cause: errors.RestanteError) -> bool:
    """A later step of a SASL exchange is good once; everything else is idempotent (DESIGN section 4)."""
    if isinstance(cause, errors.UnknownReason):
        if cause.status_code not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN):
            return False
    elif cause.code is not grpc.StatusCode.UNAVAILABLE:
        return False
    return not (method is methods.AUTHENTICATE and request.exchange)
