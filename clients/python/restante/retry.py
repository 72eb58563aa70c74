"""The failures after which a call may be repeated, for all code that repeats calls.

A call that must not happen twice carries a request_id, so that a repetition gets the first answer. The exception is a
later step of a SASL exchange: the client must not repeat it.
"""

from __future__ import annotations

from typing import Any

import grpc

from restante import errors
from restante.methods import Method
from restante.v1 import methods

# gRPC's status codes for a broken connection. A refusal by the server always has a reason.
_BROKEN = frozenset((
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
))  # fmt: skip


def code_of(error: errors.RestanteError) -> grpc.StatusCode:
    """The status code that the error came with."""
    return error.status_code if isinstance(error, errors.UnknownReason) else error.code


def connection_broke(error: errors.RestanteError) -> bool:
    """Whether the connection ended before the answer; the server may have executed the call."""
    if isinstance(error, errors.UnknownReason):
        return error.status_code in _BROKEN
    return isinstance(error, errors.Draining)


def answer_was_lost(error: errors.RestanteError) -> bool:
    """Whether the server may have executed the call although no answer arrived."""
    return connection_broke(error) or code_of(error) is grpc.StatusCode.DEADLINE_EXCEEDED


def is_temporary(error: errors.RestanteError) -> bool:
    """Whether the same call may succeed a little later, on this connection or another."""
    return answer_was_lost(error) or code_of(error) is grpc.StatusCode.UNAVAILABLE


def is_over(error: errors.RestanteError) -> bool:
    """Whether the error means that the session has ended."""
    return code_of(error) is grpc.StatusCode.UNAUTHENTICATED


def is_repeatable(method: Method[Any, Any], request: Any) -> bool:
    """Whether a request may be sent again after its answer was lost. `request` is the method's request message."""
    return not (method is methods.AUTHENTICATE and request.exchange)
