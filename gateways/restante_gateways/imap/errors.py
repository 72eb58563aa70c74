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


SESSION_IS_OVER = "Your session is over; please log in again."  # text of a BYE

OTHERWISE = NO("The server is busy; try again later.", b"UNAVAILABLE")  # also for reasons unknown here
_GONE = NO("The session has ended; log in again.", b"EXPIRED")
_OURS = NO("Internal error; it has been logged.", b"SERVERBUG")

REPLIES: dict[type[errors.RestanteError], Status] = {
    errors.AuthenticationFailed: NO("Wrong name or password.", b"AUTHENTICATIONFAILED"),
    errors.InvalidSession: _GONE,
    errors.SessionExpired: _GONE,
    errors.SessionRevoked: _GONE,
    errors.ExchangeInvalid: NO("The login took too long; begin again.", b"AUTHENTICATIONFAILED"),
    errors.MechanismNotSupported: NO("That mechanism is not offered.", b"CANNOT"),
    errors.TlsRequired: NO("TLS is required; begin it first.", b"PRIVACYREQUIRED"),
    errors.TooManyAttempts: NO("Too many failed logins; try again later.", b"UNAVAILABLE"),
    errors.PermissionDenied: NO("Permission denied.", b"NOPERM"),
    errors.WeakPassword: NO("That password is too weak.", b"CANNOT"),
    errors.InvalidArgument: NO("The server does not accept an argument of this command.", b"CANNOT"),
    errors.InvalidPageToken: _OURS,
    errors.RequestIdRequired: _OURS,
    errors.RequestIdReused: _OURS,
    errors.ResultTooLarge: NO("The answer would be too large; ask about fewer messages.", b"LIMIT"),
    errors.TooComplex: NO("That is too complex; ask in smaller steps.", b"LIMIT"),
    errors.LimitExceeded: NO("A limit of the mailbox is reached.", b"LIMIT"),
    errors.TooManyOperations: OTHERWISE,
    errors.ChangeConflict: NO("Another session changed it meanwhile; try again.", b"INUSE"),
    errors.EpochChanged: NO("The store was restored; select the folder again.", b"UNAVAILABLE"),
    errors.CursorInvalid: _OURS,
    errors.AccountLimitReached: NO("This account does too much at once; try again later.", b"LIMIT"),
    errors.MailboxNotFound: NO("No such mailbox.", b"NONEXISTENT"),
    errors.FolderNotFound: NO("No such folder.", b"NONEXISTENT"),
    errors.MessageNotFound: NO("Another session has removed the message.", b"EXPUNGEISSUED"),
    errors.PartNotFound: NO("No such part.", b"NONEXISTENT"),
    errors.UploadNotFound: OTHERWISE,
    errors.UploadOffsetMismatch: _OURS,
    errors.FolderExists: NO("A folder of that name exists already.", b"ALREADYEXISTS"),
    errors.FolderNameInvalid: NO("That cannot be the name of a folder.", b"CANNOT"),
    errors.FolderHasChildren: NO("The folder has folders below it; delete them first.", b"HASCHILDREN"),
    errors.FolderIsSpecial: NO("The folder has a role, such as Sent, and must stay.", b"CANNOT"),
    errors.FolderCycle: NO("A folder cannot go below itself.", b"CANNOT"),
    errors.QuotaExceeded: NO("The mailbox is full.", b"OVERQUOTA"),
    errors.StoreFull: NO("The server has no room left for mail.", b"OVERQUOTA"),
    errors.MessageTooLarge: NO("The message is too large.", b"TOOBIG"),
    errors.InvalidContent: NO("The message is refused.", b"CANNOT"),
    errors.MaildropInUse: NO("Another session has the mailbox locked.", b"INUSE"),
    errors.LeaseLost: OTHERWISE,
    errors.DeadlineExceeded: OTHERWISE,
    errors.Cancelled: OTHERWISE,
    errors.Draining: OTHERWISE,
    errors.StoreBusy: OTHERWISE,
    errors.CommitNotReached: OTHERWISE,
    errors.Internal: _OURS,
    errors.UnknownOperation: _OURS,
    # No request of this gateway can fail with these reasons.
    errors.RecipientNotFound: _OURS,
    errors.RelayDenied: _OURS,
    errors.SenderNotPermitted: _OURS,
    errors.InvalidAddress: _OURS,
    errors.NoRecipients: _OURS,
    errors.TooManyRecipients: _OURS,
    errors.MailLoop: _OURS,
    errors.SubmissionNotFound: _OURS,
    errors.SubmissionNotCancellable: _OURS,
    errors.AccountNotFound: _OURS,
    errors.DomainNotFound: _OURS,
    errors.DomainExists: _OURS,
    errors.DomainNotEmpty: _OURS,
    errors.AddressExists: _OURS,
    errors.AliasNotFound: _OURS,
    errors.TransportMessageNotFound: _OURS,
    errors.EntryNotFound: _OURS,
}
# Texts that replace the table's for errors whose metadata has these values.
TEXTS: refusals.Texts = {
    errors.InvalidArgument: ("{field}: {problem}",),
    errors.InvalidContent: ("The message is refused: {problem}",),
    errors.FolderNameInvalid: ("That cannot be the name of a folder: {problem}",),
    errors.WeakPassword: ("That password is too weak: {problem}",),
    errors.LimitExceeded: ("A limit of the mailbox is reached: {limit} {value}",),
    errors.TooComplex: ("That is too complex, ask in smaller steps: {limit} {value}",),
    errors.MessageTooLarge: ("The message is larger than {limit_octets} octets.",),
}
TRY_CREATE = NO("No such folder; create it first.", b"TRYCREATE")  # RFC 3501 7.1


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
