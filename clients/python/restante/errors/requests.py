"""Reasons of faulty requests and of too many requests."""

from __future__ import annotations

from grpc import StatusCode

from restante.errors.base import FieldViolation, RestanteError


class InvalidArgument(RestanteError):
    reason = "INVALID_ARGUMENT"
    code = StatusCode.INVALID_ARGUMENT
    keys = ("field", "problem")
    caused_by_client = True
    text = "A field has a value that it cannot have."

    def __init__(self, detail: str = "", *, retry_seconds: float | None = None, **metadata: object) -> None:
        super().__init__(detail, retry_seconds=retry_seconds, **metadata)
        if "field" in self.metadata:
            self.violations = (FieldViolation(self.metadata["field"], self.metadata.get("problem", "")),)


class InvalidPageToken(RestanteError):
    reason = "INVALID_PAGE_TOKEN"
    code = StatusCode.INVALID_ARGUMENT
    caused_by_client = True
    text = "The page token is not from an earlier answer to the same request."


class RequestIdRequired(RestanteError):
    reason = "REQUEST_ID_REQUIRED"
    code = StatusCode.INVALID_ARGUMENT
    caused_by_client = True
    text = "The call needs a request_id of 16 octets."


class RequestIdReused(RestanteError):
    reason = "REQUEST_ID_REUSED"
    code = StatusCode.ALREADY_EXISTS
    caused_by_client = True
    text = "The request_id was used for another request."


class ResultTooLarge(RestanteError):
    reason = "RESULT_TOO_LARGE"
    code = StatusCode.OUT_OF_RANGE
    keys = ("rpc", "limit_octets")
    caused_by_client = True
    text = "The answer is too large for an operation."


class TooComplex(RestanteError):
    reason = "TOO_COMPLEX"
    code = StatusCode.INVALID_ARGUMENT
    keys = ("limit", "value")
    caused_by_client = True
    text = "A restriction or a set is deeper, longer or dearer than allowed."


class LimitExceeded(RestanteError):
    reason = "LIMIT_EXCEEDED"
    code = StatusCode.FAILED_PRECONDITION
    keys = ("limit", "value")
    caused_by_client = True
    text = "The mailbox holds as many as it may (folders, keywords, ...)."


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
    text = "The thing was changed after the number given in if_change_number."


class EpochChanged(RestanteError):
    reason = "EPOCH_CHANGED"
    code = StatusCode.FAILED_PRECONDITION
    keys = ("epoch",)
    caused_by_client = True
    text = "The commit token is from before a restore of the store."


class CursorInvalid(RestanteError):
    reason = "CURSOR_INVALID"
    code = StatusCode.INVALID_ARGUMENT
    caused_by_client = True
    text = "The cursor was not issued for this scope."


class AccountLimitReached(RestanteError):
    reason = "ACCOUNT_LIMIT_REACHED"
    code = StatusCode.RESOURCE_EXHAUSTED
    keys = ("resource", "limit")
    caused_by_client = True
    text = "The account has as much as it may over all its connections and sessions."
