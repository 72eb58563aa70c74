"""Server reflection, which describes the API to tools without its protos (such as grpcurl)."""

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
"""The stable name of the service. grpcio-reflection serves only its older name."""

REASONS = errors_pb2.DESCRIPTOR.name
"""The file of ErrorReason. No RPC uses a message of it, so this import puts it into the pool, where tools find it."""


class _Pool:
    """The descriptor pool, which also finds the file of a method or a field: the file of its service or message."""

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
    """Serve reflection under both names of the service."""
    listed, pool = (*services, reflection.SERVICE_NAME), _Pool()
    reflection.enable_server_reflection(listed, server, pool)
    info = grpc.stream_stream_rpc_method_handler(
        reflection.aio.ReflectionServicer(listed, pool).ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,  # the same on the wire
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    handler = grpc.method_handlers_generic_handler(STABLE, {"ServerReflectionInfo": info})
    server.add_generic_rpc_handlers((handler,))
