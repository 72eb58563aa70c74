"""Reasons of mail transport: recipients, senders and submissions."""

from __future__ import annotations

from grpc import StatusCode

from restante.errors.base import RestanteError


class RecipientNotFound(RestanteError):
    reason = "RECIPIENT_NOT_FOUND"
    code = StatusCode.NOT_FOUND
    keys = ("address",)
    caused_by_client = True
    text = "The domain is ours but has no such recipient."


class RelayDenied(RestanteError):
    reason = "RELAY_DENIED"
    code = StatusCode.PERMISSION_DENIED
    keys = ("address",)
    caused_by_client = True
    text = "The recipient's domain is not ours, and the sender may not relay."


class SenderNotPermitted(RestanteError):
    reason = "SENDER_NOT_PERMITTED"
    code = StatusCode.PERMISSION_DENIED
    keys = ("address", "field", "problem")
    caused_by_client = True
    text = "The sender has no right to this address in the reverse-path, the fields of authors or their names."


class InvalidAddress(RestanteError):
    reason = "INVALID_ADDRESS"
    code = StatusCode.INVALID_ARGUMENT
    keys = ("address", "problem")
    caused_by_client = True
    text = "Not an address (RFC 5321 4.1.2)."


class NoRecipients(RestanteError):
    reason = "NO_RECIPIENTS"
    code = StatusCode.INVALID_ARGUMENT
    caused_by_client = True
    text = "A message needs a recipient."


class TooManyRecipients(RestanteError):
    reason = "TOO_MANY_RECIPIENTS"
    code = StatusCode.INVALID_ARGUMENT
    keys = ("limit",)
    caused_by_client = True
    text = "More recipients than one message may have."


class MailLoop(RestanteError):
    reason = "MAIL_LOOP"
    code = StatusCode.FAILED_PRECONDITION
    keys = ("hops", "problem")
    caused_by_client = True
    text = "The message has been round in a loop (RFC 5321 6.3)."


class SubmissionNotFound(RestanteError):
    reason = "SUBMISSION_NOT_FOUND"
    code = StatusCode.NOT_FOUND
    keys = ("submission_id",)
    caused_by_client = True
    text = "No such submission of this account."


class SubmissionNotCancellable(RestanteError):
    reason = "SUBMISSION_NOT_CANCELLABLE"
    code = StatusCode.FAILED_PRECONDITION
    caused_by_client = True
    text = "The submission has gone too far to be taken back."


class TransportMessageNotFound(RestanteError):
    reason = "TRANSPORT_MESSAGE_NOT_FOUND"
    code = StatusCode.NOT_FOUND
    keys = ("transport_id",)
    caused_by_client = True
    text = "The queue and the trace know no such message."
