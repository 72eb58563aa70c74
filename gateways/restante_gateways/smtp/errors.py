"""The SMTP reply to each error reason of the core, one row for each (enhanced codes RFC 3463)."""

from __future__ import annotations

import dataclasses

import structlog

from restante import errors
from restante_gateways.core import refusals
from restante_gateways.smtp import replies
from restante_gateways.smtp.replies import OTHERWISE, Reply

log = structlog.get_logger("smtp")

REPLIES: dict[type[errors.RestanteError], Reply] = {
    errors.AuthenticationFailed: replies.BAD_CREDENTIALS,  # RFC 4954 6
    errors.ExchangeInvalid: replies.AUTHENTICATION_TEMPORARY,
    errors.MechanismNotSupported: replies.UNKNOWN_MECHANISM,
    errors.TlsRequired: replies.NEED_TLS_TO_AUTHENTICATE,
    errors.TooManyAttempts: Reply(454, "4.7.0", "Too many failed logins, try again later"),
    errors.SessionExpired: replies.SESSION_ENDED,
    errors.SessionRevoked: replies.SESSION_ENDED,
    errors.QuotaExceeded: Reply(452, "4.2.2", "Mailbox full"),  # RFC 3463 3.3
    errors.AccountLimitReached: Reply(
        452, "4.3.1", "The account has reached a limit over all its sessions, try again later"
    ),
    errors.StoreFull: Reply(452, "4.3.1", "Insufficient system storage"),  # RFC 3463 3.4
    errors.MessageTooLarge: replies.MESSAGE_TOO_BIG,
    errors.InvalidContent: Reply(550, "5.6.0", "The message content is not acceptable"),  # RFC 3463 3.7
    errors.RecipientNotFound: Reply(550, "5.1.1", "No such recipient here"),  # RFC 3463 3.2
    errors.RelayDenied: Reply(550, "5.7.1", "Relaying denied"),
    errors.SenderNotPermitted: Reply(550, "5.7.1", "You may not send as this sender"),
    errors.InvalidAddress: Reply(553, "5.1.3", "Bad address syntax"),
    errors.NoRecipients: replies.NO_VALID_RECIPIENT,
    errors.TooManyRecipients: replies.TOO_MANY_RECIPIENTS,
    errors.MailLoop: Reply(554, "5.4.6", "Mail loop detected"),  # RFC 5321 6.3
    errors.Greylisted: Reply(450, "4.7.1", "This client is new here; try again later"),  # RFC 6647 5
    errors.MessageRefused: Reply(550, "5.7.1", "The message is refused because of the results of its checks"),
    # Internal or passing faults, and reasons that no SMTP client can cause, get a temporary reply.
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
    errors.InvalidArgument: OTHERWISE,
    errors.InvalidPageToken: OTHERWISE,
    errors.InvalidSession: OTHERWISE,
    errors.LeaseLost: OTHERWISE,
    errors.JobNotFound: OTHERWISE,
    errors.LimitExceeded: OTHERWISE,
    errors.MailboxNotFound: OTHERWISE,
    errors.MaildropInUse: OTHERWISE,
    errors.MessageNotFound: OTHERWISE,
    errors.PartNotFound: OTHERWISE,
    errors.PermissionDenied: OTHERWISE,
    errors.RequestIdRequired: OTHERWISE,
    errors.RequestIdReused: OTHERWISE,
    errors.ResultTooLarge: OTHERWISE,
    errors.StoreBusy: OTHERWISE,
    errors.SubmissionNotCancellable: OTHERWISE,
    errors.SubmissionNotFound: OTHERWISE,
    errors.TooComplex: OTHERWISE,
    errors.TooManyOperations: OTHERWISE,
    errors.TransportMessageNotFound: OTHERWISE,
    errors.UnknownOperation: OTHERWISE,
    errors.OperationReferenceFailed: OTHERWISE,
    errors.UploadNotFound: OTHERWISE,
    errors.UploadOffsetMismatch: OTHERWISE,
    errors.WeakPassword: OTHERWISE,
}

# Texts that replace the table's for errors whose metadata has these values.
TEXTS: refusals.Texts = {
    errors.InvalidContent: ("{problem}",),
    errors.InvalidAddress: ("Bad address {address}: it {problem}",),
    errors.InvalidArgument: ("{field}: {problem}",),
    errors.SenderNotPermitted: (
        "You may not send as {address} ({field}): {problem}",
        "You may not send as {address} ({field})",
    ),
    errors.RecipientNotFound: ("{problem}: {address}", "No such recipient here: {address}"),
    errors.RelayDenied: ("Relaying denied: {address}",),
    errors.MailLoop: ("Mail loop detected: {hops} Received fields", "Mail loop detected: {problem}"),
    errors.Greylisted: ("This client is new here; try again in {seconds} seconds",),
    errors.MessageRefused: ("{problem}",),
    errors.MessageTooLarge: ("Message size exceeds the maximum of {limit_octets} octets",),
}


def reply_to(error: BaseException) -> Reply:
    """The reply to a failure. An unknown error gets a temporary reply, without the error's text."""
    if not isinstance(error, errors.RestanteError):
        return OTHERWISE
    reply, text = REPLIES.get(type(error), OTHERWISE), refusals.text_of(error, TEXTS)
    return reply if text is None else dataclasses.replace(reply, text=text)


def failure_reply(error: Exception) -> Reply:
    """The reply to a failed command. Logs a bug with its traceback, and a temporary refusal with its detail."""
    reply = reply_to(error)
    if not isinstance(error, errors.RestanteError):
        log.error("command failed", error=type(error).__name__, exc_info=error)
    elif reply.code == OTHERWISE.code:
        log.warning("command failed", error=type(error).__name__, detail=error.detail)
    return reply
