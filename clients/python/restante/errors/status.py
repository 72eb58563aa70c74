"""Conversion of errors to a status with ErrorInfo, and back."""

from __future__ import annotations

from collections.abc import Iterable

import grpc
import grpc.aio
from google.protobuf import duration_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from restante.errors import directory, mailboxes, requests, server, sessions, transport
from restante.errors.base import FieldViolation, RestanteError, UnknownReason

DOMAIN = "restante"

REASONS = (sessions, requests, mailboxes, transport, directory, server)
"""The modules that hold a class for each reason."""

BY_REASON: dict[str, type[RestanteError]] = {
    each.reason: each
    for module in REASONS
    for each in vars(module).values()
    if isinstance(each, type) and issubclass(each, RestanteError) and each.reason
}
_CODES = {code.value[0]: code for code in grpc.StatusCode}


def to_status(error: RestanteError) -> status_pb2.Status:
    """The status of an error, with ErrorInfo, RetryInfo for an error with a delay, and BadRequest for bad fields."""
    parts: list[Message] = [error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)]
    if error.retry_seconds is not None:
        seconds = int(error.retry_seconds)
        nanos = int((error.retry_seconds - seconds) * 1_000_000_000)
        parts.append(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=seconds, nanos=nanos)))
    if error.violations:
        bad = error_details_pb2.BadRequest()
        for field, problem in error.violations:
            bad.field_violations.add(field=field, description=problem)
        parts.append(bad)
    status = status_pb2.Status(code=error.code.value[0], message=error.detail)
    for part in parts:
        status.details.add().Pack(part)
    return status


def from_status(status: status_pb2.Status) -> RestanteError:
    """The error of a status: an instance of its reason's class, or UnknownReason."""
    info, retry_seconds = error_details_pb2.ErrorInfo(), None
    bad = error_details_pb2.BadRequest()
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo()
            detail.Unpack(retry)
            retry_seconds = retry.retry_delay.seconds + retry.retry_delay.nanos / 1_000_000_000
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            detail.Unpack(bad)
    cls = BY_REASON.get(info.reason) if info.domain == DOMAIN else None
    if cls is None:
        return UnknownReason(status.message, _CODES.get(status.code, grpc.StatusCode.UNKNOWN), info.reason)
    known = {key: value for key, value in info.metadata.items() if key in cls.keys and key != "retry_seconds"}
    error = cls(status.message, retry_seconds=retry_seconds, **known)
    if bad.field_violations:
        error.violations = tuple(FieldViolation(each.field, each.description) for each in bad.field_violations)
    return error


def from_rpc_error(error: grpc.RpcError) -> RestanteError:
    """The error of a failed unary or streaming call (`grpc.aio.AioRpcError`, or the error of a blocking call)."""
    if not isinstance(error, (grpc.Call, grpc.aio.AioRpcError)):
        return UnknownReason(str(error), grpc.StatusCode.UNKNOWN)
    trailers: Iterable[tuple[str, str | bytes]] = error.trailing_metadata() or ()
    details = next((value for key, value in trailers if key == "grpc-status-details-bin"), None)
    if isinstance(details, bytes):
        try:
            return from_status(status_pb2.Status.FromString(details))
        except DecodeError:
            pass  # not a Restante server's status: only the code and the text below are known
    return UnknownReason(error.details() or "", error.code())
