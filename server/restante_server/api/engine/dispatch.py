"""The one dispatcher of unary calls and of the operations of a batch.

The dispatcher handles rights, request ids, min_commit, deadlines and errors, so that handlers need not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

from google.protobuf.message import Message
from sqlalchemy import Connection

from restante.errors import DeadlineExceeded, RestanteError
from restante_server.api.engine import access
from restante_server.api.engine.call import MAX_LONE_RESULT_OCTETS, Call, FindThenWrite, OneWrite, ShortRead
from restante_server.api.engine.caller import Caller
from restante_server.api.engine.core import Core
from restante_server.api.engine.faults import translate
from restante_server.api.engine.observe import CallObserver
from restante_server.api.engine.pending import Pending
from restante_server.api.engine.registry import Decided, Handler, HandlerKind
from restante_server.api.engine.writes import HandlerWrite
from restante_server.db import turns
from restante_server.db.group import Item
from restante_server.directory.rights import Claim

Work = Callable[[], Awaitable[Message]]
Begun = Message | Pending | Coroutine[Any, Any, Message]

SHARED_SECONDS = 5.0  # a read with less time left than this does not share a thread hop


class Dispatcher:
    """Runs handlers. Every method raises RestanteError or CancelledError and nothing else."""

    def __init__(self, core: Core, observer: CallObserver) -> None:
        self._core, self._observer = core, observer
        # Calls that look for the messages of their write.
        self._finding: set[asyncio.Task[Any] | Pending | None] = set()

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
    ) -> Message:
        """As `begin`, awaited."""
        begun = self.begin(handler, caller, request, deadline, result_octets)
        return begun if isinstance(begun, Message) else await begun

    def begin(
        self,
        handler: Handler,
        caller: Caller,
        request: Any,
        deadline: float,
        result_octets: int = MAX_LONE_RESULT_OCTETS,
        *,
        sent: bytes = b"",
        refusal: RestanteError | None = None,
    ) -> Begun:
        """Run a unary handler within a deadline (a moment of `time.monotonic()`): the response, or what to await.

        What memory answers is there at once. A read of few rows, and a write, are Pending and need no task.

        `result_octets` is the size that pages of lists keep. `sent` is the fingerprint of a request with an id that
        references fill: they may fill a repetition otherwise, so the first answer comes before anything is judged.
        `refusal` is the reason why they could not fill it; a request that is no repetition fails with it.
        """
        began = time.perf_counter()
        try:
            handler.rule(caller)
            call = self.call(caller, deadline, result_octets, sent)
            if call.seconds_left <= 0:
                raise DeadlineExceeded
            work: Message | ShortRead | OneWrite | Work
            if sent or (handler.has_min_commit and request.HasField("min_commit")):
                work = partial(self._after, handler, call, request, refusal)
            else:
                work = self._work(handler, call, request)
            if isinstance(work, OneWrite):
                return self._write(handler, call, work, began)
            if isinstance(work, ShortRead):
                return self._read_few(handler, call, work, began)
        except Exception as error:
            raise self._failed(handler, caller, error, began) from error
        if not isinstance(work, Message):
            return self._finish(handler, caller, work, began)
        self._observer.finished(handler.path, caller, "OK", began)
        return work

    async def _finish(self, handler: Handler, caller: Caller, work: Work, began: float) -> Message:
        turns.party.set(caller.party)
        outcome = "CANCELLED"
        try:
            response = await work()
            outcome = "OK"
        except Exception as error:
            failure = translate(error, handler.path)
            outcome = failure.reason
            raise failure from error
        finally:
            self._observer.finished(handler.path, caller, outcome, began)
        return response

    def _read_few(self, handler: Handler, call: Call, read: ShortRead, began: float) -> Pending:
        """Read with this turn of the loop. Raises StoreBusy, Draining."""
        pending = Pending()

        def settle(outcomes: list[Any] | Exception) -> None:
            self._settle(pending, handler, call, outcomes if isinstance(outcomes, Exception) else outcomes[0], began)

        stop = self._core.db.begin_few(read.function, settle, deadline=call.deadline, party=call.caller.party)
        pending.stop = partial(self._stop, stop, handler, call, began)
        return pending

    def _write(self, handler: Handler, call: Call, write: OneWrite, began: float) -> Pending:
        """Write in the pipeline, which observes the deadline. Raises Draining."""
        pending = Pending()

        def settle(item: Item) -> None:
            self._settle(pending, handler, call, item.error or item.result, began)

        stop = self._core.db.begin_write(write.operation, settle, deadline=call.deadline, party=call.caller.party)
        pending.stop = partial(self._stop, stop, handler, call, began)
        return pending

    def _settle(
        self, pending: Pending, handler: Handler, call: Call, outcome: Message | Exception, began: float
    ) -> None:
        if pending.settled:  # it was cancelled
            return
        if isinstance(outcome, Exception):
            failure = self._failed(handler, call.caller, outcome, began)
            failure.__cause__ = outcome
            outcome = failure
        else:
            self._observer.finished(handler.path, call.caller, "OK", began)
        pending.settle(outcome)

    def _stop(self, stop: Callable[[], None], handler: Handler, call: Call, began: float) -> None:
        self._observer.finished(handler.path, call.caller, "CANCELLED", began)
        stop()

    def _failed(self, handler: Handler, caller: Caller, error: Exception, began: float) -> RestanteError:
        failure = translate(error, handler.path)
        self._observer.finished(handler.path, caller, failure.reason, began)
        return failure

    async def _after(self, handler: Handler, call: Call, request: Any, refusal: RestanteError | None) -> Message:
        """Go on when reads see the wanted commit, and if no first answer is known."""
        if handler.has_min_commit and request.HasField("min_commit"):
            await call.reach(request.min_commit)
        known = await handler.known(call, request, handler.claims(call, request)) if call.sent else None
        if known is not None:
            return known
        if refusal is not None:
            raise refusal
        work = self._work(handler, call, request)
        if isinstance(work, OneWrite):
            return await self._core.db.write(work.operation, deadline=call.deadline)
        if isinstance(work, ShortRead):
            return await self._core.db.read_short(work.function, deadline=call.deadline)
        return work if isinstance(work, Message) else await work()

    def followed(self, caller: Caller, mailbox_id: int, folder_id: int) -> int | asyncio.Future[int]:
        """The change number of a folder that a client keeps a view of, 0 if the caller may not see the folder."""
        try:
            access.MAIL_SESSION(caller)
            key = access.named(caller, mailbox_id), folder_id
        except RestanteError:
            return 0
        return self._core.numbers.of(key)

    def _work(self, handler: Handler, call: Call, request: Any) -> Message | ShortRead | OneWrite | Work:
        """The response, if it is there at once, or the work that is left."""
        claims = handler.claims(call, request)  # refuses a mailbox that the caller may not name; nothing is queued yet
        match handler.kind:
            case HandlerKind.READ:
                function = partial(_in_transaction, handler, call, request)
                if handler.short is not None and handler.short(request):
                    return ShortRead(function)
                if call.seconds_left > SHARED_SECONDS:
                    return partial(self._core.db.read_short, function, deadline=call.deadline)
                return partial(call.read, function)  # close to its deadline it shares no thread hop
            case HandlerKind.SLOW_READ:
                return partial(call.read, partial(_in_transaction, handler, call, request))
            case HandlerKind.WRITE if handler.find is not None:
                found = handler.find(call, request)
                if callable(found):
                    return partial(self._find_and_write, handler, found, call, request, claims)
                return OneWrite(_write_found(handler, found, call, request, claims))
            case HandlerKind.WRITE:
                function = partial(_in_transaction, handler, call, request)
                rows, octets = handler.rows(request), handler.octets(request)
                return OneWrite(call.operation(request, function, claims=claims, rows=rows, octets=octets))
            case HandlerKind.DIRECT:
                return partial(_within, call, partial(handler.run, call, request))
            case HandlerKind.DECIDED:
                decided: Decided = handler.run(call, request)
                if isinstance(decided, FindThenWrite):
                    return partial(self._find_then_write, call, decided)
                if isinstance(decided, Message | ShortRead | OneWrite):
                    return decided
                return partial(_within, call, decided)

    async def _find_and_write(
        self, handler: Handler, find: Callable[[], Awaitable[Any]], call: Call, request: Any, claims: tuple[Claim, ...]
    ) -> Any:
        """Find and write. A repeated request finds nothing anew."""
        known = await call.known_answer(request, claims)
        if known is not None:
            return known
        found = await self._found(call, find)
        return await self._core.db.write(_write_found(handler, found, call, request, claims), deadline=call.deadline)

    async def _find_then_write(self, call: Call, decided: FindThenWrite) -> Message:
        return await decided.write(await self._found(call, decided.find))

    async def _found(self, call: Call, find: Callable[[], Awaitable[Any]]) -> Any:
        task = asyncio.current_task()
        self._finding.add(task)
        try:
            return await _within(call, find)
        finally:
            self._finding.discard(task)

    def may_cancel(self, handler: Handler, request: Any, task: asyncio.Task[Any] | Pending) -> bool:
        """Whether a call may be cancelled now: it only reads, or its write has not begun."""
        return handler.only_reads(request) or task in self._finding


def _write_found(
    handler: Handler, found: Any, call: Call, request: Any, claims: tuple[Claim, ...]
) -> HandlerWrite[Any]:
    function = partial(_with_found, handler, call, request, found)
    return call.operation(request, function, claims=claims, rows=handler.rows(found))


def _with_found(handler: Handler, call: Call, request: Any, found: Any, tx: Connection) -> Any:
    return handler.run(tx, call, request, found)


def _in_transaction(handler: Handler, call: Call, request: Any, tx: Connection) -> Any:
    return handler.run(tx, call, request)


async def _within(call: Call, work: Callable[[], Awaitable[Any]]) -> Any:
    try:
        async with asyncio.timeout(max(0.0, call.seconds_left)):
            return await work()
    except TimeoutError:
        raise DeadlineExceeded from None
