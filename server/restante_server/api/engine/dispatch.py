"""The one dispatcher: unary calls and the operations of a batch go the same way.

Rights, request ids, min_commit, deadlines and errors are looked after here; a handler only does its work.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from google.protobuf.message import Message
from sqlalchemy import Connection

from restante.errors import (
    CommitNotReached,
    DeadlineExceeded,
    EpochChanged,
    Internal,
    RestanteError,
)
from restante_server.api.engine import access
from restante_server.api.engine.caller import DEFAULT_TIMEOUT_SECONDS, Call, Caller
from restante_server.api.engine.core import Core
from restante_server.api.engine.registry import Handler, Kind
from restante_server.api.engine.writes import HandlerWrite
from restante_server.db import turns
from restante_server.observe import CallObserver
from restante_server.store import mailboxes

log = logging.getLogger(__name__)

R = TypeVar("R")

MIN_COMMIT_PAUSE_SECONDS = 0.02
SHARED_SECONDS = 5.0  # a read with less time than this does not share a thread hop


class Dispatcher:
    """Runs handlers. Every method raises RestanteError and nothing else, save CancelledError."""

    def __init__(self, core: Core, observer: CallObserver) -> None:
        self.core, self._observer = core, observer

    def call(self, caller: Caller, deadline: float) -> Call:
        """What a handler is given."""
        return Call(self.core, caller, time.time_ns() // 1_000, deadline)

    async def run(self, handler: Handler, caller: Caller, request: Any, deadline: float) -> Message:
        """The response of a unary handler, within its deadline (a moment of `time.monotonic()`)."""
        began, outcome = time.perf_counter(), "CANCELLED"
        try:
            turns.party.set(caller.party)
            handler.rule(caller)
            call = self.call(caller, deadline)
            if call.seconds_left <= 0:
                raise DeadlineExceeded
            if handler.has_min_commit and request.HasField("min_commit"):
                await self.reach(call, request.min_commit)
            response: Message = await self._run(handler, call, request)
            outcome = "OK"
        except Exception as error:
            known = translate(error, handler.method.path)
            outcome = known.reason
            raise known from error
        finally:
            self._observer.finished(handler.method.path, caller, outcome, began)
        return response

    async def short_read(self, function: Callable[[Connection], R]) -> R:
        """A read of the core's own accord that shares a thread hop with whatever else is ready."""
        return await self.core.db.read_short(function, deadline=time.monotonic() + DEFAULT_TIMEOUT_SECONDS)

    def begin_read(self, function: Callable[[], Callable[[Connection], Any]]) -> asyncio.Future[Any]:
        """The same for a read that is made, by `function`, when all of this turn of the loop are together."""
        return self.core.db.begin_read(function, deadline=time.monotonic() + DEFAULT_TIMEOUT_SECONDS)

    def followed(self, caller: Caller, mailbox_id: int, folder_id: int) -> int | asyncio.Future[int]:
        """The change number of a folder that a client keeps a view of; 0 when the caller may not see it."""
        try:
            access.MAIL_SESSION(caller)
            place = access.mailbox_id(caller, mailbox_id), folder_id
        except RestanteError:
            return 0
        return self.core.numbers.of(place)

    async def _run(self, handler: Handler, call: Call, request: Any) -> Any:
        match handler.kind:
            case Kind.READ if call.seconds_left > SHARED_SECONDS:
                run = partial(_read, handler, call, request)
                return await self.core.db.read_short(run, deadline=call.deadline)
            case Kind.READ:  # in such haste that its deadline must be its own
                return await call.read(partial(_read, handler, call, request))
            case Kind.SLOW_READ:
                return await call.read(partial(_read, handler, call, request))
            case Kind.WRITE:
                write: HandlerWrite[Any] = HandlerWrite(
                    call=call,
                    request=request,
                    function=partial(_read, handler, call, request),
                    mailboxes=handler.mailboxes(call, request),
                    rows=handler.rows(request),
                    octets=handler.octets(request),
                )
                return (await self.core.db.write(write, deadline=call.deadline)).response
            case Kind.DIRECT:
                return await self._within(call, handler.run(call, request))

    async def _within(self, call: Call, work: Any) -> Any:
        try:
            async with asyncio.timeout(max(0.0, call.seconds_left)):
                return await work
        except TimeoutError:
            raise DeadlineExceeded from None

    async def reach(self, call: Call, token: Any) -> None:
        """Wait until the commit of a token can be seen (docs/design.md "Read your writes")."""
        if token.epoch != self.core.epoch:
            raise EpochChanged(epoch=self.core.epoch)
        mailbox_id = call.mailbox_id(token.mailbox_id)
        look = partial(mailboxes.change_number, mailbox_id=mailbox_id)
        try:
            while await call.read(look) < token.change_number:
                if call.seconds_left <= MIN_COMMIT_PAUSE_SECONDS:
                    raise CommitNotReached(change_number=token.change_number)
                await asyncio.sleep(MIN_COMMIT_PAUSE_SECONDS)
        except DeadlineExceeded:  # in the midst of a look
            raise CommitNotReached(change_number=token.change_number) from None


def _read(handler: Handler, call: Call, request: Any, tx: Connection) -> Any:
    return handler.run(tx, call, request)


def translate(error: Exception, path: str) -> RestanteError:
    """The error to answer with. A fault of ours is logged with the number that the caller is given."""
    if isinstance(error, RestanteError):
        return error
    incident = secrets.token_hex(6)
    log.error("a fault in %s, incident %s", path, incident, exc_info=error)
    return Internal(incident=incident)
