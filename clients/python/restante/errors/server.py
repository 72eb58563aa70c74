"""Reasons of the server and of the connection to it."""

from __future__ import annotations

from grpc import StatusCode

from restante.errors.base import RestanteError


class DeadlineExceeded(RestanteError):
    reason = "DEADLINE_EXCEEDED"
    code = StatusCode.DEADLINE_EXCEEDED
    text = "The deadline of the call passed."


class Cancelled(RestanteError):
    reason = "CANCELLED"
    code = StatusCode.CANCELLED
    text = "The operation was cancelled before it began."


class Draining(RestanteError):
    reason = "DRAINING"
    code = StatusCode.UNAVAILABLE
    text = "The server is shutting down; try again."


class StoreBusy(RestanteError):
    reason = "STORE_BUSY"
    code = StatusCode.UNAVAILABLE
    text = "The database did not answer or is locked; try again shortly."


class CommitNotReached(RestanteError):
    reason = "COMMIT_NOT_REACHED"
    code = StatusCode.UNAVAILABLE
    keys = ("change_number",)
    text = "This core has not reached the commit of min_commit yet; try again."


class Internal(RestanteError):
    reason = "INTERNAL"
    code = StatusCode.INTERNAL
    keys = ("incident",)
    text = "Internal error of the server."


class UnknownOperation(RestanteError):
    reason = "UNKNOWN_OPERATION"
    code = StatusCode.UNIMPLEMENTED
    keys = ("operation",)
    text = "The server does not know the operation; it may be older than the client."


class BackupFailed(RestanteError):
    reason = "BACKUP_FAILED"
    code = StatusCode.FAILED_PRECONDITION
    keys = ("problem",)
    text = "The backup was not made."


class OperationReferenceFailed(RestanteError):
    reason = "OPERATION_REFERENCE_FAILED"
    code = StatusCode.FAILED_PRECONDITION
    keys = ("operation_id",)
    caused_by_client = True
    text = "The operation needs the response of another operation of its batch, which failed."
