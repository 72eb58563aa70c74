"""Which failures a repetition may mend: one judgement for everything that repeats calls.

A call that must not happen twice carries a request_id, so that a repetition gets the first answer. Only a later step of
a SASL exchange is good once.
"""

from __future__ import annotations

from typing import Any

import grpc

from restante import errors
from restante.methods import Method
from restante.v1 import methods

# gRPC's own words for a connection that broke. A refusal by the server always comes with a reason.
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
    """Whether the connection ended before the answer: the server may or may not have done what was asked."""
    if isinstance(error, errors.UnknownReason):
        return error.status_code in _BROKEN
    return isinstance(error, errors.Draining)


def answer_was_lost(error: errors.RestanteError) -> bool:
    """Whether the server may have done what was asked without saying so."""
    return connection_broke(error) or code_of(error) is grpc.StatusCode.DEADLINE_EXCEEDED


def is_temporary(error: errors.RestanteError) -> bool:
    """Whether the same call may succeed a little later, on this connection or another."""
    return answer_was_lost(error) or code_of(error) is grpc.StatusCode.UNAVAILABLE


def is_over(error: errors.RestanteError) -> bool:
    """Whether the error says that the session is no good any more."""
    return code_of(error) is grpc.StatusCode.UNAUTHENTICATED


def is_repeatable(method: Method[Any, Any], request: Any) -> bool:
    """Whether a request may be sent again when its answer was lost. `request` is the method's own message."""
    return not (method is methods.AUTHENTICATE and request.exchange)
