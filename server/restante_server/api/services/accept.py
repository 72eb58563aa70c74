"""TransportService.Accept: one stream for the large messages of many SMTP sessions."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

from restante.errors import InvalidArgument, StoreBusy, to_status
from restante.v1.transport_pb2 import AcceptBegin, AcceptEnd, AcceptRequest, AcceptResponse
from restante_mail.authentication.results import Checks
from restante_server.api.engine import access
from restante_server.api.engine.call import Call
from restante_server.api.engine.faults import translate
from restante_server.api.engine.registry import Handlers
from restante_server.api.services import lmtp
from restante_server.api.services.accept_message import envelope_in, intake_of, results_in, take
from restante_server.transport.inbound.intake import Arrived

handlers = Handlers()

MAX_CHUNK_OCTETS = 256 << 10
FIRST_GRANT_OCTETS = 1 << 20
GRANT_OCTETS = 256 << 10  # the least size of a later grant
MAX_STREAM_AGE_SECONDS = 600.0  # then the core asks for a new stream (docs/design.md "Operations and batches")
MAX_OPEN = 1_000  # acceptances of one stream
MAX_ANSWERS = 2 * MAX_OPEN  # that the client has not taken; with more, the core reads no further request
MAX_HELD_OCTETS = 128 << 20  # in memory for one stream, counting at most HELD_OCTETS for each acceptance
HELD_OCTETS = 2 << 20  # in memory for one acceptance: octets received within the grant, and octets not yet flushed


@handlers.stream("TransportService", "Accept", rule=access.identities("smtp"))
async def accept(call: Call, requests: AsyncIterator[AcceptRequest]) -> AsyncIterator[AcceptResponse]:
    """See TransportService.Accept."""
    acceptances = Acceptances(call)
    feeding = asyncio.create_task(acceptances.feed(requests))
    stop = call.core.tasks.on_drain(acceptances.announce_draining)
    age = MAX_STREAM_AGE_SECONDS * random.uniform(0.8, 1.0)
    ageing = asyncio.get_running_loop().call_later(age, acceptances.announce_draining)
    try:
        async for response in acceptances.answers():
            yield response
        if not feeding.cancelled() and (problem := feeding.exception()) is not None:
            raise problem
    finally:
        stop()
        ageing.cancel()
        feeding.cancel()
        acceptances.abandon()


class Acceptances:
    """The acceptances of one Accept stream. They never wait for each other."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self._open: dict[int, _Acceptance] = {}
        self._running: set[_Acceptance] = set()
        self._held = 0
        self._answers: asyncio.Queue[AcceptResponse | None] = asyncio.Queue()
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._at_end = False

    async def feed(self, requests: AsyncIterator[AcceptRequest]) -> None:
        """Take requests until the client ends them."""
        try:
            async for request in requests:
                await self._may_read.wait()
                self._step(request)
        finally:
            self._at_end = True
            for acceptance in list(self._open.values()):
                acceptance.abandon()
            self._end_if_done()

    async def answers(self) -> AsyncIterator[AcceptResponse]:
        """The responses, until the client has ended its side and every commit is answered."""
        while (response := await self._answers.get()) is not None:
            if self._answers.qsize() < MAX_ANSWERS:
                self._may_read.set()
            yield response

    def announce_draining(self) -> None:
        """Ask the gateway to send new acceptances on another stream."""
        self._answers.put_nowait(AcceptResponse(draining=True))

    def abandon(self) -> None:
        """Drop acceptances without a commit, because the stream is over. Committed ones go on."""
        for acceptance in list(self._open.values()):
            acceptance.abandon()

    def answer(self, response: AcceptResponse) -> None:
        """Queue a response for the client."""
        self._answers.put_nowait(response)
        if self._answers.qsize() >= MAX_ANSWERS:
            self._may_read.clear()

    def hold(self, octets: int) -> None:
        """Count octets in memory; a negative number frees them."""
        self._held += octets

    def closed(self, acceptance: _Acceptance) -> None:
        """Remove an acceptance from the open ones, so that later steps for it are ignored."""
        if self._open.get(acceptance.acceptance_id) is acceptance:
            del self._open[acceptance.acceptance_id]

    def finished(self, acceptance: _Acceptance) -> None:
        """Forget an acceptance whose task has ended."""
        self.closed(acceptance)
        self._running.discard(acceptance)
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._at_end and not self._running:
            self._answers.put_nowait(None)

    def _step(self, request: AcceptRequest) -> None:
        step = request.WhichOneof("step")
        if step == "start":
            self._start(request.acceptance_id, request.start)
            return
        acceptance = self._open.get(request.acceptance_id)
        if acceptance is None:
            return  # it ended early, and the client has not read that yet
        if step == "chunk":
            acceptance.add(request.chunk)
        elif step == "commit":
            acceptance.commit(request.commit)
        else:
            acceptance.abandon()

    def _start(self, acceptance_id: int, begin: AcceptBegin) -> None:
        if acceptance_id == 0 or acceptance_id in self._open:
            raise InvalidArgument(field="acceptance_id", problem="must be above 0 and not in use on this stream")
        if len(self._running) >= MAX_OPEN or self._held >= MAX_HELD_OCTETS:
            self.answer(AcceptResponse(acceptance_id=acceptance_id, status=to_status(StoreBusy())))
            return
        acceptance = _Acceptance(self, acceptance_id, begin)
        self._open[acceptance_id] = acceptance
        self._running.add(acceptance)
        self.call.core.tasks.spawn(acceptance.run(), f"acceptance {acceptance_id}")


