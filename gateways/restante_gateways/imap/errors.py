"""The IMAP status of each error reason of the core, one row for each (response codes RFC 5530, RFC 3501 7.1)."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

from restante import errors
from restante_gateways.core import refusals
from restante_gateways.imap.grammar.responses import NO, Status


class Refusal(Exception):
    """The gateway itself refuses a command with this status."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.text)
        self.status = status


SESSION_IS_OVER = "The login session has ended; log in again."  # text of a BYE

OTHERWISE = NO("The server cannot do this now; try again later.", b"UNAVAILABLE")  # also for reasons unknown here
_GONE = NO("The login session has ended; log in again.", b"EXPIRED")
_OURS = NO("Internal error; the server's log has the details.", b"SERVERBUG")

REPLIES: dict[type[errors.RestanteError], Status] = {
    errors.AuthenticationFailed: NO("Wrong name or password.", b"AUTHENTICATIONFAILED"),
    errors.InvalidSession: _GONE,
    errors.SessionExpired: _GONE,
    errors.SessionRevoked: _GONE,
    errors.ExchangeInvalid: NO("The authentication exchange took too long; begin again.", b"AUTHENTICATIONFAILED"),
    errors.MechanismNotSupported: NO("The mechanism is not supported.", b"CANNOT"),
    errors.TlsRequired: NO("Authentication needs TLS; use STARTTLS first.", b"PRIVACYREQUIRED"),
    errors.TooManyAttempts: NO("Too many failed logins; try again later.", b"UNAVAILABLE"),
    errors.PermissionDenied: NO("The account may not do this.", b"NOPERM"),
    errors.WeakPassword: NO("The password is too weak.", b"CANNOT"),
    errors.InvalidArgument: NO("An argument of this command is not allowed.", b"CANNOT"),
    errors.InvalidPageToken: _OURS,
    errors.RequestIdRequired: _OURS,
    errors.RequestIdReused: _OURS,
    errors.ResultTooLarge: NO("The response would be too large; ask about fewer messages.", b"LIMIT"),
    errors.TooComplex: NO("The command is too complex; split it.", b"LIMIT"),
    errors.LimitExceeded: NO("A limit of the mailbox is reached.", b"LIMIT"),
    errors.TooManyOperations: OTHERWISE,
    errors.ChangeConflict: NO("Another session made a change at the same time; try again.", b"INUSE"),
    errors.EpochChanged: NO("The store was restored from a backup; select the folder again.", b"UNAVAILABLE"),
    errors.CursorInvalid: _OURS,
    errors.AccountLimitReached: NO("The account has reached a limit over all its sessions; try again later.", b"LIMIT"),
    errors.MailboxNotFound: NO("The mailbox does not exist.", b"NONEXISTENT"),
    errors.FolderNotFound: NO("The folder does not exist.", b"NONEXISTENT"),
    errors.MessageNotFound: NO("Another session has removed the message.", b"EXPUNGEISSUED"),
    errors.PartNotFound: NO("The message has no such part.", b"NONEXISTENT"),
    errors.UploadNotFound: OTHERWISE,
    errors.UploadOffsetMismatch: _OURS,
    errors.FolderExists: NO("A folder of this name already exists.", b"ALREADYEXISTS"),
    errors.FolderNameInvalid: NO("The folder name is invalid.", b"CANNOT"),
    errors.FolderHasChildren: NO("The folder has subfolders; delete them first.", b"HASCHILDREN"),
    errors.FolderIsSpecial: NO(
        "A folder with a special use, such as Sent, cannot be deleted or moved in this way.", b"CANNOT"
    ),
    errors.FolderCycle: NO("A folder cannot be moved below itself.", b"CANNOT"),
    errors.QuotaExceeded: NO("The mailbox is full.", b"OVERQUOTA"),
    errors.StoreFull: NO("The server has too little free storage for mail.", b"OVERQUOTA"),
    errors.MessageTooLarge: NO("The message is too large.", b"TOOBIG"),
    errors.InvalidContent: NO("The content of the message is not acceptable.", b"CANNOT"),
    errors.MaildropInUse: NO("Another session has locked the mailbox.", b"INUSE"),
    errors.LeaseLost: OTHERWISE,
    errors.DeadlineExceeded: OTHERWISE,
    errors.Cancelled: OTHERWISE,
    errors.Draining: OTHERWISE,
    errors.StoreBusy: OTHERWISE,
    errors.CommitNotReached: OTHERWISE,
    errors.Internal: _OURS,
    errors.UnknownOperation: _OURS,
    errors.OperationReferenceFailed: _OURS,
    # No request of this gateway can fail with these reasons.
    errors.RecipientNotFound: _OURS,
    errors.RelayDenied: _OURS,
    errors.SenderNotPermitted: _OURS,
    errors.InvalidAddress: _OURS,
    errors.NoRecipients: _OURS,
    errors.TooManyRecipients: _OURS,
    errors.MailLoop: _OURS,
    errors.Greylisted: _OURS,
    errors.MessageRefused: _OURS,
    errors.SubmissionNotFound: _OURS,
    errors.SubmissionNotCancellable: _OURS,
    errors.AccountNotFound: _OURS,
    errors.DomainNotFound: _OURS,
    errors.DomainExists: _OURS,
    errors.DomainKeyExists: _OURS,
    errors.DomainKeyNotFound: _OURS,
    errors.DomainKeyState: _OURS,
    errors.ReportNotFound: _OURS,
    errors.DomainNotEmpty: _OURS,
    errors.AddressExists: _OURS,
    errors.AliasNotFound: _OURS,
    errors.TransportMessageNotFound: _OURS,
    errors.EntryNotFound: _OURS,
    errors.JobNotFound: _OURS,
    errors.BackupFailed: _OURS,
}
# Texts that replace the table's for errors whose metadata has these values.
TEXTS: refusals.Texts = {
    errors.InvalidArgument: ("{field}: {problem}",),
    errors.InvalidContent: ("The message is not acceptable: {problem}",),
    errors.FolderNameInvalid: ("The folder name {problem}.",),
    errors.WeakPassword: ("The password {problem}.",),
    errors.LimitExceeded: ("The mailbox may have at most {value} {limit}.",),
    errors.TooComplex: ("The command is too complex, with {value} of at most {limit} parts; split it.",),
    errors.MessageTooLarge: ("The message is larger than {limit_octets} octets.",),
}
TRY_CREATE = NO("The folder does not exist; create it first.", b"TRYCREATE")  # RFC 3501 7.1


@contextlib.contextmanager
def missing_target() -> Iterator[None]:
    """Turn the core's FolderNotFound about a target given by path into Refusal with TRYCREATE."""
    try:
        yield
    except errors.FolderNotFound as error:
        if error.metadata.get("folder_id"):  # another folder of the request
            raise
        raise Refusal(TRY_CREATE) from None


def status_of(error: errors.RestanteError) -> Status:
    """The status of a command that the core has refused."""
    status, text = REPLIES.get(type(error), OTHERWISE), refusals.text_of(error, TEXTS)
    return status if text is None else dataclasses.replace(status, text=text)


def is_temporary(error: errors.RestanteError) -> bool:
    """Whether the core is unreachable or busy, so that the same command may succeed later."""
    return status_of(error) is OTHERWISE


def ends_session(error: errors.RestanteError) -> bool:
    """Whether the session is over and the connection must close."""
    return isinstance(error, (errors.InvalidSession, errors.SessionExpired, errors.SessionRevoked))
