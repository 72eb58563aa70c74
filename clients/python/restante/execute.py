"""The Execute multiplexer: operations of any number of sessions on one stream.

All operations that wait when the stream is free go into one batch, without a timer. The server takes 64 operations of a
session at a time; the multiplexer holds back further ones, in order, without delaying other sessions. Another stream
replaces one that breaks, and carries its unanswered operations again, in their order: every operation either has a
request_id or is harmless to repeat. A draining stream takes no new operation and finishes those it has.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message

from restante import errors
from restante.carrier import Carrier, Stream
from restante.encoding import tag, varint
from restante.methods import Method, Request, Response
from restante.retry import is_repeatable, is_temporary
from restante.v1.batch_pb2 import ExecuteRequest, ExecuteResponse, Operation, OperationResult

MAX_BATCH_OPERATIONS = 256
MAX_BATCH_OCTETS = 1 << 20
MAX_IN_FLIGHT = 1_000  # the server stops reading at 1024
MAX_SESSION_IN_FLIGHT = 64  # above it the server answers TOO_MANY_OPERATIONS
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0
_OPERATION = tag(ExecuteRequest.OPERATIONS_FIELD_NUMBER)
_REQUESTS = {each.name: tag(each.number) for each in Operation.DESCRIPTOR.oneofs_by_name["request"].fields}

OpenCarrier = Callable[[bool, Stream], Carrier]


@dataclass(eq=False, slots=True)
class Followed:
    """A folder that a client has a view of. Answers to its operations give the change number the view must reach."""

    mailbox_id: int  # 0: the session's own
    folder_id: int
    change_number: int = 0  # the highest of all answers; 0 before the first


@dataclass(eq=False, slots=True)
class _Lane:
    """The operations of one session, in order; with an empty token, all operations without a session, in any order."""

    token: bytes
    pending: deque[_Waiting] = field(default_factory=deque)
    queued: bool = False  # whether it is in the multiplexer's _turns
    in_flight: int = 0
    # The server keeps the order on one stream only: another stream must wait for the answers to these operations.
    ordered: int = 0
    ordered_on: _Stream | None = None

    def may_send(self, waiting: _Waiting, stream: _Stream) -> bool:
        if not self.token:
            return True
        if self.in_flight >= MAX_SESSION_IN_FLIGHT:
            return False
        return waiting.operation.independent or not self.ordered or self.ordered_on is stream

    def sent(self, waiting: _Waiting, stream: _Stream) -> None:
        waiting.stream = stream
        self.in_flight += 1
        if not waiting.operation.independent:
            self.ordered += 1
            self.ordered_on = stream

    def settled(self, waiting: _Waiting) -> None:
        """Undo `sent`."""
        waiting.stream = None
        self.in_flight -= 1
        if not waiting.operation.independent:
            self.ordered -= 1


@dataclass(eq=False, slots=True)
class _Waiting:
    """One operation that has not been answered."""

    method: Method[Any, Any]
    request: Message
    operation: Operation  # without its request
    encoded: tuple[bytes, bytes]  # of `operation`, and of the field of its request
    deadline: float
    lane: _Lane
    future: asyncio.Future[OperationResult]
    stream: _Stream | None = None  # the stream that carries it
    give_up_at: float = 0.0  # set when its stream was lost: the last moment to send it again

    @property
    def is_repeatable(self) -> bool:
        """Whether the client may send it again after the answer was lost."""
        return is_repeatable(self.method, self.request)

    @property
    def octets(self) -> int:
        """The size of the whole operation."""
        return len(self.encoded[0]) + len(self.encoded[1])

    def has_left(self, seconds: float) -> None:
        """Change the time that the server has for it."""
        self.operation.timeout_milliseconds = max(1, int(seconds * 1_000))
        self.encoded = self.operation.SerializeToString(), self.encoded[1]

    def is_patient(self, now: float, patience_seconds: float) -> bool:
        """Whether it still waits for another stream."""
        if not self.give_up_at:
            self.give_up_at = min(self.deadline, now + patience_seconds)
        return now < self.give_up_at

    def fail(self, error: errors.RestanteError) -> None:
        if not self.future.done():
            self.future.set_exception(error)

    def expire(self) -> None:
        self.fail(errors.DeadlineExceeded())


class _Stream:
    """The multiplexer's side of one Execute stream (`restante.carrier.Stream`)."""

    def __init__(self, owner: Multiplexer, open_carrier: OpenCarrier, drained: bool) -> None:
        self._owner = owner
        self.flying: dict[int, _Waiting] = {}
        self.cancelled: list[int] = []
        self.retired = False  # takes no new operation
        self.worked = False
        self._carrier = open_carrier(drained, self)
        self.wake, self.close = self._carrier.wake, self._carrier.close

    @property
    def is_finished(self) -> bool:
        return self.retired and not self.flying

    def next_request(self) -> bytes | None:
        return self._owner.collect(self)

    def received(self, response: ExecuteResponse) -> None:
        self._owner.answered(self, response)

    def lost(self, cause: errors.RestanteError) -> None:
        self._owner.lost(self, cause)


