"""The common part of all streaming RPCs: proof, rights, allowance, end of session, errors and log."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from restante.errors import RestanteError
from restante_server.api.engine.allowances import Allowances, Resource
from restante_server.api.engine.call import Call
from restante_server.api.engine.caller import Caller
from restante_server.api.engine.deadlines import stream_deadline
from restante_server.api.engine.dispatch import Dispatcher
from restante_server.api.engine.faults import translate
from restante_server.api.engine.guards import Guards
from restante_server.api.engine.identity import Authenticator
from restante_server.api.engine.observe import CallObserver
from restante_server.api.engine.registry import Streaming
from restante_server.api.engine.rpc import Context, Listener, abort, caller_of
from restante_server.db import turns

MAX_DISCARDED_OCTETS = 64 << 20  # of a refused upload
DISCARD_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Streams:
    """Serves streaming handlers with the parts of a core that every stream needs."""

    dispatcher: Dispatcher
    authenticator: Authenticator
    allowances: Allowances
    guards: Guards
    observer: CallObserver

    def single(self, streaming: Streaming, listener: Listener) -> Callable[..., Any]:
        """The gRPC handler of an RPC whose request alone streams."""

        async def serve(requests: Any, context: Context) -> Any:
            async with _Stream(self, streaming, context, listener) as call:
                try:
                    return await streaming.run(call, requests)
                except Exception:
                    await _discard(requests)
                    raise

        return serve

    def many(self, streaming: Streaming, listener: Listener) -> Callable[..., Any]:
        """The gRPC handler of an RPC whose response streams."""

        async def serve(requests: Any, context: Context) -> AsyncIterator[Any]:
            guarded = _Stream(self, streaming, context, listener)
            async with (
                guarded as call,
                contextlib.aclosing(streaming.run(call, requests)) as responses,
            ):
                async for response in responses:
                    guarded.sending()
                    yield response
                    guarded.sent()

        return serve


class _Stream:
    """The context of one stream: it checks caller and rights, ends with the session, and handles errors and the log."""

    def __init__(self, streams: Streams, streaming: Streaming, context: Context, listener: Listener) -> None:
        self._streams, self._streaming = streams, streaming
        self._context, self._listener = context, listener
        self._path = f"/restante.v1.{streaming.service}/{streaming.name}"
        self._caller = Caller()
        self._began = time.perf_counter()
        self._task: asyncio.Task[Any] | None = None  # the handler's while it works; None while sending, and at the end
        self._over: RestanteError | None = None  # the reason why the stream must end
        self._release: Callable[[], None] = lambda: None

    async def __aenter__(self) -> Call:
        streams = self._streams
        try:
            self._caller = await caller_of(self._context, streams.authenticator, self._listener)
            turns.party.set(self._caller.party)
            self._streaming.rule(self._caller)
            streams.allowances.take(self._caller.party, Resource.STREAMS)
        except Exception as error:  # noqa: BLE001 - every failure gets a status with a reason
            known = translate(error, self._path)
            streams.observer.finished(self._path, self._caller, known.reason, self._began)
            await abort(self._context, known)
        if not self._streaming.own_end:
            with_token = self._streaming.ends_with_token
            self._release = streams.guards.hold(self._caller, self._session_over, with_token=with_token)
        self._task = asyncio.current_task()
        return streams.dispatcher.call(self._caller, stream_deadline(self._context.time_remaining()))

    def sending(self) -> None:
        """Note that gRPC sends a response and waits for the client. Raises the reason if the stream must end."""
        if self._over is not None:
            raise self._over
        self._task = None

    def sent(self) -> None:
        """Note that the client has room for another response. Raises the reason if the stream must end."""
        if self._over is not None:
            raise self._over
        self._task = asyncio.current_task()

    def _session_over(self, why: RestanteError) -> None:
        """Interrupt the handler. gRPC's sending cannot be interrupted: the stream then ends after that response."""
        self._over = why
        if self._task is not None:
            self._task.cancel()

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._release()
        self._streams.allowances.give_back(self._caller.party, Resource.STREAMS)
        task, self._task = self._task, None
        if isinstance(error, asyncio.CancelledError) and self._over is not None and task is not None:
            task.uncancel()
            error = self._over
        known = translate(error, self._path) if isinstance(error, Exception) else None
        outcome = known.reason if known is not None else "OK" if error is None else "CANCELLED"
        self._streams.observer.finished(self._path, self._caller, outcome, self._began)
        if known is not None:
            await abort(self._context, known)


async def _discard(requests: Any) -> None:
    """Read an upload on before refusing it: some gRPC clients lose the reason if the call ends during a write."""
    octets = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_SECONDS):
            async for request in requests:
                octets += request.ByteSize()
                if octets > MAX_DISCARDED_OCTETS:
                    return
