"""Reasons of the server and of the connection to it."""

from __future__ import annotations

from grpc import StatusCode

from restante.errors.base import RestanteError


class DeadlineExceeded(RestanteError):
    reason = "DEADLINE_EXCEEDED"
    code = StatusCode.DEADLINE_EXCEEDED
    text = "The call's time ran out."


class Cancelled(RestanteError):
    reason = "CANCELLED"
    code = StatusCode.CANCELLED
    text = "The caller cancelled the operation before it began."


class Draining(RestanteError):
    reason = "DRAINING"
    code = StatusCode.UNAVAILABLE
    text = "The server is going away."


class StoreBusy(RestanteError):
    reason = "STORE_BUSY"
    code = StatusCode.UNAVAILABLE
    text = "The database did not answer or is locked."


class CommitNotReached(RestanteError):
    reason = "COMMIT_NOT_REACHED"
    code = StatusCode.UNAVAILABLE
    keys = ("change_number",)
    text = "This core has not yet seen the commit of min_commit."


class Internal(RestanteError):
    reason = "INTERNAL"
    code = StatusCode.INTERNAL
    keys = ("incident",)
    text = "A fault of the server."


class UnknownOperation(RestanteError):
    reason = "UNKNOWN_OPERATION"
    code = StatusCode.UNIMPLEMENTED
    keys = ("operation",)
    text = "The operation is not known to this server."
