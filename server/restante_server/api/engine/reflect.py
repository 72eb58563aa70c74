"""Server reflection: what the API offers, told to tools that have no protos (grpcurl and the like)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from grpc_reflection.v1alpha import reflection, reflection_pb2

from restante.v1 import errors_pb2

STABLE = "grpc.reflection.v1.ServerReflection"
"""The service as it is called since it is stable; grpcio-reflection has it under its older name alone."""

REASONS = errors_pb2.DESCRIPTOR.name
"""No RPC has a message of this file: it is in the pool, where tools find its enum, because it is imported here."""


class _Pool:
    """The pool, which knows methods and fields by name too: the file of one is that of what it is in."""

    def __init__(self) -> None:
        self._pool = descriptor_pool.Default()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            return self._pool.FindFileContainingSymbol(symbol.rpartition(".")[0])


def enable(server: grpc.aio.Server, services: Sequence[str]) -> None:
    """Offer reflection under both names of the service."""
    listed, pool = (*services, reflection.SERVICE_NAME), _Pool()
    reflection.enable_server_reflection(listed, server, pool)
    info = grpc.stream_stream_rpc_method_handler(
        reflection.aio.ReflectionServicer(listed, pool).ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,  # the same on the wire
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    handler = grpc.method_handlers_generic_handler(STABLE, {"ServerReflectionInfo": info})
    server.add_generic_rpc_handlers((handler,))
