"""Reasons of faulty requests and of too many requests."""

from __future__ import annotations

from grpc import StatusCode

from restante.errors.base import FieldViolation, RestanteError


class InvalidArgument(RestanteError):
    reason = "INVALID_ARGUMENT"
    code = StatusCode.INVALID_ARGUMENT
    keys = ("field", "problem")
    caused_by_client = True
    text = "A field of the request has a value that is not allowed."

    def __init__(self, detail: str = "", *, retry_seconds: float | None = None, **metadata: object) -> None:
        super().__init__(detail, retry_seconds=retry_seconds, **metadata)
        if "field" in self.metadata:
            self.violations = (FieldViolation(self.metadata["field"], self.metadata.get("problem", "")),)


class InvalidPageToken(RestanteError):
    reason = "INVALID_PAGE_TOKEN"
    code = StatusCode.INVALID_ARGUMENT
    caused_by_client = True
    text = "The page token is not from an earlier response to the same request."


class RequestIdRequired(RestanteError):
    reason = "REQUEST_ID_REQUIRED"
    code = StatusCode.INVALID_ARGUMENT
    caused_by_client = True
    text = "The call needs a request_id of 16 octets."


class RequestIdReused(RestanteError):
    reason = "REQUEST_ID_REUSED"
    code = StatusCode.ALREADY_EXISTS
    caused_by_client = True
    text = "The request_id was used for another request before."


class ResultTooLarge(RestanteError):
    reason = "RESULT_TOO_LARGE"
    code = StatusCode.OUT_OF_RANGE
    keys = ("rpc", "limit_octets")
    caused_by_client = True
    text = "The response is too large for one operation; use the streaming RPC."


class TooComplex(RestanteError):
    reason = "TOO_COMPLEX"
    code = StatusCode.INVALID_ARGUMENT
    keys = ("limit", "value")
    caused_by_client = True
    text = "A restriction or a set of ids is deeper, longer or more expensive than allowed; split the request."


class LimitExceeded(RestanteError):
    reason = "LIMIT_EXCEEDED"
    code = StatusCode.FAILED_PRECONDITION
    keys = ("limit", "value")
    caused_by_client = True
    text = "There are as many (folders, keywords, ...) as there may be."


class TooManyOperations(RestanteError):
    reason = "TOO_MANY_OPERATIONS"
    code = StatusCode.RESOURCE_EXHAUSTED
    keys = ("limit",)
    caused_by_client = True
    text = "The session, or its account, has too many operations in flight."


class ChangeConflict(RestanteError):
    reason = "CHANGE_CONFLICT"
    code = StatusCode.ABORTED
    keys = ("change_number",)
    caused_by_client = True
    text = "The object was changed after if_change_number; read it again."


class EpochChanged(RestanteError):
    reason = "EPOCH_CHANGED"
    code = StatusCode.FAILED_PRECONDITION
    keys = ("epoch",)
    caused_by_client = True
    text = "The commit token is older than a restore of the store; read again without it."


class CursorInvalid(RestanteError):
    reason = "CURSOR_INVALID"
    code = StatusCode.INVALID_ARGUMENT
    caused_by_client = True
    text = "The cursor is not valid for this scope; synchronize again without one."


class AccountLimitReached(RestanteError):
    reason = "ACCOUNT_LIMIT_REACHED"
    code = StatusCode.RESOURCE_EXHAUSTED
    keys = ("resource", "limit")
    caused_by_client = True
    text = "The account has reached a limit over all its connections and sessions."
