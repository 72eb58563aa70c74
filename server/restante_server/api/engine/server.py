"""The API on its listeners. The two RPCs of BatchService are the only ones named here."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf import symbol_database
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from restante.v1 import (
    admin_pb2,
    batch_pb2,
    content_pb2,
    directory_pb2,
    folder_pb2,
    job_pb2,
    mailbox_pb2,
    message_pb2,
    methods,
    session_pb2,
    submission_pb2,
    sync_pb2,
    transport_pb2,
)
from restante_server.api.engine import reflect
from restante_server.api.engine.batch import parse
from restante_server.api.engine.batches import Batches
from restante_server.api.engine.core import Core
from restante_server.api.engine.dispatch import Dispatcher
from restante_server.api.engine.execute import Executor
from restante_server.api.engine.frame_streams import FramedRpc
from restante_server.api.engine.frames import FrameServer
from restante_server.api.engine.grpc_options import KEEPALIVE, Keepalive, handshake_options, server_options
from restante_server.api.engine.observe import CallObserver
from restante_server.api.engine.registry import Registry, Streaming
from restante_server.api.engine.rpc import Listener, unary
from restante_server.api.engine.streams import Streams

FILES = (
    admin_pb2,
    batch_pb2,
    content_pb2,
    directory_pb2,
    folder_pb2,
    job_pb2,
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


class ApiServer:
    """Serves the RPCs of a registry on some listeners, with health and reflection."""

    def __init__(
        self,
        core: Core,
        registry: Registry,
        dispatcher: Dispatcher,
        observer: CallObserver,
        keepalive: Keepalive = KEEPALIVE,
    ) -> None:
        self.registry, self.dispatcher = registry, dispatcher
        self.executor = Executor(registry.unary, dispatcher, core.authenticator, core.allowances)
        self._authenticator, self._allowances = core.authenticator, core.allowances
        self._streams = Streams(dispatcher, core.authenticator, core.allowances, core.guards, observer)
        self._batches = Batches(self.executor)
        self._frames = FrameServer(self._batches, self._framed())
        self._options = server_options(keepalive)
        self._servers: list[grpc.aio.Server] = []
        self._health = health.aio.HealthServicer()

    async def start(self, listeners: Sequence[Listener], frames: Path | None = None) -> None:
        """Serve on every listener, and Execute and server streams in frames on the Unix socket `frames`.

        Each listener has a separate server: gRPC does not reveal the listener that a call used. Raises OSError.
        """
        if frames is not None:  # first: a gateway that finds no such socket speaks gRPC
            await self._frames.start(frames)
        for listener in listeners:
            server = grpc.aio.server(options=(*self._options, *handshake_options(listener.handshake_seconds)))
            self._serve_on(server, listener)
            server.add_insecure_port(listener.address)
            await server.start()
            self._servers.append(server)
        await self.set_serving(True)

    async def set_serving(self, serving: bool) -> None:
        """Report by grpc.health.v1 whether the core can answer calls now. Once draining, it stays NOT_SERVING."""
        state = health_pb2.HealthCheckResponse
        for name in ("", *(service.full_name for service in SERVICES)):
            await self._health.set(name, state.SERVING if serving else state.NOT_SERVING)

    async def stop(self, grace_seconds: float) -> None:
        """Announce draining, let running calls finish for `grace_seconds`, then end the rest."""
        await self._health.enter_graceful_shutdown()
        self._batches.announce_draining()
        await asyncio.gather(
            self._frames.stop(grace_seconds), *(server.stop(grace_seconds) for server in self._servers)
        )

    def _framed(self) -> dict[str, FramedRpc]:
        """The RPCs whose response alone streams, for calls in frames."""
        found, symbols, listener = {}, symbol_database.Default(), Listener("frames")
        for service in SERVICES:
            for method in service.methods:
                streaming = self.registry.streams.get((service.name, method.name))
                if streaming is not None and method.server_streaming and not method.client_streaming:
                    path = f"{service.name}/{method.name}"
                    request = symbols.GetSymbol(method.input_type.full_name)
                    found[path] = FramedRpc(path, request, self._streams.many(streaming, listener))
        return found

    def _serve_on(self, server: grpc.aio.Server, listener: Listener) -> None:
        for service in SERVICES:
            table = {method.name: self._method(service, method, listener) for method in service.methods}
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
            return grpc.stream_stream_rpc_method_handler(self._batches.execute(listener), **coders)
        if method.name == "ExecuteOnce":
            return grpc.unary_unary_rpc_method_handler(self._batches.execute_once(listener), **coders)
        streaming = self.registry.streams.get((service.name, method.name))
        if streaming is not None:
            return self._streaming(streaming, method, listener, coders)
        known = next(known for known in methods.ALL if known.request is request)
        handler = self.registry.unary[known.field]
        served = unary(handler, self.dispatcher, self._authenticator, self._allowances, listener)
        return grpc.unary_unary_rpc_method_handler(served, **coders)

    def _streaming(self, streaming: Streaming, method: MethodDescriptor, listener: Listener, coders: Any) -> Any:
        if not method.server_streaming:
            return grpc.stream_unary_rpc_method_handler(self._streams.single(streaming, listener), **coders)
        kind = (
            grpc.stream_stream_rpc_method_handler if method.client_streaming else grpc.unary_stream_rpc_method_handler
        )
        return kind(self._streams.many(streaming, listener), **coders)
