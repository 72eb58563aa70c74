"""The Execute stream: batches of operations, bounded and fair (docs/design.md "Operations and batches").

Operations of one session begin in the order sent, each after the answer to the one before, unless marked independent.
Sessions never wait for each other. The core stops reading a stream while it has MAX_IN_FLIGHT operations in flight.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from google.protobuf.message import Message

from restante.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidArgument,
    OperationReferenceFailed,
    RestanteError,
    ResultTooLarge,
    TooManyOperations,
    UnknownOperation,
    to_status,
)
from restante.v1.batch_pb2 import ExecuteResponse, OperationResult
from restante_server.api.engine import linked
from restante_server.api.engine.allowances import Allowances, Resource
from restante_server.api.engine.batch import MAX_BATCH_OPERATIONS, Batch, too_large, too_many
from restante_server.api.engine.caller import Caller
from restante_server.api.engine.dispatch import Begun, Dispatcher
from restante_server.api.engine.faults import translate
from restante_server.api.engine.flights import Flight, Session
from restante_server.api.engine.identity import Authenticator
from restante_server.api.engine.pending import Outcome, Pending
from restante_server.api.engine.registry import Handler
from restante_server.api.engine.results import MAX_RESULT_OCTETS, Results
from restante_server.db.turns import Party

MAX_IN_FLIGHT = 1_024  # operations whose answers the client has not taken
MAX_UNREAD_OCTETS = 4 << 20  # of answers that the client has not taken
MAX_REQUEST_OCTETS = 4 << 20  # of requests with an unanswered operation, and what references copy, on a native stream
MAX_GATEWAY_REQUEST_OCTETS = 64 << 20  # the same on a gateway's stream, which carries many clients' messages
MAX_SESSION_IN_FLIGHT = 64
MAX_BEGUN_IN_TURN = 32  # operations of one account in one turn of the loop, over all streams of native clients
RETRY_SECONDS = 0.1

STREAMING_TWIN = {
    "batch_get_messages": "MessageService/StreamMessages",
    "query_messages": "MessageService/StreamMessages",
    "read_folder_changes": "FolderService/OpenFolder",
}
"""The streaming RPC without a size limit, by operation. Any other operation has a higher limit as a call of its own."""


async def _number_or_zero(number: asyncio.Future[int]) -> int:
    """The change number, or 0 if the read failed: its operation must not fail with it. A fault of ours is logged."""
    try:
        return await number
    except Exception as error:  # noqa: BLE001 - the operation may have succeeded, and the client needs its answer
        translate(error, "reading a folder's change number for an answer")
        return 0


@dataclass(frozen=True, slots=True)
class Executor:
    """The parts of a core that every Execute stream needs."""

    handlers: Mapping[str, Handler]  # by field of Operation.request
    dispatcher: Dispatcher
    authenticator: Authenticator
    allowances: Allowances


class Execution:
    """One Execute stream.

    `feed` takes requests and `answers` yields responses, each in a task. A binding without tasks calls `take`, `answer`
    and `end`, and looks at `is_full`, `is_ready` and `is_over` after each call of `changed`.
    """

    def __init__(self, executor: Executor, stream: Caller, changed: Callable[[], None] | None = None) -> None:
        """`stream` is the caller that opened the stream. `changed` must not block."""
        self._handlers, self._dispatcher = executor.handlers, executor.dispatcher
        self._authenticator, self._allowances = executor.authenticator, executor.allowances
        self._stream = stream
        self._native = not stream.identity
        self._max_request_octets = MAX_REQUEST_OCTETS if self._native else MAX_GATEWAY_REQUEST_OCTETS
        self._sessions: dict[bytes, Session] = {}
        self._flights: dict[int, Flight] = {}
        self._in_flight = 0
        self._request_octets = 0  # of the batches in flight
        self._party = stream.party  # of the operation begun last
        self._refused: list[Party] = []  # of each operation of the present request that a limit refused
        self._wake = asyncio.Event()  # of `feed` and `answers`, which look at the state before they wait
        self._changed = changed or self._wake.set
        self._results = Results(executor.allowances, self._changed)
        self._ended = False

    async def feed(self, batches: AsyncIterator[Batch]) -> None:
        """Take requests until the client ends them. Raises InvalidArgument for a batch of too many operations."""
        try:
            async for batch in batches:
                for flight in self._arrivals(batch):
                    while self._native and self._allowances.begun.get(self._party, 0) >= MAX_BEGUN_IN_TURN:  # noqa: ASYNC110
                        await asyncio.sleep(0)  # wait for the next turn of the loop
                    self._arrive(flight)
                if self._refused:
                    await self._pause()
                while self.is_full:
                    self._wake.clear()
                    await self._wake.wait()
        finally:
            self.end()

    def take(self, batch: Batch) -> None:
        """Take one request of a gateway's stream. Raises InvalidArgument for too many operations.

        The caller takes no further request while `is_full`.
        """
        for flight in self._arrivals(batch):
            self._arrive(flight)
        self._refused.clear()

    def end(self) -> None:
        """Expect no further request."""
        self._ended = True
        self._changed()

    def _arrivals(self, batch: Batch) -> Iterator[Flight]:
        """Carry out the cancellations of a request, and yield its operations. Refuses those of an oversize request."""
        request = batch.request
        if len(request.operations) > MAX_BATCH_OPERATIONS:
            raise too_many()
        for operation_id in request.cancel_operation_ids:
            self._cancel(operation_id)
        if batch.oversize:
            for operation in request.operations:
                refused = OperationResult(operation_id=operation.operation_id, status=to_status(too_large()))
                self._results.put(refused, None)
            return
        arrived = time.monotonic()
        flights = [Flight.of(operation, batch, arrived) for operation in request.operations]
        if any(flight.references for flight in flights):
            linked.connect(flights, self._handlers)
        yield from flights

    async def _pause(self) -> None:
        """Stop reading a native client whose operations were refused, until its account has room again.

        Otherwise a client that ignores the retry delay would keep the core busy with refusals. A gateway's stream
        carries many clients, so reading goes on.
        """
        party, amount = self._refused[-1], len(self._refused)
        self._refused.clear()
        if self._native:
            await self._allowances.room(party, amount)

    async def answers(self) -> AsyncIterator[ExecuteResponse]:
        """The responses, each as soon as the stream is free, until every operation has been answered."""
        while not self.is_over:
            if self.is_ready:
                yield self.answer()
            else:
                self._wake.clear()
                await self._wake.wait()

    def answer(self) -> ExecuteResponse:
        """The next response, of as many results as it may hold."""
        response = self._results.take()
        self._make_room()
        return response

    @property
    def is_ready(self) -> bool:
        """Whether there is anything to answer."""
        return self._results.ready

    @property
    def is_over(self) -> bool:
        """Whether every operation has been answered and no other will come."""
        return self._ended and not self._in_flight and not self._results.ready

    def announce_draining(self) -> None:
        """Ask the client to send new operations on another stream."""
        self._results.announce_draining()

    def abandon(self) -> None:
        """Cancel reads and all that has not begun, because the client is gone. Writes that have begun are finished."""
        self._results.abandon()
        for flight in list(self._flights.values()):
            self._cancel(flight.operation_id)

    @property
    def is_full(self) -> bool:
        """Whether the stream has reached a limit.

        An answer counts until the client takes it, so that a client that only sends cannot fill our memory.
        """
        return (
            self._in_flight + len(self._results) >= MAX_IN_FLIGHT
            or self._results.octets >= MAX_UNREAD_OCTETS
            or self._request_octets >= self._max_request_octets
        )

    def _make_room(self) -> None:
        if not self.is_full:
            self._changed()

    def _arrive(self, flight: Flight) -> None:
        batch, session = flight.batch, self._sessions.get(flight.token) or Session()
        problem = self._problem(flight, session)
        if problem is not None:
            self._fail(flight, problem)
            return
        self._sessions[flight.token] = session
        self._flights[flight.operation_id] = flight
        self._in_flight += 1
        session.in_flight += 1
        if not batch.in_flight:
            self._request_octets += batch.held_octets
        batch.in_flight += 1
        if flight.independent or (session.running is None and not session.waiting):
            self._begin(flight, session)
        else:
            session.waiting.append(flight)

    def _problem(self, flight: Flight, session: Session) -> RestanteError | None:
        if flight.field not in self._handlers:
            return UnknownOperation(operation=flight.field or "none")
        if flight.operation_id in self._flights:
            return InvalidArgument(field="operation_id", problem="an operation with this number is in flight")
        # Operations without a token belong to many clients of the stream's caller: only sessions have this limit.
        if flight.token and session.in_flight >= MAX_SESSION_IN_FLIGHT:
            self._refused.append(self._party)
            return TooManyOperations(limit=MAX_SESSION_IN_FLIGHT, retry_seconds=RETRY_SECONDS)
        return flight.problem

    def _begin(self, flight: Flight, session: Session) -> None:
        """Begin an operation. One that memory, a read of few rows or a write answers costs no task."""
        work: Begun
        try:
            caller = self._authenticator.known(flight.token, self._stream, flight.client_address)
            if caller is not None:
                self._admit(flight, caller)
            if caller is None or flight.needs:
                work = self._run(flight, caller)
            else:
                work = self._start(flight, caller)
        except RestanteError as error:
            self._fail(flight, error)
            self._settle(flight, session)
            return
        if isinstance(work, Message):
            self._succeed(flight, work)
            self._settle(flight, session)
            return
        if not flight.independent and flight.token:
            session.running = flight
        if isinstance(work, Pending):
            flight.task = work
            work.then(partial(self._answered, flight, session))
        else:
            flight.task = asyncio.create_task(work)
            flight.task.add_done_callback(partial(self._done, flight, session))

    def _admit(self, flight: Flight, caller: Caller) -> None:
        party = caller.party
        try:
            self._allowances.take(party, Resource.OPERATIONS)
        except RestanteError:
            self._refused.append(party)
            raise
        flight.party = party
        if self._native:
            self._party = party
            begun = self._allowances.begun
            if not begun:
                asyncio.get_running_loop().call_soon(begun.clear)
            begun[party] = begun.get(party, 0) + 1

    async def _run(self, flight: Flight, caller: Caller | None) -> Message:
        if time.monotonic() >= flight.deadline:
            raise DeadlineExceeded
        refusal = await self._fill(flight) if flight.needs else None
        if caller is None:
            caller = await self._authenticator.session(flight.token, self._stream, flight.client_address)
            self._admit(flight, caller)
        begun = self._start(flight, caller, refusal)
        return begun if isinstance(begun, Message) else await begun

    def _start(self, flight: Flight, caller: Caller, refusal: RestanteError | None = None) -> Begun:
        if flight.followed_folder_id:
            # The number as of the operation's begin: the operation's answer reports its own change.
            number = self._dispatcher.followed(caller, flight.followed_mailbox_id, flight.followed_folder_id)
            if not isinstance(number, int):
                return self._with_number(flight, caller, refusal, number)
            flight.followed_change_number = number
        return self._call(flight, caller, refusal)

    def _call(self, flight: Flight, caller: Caller, refusal: RestanteError | None) -> Begun:
        handler, begin = self._handlers[flight.field], self._dispatcher.begin
        if not flight.sent:
            return begin(handler, caller, flight.request, flight.deadline, MAX_RESULT_OCTETS)
        return begin(
            handler, caller, flight.request, flight.deadline, MAX_RESULT_OCTETS, sent=flight.sent, refusal=refusal
        )

    async def _with_number(
        self, flight: Flight, caller: Caller, refusal: RestanteError | None, number: asyncio.Future[int]
    ) -> Message:
        try:
            begun = self._call(flight, caller, refusal)
            return begun if isinstance(begun, Message) else await begun
        finally:
            flight.followed_change_number = await _number_or_zero(number)

    async def _fill(self, flight: Flight) -> RestanteError | None:
        """Fill the request of a flight by its references. Returns the reason why that failed, if a repetition of the
        request may have an answer all the same, and raises it otherwise."""
        held_octets = flight.batch.held_octets
        try:
            await linked.fill(flight)
        except (OperationReferenceFailed, InvalidArgument) as error:
            if not flight.sent:
                raise
            flight.needs = ()
            return error
        finally:
            self._request_octets += flight.batch.held_octets - held_octets
        return None

    def _done(self, flight: Flight, session: Session, response: asyncio.Future[Message]) -> None:
        if response.cancelled():
            self._fail(flight, Cancelled())
        elif isinstance(error := response.exception(), Exception):
            self._fail(flight, translate(error, flight.field))
        else:
            self._succeed(flight, response.result())
        self._finish(flight, session)

    def _answered(self, flight: Flight, session: Session, outcome: Outcome) -> None:
        if isinstance(outcome, RestanteError):
            self._fail(flight, outcome)
        else:
            self._succeed(flight, outcome)
        self._finish(flight, session)

    def _succeed(self, flight: Flight, response: Message) -> None:
        """Answer an operation with its response, if it is not too large."""
        handler = self._handlers[flight.field]
        # A write is done: its answer has no limit.
        if response.ByteSize() > MAX_RESULT_OCTETS and handler.only_reads(flight.request):
            alone = f"{handler.method.service}/{handler.method.name}"
            rpc = STREAMING_TWIN.get(flight.field, alone)
            self._fail(flight, ResultTooLarge(rpc=rpc, limit_octets=MAX_RESULT_OCTETS))
            return
        result = OperationResult(operation_id=flight.operation_id, followed_change_number=flight.followed_change_number)
        getattr(result, flight.field).CopyFrom(response)
        self._results.put(result, flight.party)
        if flight.outcome is not None:
            flight.outcome.set_result(response)

    def _finish(self, flight: Flight, session: Session) -> None:
        self._settle(flight, session)
        if session.running is flight:
            session.running = None
        while session.waiting and session.running is None:
            following = session.waiting.popleft()
            if following.cancelled:
                self._fail(following, Cancelled())
                self._settle(following, session)
            else:
                self._begin(following, session)

    def _settle(self, flight: Flight, session: Session) -> None:
        del self._flights[flight.operation_id]
        session.in_flight -= 1
        if not session.in_flight:
            self._sessions.pop(flight.token, None)
        self._in_flight -= 1
        flight.batch.in_flight -= 1
        if not flight.batch.in_flight:
            self._request_octets -= flight.batch.held_octets
        self._make_room()

    def _cancel(self, operation_id: int) -> None:
        flight = self._flights.get(operation_id)
        if flight is None:
            return
        flight.cancelled = True
        if flight.task is None:
            return  # it waits for its turn
        if flight.needs or self._dispatcher.may_cancel(self._handlers[flight.field], flight.request, flight.task):
            flight.task.cancel()  # a write that has begun runs on, because its outcome matters

    def _fail(self, flight: Flight, error: RestanteError) -> None:
        """Answer an operation with a failure."""
        number = flight.followed_change_number
        result = OperationResult(
            operation_id=flight.operation_id, status=to_status(error), followed_change_number=number
        )
        self._results.put(result, flight.party)
        if flight.outcome is not None:
            flight.outcome.set_result(None)
