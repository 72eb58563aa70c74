"""gRPC in front of the dispatcher. Nothing here knows an RPC by name but the two of Execute."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.protobuf import symbol_database
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from restante.errors import InvalidArgument, RestanteError, to_status
from restante.v1 import (
    admin_pb2,
    batch_pb2,
    content_pb2,
    directory_pb2,
    folder_pb2,
    mailbox_pb2,
    message_pb2,
    methods,
    session_pb2,
    submission_pb2,
    sync_pb2,
    transport_pb2,
)
from restante_server.api.engine import reflect
from restante_server.api.engine.allowances import Resource
from restante_server.api.engine.caller import DEFAULT_TIMEOUT_SECONDS, MAX_TIMEOUT_SECONDS, Caller
from restante_server.api.engine.dispatch import Dispatcher, translate
from restante_server.api.engine.execute import MAX_BATCH_OPERATIONS, Batch, Execution, is_oversize, parse, too_large
from restante_server.api.engine.grpc_options import KEEPALIVE, Keepalive, handshake_options, server_options
from restante_server.api.engine.identity import LOCAL, Authenticator, Channel
from restante_server.api.engine.registry import STREAMS, UNARY, Handler, Streaming
from restante_server.db import turns
from restante_server.observe import CallObserver

FILES = (
    admin_pb2,
    batch_pb2,
    content_pb2,
    directory_pb2,
    folder_pb2,
    mailbox_pb2,
    message_pb2,
    session_pb2,
    submission_pb2,
    sync_pb2,
    transport_pb2,
)
SERVICES: tuple[ServiceDescriptor, ...] = tuple(
    service for file in FILES for service in file.DESCRIPTOR.services_by_name.values()
)
MAX_STREAM_AGE_SECONDS = 600.0  # then the client is asked to move on (docs/design.md "Operations and batches")
MAX_DISCARDED_OCTETS = 64 << 20  # read of an upload that is refused
DISCARD_SECONDS = 5.0


def _local(_peer: str) -> Channel:
    return LOCAL


@dataclass(frozen=True, slots=True)
class Listener:
    """One Unix socket to serve on. `channel` tells who is at the other end of a connection, by gRPC's name of it."""

    address: str  # "unix:PATH"
    channel: Callable[[str], Channel] = _local
    handshake_seconds: float | None = None  # for the client's first words of HTTP/2; None: as long as gRPC allows


