"""Delivery status notifications (RFC 3464, RFC 3461, RFC 6522). *Pure.* A report is a finished RFC 5322 message."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from enum import Enum

from restante_mail.envelope.xtext import decode_xtext

LINE = 76  # octets of a folded field's line


class Action(Enum):
    """What became of a recipient (RFC 3464 2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    EXPANDED = "expanded"


@dataclass(frozen=True, slots=True)
class Reported:
    """One recipient in a report."""

    final_recipient: str  # forward-path as we had it
    original_recipient: str  # ORCPT as given (addr-type ";" xtext), empty when there was none
    action: Action
    status: str  # enhanced status code (RFC 3463)
    diagnostic: str = ""  # what the other server or we said
    remote_host: str = ""  # who said it; empty: we did
    will_retry_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What a report is made from. `returned` is the message or its header, canonical octets."""

    reporting_mta: str  # our host name
    to: str  # the reverse-path of the message
    envelope_id: str  # ENVID as given, xtext; empty when there was none
    arrived_at: datetime
    now: datetime
    message_id: str  # of the report, with angle brackets
    boundary: str  # fresh: must not occur in `returned`
    recipients: Sequence[Reported]
    returned: bytes
    returned_whole: bool
    subject: str = ""  # of the message, raw


TITLES = {
    Action.FAILED: "Undelivered mail: returned to sender",
    Action.DELAYED: "Delayed mail: still being tried",
    Action.DELIVERED: "Delivered: your mail has arrived",
    Action.RELAYED: "Relayed: your mail has been passed on",
    Action.EXPANDED: "Expanded: your mail has been passed to several recipients",
}
SENTENCES = {
    Action.FAILED: "Your message could not be delivered to the recipients below. It will not be tried again.",
    Action.DELAYED: "Your message has not been delivered to the recipients below yet. You need not send it\r\n"
    "again: delivery is still being tried.",
    Action.DELIVERED: "Your message was delivered to the recipients below.",
    Action.RELAYED: "Your message was passed on to a server that does not report on delivery.",
    Action.EXPANDED: "Your message was passed on to the members behind the recipients below.",
}
_UNSAFE = re.compile(r"[\x00-\x1f\x7f]+")


def build(report: Report) -> bytes:
    """The report: multipart/report with a text for people, the facts for programs, and the message or its header."""
    action = report.recipients[0].action
    international = any(not item.final_recipient.isascii() for item in report.recipients) or not report.to.isascii()
    kind = "global-delivery-status" if international else "delivery-status"
    body_is_8bit = any(octet > 0x7F for octet in report.returned)
    header = [
        f"From: Mail Delivery System <MAILER-DAEMON@{report.reporting_mta}>",
        f"To: <{report.to}>",
        f"Subject: {TITLES[action]}",
        f"Date: {format_datetime(report.now)}",
        f"Message-ID: {report.message_id}",
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        "Content-Type: multipart/report; report-type=delivery-status;",
        f'\tboundary="{report.boundary}"',
        *(["Content-Transfer-Encoding: 8bit"] if body_is_8bit or international else []),
    ]
    parts = [
        _part("text/plain; charset=utf-8", _text(report), "8bit" if international else "7bit"),
        _part(f"message/{kind}", _status(report, international), "8bit" if international else "7bit"),
        _returned(report, body_is_8bit),
    ]
    delimiter = f"--{report.boundary}\r\n".encode()
    body = b"".join(delimiter + part for part in parts) + f"--{report.boundary}--\r\n".encode()
    return "\r\n".join(header).encode() + b"\r\n\r\n" + body


def _part(media_type: str, text: str, encoding: str) -> bytes:
    fields = f"Content-Type: {media_type}\r\nContent-Transfer-Encoding: {encoding}\r\n"
    octets = text.encode("ascii", "replace") if encoding == "7bit" else text.encode()
    return fields.encode() + b"\r\n" + octets + b"\r\n"


def _returned(report: Report, body_is_8bit: bool) -> bytes:
    kind = "message/rfc822" if report.returned_whole else "text/rfc822-headers"
    encoding = "Content-Transfer-Encoding: 8bit\r\n" if body_is_8bit else ""
    # The CRLF before the next delimiter belongs to that (RFC 2046 5.1.1).
    return f"Content-Type: {kind}\r\n{encoding}\r\n".encode() + report.returned + b"\r\n"


def _text(report: Report) -> str:
    action = report.recipients[0].action
    lines = [f"This is the mail system at {report.reporting_mta}.", "", *SENTENCES[action].split("\r\n"), ""]
    for item in report.recipients:
        said = f"{clean(item.remote_host)} said: " if item.remote_host else ""
        reason = clean(item.diagnostic)
        lines.append(f"<{clean(item.final_recipient)}>: {item.status}" + (f" {said}{reason}" if reason else ""))
        if item.will_retry_until is not None:
            lines.append(f"    tried until {format_datetime(item.will_retry_until)}")
    return "\r\n".join(lines) + "\r\n"


def _status(report: Report, international: bool) -> str:
    blocks = [
        [
            *([f"Original-Envelope-Id: {clean(decode_xtext(report.envelope_id))}"] if report.envelope_id else []),
            f"Reporting-MTA: dns; {report.reporting_mta}",
            f"Arrival-Date: {format_datetime(report.arrived_at)}",
        ]
    ]
    address_type = "utf-8" if international else "rfc822"
    for item in report.recipients:
        block = []
        if item.original_recipient:
            kind, _, address = item.original_recipient.partition(";")
            block.append(f"Original-Recipient: {kind}; {clean(decode_xtext(address))}")
        block += [
            f"Final-Recipient: {address_type}; {clean(item.final_recipient)}",
            f"Action: {item.action.value}",
            f"Status: {item.status}",
        ]
        if item.remote_host:
            block.append(f"Remote-MTA: dns; {clean(item.remote_host)}")
        if item.diagnostic:
            kind = "smtp" if item.remote_host else "x-restante"
            block.append(_fold(f"Diagnostic-Code: {kind}; {clean(item.diagnostic)}"))
        if item.will_retry_until is not None:
            block.append(f"Will-Retry-Until: {format_datetime(item.will_retry_until)}")
        blocks.append(block)
    return "\r\n\r\n".join("\r\n".join(block) for block in blocks) + "\r\n"


def clean(text: str) -> str:
    """Text from elsewhere without control characters, so that it stays within its line."""
    return _UNSAFE.sub(" ", text).strip()


def _fold(field: str) -> str:
    lines, line = [], ""
    for word in field.split(" "):
        if line and len(line) + 1 + len(word) > LINE:
            lines.append(line)
            line = " " + word
        else:
            line = f"{line} {word}" if line else word
    return "\r\n".join([*lines, line])
