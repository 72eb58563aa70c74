"""The POP3 response to each error reason of the core, one row for each (response codes RFC 2449 8, RFC 3206 4)."""

from __future__ import annotations

from restante import errors
from restante_gateways.core import refusals
from restante_gateways.pop3.protocol import Response, negative
from restante_process.limits import Refusal

# A bug, an unreachable core or a newer core's reason must not lose mail: this response makes the client try again.
OTHERWISE = negative("the server cannot do this now, try again later", "SYS/TEMP")

REPLIES: dict[type[errors.RestanteError], Response] = {
    errors.AuthenticationFailed: negative("authentication failed", "AUTH"),  # RFC 3206 4
    errors.ExchangeInvalid: negative("the authentication exchange took too long, begin again", "AUTH"),
    errors.MechanismNotSupported: negative("mechanism not supported"),
    errors.TlsRequired: negative("TLS is required before authentication", "AUTH"),
    errors.PermissionDenied: negative("this account may not use POP3", "AUTH"),
    errors.MailboxNotFound: negative("this account has no maildrop", "SYS/PERM"),
    errors.InvalidSession: negative("the login session has expired, log in again", "AUTH"),
    errors.SessionExpired: negative("the login session has expired, log in again", "AUTH"),
    errors.SessionRevoked: negative("the login session was ended, log in again", "AUTH"),
    errors.TooManyAttempts: negative("too many failed logins, try again later", "SYS/TEMP"),
    errors.AccountLimitReached: negative(
        "this account has reached a limit over all its sessions, try again later", "SYS/TEMP"
    ),
    errors.MaildropInUse: negative("the maildrop is open in another session", "IN-USE"),  # RFC 2449 8.1.2
    errors.LeaseLost: negative("another session has taken over the maildrop; no message was deleted", "IN-USE"),
    # Without a code: SYS means a fault of the system (RFC 3206 4), but another session removed the message.
    errors.MessageNotFound: negative(
        "another session removed this message over an hour ago, so it can no longer be read"
    ),
    # Internal or passing faults, and reasons that no request of this gateway can cause.
    errors.AccountNotFound: OTHERWISE,
    errors.AddressExists: OTHERWISE,
    errors.AliasNotFound: OTHERWISE,
    errors.BackupFailed: OTHERWISE,
    errors.Cancelled: OTHERWISE,
    errors.ChangeConflict: OTHERWISE,
    errors.CommitNotReached: OTHERWISE,
    errors.CursorInvalid: OTHERWISE,
    errors.DeadlineExceeded: OTHERWISE,
    errors.DomainExists: OTHERWISE,
    errors.DomainKeyExists: OTHERWISE,
    errors.DomainKeyNotFound: OTHERWISE,
    errors.DomainKeyState: OTHERWISE,
    errors.ReportNotFound: OTHERWISE,
    errors.DomainNotEmpty: OTHERWISE,
    errors.DomainNotFound: OTHERWISE,
    errors.Draining: OTHERWISE,
    errors.EntryNotFound: OTHERWISE,
    errors.EpochChanged: OTHERWISE,
    errors.FolderCycle: OTHERWISE,
    errors.FolderExists: OTHERWISE,
    errors.FolderHasChildren: OTHERWISE,
    errors.FolderIsSpecial: OTHERWISE,
    errors.FolderNameInvalid: OTHERWISE,
    errors.FolderNotFound: OTHERWISE,
    errors.Internal: OTHERWISE,
    errors.InvalidAddress: OTHERWISE,
    errors.InvalidArgument: OTHERWISE,
    errors.InvalidContent: OTHERWISE,
    errors.InvalidPageToken: OTHERWISE,
    errors.JobNotFound: OTHERWISE,
    errors.LimitExceeded: OTHERWISE,
    errors.MailLoop: OTHERWISE,
    errors.Greylisted: OTHERWISE,
    errors.MessageRefused: OTHERWISE,
    errors.MessageTooLarge: OTHERWISE,
    errors.NoRecipients: OTHERWISE,
    errors.PartNotFound: OTHERWISE,
    errors.QuotaExceeded: OTHERWISE,
    errors.RecipientNotFound: OTHERWISE,
    errors.RelayDenied: OTHERWISE,
    errors.RequestIdRequired: OTHERWISE,
    errors.RequestIdReused: OTHERWISE,
    errors.ResultTooLarge: OTHERWISE,
    errors.SenderNotPermitted: OTHERWISE,
    errors.StoreBusy: OTHERWISE,
    errors.StoreFull: OTHERWISE,
    errors.SubmissionNotCancellable: OTHERWISE,
    errors.SubmissionNotFound: OTHERWISE,
    errors.TooComplex: OTHERWISE,
    errors.TooManyOperations: OTHERWISE,
    errors.TooManyRecipients: OTHERWISE,
    errors.TransportMessageNotFound: OTHERWISE,
    errors.UnknownOperation: OTHERWISE,
    errors.OperationReferenceFailed: OTHERWISE,
    errors.UploadNotFound: OTHERWISE,
    errors.UploadOffsetMismatch: OTHERWISE,
    errors.WeakPassword: OTHERWISE,
}
# Texts that replace the table's for errors whose metadata has these values.
TEXTS: refusals.Texts = {errors.InvalidArgument: ("{field}: {problem}",)}
REFUSALS = {refusal: bytes(negative(f"{refusal.value}, try again later", "SYS/TEMP")) for refusal in Refusal}


def response_to(error: errors.RestanteError) -> Response:
    """The response to a command that the core has refused."""
    text = refusals.text_of(error, TEXTS)
    return REPLIES.get(type(error), OTHERWISE) if text is None else negative(text, "SYS/PERM")


def ends_session(error: errors.RestanteError) -> bool:
    """Whether the POP3 session must end after `error`."""
    return isinstance(error, (errors.InvalidSession, errors.SessionExpired, errors.SessionRevoked, errors.LeaseLost))