class ApiServer:
    """The API on some listeners, with health and reflection."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        authenticator: Authenticator,
        observer: CallObserver,
        keepalive: Keepalive = KEEPALIVE,
    ) -> None:
        self._dispatcher, self._authenticator, self._observer = dispatcher, authenticator, observer
        self._options = server_options(keepalive)
        self._servers: list[grpc.aio.Server] = []
        self._health = health.aio.HealthServicer()
        self._executions: set[Execution] = set()
        self.draining = asyncio.Event()

    async def start(self, listeners: Sequence[Listener]) -> None:
        """Serve on every listener. Each has a server of its own: gRPC does not tell by which one a call came."""
        for listener in listeners:
            server = grpc.aio.server(options=(*self._options, *handshake_options(listener.handshake_seconds)))
            self._serve_on(server, listener)
            server.add_insecure_port(listener.address)
            await server.start()
            self._servers.append(server)
        await self.set_serving(True)

    async def set_serving(self, serving: bool) -> None:
        """Say by grpc.health.v1 whether calls can be answered now. Once draining, the answer stays no."""
        state = health_pb2.HealthCheckResponse
        for name in ("", *(service.full_name for service in SERVICES)):
            await self._health.set(name, state.SERVING if serving else state.NOT_SERVING)

    async def stop(self, grace_seconds: float) -> None:
        """Announce it, let what runs finish, then end."""
        self.draining.set()
        await self._health.enter_graceful_shutdown()
        for execution in list(self._executions):
            execution.announce_draining()
        await asyncio.gather(*(server.stop(grace_seconds) for server in self._servers))

    def _serve_on(self, server: grpc.aio.Server, listener: Listener) -> None:
        for service in SERVICES:
            table = {}
            for method in service.methods:
                handler = self._method(service, method, listener)
                if handler is not None:
                    table[method.name] = handler
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, table),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflect.enable(server, [*(service.full_name for service in SERVICES), health.SERVICE_NAME])

    def _method(self, service: ServiceDescriptor, method: MethodDescriptor, listener: Listener) -> Any:
        symbols = symbol_database.Default()
        request = symbols.GetSymbol(method.input_type.full_name)
        coders: dict[str, Any] = {
            "request_deserializer": request.FromString,
            "response_serializer": symbols.GetSymbol(method.output_type.full_name).SerializeToString,
        }
        if method.name == "Execute":
            coders["request_deserializer"] = parse
            return grpc.stream_stream_rpc_method_handler(self._execute(listener), **coders)
        if method.name == "ExecuteOnce":
            return grpc.unary_unary_rpc_method_handler(self._execute_once(listener), **coders)
        streaming = STREAMS.get((service.name, method.name))
        if streaming is not None:
            if not method.server_streaming:
                return grpc.stream_unary_rpc_method_handler(self._single(streaming, listener), **coders)
            kind = (
                grpc.stream_stream_rpc_method_handler
                if method.client_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            return kind(self._many(streaming, listener), **coders)
        known = next((m for m in methods.ALL if m.request is request), None)
        if known is None or known.field not in UNARY:
            return None
        return grpc.unary_unary_rpc_method_handler(self._unary(UNARY[known.field], listener), **coders)

    def _unary(self, handler: Handler, listener: Listener) -> Callable[..., Any]:
        async def serve(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            try:
                caller = await self._caller(context, listener)
                with self._dispatcher.core.allowances.holding(caller.party, Resource.OPERATIONS):
                    return await self._dispatcher.run(handler, caller, request, deadline(context))
            except Exception as error:  # noqa: BLE001 - every failure gets a status with a reason
                await _abort(context, translate(error, handler.method.path))

        return serve

    def _single(self, streaming: Streaming, listener: Listener) -> Callable[..., Any]:
        async def serve(requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            async with _Stream(self, streaming, context, listener) as call:
                try:
                    return await streaming.run(call, requests)
                except Exception:
                    await _discard(requests)
                    raise

        return serve

    def _many(self, streaming: Streaming, listener: Listener) -> Callable[..., Any]:
        async def serve(requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
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

    def _execute(self, listener: Listener) -> Callable[..., Any]:
        async def serve(requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            allowances, stream = self._dispatcher.core.allowances, Caller()
            try:
                stream = await self._caller(context, listener)
                allowances.take(stream.party, Resource.STREAMS)
            except Exception as error:  # noqa: BLE001 - every failure gets a status with a reason
                await _abort(context, translate(error, "Execute"))
            execution = Execution(self._dispatcher, self._authenticator, stream)
            self._executions.add(execution)
            feeding = asyncio.create_task(execution.feed(requests))
            age = asyncio.get_running_loop().call_later(
                MAX_STREAM_AGE_SECONDS * random.uniform(0.8, 1.0), execution.announce_draining
            )
            try:
                async for response in execution.answers():
                    yield response
                if (problem := feeding.exception()) is not None:
                    await _abort(
                        context, translate(problem, "Execute") if isinstance(problem, Exception) else InvalidArgument()
                    )
            finally:
                allowances.give_back(stream.party, Resource.STREAMS)
                age.cancel()
                feeding.cancel()
                execution.abandon()
                self._executions.discard(execution)

        return serve

    def _execute_once(self, listener: Listener) -> Callable[..., Any]:
        async def serve(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            async def batch() -> AsyncIterator[Any]:
                yield Batch(batch_pb2.ExecuteRequest(operations=request.operations), request.ByteSize())

            stream = Caller()
            try:
                stream = await self._caller(context, listener)
                _require_batch(request)
            except Exception as error:  # noqa: BLE001 - every failure gets a status with a reason
                await _abort(context, translate(error, "ExecuteOnce"))
            execution = Execution(self._dispatcher, self._authenticator, stream)
            feeding = asyncio.create_task(execution.feed(batch()))
            results: dict[int, batch_pb2.OperationResult] = {}
            try:
                async for response in execution.answers():
                    results.update((result.operation_id, result) for result in response.results)
            finally:
                feeding.cancel()
                execution.abandon()
            ordered = [results[operation.operation_id] for operation in request.operations]
            return batch_pb2.ExecuteOnceResponse(results=ordered)

        return serve

    async def _caller(self, context: grpc.aio.ServicerContext[Any, Any], listener: Listener) -> Caller:
        metadata: dict[str, str | bytes] = dict(context.invocation_metadata() or ())
        return await self._authenticator.caller(metadata, listener.channel(context.peer()))


class _Stream:
    """What every streaming RPC has in common: its caller, its rights, its errors, its line in the log."""

    def __init__(self, server: ApiServer, streaming: Streaming, context: Any, listener: Listener) -> None:
        self._server, self._streaming, self._context = server, streaming, context
        self._listener = listener
        self._path = f"/restante.v1.{streaming.service}/{streaming.name}"
        self._caller = Caller()
        self._began = time.perf_counter()
        self._task: asyncio.Task[Any] | None = None  # that works for the client now; None: it sends, or has ended
        self._over: RestanteError | None = None  # why the stream must end
        self._release: Callable[[], None] = lambda: None

    async def __aenter__(self) -> Any:
        try:
            self._caller = await self._server._caller(self._context, self._listener)
            turns.party.set(self._caller.party)
            self._streaming.rule(self._caller)
            self._server._dispatcher.core.allowances.take(self._caller.party, Resource.STREAMS)
        except Exception as error:  # noqa: BLE001 - every failure gets a status with a reason
            known = translate(error, self._path)
            self._server._observer.finished(self._path, self._caller, known.reason, self._began)
            await _abort(self._context, known)
        if not self._streaming.own_end:
            end, with_token = self._session_over, self._streaming.ends_with_token
            self._release = self._server._dispatcher.core.guards.hold(self._caller, end, with_token=with_token)
        self._task = asyncio.current_task()
        remaining = self._context.time_remaining()
        moment = time.monotonic() + remaining if remaining is not None else float("inf")
        return self._server._dispatcher.call(self._caller, moment)

    def sending(self) -> None:
        """A response goes out, and is waited for until the client takes it. Raises why the stream must end."""
        if self._over is not None:
            raise self._over
        self._task = None

    def sent(self) -> None:
        """The client has room for another. Raises why the stream must end."""
        if self._over is not None:
            raise self._over
        self._task = asyncio.current_task()

    def _session_over(self, why: RestanteError) -> None:
        """Interrupt the work. gRPC's sending cannot be: then nothing follows the response that is on its way."""
        self._over = why
        if self._task is not None:
            self._task.cancel()

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._release()
        self._server._dispatcher.core.allowances.give_back(self._caller.party, Resource.STREAMS)
        task, self._task = self._task, None
        if isinstance(error, asyncio.CancelledError) and self._over is not None and task is not None:
            task.uncancel()
            error = self._over
        known = translate(error, self._path) if isinstance(error, Exception) else None
        outcome = known.reason if known is not None else "OK" if error is None else "CANCELLED"
        self._server._observer.finished(self._path, self._caller, outcome, self._began)
        if known is not None:
            await _abort(self._context, known)


def _require_batch(request: batch_pb2.ExecuteOnceRequest) -> None:
    if len(request.operations) > MAX_BATCH_OPERATIONS:
        raise InvalidArgument(field="operations", problem=f"more than {MAX_BATCH_OPERATIONS}")
    if len({operation.operation_id for operation in request.operations}) < len(request.operations):
        raise InvalidArgument(field="operations.operation_id", problem="given twice")
    if is_oversize(request.operations):
        raise too_large()


async def _discard(requests: Any) -> None:
    """Read on before a refusal: a client whose write meets the end of its call is not told why by every gRPC."""
    octets = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_SECONDS):
            async for request in requests:
                octets += request.ByteSize()
                if octets > MAX_DISCARDED_OCTETS:
                    return


async def _abort(context: Any, error: RestanteError) -> Any:
    """End a call with the status of an error, details included. Does not return."""
    status = to_status(error)
    details = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(error.code, error.detail, trailing_metadata=details)


def deadline(context: Any) -> float:
    """The moment of `time.monotonic()` until when a unary call may run."""
    remaining = context.time_remaining()
    seconds = DEFAULT_TIMEOUT_SECONDS if remaining is None else min(remaining, MAX_TIMEOUT_SECONDS)
    return time.monotonic() + seconds
