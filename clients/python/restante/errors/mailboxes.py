"""Reasons of mailboxes, folders, messages and contents."""

from __future__ import annotations

from grpc import StatusCode

from restante.errors.base import RestanteError


class MailboxNotFound(RestanteError):
    reason = "MAILBOX_NOT_FOUND"
    code = StatusCode.NOT_FOUND
    keys = ("mailbox_id",)
    caused_by_client = True
    text = "The mailbox does not exist, or the caller has no right to know of it."


class FolderNotFound(RestanteError):
    reason = "FOLDER_NOT_FOUND"
    code = StatusCode.NOT_FOUND
    keys = ("folder_id",)
    caused_by_client = True
    text = "The folder does not exist."


class MessageNotFound(RestanteError):
    reason = "MESSAGE_NOT_FOUND"
    code = StatusCode.NOT_FOUND
    keys = ("message_id",)
    caused_by_client = True
    text = "The message does not exist."


class PartNotFound(RestanteError):
    reason = "PART_NOT_FOUND"
    code = StatusCode.NOT_FOUND
    keys = ("part",)
    caused_by_client = True
    text = "The message has no such part."


class UploadNotFound(RestanteError):
    reason = "UPLOAD_NOT_FOUND"
    code = StatusCode.NOT_FOUND
    caused_by_client = True
    text = "The upload does not exist or has lapsed."


class UploadOffsetMismatch(RestanteError):
    reason = "UPLOAD_OFFSET_MISMATCH"
    code = StatusCode.OUT_OF_RANGE
    keys = ("size_octets",)
    caused_by_client = True
    text = "The chunk does not begin at the end of the octets that the server has."


class FolderExists(RestanteError):
    reason = "FOLDER_EXISTS"
    code = StatusCode.ALREADY_EXISTS
    keys = ("folder_id",)
    caused_by_client = True
    text = "The parent folder already has a folder of this name."


class FolderNameInvalid(RestanteError):
    reason = "FOLDER_NAME_INVALID"
    code = StatusCode.INVALID_ARGUMENT
    keys = ("problem",)
    caused_by_client = True
    text = "The folder name is empty, too long, or has characters that are not allowed."


class FolderHasChildren(RestanteError):
    reason = "FOLDER_HAS_CHILDREN"
    code = StatusCode.FAILED_PRECONDITION
    keys = ("folder_id",)
    caused_by_client = True
    text = "The folder has subfolders; delete or move them first."


class FolderIsSpecial(RestanteError):
    reason = "FOLDER_IS_SPECIAL"
    code = StatusCode.FAILED_PRECONDITION
    keys = ("role",)
    caused_by_client = True
    text = "A folder with a role, such as the Inbox, cannot be deleted or moved in this way."


class FolderCycle(RestanteError):
    reason = "FOLDER_CYCLE"
    code = StatusCode.FAILED_PRECONDITION
    caused_by_client = True
    text = "A folder cannot be moved below itself."


class QuotaExceeded(RestanteError):
    reason = "QUOTA_EXCEEDED"
    code = StatusCode.RESOURCE_EXHAUSTED
    keys = ("limit_octets", "used_octets")
    caused_by_client = True
    text = "The mailbox is full."


class StoreFull(RestanteError):
    reason = "STORE_FULL"
    code = StatusCode.RESOURCE_EXHAUSTED
    text = "The server has too little free storage to accept mail."


class MessageTooLarge(RestanteError):
    reason = "MESSAGE_TOO_LARGE"
    code = StatusCode.INVALID_ARGUMENT
    keys = ("limit_octets",)
    caused_by_client = True
    text = "The message is larger than max_message_octets."


class InvalidContent(RestanteError):
    reason = "INVALID_CONTENT"
    code = StatusCode.INVALID_ARGUMENT
    keys = ("problem",)
    caused_by_client = True
    text = "The message content is not acceptable."


class MaildropInUse(RestanteError):
    reason = "MAILDROP_IN_USE"
    code = StatusCode.FAILED_PRECONDITION
    caused_by_client = True
    text = "Another session has locked the maildrop."


class LeaseLost(RestanteError):
    reason = "LEASE_LOST"
    code = StatusCode.FAILED_PRECONDITION
    caused_by_client = True
    text = "The lease has lapsed or another session has it now."
