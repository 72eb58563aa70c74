"""One exception for each ErrorReason, the same on both sides of the wire.

The store and the API raise them, the dispatcher turns them into a status with ErrorInfo, and the client raises the same
class again. `protos/restante/v1/errors.proto` explains each; a test holds both files together.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import grpc
import grpc.aio
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

DOMAIN = "restante"


class RestanteError(Exception):
    """Base of all. `metadata` has the keys that the class declares; `detail` is a sentence for people.

    `retry_seconds` is how long to wait before another attempt, where the server said so.
    """

    reason: ClassVar[str] = ""
    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.UNKNOWN
    keys: ClassVar[tuple[str, ...]] = ()
    caused_by_client: ClassVar[bool] = False
    text: ClassVar[str] = "The call failed."

    def __init__(self, detail: str = "", *, retry_seconds: float | None = None, **metadata: object) -> None:
        unknown = metadata.keys() - set(self.keys)
        if unknown:
            raise TypeError(f"{type(self).__name__} has no metadata {sorted(unknown)}")
        self.metadata = {key: str(value) for key, value in metadata.items()}
        self.retry_seconds = retry_seconds
        if "retry_seconds" in self.keys and retry_seconds is not None:  # for readers that know only ErrorInfo
            self.metadata["retry_seconds"] = f"{retry_seconds:g}"
        self.detail = detail or self._sentence()
        super().__init__(self.detail)

    def _sentence(self) -> str:
        known = ", ".join(f"{key} {value}" for key, value in self.metadata.items())
        return f"{self.text.rstrip('.')} ({known})." if known else self.text


class AuthenticationFailed(RestanteError):
    reason = "AUTHENTICATION_FAILED"
    code = grpc.StatusCode.UNAUTHENTICATED
    caused_by_client = True
    text = "Wrong name or password, an account that is switched off, or a credential without the scope asked for."


class InvalidSession(RestanteError):
    reason = "INVALID_SESSION"
    code = grpc.StatusCode.UNAUTHENTICATED
    caused_by_client = True
    text = "No session token or gateway identity came with the call, or one that was not issued here."


class SessionExpired(RestanteError):
    reason = "SESSION_EXPIRED"
    code = grpc.StatusCode.UNAUTHENTICATED
    caused_by_client = True
    text = "The session token is past its time."


class SessionRevoked(RestanteError):
    reason = "SESSION_REVOKED"
    code = grpc.StatusCode.UNAUTHENTICATED
    caused_by_client = True
    text = "The session was ended: logged off, password changed, account disabled or credential revoked."


class ExchangeInvalid(RestanteError):
    reason = "EXCHANGE_INVALID"
    code = grpc.StatusCode.UNAUTHENTICATED
    caused_by_client = True
    text = "The exchange of a SASL step is unknown, used before or past its time."


class MechanismNotSupported(RestanteError):
    reason = "MECHANISM_NOT_SUPPORTED"
    code = grpc.StatusCode.INVALID_ARGUMENT
    keys = ("mechanism",)
    caused_by_client = True
    text = "The SASL mechanism is not offered."


class TlsRequired(RestanteError):
    reason = "TLS_REQUIRED"
    code = grpc.StatusCode.FAILED_PRECONDITION
    caused_by_client = True
    text = "Authentication is not allowed without TLS here."


class TooManyAttempts(RestanteError):
    reason = "TOO_MANY_ATTEMPTS"
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    keys = ("retry_seconds",)
    caused_by_client = True
    text = "Too many failed logins from this address."


class PermissionDenied(RestanteError):
    reason = "PERMISSION_DENIED"
    code = grpc.StatusCode.PERMISSION_DENIED
    keys = ("permission",)
    caused_by_client = True
    text = "The caller is known but has no right to this."


class WeakPassword(RestanteError):
    reason = "WEAK_PASSWORD"
    code = grpc.StatusCode.INVALID_ARGUMENT
    keys = ("problem",)
    caused_by_client = True
    text = "The new password is too short or equal to the name."


class InvalidArgument(RestanteError):
    reason = "INVALID_ARGUMENT"
    code = grpc.StatusCode.INVALID_ARGUMENT
    keys = ("field", "problem")
    caused_by_client = True
    text = "A field has a value that it cannot have."


class InvalidPageToken(RestanteError):
    reason = "INVALID_PAGE_TOKEN"
    code = grpc.StatusCode.INVALID_ARGUMENT
    caused_by_client = True
    text = "The page token is not from an earlier answer to the same request."


class RequestIdRequired(RestanteError):
    reason = "REQUEST_ID_REQUIRED"
    code = grpc.StatusCode.INVALID_ARGUMENT
    caused_by_client = True
    text = "The call needs a request_id of 16 octets."


class RequestIdReused(RestanteError):
    reason = "REQUEST_ID_REUSED"
    code = grpc.StatusCode.ALREADY_EXISTS
    caused_by_client = True
    text = "The request_id was used for another request."


class ResultTooLarge(RestanteError):
    reason = "RESULT_TOO_LARGE"
    code = grpc.StatusCode.OUT_OF_RANGE
    keys = ("rpc", "limit_octets")
    caused_by_client = True
    text = "The answer is too large for an operation."


class TooComplex(RestanteError):
    reason = "TOO_COMPLEX"
    code = grpc.StatusCode.INVALID_ARGUMENT
    keys = ("limit", "value")
    caused_by_client = True
    text = "A restriction or a set is deeper, longer or dearer than allowed."


class LimitExceeded(RestanteError):
    reason = "LIMIT_EXCEEDED"
    code = grpc.StatusCode.FAILED_PRECONDITION
    keys = ("limit", "value")
    caused_by_client = True
    text = "The mailbox holds as many as it may (folders, keywords, ...)."


class TooManyOperations(RestanteError):
    reason = "TOO_MANY_OPERATIONS"
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    keys = ("limit",)
    caused_by_client = True
    text = "The session, or its account, has too many operations in flight."


class ChangeConflict(RestanteError):
    reason = "CHANGE_CONFLICT"
    code = grpc.StatusCode.ABORTED
    keys = ("change_number",)
    caused_by_client = True
    text = "The thing was changed after the number given in if_change_number."


class EpochChanged(RestanteError):
    reason = "EPOCH_CHANGED"
    code = grpc.StatusCode.FAILED_PRECONDITION
    keys = ("epoch",)
    caused_by_client = True
    text = "The commit token is from before a restore of the store."


class CursorInvalid(RestanteError):
    reason = "CURSOR_INVALID"
    code = grpc.StatusCode.INVALID_ARGUMENT
    caused_by_client = True
    text = "The cursor was not issued for this scope."


class AccountLimitReached(RestanteError):
    reason = "ACCOUNT_LIMIT_REACHED"
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    keys = ("resource", "limit")
    caused_by_client = True
    text = "The account has as much as it may over all its connections and sessions."


class MailboxNotFound(RestanteError):
    reason = "MAILBOX_NOT_FOUND"
    code = grpc.StatusCode.NOT_FOUND
    keys = ("mailbox_id",)
    caused_by_client = True
    text = "No such mailbox, or none that the caller may know of."


class FolderNotFound(RestanteError):
    reason = "FOLDER_NOT_FOUND"
    code = grpc.StatusCode.NOT_FOUND
    keys = ("folder_id",)
    caused_by_client = True
    text = "No such folder."


class MessageNotFound(RestanteError):
    reason = "MESSAGE_NOT_FOUND"
    code = grpc.StatusCode.NOT_FOUND
    keys = ("message_id",)
    caused_by_client = True
    text = "No such message."


class PartNotFound(RestanteError):
    reason = "PART_NOT_FOUND"
    code = grpc.StatusCode.NOT_FOUND
    keys = ("part",)
    caused_by_client = True
    text = "The message has no such part."


class UploadNotFound(RestanteError):
    reason = "UPLOAD_NOT_FOUND"
    code = grpc.StatusCode.NOT_FOUND
    caused_by_client = True
    text = "No such upload, or it has lapsed."


class UploadOffsetMismatch(RestanteError):
    reason = "UPLOAD_OFFSET_MISMATCH"
    code = grpc.StatusCode.OUT_OF_RANGE
    keys = ("size_octets",)
    caused_by_client = True
    text = "The chunk does not continue the upload where it stands."


class FolderExists(RestanteError):
    reason = "FOLDER_EXISTS"
    code = grpc.StatusCode.ALREADY_EXISTS
    keys = ("folder_id",)
    caused_by_client = True
    text = "The parent has a folder of that name."


class FolderNameInvalid(RestanteError):
    reason = "FOLDER_NAME_INVALID"
    code = grpc.StatusCode.INVALID_ARGUMENT
    keys = ("problem",)
    caused_by_client = True
    text = "The name is empty, too long, or has characters that names cannot have."


class FolderHasChildren(RestanteError):
    reason = "FOLDER_HAS_CHILDREN"
    code = grpc.StatusCode.FAILED_PRECONDITION
    keys = ("folder_id",)
    caused_by_client = True
    text = "The folder has folders below it."


class FolderIsSpecial(RestanteError):
    reason = "FOLDER_IS_SPECIAL"
    code = grpc.StatusCode.FAILED_PRECONDITION
    keys = ("role",)
    caused_by_client = True
    text = "The Inbox and other folders with a role cannot be deleted or moved so."


class FolderCycle(RestanteError):
    reason = "FOLDER_CYCLE"
    code = grpc.StatusCode.FAILED_PRECONDITION
    caused_by_client = True
    text = "A folder cannot be moved below itself."


class QuotaExceeded(RestanteError):
    reason = "QUOTA_EXCEEDED"
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    keys = ("limit_octets", "used_octets")
    caused_by_client = True
    text = "The mailbox is full."


class StoreFull(RestanteError):
    reason = "STORE_FULL"
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    text = "The server has too little free storage to take mail."


class MessageTooLarge(RestanteError):
    reason = "MESSAGE_TOO_LARGE"
    code = grpc.StatusCode.INVALID_ARGUMENT
    keys = ("limit_octets",)
    caused_by_client = True
    text = "The message is larger than max_message_octets."


class InvalidContent(RestanteError):
    reason = "INVALID_CONTENT"
    code = grpc.StatusCode.INVALID_ARGUMENT
    keys = ("problem",)
    caused_by_client = True
    text = "The content has NUL octets, or cannot be submitted as it is."


class MaildropInUse(RestanteError):
    reason = "MAILDROP_IN_USE"
    code = grpc.StatusCode.FAILED_PRECONDITION
    caused_by_client = True
    text = "Another session holds the maildrop."


class LeaseLost(RestanteError):
    reason = "LEASE_LOST"
    code = grpc.StatusCode.FAILED_PRECONDITION
    caused_by_client = True
    text = "The lease has lapsed or was given to another."


class RecipientNotFound(RestanteError):
    reason = "RECIPIENT_NOT_FOUND"
    code = grpc.StatusCode.NOT_FOUND
    keys = ("address",)
    caused_by_client = True
    text = "The domain is ours but has no such recipient."


class RelayDenied(RestanteError):
    reason = "RELAY_DENIED"
    code = grpc.StatusCode.PERMISSION_DENIED
    keys = ("address",)
    caused_by_client = True
    text = "The recipient's domain is not ours, and the sender may not relay."


class SenderNotPermitted(RestanteError):
    reason = "SENDER_NOT_PERMITTED"
    code = grpc.StatusCode.PERMISSION_DENIED
    keys = ("address", "field", "problem")
    caused_by_client = True
    text = "The sender has no right to this address in the reverse-path, the fields of authors or their names."


class InvalidAddress(RestanteError):
    reason = "INVALID_ADDRESS"
    code = grpc.StatusCode.INVALID_ARGUMENT
    keys = ("address", "problem")
    caused_by_client = True
    text = "Not an address (RFC 5321 4.1.2)."


class NoRecipients(RestanteError):
    reason = "NO_RECIPIENTS"
    code = grpc.StatusCode.INVALID_ARGUMENT
    caused_by_client = True
    text = "A message needs a recipient."


class TooManyRecipients(RestanteError):
    reason = "TOO_MANY_RECIPIENTS"
    code = grpc.StatusCode.INVALID_ARGUMENT
    keys = ("limit",)
    caused_by_client = True
    text = "More recipients than one message may have."


class MailLoop(RestanteError):
    reason = "MAIL_LOOP"
    code = grpc.StatusCode.FAILED_PRECONDITION
    keys = ("hops", "problem")
    caused_by_client = True
    text = "The message has been round in a loop (RFC 5321 6.3)."


class SubmissionNotFound(RestanteError):
    reason = "SUBMISSION_NOT_FOUND"
    code = grpc.StatusCode.NOT_FOUND
    keys = ("submission_id",)
    caused_by_client = True
    text = "No such submission of this account."


class SubmissionNotCancellable(RestanteError):
    reason = "SUBMISSION_NOT_CANCELLABLE"
    code = grpc.StatusCode.FAILED_PRECONDITION
    caused_by_client = True
    text = "The submission has gone too far to be taken back."


class AccountNotFound(RestanteError):
    reason = "ACCOUNT_NOT_FOUND"
    code = grpc.StatusCode.NOT_FOUND
    keys = ("account",)
    caused_by_client = True
    text = "No such account."


class DomainNotFound(RestanteError):
    reason = "DOMAIN_NOT_FOUND"
    code = grpc.StatusCode.NOT_FOUND
    keys = ("domain",)
    caused_by_client = True
    text = "No such domain here."


class DomainExists(RestanteError):
    reason = "DOMAIN_EXISTS"
    code = grpc.StatusCode.ALREADY_EXISTS
    keys = ("domain",)
    caused_by_client = True
    text = "The domain is here already."


class DomainNotEmpty(RestanteError):
    reason = "DOMAIN_NOT_EMPTY"
    code = grpc.StatusCode.FAILED_PRECONDITION
    keys = ("domain",)
    caused_by_client = True
    text = "The domain still has accounts or aliases."


class AddressExists(RestanteError):
    reason = "ADDRESS_EXISTS"
    code = grpc.StatusCode.ALREADY_EXISTS
    keys = ("address",)
    caused_by_client = True
    text = "The address belongs to an account or alias."


class AliasNotFound(RestanteError):
    reason = "ALIAS_NOT_FOUND"
    code = grpc.StatusCode.NOT_FOUND
    keys = ("address",)
    caused_by_client = True
    text = "No such alias."


class TransportMessageNotFound(RestanteError):
    reason = "TRANSPORT_MESSAGE_NOT_FOUND"
    code = grpc.StatusCode.NOT_FOUND
    keys = ("transport_id",)
    caused_by_client = True
    text = "The queue and the trace know no such message."


class EntryNotFound(RestanteError):
    reason = "ENTRY_NOT_FOUND"
    code = grpc.StatusCode.NOT_FOUND
    keys = ("entry",)
    caused_by_client = True
    text = "The directory has no such entry."


class DeadlineExceeded(RestanteError):
    reason = "DEADLINE_EXCEEDED"
    code = grpc.StatusCode.DEADLINE_EXCEEDED
    text = "The call's time ran out."


class Cancelled(RestanteError):
    reason = "CANCELLED"
    code = grpc.StatusCode.CANCELLED
    text = "The caller cancelled the operation before it began."


class Draining(RestanteError):
    reason = "DRAINING"
    code = grpc.StatusCode.UNAVAILABLE
    text = "The server is going away."


class StoreBusy(RestanteError):
    reason = "STORE_BUSY"
    code = grpc.StatusCode.UNAVAILABLE
    text = "The database did not answer or is locked."


class CommitNotReached(RestanteError):
    reason = "COMMIT_NOT_REACHED"
    code = grpc.StatusCode.UNAVAILABLE
    keys = ("change_number",)
    text = "This core has not yet seen the commit of min_commit."


class Internal(RestanteError):
    reason = "INTERNAL"
    code = grpc.StatusCode.INTERNAL
    keys = ("incident",)
    text = "A fault of the server."


class UnknownOperation(RestanteError):
    reason = "UNKNOWN_OPERATION"
    code = grpc.StatusCode.UNIMPLEMENTED
    keys = ("operation",)
    text = "The operation is not known to this server."


BY_REASON: dict[str, type[RestanteError]] = {cls.reason: cls for cls in RestanteError.__subclasses__()}
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class UnknownReason(RestanteError):
    """A status that carries no reason of ours, or one that this version does not know."""

    def __init__(self, detail: str, status_code: grpc.StatusCode, name: str = "") -> None:
        super().__init__(detail or self.text)
        self.status_code, self.name = status_code, name


def to_status(error: RestanteError) -> status_pb2.Status:
    """The status of an error, with ErrorInfo and, where there is a delay, RetryInfo among its details."""
    details = [any_pb2.Any(), any_pb2.Any()]
    details[0].Pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata))
    if error.retry_seconds is None:
        del details[1]
    else:
        seconds = int(error.retry_seconds)
        nanos = int((error.retry_seconds - seconds) * 1_000_000_000)
        delay = duration_pb2.Duration(seconds=seconds, nanos=nanos)
        details[1].Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status_pb2.Status(code=error.code.value[0], message=error.detail, details=details)


def from_status(status: status_pb2.Status) -> RestanteError:
    """The error that a status tells of: the class of its reason, or UnknownReason."""
    info, retry_seconds = error_details_pb2.ErrorInfo(), None
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo()
            detail.Unpack(retry)
            retry_seconds = retry.retry_delay.seconds + retry.retry_delay.nanos / 1_000_000_000
    cls = BY_REASON.get(info.reason) if info.domain == DOMAIN else None
    if cls is None:
        return UnknownReason(status.message, _CODES.get(status.code, grpc.StatusCode.UNKNOWN), info.reason)
    known = {key: value for key, value in info.metadata.items() if key in cls.keys and key != "retry_seconds"}
    return cls(status.message, retry_seconds=retry_seconds, **known)


def from_rpc_error(error: grpc.RpcError) -> RestanteError:
    """The error that a failed unary or streaming call tells of (`grpc.aio.AioRpcError` or a blocking call's)."""
    if not isinstance(error, (grpc.Call, grpc.aio.AioRpcError)):
        return UnknownReason(str(error), grpc.StatusCode.UNKNOWN)
    trailers: Iterable[tuple[str, str | bytes]] = error.trailing_metadata() or ()
    details = next((value for key, value in trailers if key == "grpc-status-details-bin"), None)
    if isinstance(details, bytes):
        try:
            return from_status(status_pb2.Status.FromString(details))
        except DecodeError:
            pass  # not from a server of ours: the code and the text below say what is known
    return UnknownReason(error.details() or "", error.code())