class Multiplexer:
    """Runs operations for a whole process."""

    def __init__(self, open_carrier: OpenCarrier, *, patience_seconds: float = 5.0) -> None:
        """`open_carrier` begins to carry a stream; True asks for a fresh connection, after the last stream drained.

        An operation waits `patience_seconds` for an unreachable core, and then fails with the connection's error.
        """
        self._open_carrier, self._patience_seconds = open_carrier, patience_seconds
        self._ids = itertools.count(1)
        self._lanes: dict[bytes, _Lane] = {}
        self._turns: deque[_Lane] = deque()  # lanes with operations to send, first come first served
        self._streams: set[_Stream] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._stream: _Stream | None = None  # the stream for new operations
        self._drained = False  # whether the last stream drained
        self._pause = FIRST_PAUSE_SECONDS
        self._resting: asyncio.TimerHandle | None = None  # until the next stream is opened
        self._closed = False

    async def execute(
        self,
        method: Method[Request, Response],
        request: Request,
        *,
        session: bytes = b"",
        client_address: str = "",
        timeout: float = 30.0,
        independent: bool = False,
        followed: Followed | None = None,
    ) -> Response:
        """The response to one operation. Raises the class of its reason; after `timeout` seconds DeadlineExceeded.

        A request above MAX_BATCH_OCTETS raises InvalidArgument and is not sent. Every answer, an error too, updates the
        change number of `followed` if the core knows it.
        """
        if timeout <= 0:
            raise errors.DeadlineExceeded
        if self._closed:
            raise errors.Draining("The connection was closed.")
        operation = Operation(
            operation_id=next(self._ids),
            session_token=session,
            client_address=client_address,
            timeout_milliseconds=max(1, int(timeout * 1_000)),
            independent=independent,
        )
        if followed is not None:
            operation.followed_mailbox_id = followed.mailbox_id
            operation.followed_folder_id = followed.folder_id
        octets = request.SerializeToString()
        encoded = operation.SerializeToString(), b"".join((_REQUESTS[method.field], varint(len(octets)), octets))
        if len(encoded[0]) + len(encoded[1]) > MAX_BATCH_OCTETS:  # the server would refuse it too
            raise errors.InvalidArgument(
                field="operations", problem=f"together they may have at most {MAX_BATCH_OCTETS} octets"
            )
        loop = asyncio.get_running_loop()
        lane = self._lanes.get(session)
        if lane is None:
            lane = self._lanes[session] = _Lane(session)
        deadline = time.monotonic() + timeout
        waiting = _Waiting(method, request, operation, encoded, deadline, lane, loop.create_future())
        lane.pending.append(waiting)
        self._queue(lane)
        self._kick()
        # The server enforces the deadline; this alarm is for a server that does not answer.
        alarm = loop.call_later(timeout + 1.0, waiting.expire)
        try:
            result = await waiting.future
        except (asyncio.CancelledError, errors.DeadlineExceeded):
            self._give_up(waiting)
            raise
        finally:
            alarm.cancel()
        if followed is not None:
            followed.change_number = max(followed.change_number, result.followed_change_number)
        if result.HasField("status"):
            raise errors.from_status(result.status)
        response: Any = getattr(result, method.field)
        return response  # type: ignore[no-any-return]

    async def close(self) -> None:
        """End every stream."""
        self._closed = True
        if self._resting is not None:
            self._resting.cancel()
        for stream in tuple(self._streams):
            self.lost(stream, errors.Draining("The connection was closed."))
            await stream.close()
        await asyncio.gather(*self._closing)
        for lane in self._lanes.values():
            for waiting in lane.pending:
                waiting.fail(errors.Draining("The connection was closed."))

    def replace(self, grace_seconds: float) -> None:
        """Send further operations by another stream, now. The present one has `grace_seconds` to finish what it has."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.retired = True
            stream.wake()
            asyncio.get_running_loop().call_later(grace_seconds, self._leave, stream)
        self._pause = FIRST_PAUSE_SECONDS
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        self._kick()

    def _leave(self, stream: _Stream) -> None:
        """End a stream that was replaced, if it has not finished. Its operations go to the present one."""
        if stream in self._streams:
            self.lost(stream, errors.Draining("The connection was closed."))
            closing = asyncio.get_running_loop().create_task(stream.close(), name="replaced stream")
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def collect(self, stream: _Stream) -> bytes | None:
        """The next ExecuteRequest of a stream, encoded, within its limits; None when nothing is to be sent."""
        if not (self._turns or stream.cancelled):
            return None
        parts: list[bytes] = []
        count, octets = 0, 0
        if not stream.retired:
            turns, self._turns = self._turns, deque()
            while turns and count < MAX_BATCH_OPERATIONS and len(stream.flying) < MAX_IN_FLIGHT:
                lane = turns.popleft()
                lane.queued = False
                while lane.pending and lane.may_send(lane.pending[0], stream):
                    waiting = lane.pending[0]
                    size = waiting.octets
                    if (
                        count == MAX_BATCH_OPERATIONS
                        or len(stream.flying) == MAX_IN_FLIGHT
                        or (octets and octets + size > MAX_BATCH_OCTETS)
                    ):
                        self._queue(lane)
                        break
                    lane.pending.popleft()
                    if waiting.give_up_at:
                        waiting.has_left(waiting.deadline - time.monotonic())
                        size = waiting.octets
                    count, octets = count + 1, octets + size
                    parts += (_OPERATION, varint(size), *waiting.encoded)
                    lane.sent(waiting, stream)
                    stream.flying[waiting.operation.operation_id] = waiting
                self._tidy(lane)
            self._turns.extendleft(reversed(turns))
        if stream.cancelled:
            parts.append(ExecuteRequest(cancel_operation_ids=stream.cancelled).SerializeToString())
            stream.cancelled.clear()
        return b"".join(parts) if parts else None

    def answered(self, stream: _Stream, response: ExecuteResponse) -> None:
        """Give each answer of a response to its caller."""
        stream.worked, self._pause = True, FIRST_PAUSE_SECONDS
        for result in response.results:
            waiting = stream.flying.pop(result.operation_id, None)
            if waiting is None:
                continue
            lane = waiting.lane
            lane.settled(waiting)
            if lane.pending:
                self._queue(lane)
            else:
                self._tidy(lane)
            if not waiting.future.done():
                waiting.future.set_result(result)
        if response.draining:
            stream.retired = True
            if self._stream is stream:
                self._stream, self._drained = None, True
        if stream.retired:
            stream.wake()
        if self._turns:
            self._kick()

    def lost(self, stream: _Stream, cause: errors.RestanteError) -> None:
        """Take back the unanswered operations of an ended stream; each waits for the next stream or fails."""
        if stream not in self._streams:
            return  # the stream's other task has reported it
        self._streams.discard(stream)
        stream.retired = True
        stream.wake()
        now, again = time.monotonic(), not self._closed and is_temporary(cause)
        for waiting in sorted(stream.flying.values(), key=lambda each: -each.operation.operation_id):
            lane = waiting.lane
            lane.settled(waiting)
            if waiting.future.done():
                pass  # its caller does not wait any more
            elif again and waiting.is_repeatable and waiting.is_patient(now, self._patience_seconds):
                lane.pending.appendleft(waiting)  # from the last to the first, so that the order stays
            else:
                waiting.fail(cause)
            self._queue(lane)
        stream.flying.clear()
        if self._stream is not stream:
            self._kick()
            return
        self._stream = None
        if not stream.worked:
            self._lose_patience(now, again, cause)
        self._rest()

    def _lose_patience(self, now: float, again: bool, cause: errors.RestanteError) -> None:
        """Fail the operations that have waited too long for a stream; all of them when `again` is false."""
        for lane in tuple(self._lanes.values()):
            kept = deque[_Waiting]()
            for waiting in lane.pending:
                if again and waiting.is_patient(now, self._patience_seconds):
                    kept.append(waiting)
                else:
                    waiting.fail(cause)
            lane.pending = kept
            self._tidy(lane)

    def _rest(self) -> None:
        """Open the next stream after a pause, which doubles until a stream works."""
        if self._resting is None and not self._closed:
            pause = self._pause * random.uniform(0.5, 1.0)
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
            self._resting = asyncio.get_running_loop().call_later(pause, self._rested)

    def _rested(self) -> None:
        self._resting = None
        self._kick()

    def _kick(self) -> None:
        """Wake the open stream, or open a new one."""
        if self._stream is not None:
            self._stream.wake()
        elif self._turns and self._resting is None and not self._closed:
            drained, self._drained = self._drained, False
            self._stream = _Stream(self, self._open_carrier, drained)
            self._streams.add(self._stream)
            self._stream.wake()

    def _queue(self, lane: _Lane) -> None:
        if not lane.queued and lane.pending:
            lane.queued = True
            self._turns.append(lane)

    def _tidy(self, lane: _Lane) -> None:
        """Remove an empty lane."""
        if not (lane.pending or lane.in_flight or lane.queued) and self._lanes.get(lane.token) is lane:
            del self._lanes[lane.token]

    def _give_up(self, waiting: _Waiting) -> None:
        """Cancel an abandoned operation. A sent one stays in flight until its answer, as at the server."""
        if waiting.stream is not None:
            waiting.stream.cancelled.append(waiting.operation.operation_id)
            waiting.stream.wake()
        elif waiting in waiting.lane.pending:
            waiting.lane.pending.remove(waiting)
            self._tidy(waiting.lane)
