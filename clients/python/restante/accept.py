"""The Accept stream: messages from other servers, any number at once, in bounded memory."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

import grpc.aio

from restante import errors, streams
from restante.v1.checks_pb2 import MessageChecks
from restante.v1.transport_pb2 import AcceptBegin, AcceptEnd, AcceptRequest, AcceptResponse

FIRST_GRANT_OCTETS = 1 << 20
MAX_CHUNK_OCTETS = 256 << 10

OpenStream = Callable[[], grpc.aio.StreamStreamCall[AcceptRequest, AcceptResponse]]


class Acceptance:
    """One incoming message. Use `feed`, then `commit` or `abort`."""

    def __init__(self, acceptance_id: int, stream: _Stream) -> None:
        self._id, self._stream = acceptance_id, stream
        self._granted = FIRST_GRANT_OCTETS
        self._room = asyncio.Event()
        self._outcome: asyncio.Future[AcceptResponse] = asyncio.get_running_loop().create_future()

    async def feed(self, octets: bytes) -> None:
        """Send the next octets, waiting until the core has granted room for them.

        Raises the error that ended the acceptance early.
        """
        for start in range(0, len(octets), MAX_CHUNK_OCTETS):
            chunk = octets[start : start + MAX_CHUNK_OCTETS]
            while self._granted < len(chunk) and not self._outcome.done():
                self._room.clear()
                await self._room.wait()
            self._check()
            self._granted -= len(chunk)
            self._stream.send(AcceptRequest(acceptance_id=self._id, chunk=chunk))

    async def commit(self, checks: MessageChecks | None = None) -> AcceptResponse:
        """End the content, with the results of its checks; return the answer with the transport id, once it is durable.

        Raises RestanteError. Raises Draining when the connection broke: the core may have accepted the message, and
        another start with the same request_id returns the first answer.
        """
        if not self._outcome.done():
            self._stream.send(AcceptRequest(acceptance_id=self._id, commit=AcceptEnd(checks=checks)))
        await asyncio.wait([self._outcome])
        self._check()
        return self._outcome.result()

    def abort(self) -> None:
        """Abandon the message; without effect after its end."""
        if not self._outcome.done():
            self._stream.send(AcceptRequest(acceptance_id=self._id, abort=True))
            self._stream.forget(self._id)
            self._outcome.cancel()
            self._room.set()

    def _check(self) -> None:
        """Raise the reason of a refusal that has arrived."""
        if self._outcome.done() and not self._outcome.result().accepted:
            raise errors.from_status(self._outcome.result().status)

    def _receive(self, response: AcceptResponse) -> None:
        if response.granted_octets:
            self._granted += response.granted_octets
        elif not self._outcome.done():
            self._outcome.set_result(response)
        self._room.set()

    def _lose(self, error: errors.RestanteError) -> None:
        if not self._outcome.done():
            self._outcome.set_exception(error)
            self._outcome.exception()  # marks it as retrieved: perhaps no caller waits for it
        self._room.set()


class _Stream:
    def __init__(self, call: grpc.aio.StreamStreamCall[AcceptRequest, AcceptResponse]) -> None:
        self._call = call
        self._requests: asyncio.Queue[AcceptRequest] = asyncio.Queue()
        self._acceptances: dict[int, Acceptance] = {}
        self.usable = True
        self.drained = False  # whether the server asked for another connection
        self._tasks = (asyncio.create_task(self._write()), asyncio.create_task(self._read()))

    def start(self, acceptance_id: int, begin: AcceptBegin) -> Acceptance:
        acceptance = self._acceptances[acceptance_id] = Acceptance(acceptance_id, self)
        self.send(AcceptRequest(acceptance_id=acceptance_id, start=begin))
        return acceptance

    def send(self, request: AcceptRequest) -> None:
        self._requests.put_nowait(request)

    def forget(self, acceptance_id: int) -> None:
        self._acceptances.pop(acceptance_id, None)

    def retire(self) -> None:
        """Start no further acceptance, and end after the last one."""
        self.usable = False
        if not self._acceptances:
            self._lose(errors.Draining("The connection was replaced by one to another core."))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._call.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._lose(errors.Draining("The connection was closed."))

    async def _write(self) -> None:
        try:
            while True:
                request = await self._requests.get()
                with streams.translated():
                    await self._call.write(request)
        except errors.RestanteError:
            return  # _read gets the reason

    async def _read(self) -> None:
        lost: errors.RestanteError = errors.Draining("The server ended the stream.")
        try:
            while True:
                with streams.translated():
                    response = await self._call.read()
                if not isinstance(response, AcceptResponse):
                    break
                if response.draining:
                    self.usable, self.drained = False, True
                acceptance = self._acceptances.get(response.acceptance_id)
                if acceptance is not None:
                    acceptance._receive(response)
                    if not response.granted_octets:
                        self.forget(response.acceptance_id)
                if not self.usable and not self._acceptances:
                    break
        except errors.RestanteError as error:
            lost = error
        self._lose(lost)

    def _lose(self, error: errors.RestanteError) -> None:
        self.usable = False
        for acceptance in self._acceptances.values():
            acceptance._lose(error)
        self._acceptances.clear()
        self._tasks[0].cancel()
        self._call.cancel()


class AcceptStream:
    """The Accept stream of a process, opened at its first use and reopened after it broke or drained."""

    def __init__(self, open_stream: OpenStream) -> None:
        self._open_stream = open_stream
        self._ids = itertools.count(1)
        self._stream: _Stream | None = None
        self._retiring: set[_Stream] = set()

    @property
    def drained(self) -> bool:
        """Whether the present stream starts no acceptance because the server asked for another connection."""
        return self._stream is not None and self._stream.drained

    def start(self, begin: AcceptBegin) -> Acceptance:
        """Begin an acceptance. `feed` and `commit` raise when the core cannot be reached."""
        if self._stream is None or not self._stream.usable:
            if self._stream is not None:
                self._retiring.add(self._stream)
            self._retiring = {stream for stream in self._retiring if stream._acceptances}
            self._stream = _Stream(self._open_stream())
        return self._stream.start(next(self._ids), begin)

    def replace(self) -> None:
        """Begin new acceptances on another stream; the present stream finishes those it has."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.retire()
            self._retiring.add(stream)

    async def close(self) -> None:
        """End every stream; the core discards the acceptances that it has not committed."""
        streams = [*self._retiring, *([self._stream] if self._stream is not None else [])]
        self._stream = None
        await asyncio.gather(*(stream.close() for stream in streams))
