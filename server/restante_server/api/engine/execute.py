"""The Execute stream: batches of operations, bounded and fair (docs/design.md "Operations and batches").

Operations of one session begin in the order sent, each after the one before has answered, unless marked independent;
sessions never wait for each other. Reading stops while as many operations are in flight as may be.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from google.rpc import status_pb2

from restante.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidArgument,
    RestanteError,
    ResultTooLarge,
    TooManyOperations,
    UnknownOperation,
    to_status,
)
from restante.v1.batch_pb2 import ExecuteRequest, ExecuteResponse, Operation, OperationResult
from restante_server.api.engine.allowances import Resource
from restante_server.api.engine.caller import DEFAULT_TIMEOUT_SECONDS, MAX_TIMEOUT_SECONDS, Caller
from restante_server.api.engine.dispatch import Dispatcher, translate
from restante_server.api.engine.registry import UNARY, Handler
from restante_server.db.turns import Party

MAX_BATCH_OPERATIONS = 256
MAX_BATCH_OCTETS = 1 << 20  # of the operations of one request, without the framing around each
MAX_ANSWER_OCTETS = 256 << 10
MAX_RESULT_OCTETS = 64 << 10
MAX_IN_FLIGHT = 1_024  # operations that the client has no answer to yet
MAX_UNREAD_OCTETS = 4 << 20  # answers that the client has not taken
MAX_REQUEST_OCTETS = 4 << 20  # of requests that hold an operation without an answer, on a native client's stream
MAX_GATEWAY_REQUEST_OCTETS = 64 << 20  # the same on a gateway's, which brings the messages of many
MAX_SESSION_IN_FLIGHT = 64
MAX_BEGUN_IN_TURN = 32  # operations of one account in one turn of the loop, over all streams of native clients
RETRY_SECONDS = 0.1

STREAMING_TWIN = {
    "batch_get_messages": "MessageService/StreamMessages",
    "query_messages": "MessageService/StreamMessages",
    "read_folder_changes": "FolderService/OpenFolder",
}
"""The streaming RPC that has no limit, for operations whose result may be too large."""


class Authenticator(Protocol):
    """The caller of a session token (b"" for the stream's own) at a client address; raises RestanteError."""

    def known(self, token: bytes, stream: Caller, client_address: str = "") -> Caller | None:
        """From memory alone; None when `session` has to look."""

    async def session(self, token: bytes, stream: Caller, client_address: str = "") -> Caller:
        """From the store where need be."""


@dataclass(eq=False, slots=True)
class Batch:
    """A request as it came."""

    request: ExecuteRequest
    octets: int  # held until all of its operations are answered: they share its memory
    oversize: bool = False  # more than MAX_BATCH_OCTETS: its operations are refused, its cancellations are heard
    in_flight: int = 0  # operations


def parse(data: bytes) -> Batch:
    """A request as it came. Only one that may be too large is measured: to measure costs as much as to encode."""
    request = ExecuteRequest.FromString(data)
    return Batch(request, len(data), len(data) > MAX_BATCH_OCTETS and is_oversize(request.operations))


def is_oversize(operations: Iterable[Operation]) -> bool:
    """Whether one request may not hold these operations together."""
    return sum(operation.ByteSize() for operation in operations) > MAX_BATCH_OCTETS


def too_large() -> InvalidArgument:
    """Why such operations are refused."""
    return InvalidArgument(field="operations", problem=f"more than {MAX_BATCH_OCTETS} octets in one request")


@dataclass(eq=False, slots=True)
class _Flight:
    """One operation from its arrival to its answer."""

    operation_id: int
    field: str
    request: Any
    token: bytes
    client_address: str
    deadline: float
    independent: bool
    batch: Batch
    followed_mailbox_id: int
    followed_folder_id: int
    followed_change_number: int = 0
    party: Party | None = None  # whose allowance holds it, from its beginning until the client takes the answer
    task: asyncio.Task[OperationResult] | None = None
    cancelled: bool = False


@dataclass(eq=False, slots=True)
class _Session:
    """What one session has on the stream: at most one ordered operation runs at a time.

    Operations of the stream's own identity (no token) are for many clients, so they are all independent.
    """

    waiting: deque[_Flight] = field(default_factory=deque)
    running: _Flight | None = None
    in_flight: int = 0


async def _if_told(number: asyncio.Future[int]) -> int:
    """0 when it could not be told: that is no failure of the operation that it came with. A fault of ours is logged."""
    try:
        return await number
    except Exception as error:  # noqa: BLE001 - the operation may have been done, and its own answer counts
        translate(error, "the number of a followed folder")
        return 0


class Execution:
    """One Execute stream. `feed` takes requests, `answers` gives responses; neither knows of gRPC."""

    def __init__(self, dispatcher: Dispatcher, authenticator: Authenticator, stream: Caller) -> None:
        """`stream` is the caller of the stream itself."""
        self._dispatcher, self._authenticator, self._stream = dispatcher, authenticator, stream
        self._allowances = dispatcher.core.allowances
        self._native = not stream.identity
        self._max_request_octets = MAX_REQUEST_OCTETS if self._native else MAX_GATEWAY_REQUEST_OCTETS
        self._sessions: dict[bytes, _Session] = {}
        self._flights: dict[int, _Flight] = {}
        self._in_flight = 0
        self._request_octets = 0  # of the batches in flight
        self._party = stream.party  # of the latest operation that was begun
        self._refused: list[Party] = []  # whose operations of the present request were beyond a bound
        self._results: deque[tuple[OperationResult, int, Party | None]] = deque()  # with octets, and who holds it
        self._abandoned = False
        self._unread_octets = 0  # of the results
        self._wake = asyncio.Event()  # there is something to answer
        self._room = asyncio.Event()  # there is room for another request
        self._room.set()
        self._ended = False
        self._announce_draining = False

    async def feed(self, batches: AsyncIterator[Batch]) -> None:
        """Take requests until the client has no more. Raises InvalidArgument for a batch of too many operations."""
        try:
            async for batch in batches:
                await self._take(batch)
                if self._refused:
                    await self._pause()
                while self._full():
                    self._room.clear()
                    await self._room.wait()
        finally:
            self._ended = True
            self._wake.set()

    async def _take(self, batch: Batch) -> None:
        request = batch.request
        if len(request.operations) > MAX_BATCH_OPERATIONS:
            raise InvalidArgument(field="operations", problem=f"more than {MAX_BATCH_OPERATIONS}")
        for operation_id in request.cancel_operation_ids:
            self._cancel(operation_id)
        if batch.oversize:
            for operation in request.operations:
                self._answer(operation.operation_id, to_status(too_large()))
            return
        arrived = time.monotonic()
        for operation in request.operations:
            while self._native and self._allowances.begun.get(self._party, 0) >= MAX_BEGUN_IN_TURN:  # noqa: ASYNC110
                await asyncio.sleep(0)  # the next turn of the loop is all that it waits for
            self._arrive(operation, batch, arrived)

    async def _pause(self) -> None:
        """Nothing more is read of a native client whose account has all that it may have: a client that heeds no retry
        delay would keep the core busy with refusals. A gateway's stream is for many and is read on."""
        party, amount = self._refused[-1], len(self._refused)
        self._refused.clear()
        if self._native:
            await self._allowances.room(party, amount)

    async def answers(self) -> AsyncIterator[ExecuteResponse]:
        """Whatever is ready, as soon as the stream is free, until all that was taken has been answered."""
        while True:
            if self._results or self._announce_draining:
                yield self._collect()
            elif self._ended and not self._in_flight:
                return
            else:
                self._wake.clear()
                await self._wake.wait()

    def announce_draining(self) -> None:
        """Tell the client to send what is new on another stream."""
        self._announce_draining = True
        self._wake.set()

    def abandon(self) -> None:
        """The client is gone: give up what has not begun, and reads. Writes that have begun are finished."""
        self._abandoned = True
        for _, _, party in self._results:
            self._let_go(party)
        self._results.clear()
        for flight in list(self._flights.values()):
            self._cancel(flight.operation_id)

    def _collect(self) -> ExecuteResponse:
        response = ExecuteResponse(draining=self._announce_draining)
        self._announce_draining = False
        octets = 0
        while self._results and octets < MAX_ANSWER_OCTETS - MAX_RESULT_OCTETS:
            result, size, party = self._results.popleft()
            octets += size
            self._let_go(party)
            response.results.append(result)
        self._unread_octets -= octets
        self._make_room()
        return response

    def _full(self) -> bool:
        """Answers count until the client takes them: one that only sends must not fill our memory."""
        return (
            self._in_flight + len(self._results) >= MAX_IN_FLIGHT
            or self._unread_octets >= MAX_UNREAD_OCTETS
            or self._request_octets >= self._max_request_octets
        )

    def _make_room(self) -> None:
        if not self._full():
            self._room.set()

    def _arrive(self, operation: Operation, batch: Batch, arrived: float) -> None:
        name = operation.WhichOneof("request")
        seconds = operation.timeout_milliseconds / 1_000 or DEFAULT_TIMEOUT_SECONDS
        flight = _Flight(
            operation_id=operation.operation_id,
            field=name or "",
            request=getattr(operation, name) if name else None,
            token=operation.session_token,
            client_address=operation.client_address,
            deadline=arrived + min(max(seconds, 0.0), MAX_TIMEOUT_SECONDS),
            independent=operation.independent,
            batch=batch,
            followed_mailbox_id=operation.followed_mailbox_id,
            followed_folder_id=operation.followed_folder_id,
        )
        session = self._sessions.get(flight.token) or _Session()
        problem = self._problem(flight, session)
        if problem is not None:
            self._answer(flight.operation_id, to_status(problem))
            return
        self._sessions[flight.token] = session
        self._flights[flight.operation_id] = flight
        self._in_flight += 1
        session.in_flight += 1
        if not batch.in_flight:
            self._request_octets += batch.octets
        batch.in_flight += 1
        if flight.independent or (session.running is None and not session.waiting):
            self._begin(flight, session)
        else:
            session.waiting.append(flight)

    def _problem(self, flight: _Flight, session: _Session) -> RestanteError | None:
        if flight.field not in UNARY:
            return UnknownOperation(operation=flight.field or "none")
        if flight.operation_id in self._flights:
            return InvalidArgument(field="operation_id", problem="in flight already")
        # The stream's own identity speaks for many: only sessions are bounded one by one.
        if flight.token and session.in_flight >= MAX_SESSION_IN_FLIGHT:
            self._refused.append(self._party)
            return TooManyOperations(limit=MAX_SESSION_IN_FLIGHT, retry_seconds=RETRY_SECONDS)
        return None

    def _begin(self, flight: _Flight, session: _Session) -> None:
        """Begin an operation, or answer why not: what is refused by what is known in memory costs no task."""
        try:
            caller = self._authenticator.known(flight.token, self._stream, flight.client_address)
            if caller is not None:
                self._admit(flight, caller)
        except RestanteError as error:
            self._answer(flight.operation_id, to_status(error))
            self._settle(flight, session)
            return
        if not flight.independent and flight.token:
            session.running = flight
        handler = UNARY[flight.field]
        flight.task = asyncio.create_task(self._run(handler, flight, caller))
        flight.task.add_done_callback(lambda task: self._done(flight, session, task))

    def _admit(self, flight: _Flight, caller: Caller) -> None:
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

    async def _run(self, handler: Handler, flight: _Flight, caller: Caller | None) -> OperationResult:
        if time.monotonic() >= flight.deadline:
            raise DeadlineExceeded
        if caller is None:
            caller = await self._authenticator.session(flight.token, self._stream, flight.client_address)
            self._admit(flight, caller)
        if not flight.followed_folder_id:
            response = await self._dispatcher.run(handler, caller, flight.request, flight.deadline)
        else:
            # As the operation comes: a change of its own is told in its own answer.
            number = self._dispatcher.followed(caller, flight.followed_mailbox_id, flight.followed_folder_id)
            try:
                response = await self._dispatcher.run(handler, caller, flight.request, flight.deadline)
            finally:
                flight.followed_change_number = number if isinstance(number, int) else await _if_told(number)
        if handler.only_reads and response.ByteSize() > MAX_RESULT_OCTETS:  # what is written is answered whole
            raise ResultTooLarge(rpc=STREAMING_TWIN.get(flight.field, ""), limit_octets=MAX_RESULT_OCTETS)
        result = OperationResult(operation_id=flight.operation_id, followed_change_number=flight.followed_change_number)
        getattr(result, flight.field).CopyFrom(response)
        return result

    def _done(self, flight: _Flight, session: _Session, task: asyncio.Task[OperationResult]) -> None:
        if task.cancelled():
            self._answer(flight.operation_id, to_status(Cancelled()), party=flight.party)
        elif isinstance(error := task.exception(), Exception):
            status = to_status(translate(error, flight.field))
            self._answer(flight.operation_id, status, flight.followed_change_number, flight.party)
        else:
            self._put(task.result(), flight.party)
        self._finish(flight, session)

    def _finish(self, flight: _Flight, session: _Session) -> None:
        self._settle(flight, session)
        if session.running is flight:
            session.running = None
        while session.waiting and session.running is None:
            following = session.waiting.popleft()
            if following.cancelled:
                self._answer(following.operation_id, to_status(Cancelled()))
                self._settle(following, session)
            else:
                self._begin(following, session)
        self._wake.set()

    def _settle(self, flight: _Flight, session: _Session) -> None:
        del self._flights[flight.operation_id]
        session.in_flight -= 1
        if not session.in_flight:
            self._sessions.pop(flight.token, None)
        self._in_flight -= 1
        flight.batch.in_flight -= 1
        if not flight.batch.in_flight:
            self._request_octets -= flight.batch.octets
        self._make_room()

    def _cancel(self, operation_id: int) -> None:
        flight = self._flights.get(operation_id)
        if flight is None:
            return
        flight.cancelled = True
        if flight.task is not None and UNARY[flight.field].only_reads:
            flight.task.cancel()  # a write that has begun is left to finish: its outcome matters

    def _answer(
        self,
        operation_id: int,
        status: status_pb2.Status,
        followed_change_number: int = 0,
        party: Party | None = None,
    ) -> None:
        self._put(
            OperationResult(operation_id=operation_id, status=status, followed_change_number=followed_change_number),
            party,
        )

    def _put(self, result: OperationResult, party: Party | None) -> None:
        if self._abandoned:  # nobody takes it: it is forgotten with the stream
            self._let_go(party)
            party = None
        octets = result.ByteSize()
        self._results.append((result, octets, party))
        self._unread_octets += octets
        self._wake.set()

    def _let_go(self, party: Party | None) -> None:
        if party is not None:
            self._allowances.give_back(party, Resource.OPERATIONS)
