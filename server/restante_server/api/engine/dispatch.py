"""The one dispatcher of unary calls and of the operations of a batch.

The dispatcher handles rights, request ids, min_commit, deadlines and errors, so that handlers need not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from google.protobuf.message import Message
from sqlalchemy import Connection

from restante.errors import DeadlineExceeded, RestanteError
from restante_server.api.engine import access
from restante_server.api.engine.call import MAX_LONE_RESULT_OCTETS, Call
from restante_server.api.engine.caller import Caller
from restante_server.api.engine.core import Core
from restante_server.api.engine.faults import translate
from restante_server.api.engine.observe import CallObserver
from restante_server.api.engine.registry import Handler, HandlerKind
from restante_server.api.engine.writes import HandlerWrite
from restante_server.db import turns
from restante_server.directory.rights import Claim

SHARED_SECONDS = 5.0  # a read with less time left than this does not share a thread hop


class Dispatcher:
    """Runs handlers. Every method raises RestanteError or CancelledError and nothing else."""

    def __init__(self, core: Core, observer: CallObserver) -> None:
        self._core, self._observer = core, observer
        self._finding: set[asyncio.Task[Any] | None] = set()  # calls that look for the messages of their write

    def call(
        self, caller: Caller, deadline: float, result_octets: int = MAX_LONE_RESULT_OCTETS, sent: bytes = b""
    ) -> Call:
        """A call that arrives now; `deadline` is a moment of `time.monotonic()`. `sent`: see Call."""
        return Call(self._core, caller, time.time_ns() // 1_000, deadline, result_octets, sent)

    async def run(
        self,
        handler: Handler,
        caller: Caller,
        request: Any,
        deadline: float,
        result_octets: int = MAX_LONE_RESULT_OCTETS,
        *,
        sent: bytes = b"",
        refusal: RestanteError | None = None,
    ) -> Message:
        """Run a unary handler within a deadline (a moment of `time.monotonic()`) and return its response.

        `result_octets` is the size that pages of lists keep. `sent` is the fingerprint of a request with an id that
        references fill: they may fill a repetition otherwise, so the first answer comes before anything is judged.
        `refusal` is the reason why they could not fill it; a request that is no repetition fails with it.
        """
        began, outcome = time.perf_counter(), "CANCELLED"
        try:
            turns.party.set(caller.party)
            handler.rule(caller)
            call = self.call(caller, deadline, result_octets, sent)
            if call.seconds_left <= 0:
                raise DeadlineExceeded
            if handler.has_min_commit and request.HasField("min_commit"):
                await call.reach(request.min_commit)
            known = await handler.known(call, request, handler.claims(call, request)) if sent else None
            if known is None and refusal is not None:
                raise refusal
            response: Message = known if known is not None else await self._run(handler, call, request)
            outcome = "OK"
        except Exception as error:
            failure = translate(error, handler.method.path)
            outcome = failure.reason
            raise failure from error
        finally:
            self._observer.finished(handler.method.path, caller, outcome, began)
        return response

    def followed(self, caller: Caller, mailbox_id: int, folder_id: int) -> int | asyncio.Future[int]:
        """The change number of a folder that a client keeps a view of, 0 if the caller may not see the folder."""
        try:
            access.MAIL_SESSION(caller)
            key = access.named(caller, mailbox_id), folder_id
        except RestanteError:
            return 0
        return self._core.numbers.of(key)

    async def _run(self, handler: Handler, call: Call, request: Any) -> Any:
        db = self._core.db
        claims = handler.claims(call, request)  # refuses a mailbox that the caller may not name; nothing is queued yet
        match handler.kind:
            case HandlerKind.READ if call.seconds_left > SHARED_SECONDS:
                return await db.read_short(partial(_in_transaction, handler, call, request), deadline=call.deadline)
            case HandlerKind.READ | HandlerKind.SLOW_READ:  # a short read close to its deadline shares no thread hop
                return await call.read(partial(_in_transaction, handler, call, request))
            case HandlerKind.WRITE if handler.find is not None:
                return await self._write_found(handler, handler.find(call, request), call, request, claims)
            case HandlerKind.WRITE:
                function = partial(_in_transaction, handler, call, request)
                return await self._write(handler, function, handler.rows(request), call, request, claims)
            case HandlerKind.DIRECT:
                return await _within(call, handler.run(call, request))

    async def _write(
        self,
        handler: Handler,
        function: Callable[[Connection], Any],
        rows: int,
        call: Call,
        request: Any,
        claims: tuple[Claim, ...],
    ) -> Any:
        write: HandlerWrite[Any] = HandlerWrite(
            actor=call.caller.actor,
            now=call.now,
            request=request,
            function=function,
            claims=claims,
            rows=rows,
            octets=handler.octets(request),
            sent=call.sent,
        )
        return await self._core.db.write(write, deadline=call.deadline)

    async def _write_found(
        self, handler: Handler, found: Any, call: Call, request: Any, claims: tuple[Claim, ...]
    ) -> Any:
        """Write what was found, after finding it if `found` is a function. A repeated request finds nothing anew."""
        if callable(found):
            known = await call.known_answer(request, claims)
            if known is not None:
                return known
            found = await self._found(call, found)
        function = partial(_with_found, handler, call, request, found)
        return await self._write(handler, function, handler.rows(found), call, request, claims)

    async def _found(self, call: Call, find: Callable[[], Awaitable[Any]]) -> Any:
        task = asyncio.current_task()
        self._finding.add(task)
        try:
            return await _within(call, find())
        finally:
            self._finding.discard(task)

    def may_cancel(self, handler: Handler, task: asyncio.Task[Any]) -> bool:
        """Whether a call may be cancelled now: it only reads, or its write has not begun."""
        return handler.only_reads or task in self._finding


def _with_found(handler: Handler, call: Call, request: Any, found: Any, tx: Connection) -> Any:
    return handler.run(tx, call, request, found)


def _in_transaction(handler: Handler, call: Call, request: Any, tx: Connection) -> Any:
    return handler.run(tx, call, request)


async def _within(call: Call, work: Awaitable[Any]) -> Any:
    try:
        async with asyncio.timeout(max(0.0, call.seconds_left)):
            return await work
    except TimeoutError:
        raise DeadlineExceeded from None