class _Acceptance:
    """One message of an Accept stream."""

    def __init__(self, stream: Acceptances, acceptance_id: int, begin: AcceptBegin) -> None:
        self.acceptance_id = acceptance_id
        self._stream, self._begin = stream, begin
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue()  # None: commit
        self._granted, self._to_grant = FIRST_GRANT_OCTETS, 0
        self._held = 0
        self._abandoned = asyncio.Event()
        self._committed = False
        self._end = AcceptEnd()

    def add(self, chunk: bytes) -> None:
        """Take octets of the message. More than were granted end the acceptance with InvalidArgument."""
        self._granted -= len(chunk)
        if len(chunk) > MAX_CHUNK_OCTETS or self._granted < 0:
            self._stream.closed(self)
            self._abandoned.set()
            self._chunks.put_nowait(None)
            problem = InvalidArgument(field="chunk", problem="the client sent more octets than the server had granted")
            self._stream.answer(AcceptResponse(acceptance_id=self.acceptance_id, status=to_status(problem)))
            return
        more = min(HELD_OCTETS - self._held, len(chunk))
        self._held += more
        self._stream.hold(more)
        self._chunks.put_nowait(chunk)

    def commit(self, end: AcceptEnd) -> None:
        """End the message and begin to commit it."""
        self._stream.closed(self)
        self._committed, self._end = True, end
        self._chunks.put_nowait(None)

    def abandon(self) -> None:
        """Drop the message, unless its commit has begun."""
        if not self._committed:
            self._stream.closed(self)
            self._abandoned.set()
            self._chunks.put_nowait(None)

    async def run(self) -> None:
        """Receive the message, commit it and answer."""
        response: AcceptResponse | None = None
        try:
            envelope = envelope_in(self._stream.call, self._begin)
            received = await self._receive()
            if received is not None:
                answer = await take(self._stream.call, self._begin, envelope, *received)
                response = AcceptResponse(
                    acceptance_id=self.acceptance_id,
                    accepted=True,
                    transport_id=answer.taken.transport_id,
                    verdicts=lmtp.verdicts(self._begin, answer.taken, answer.refusals),
                )
        except Exception as error:  # noqa: BLE001 - the error is the answer to this acceptance
            known = translate(error, "/restante.v1.TransportService/Accept")
            response = AcceptResponse(acceptance_id=self.acceptance_id, status=to_status(known))
        finally:
            self._stream.hold(-self._held)
            if response is not None and not self._abandoned.is_set():
                self._stream.answer(response)
            self._stream.finished(self)

    async def _receive(self) -> tuple[Arrived, Checks | None] | None:
        """The message with the results of its checks; None if the client has abandoned it."""
        intake = intake_of(self._stream.call, self._begin)
        try:
            while (chunk := await self._chunks.get()) is not None:
                await intake.feed(chunk)
                self._grant(len(chunk))
            if self._abandoned.is_set():
                intake.abandon()
                return None
            checks = results_in(self._end)
            return await intake.finish(), checks
        except BaseException:
            intake.abandon()
            raise

    def _grant(self, octets: int) -> None:
        """Grant as many new octets as the core has consumed, in steps of at least GRANT_OCTETS."""
        self._to_grant += octets
        if self._to_grant >= GRANT_OCTETS and not self._committed:
            self._granted += self._to_grant
            self._stream.answer(AcceptResponse(acceptance_id=self.acceptance_id, granted_octets=self._to_grant))
            self._to_grant = 0
