"""The gRPC side of a call: its caller, its deadline and its status; and the gRPC handlers of unary RPCs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from restante.errors import RestanteError, to_status
from restante_server.api.engine.allowances import Allowances, Resource
from restante_server.api.engine.caller import Caller
from restante_server.api.engine.deadlines import deadline
from restante_server.api.engine.dispatch import Dispatcher
from restante_server.api.engine.faults import translate
from restante_server.api.engine.identity import LOCAL, Authenticator, Channel
from restante_server.api.engine.registry import Handler


class Context(Protocol):
    """A call's side of its binding. gRPC's context has these methods."""

    def invocation_metadata(self) -> Any:
        """The metadata of the call, as pairs."""

    def peer(self) -> str:
        """The binding's name of the connection."""

    def time_remaining(self) -> float | None:
        """Seconds until the client's deadline, if it has one."""

    async def abort(self, code: Any, details: str = "", trailing_metadata: Any = ()) -> Any:
        """End the call with a status. Raises."""


STATUS_DETAILS = "grpc-status-details-bin"
"""The trailing metadata with the google.rpc.Status of a call that failed."""


def _local(_peer: str) -> Channel:
    return LOCAL


@dataclass(frozen=True, slots=True)
class Listener:
    """One Unix socket to serve on. `channel` returns the channel of a connection by gRPC's name of it."""

    address: str  # "unix:PATH"
    channel: Callable[[str], Channel] = _local
    handshake_seconds: float | None = None  # for the HTTP/2 preface and first settings; None: gRPC's default


async def caller_of(context: Context, authenticator: Authenticator, listener: Listener) -> Caller:
    """The proven caller of a call. Raises RestanteError."""
    metadata: dict[str, str | bytes] = dict(context.invocation_metadata() or ())
    return await authenticator.caller(metadata, listener.channel(context.peer()))


def unary(
    handler: Handler, dispatcher: Dispatcher, authenticator: Authenticator, allowances: Allowances, listener: Listener
) -> Callable[..., Any]:
    """The gRPC handler of a unary RPC."""

    async def serve(request: Any, context: Context) -> Any:
        try:
            caller = await caller_of(context, authenticator, listener)
            with allowances.holding(caller.party, Resource.OPERATIONS):
                return await dispatcher.run(handler, caller, request, deadline(context.time_remaining()))
        except Exception as error:  # noqa: BLE001 - every failure gets a status with a reason
            await abort(context, translate(error, handler.method.path))

    return serve


async def abort(context: Context, error: RestanteError) -> Any:
    """End a call with the status of an error, details included. Does not return."""
    status = to_status(error)
    details = ((STATUS_DETAILS, status.SerializeToString()),)
    await context.abort(error.code, error.detail, trailing_metadata=details)
