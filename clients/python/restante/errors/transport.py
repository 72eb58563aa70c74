"""Reasons of mail transport: recipients, senders and submissions."""

from __future__ import annotations

from grpc import StatusCode

from restante.errors.base import RestanteError


class RecipientNotFound(RestanteError):
    reason = "RECIPIENT_NOT_FOUND"
    code = StatusCode.NOT_FOUND
    keys = ("address", "problem")
    caused_by_client = True
    text = "The local domain has no such recipient."


class RelayDenied(RestanteError):
    reason = "RELAY_DENIED"
    code = StatusCode.PERMISSION_DENIED
    keys = ("address",)
    caused_by_client = True
    text = "The recipient's domain is not local, and the sender may not relay."


class SenderNotPermitted(RestanteError):
    reason = "SENDER_NOT_PERMITTED"
    code = StatusCode.PERMISSION_DENIED
    keys = ("address", "field", "problem")
    caused_by_client = True
    text = "The account has no right to send as this address."


class InvalidAddress(RestanteError):
    reason = "INVALID_ADDRESS"
    code = StatusCode.INVALID_ARGUMENT
    keys = ("address", "problem")
    caused_by_client = True
    text = "The address is not valid (RFC 5321 4.1.2)."


class NoRecipients(RestanteError):
    reason = "NO_RECIPIENTS"
    code = StatusCode.INVALID_ARGUMENT
    caused_by_client = True
    text = "The message has no recipient."


class TooManyRecipients(RestanteError):
    reason = "TOO_MANY_RECIPIENTS"
    code = StatusCode.INVALID_ARGUMENT
    keys = ("limit",)
    caused_by_client = True
    text = "The message has more recipients than allowed."


class MailLoop(RestanteError):
    reason = "MAIL_LOOP"
    code = StatusCode.FAILED_PRECONDITION
    keys = ("hops", "problem")
    caused_by_client = True
    text = "The message is in a mail loop (RFC 5321 6.3)."


class SubmissionNotFound(RestanteError):
    reason = "SUBMISSION_NOT_FOUND"
    code = StatusCode.NOT_FOUND
    keys = ("submission_id",)
    caused_by_client = True
    text = "The account has no such submission."


class SubmissionNotCancellable(RestanteError):
    reason = "SUBMISSION_NOT_CANCELLABLE"
    code = StatusCode.FAILED_PRECONDITION
    caused_by_client = True
    text = "No recipient of the submission can be cancelled any more."


class MessageRefused(RestanteError):
    reason = "MESSAGE_REFUSED"
    code = StatusCode.PERMISSION_DENIED
    keys = ("check", "domain", "problem")
    text = "The recipients' domains refuse the message because of the results of its checks."


class Greylisted(RestanteError):
    reason = "GREYLISTED"
    code = StatusCode.UNAVAILABLE
    keys = ("seconds",)
    text = "Mail of a client that is new here is deferred once."


class TransportMessageNotFound(RestanteError):
    reason = "TRANSPORT_MESSAGE_NOT_FOUND"
    code = StatusCode.NOT_FOUND
    keys = ("transport_id",)
    caused_by_client = True
    text = "Neither the queue nor the trace has such a message."


class ReportNotFound(RestanteError):
    reason = "REPORT_NOT_FOUND"
    code = StatusCode.NOT_FOUND
    keys = ("report_id",)
    caused_by_client = True
    text = "There is no such report."
