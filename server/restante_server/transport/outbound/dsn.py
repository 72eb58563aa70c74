"""Delivery status notifications (RFC 3464, RFC 3461, RFC 6522). *Pure.* A report is a finished RFC 5322 message.

A report must pass through any server, because nobody learns that a report has failed. It is therefore 7-bit: each part
has a transfer encoding that its type permits, and a non-ASCII address has the ASCII form of RFC 6533 3. There are two
exceptions. A report to a non-ASCII address needs servers with SMTPUTF8, which all accept 8-bit content (RFC 6531 3.1);
it has the media types of RFC 6533. A whole returned message with 8-bit content stays unchanged, because message/rfc822
permits no encoding (RFC 2046 5.2.1); only reports that stay in this store return one. One with a header in UTF-8 is
message/global (RFC 6532 3.7).
"""

from __future__ import annotations

import binascii
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from enum import Enum

from restante_mail.envelope.parameters import decode_utf_8_address, encode_utf_8_address, is_utf_8
from restante_mail.envelope.xtext import decode_xtext

LINE = 76  # octets of a folded field's line


class Action(Enum):
    """The reported action on a recipient (RFC 3464 2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    EXPANDED = "expanded"


@dataclass(frozen=True, slots=True)
class Reported:
    """One recipient in a report."""

    final_recipient: str  # forward-path in this server's spelling
    original_recipient: str  # ORCPT as given (addr-type ";" xtext), empty when there was none
    action: Action
    status: str  # enhanced status code (RFC 3463)
    diagnostic: str = ""  # reply of the remote server, or this server's reason
    remote_host: str = ""  # server that gave the reply; empty: this server decided
    will_retry_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """The facts of a report. `returned` is the message or its header, canonical octets."""

    reporting_mta: str  # this server's host name
    postmaster: str  # address of the people who run it, in ASCII
    log_id: str  # the message's id in queue and trace
    to: str  # the reverse-path of the message
    envelope_id: str  # ENVID as given, xtext; empty when there was none
    arrived_at: datetime
    now: datetime
    message_id: str  # of the report, with angle brackets
    boundary: str  # fresh: must not occur in `returned`
    recipients: Sequence[Reported]
    returned: bytes
    returned_whole: bool  # `returned` is the whole message, whose 8-bit octets stay unencoded


TITLES = {
    Action.FAILED: "Undelivered mail returned to sender",
    Action.DELAYED: "Delayed mail: delivery attempts continue",
    Action.DELIVERED: "Delivered mail: your message has arrived",
    Action.RELAYED: "Relayed mail: your message was passed on",
    Action.EXPANDED: "Expanded mail: your message was passed on to several recipients",
}
SENTENCES = {
    Action.FAILED: "Your message could not be delivered to the recipients below.\r\nNo further attempt follows.",
    Action.DELAYED: "Your message has not been delivered to the recipients below yet. You need not send it\r\n"
    "again: delivery attempts continue.",
    Action.DELIVERED: "Your message was delivered to the recipients below.",
    Action.RELAYED: "Your message was passed on for the recipients below. The next servers send no reports\r\n"
    "of delivery.",
    Action.EXPANDED: "Your message was passed on to the members of the recipients below.",
}
_UNSAFE = re.compile(r"[\x00-\x1f\x7f]+")


def build(report: Report) -> bytes:
    """The report: multipart/report with a readable text, the machine-readable status, and the message or its header."""
    action = report.recipients[0].action
    parts = [_encoded_part("text/plain; charset=utf-8", _text(report).encode()), _machine(report), _returned(report)]
    body_is_8bit = not all(part.isascii() for part in parts)
    header = [
        f"From: Mail Delivery System <{report.postmaster}>",  # RFC 3464 2: a reply must reach somebody
        f"To: <{report.to}>",
        f"Subject: {TITLES[action]}",
        f"Date: {format_datetime(report.now)}",
        f"Message-ID: {report.message_id}",
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        "Content-Type: multipart/report; report-type=delivery-status;",
        f'\tboundary="{report.boundary}"',
        *(["Content-Transfer-Encoding: 8bit"] if body_is_8bit else []),
    ]
    delimiter = f"--{report.boundary}\r\n".encode()
    body = b"".join(delimiter + part for part in parts) + f"--{report.boundary}--\r\n".encode()
    return "\r\n".join(header).encode() + b"\r\n\r\n" + body


def _part(media_type: str, octets: bytes, encoding: str) -> bytes:
    fields = f"Content-Type: {media_type}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return fields.encode() + octets + b"\r\n"  # this CRLF belongs to the next delimiter (RFC 2046 5.1.1)


def _encoded_part(media_type: str, octets: bytes) -> bytes:
    """A 7-bit part of a media type that permits any transfer encoding: quoted-printable unless it is ASCII."""
    if octets.isascii():
        return _part(media_type, octets, "7bit")
    return _part(media_type, binascii.b2a_qp(octets, istext=True), "quoted-printable")


def _machine(report: Report) -> bytes:
    status = _status(report)
    if report.to.isascii():
        return _part("message/delivery-status", status.encode("ascii", "replace"), "7bit")
    return _part("message/global-delivery-status", status.encode(), "8bit")  # RFC 6533 4


def _returned(report: Report) -> bytes:
    """The returned message or header (RFC 6522 3, 4), or one with a header in UTF-8 (RFC 6533 6)."""
    if report.returned_whole:
        header = report.returned.partition(b"\r\n\r\n")[0]
        media_type = "message/global" if _has_utf_8(header) else "message/rfc822"
        return _part(media_type, report.returned, "7bit" if report.returned.isascii() else "8bit")
    media_type = "message/global-headers" if _has_utf_8(report.returned) else "text/rfc822-headers"
    return _encoded_part(media_type, report.returned)


def _has_utf_8(header: bytes) -> bool:
    """Whether a header is UTF-8 beyond ASCII. Octets of an unknown charset, as old programs send them, are not."""
    try:
        return not header.decode().isascii()
    except UnicodeDecodeError:
        return False


def _text(report: Report) -> str:
    action = report.recipients[0].action
    lines = [f"This is the mail system at {report.reporting_mta}.", "", *SENTENCES[action].split("\r\n"), ""]
    for item in report.recipients:
        said = f"{clean(item.remote_host)} said: " if item.remote_host else ""
        reason = clean(item.diagnostic)
        told = f"<{clean(item.final_recipient)}>: {item.status}" + (f" {said}{reason}" if reason else "")
        lines += textwrap.wrap(told, LINE, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
        if item.will_retry_until is not None:
            lines.append(f"    attempts continue until {format_datetime(item.will_retry_until)}")
    return "\r\n".join(lines) + "\r\n"


def _status(report: Report) -> str:
    blocks = [
        [
            *([f"Original-Envelope-Id: {clean(decode_xtext(report.envelope_id))}"] if report.envelope_id else []),
            f"Reporting-MTA: dns; {report.reporting_mta}",
            f"Arrival-Date: {format_datetime(report.arrived_at)}",
        ]
    ]
    in_utf8 = not report.to.isascii()
    for item in report.recipients:
        block = []
        if item.original_recipient:
            block.append(f"Original-Recipient: {_original(item.original_recipient, in_utf8=in_utf8)}")
        block += [
            f"Final-Recipient: {_typed('rfc822', clean(item.final_recipient), in_utf8=in_utf8)}",
            f"Action: {item.action.value}",
            f"Status: {item.status}",
        ]
        if item.remote_host:
            block.append(f"Remote-MTA: dns; {clean(item.remote_host)}")
        if item.diagnostic:
            kind = "smtp" if item.remote_host else "x-restante"
            block.append(_fold(f"Diagnostic-Code: {kind}; {clean(item.diagnostic)}"))
        block.append(f"Final-Log-ID: {report.log_id}")
        if item.will_retry_until is not None:
            block.append(f"Will-Retry-Until: {format_datetime(item.will_retry_until)}")
        blocks.append(block)
    return "\r\n\r\n".join("\r\n".join(block) for block in blocks) + "\r\n"


def clean(text: str) -> str:
    """Text from a remote party without control characters, so that it stays within its line."""
    return _UNSAFE.sub(" ", text).strip()


def _original(value: str, *, in_utf8: bool) -> str:
    """ORCPT as given, for a report: the sender's own spelling of the address (RFC 3464 2.3.1, RFC 6533 3)."""
    kind, _, address = value.partition(";")
    if is_utf_8(kind):  # which is no xtext: a "+" is a "+"
        return f"utf-8; {clean(decode_utf_8_address(address) if in_utf8 else address)}"
    return _typed(kind, clean(decode_xtext(address)), in_utf8=in_utf8)


def _typed(kind: str, address: str, *, in_utf8: bool) -> str:
    """An address with its type. A non-ASCII one is UTF-8, or has the ASCII form of RFC 6533 3 (utf-8-addr-xtext)."""
    if address.isascii():
        return f"{kind}; {address}"
    return f"utf-8; {address if in_utf8 else encode_utf_8_address(address)}"


def _fold(field: str) -> str:
    lines, line = [], ""
    for word in field.split(" "):
        if line and len(line) + 1 + len(word) > LINE:
            lines.append(line)
            line = " " + word
        else:
            line = f"{line} {word}" if line else word
    return "\r\n".join([*lines, line])
