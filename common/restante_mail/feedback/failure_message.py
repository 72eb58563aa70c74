"""The message that carries a failure report: multipart/report of three parts (RFC 5965 2, RFC 6591 2). *Pure.*"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from email.utils import format_datetime

from restante_mail.feedback import failure_fields
from restante_mail.feedback.errors import BadReport
from restante_mail.feedback.failure import FailureReport
from restante_mail.header.fields import header_end
from restante_mail.mime.decoders import decoded
from restante_mail.mime.parts import Part

__all__ = ["MAX_HEADER_OCTETS", "Letter", "build", "find", "is_report"]

MAX_HEADER_OCTETS = 32 << 10  # of the returned header of a report that is read
MAX_PARTS = 20  # of a report that is read
_RETURNED = frozenset("text/rfc822-headers message/rfc822 message/global-headers message/global".split())
_UNSAFE = re.compile(rb"[^\x09\x0a\x0d\x20-\x7e]+")


@dataclass(frozen=True, slots=True)
class Letter:
    """The report's own message."""

    author: str  # address
    to: str
    message_id: str  # with angle brackets
    boundary: str  # fresh: it must not occur in the report
    now: datetime


def build(report: FailureReport, letter: Letter) -> bytes:
    """The message, of 7-bit octets."""
    header = (
        f"From: <{letter.author}>",
        f"To: <{letter.to}>",
        f"Subject: DMARC failure report for {report.policy_domain}",
        f"Date: {format_datetime(letter.now)}",
        f"Message-ID: {letter.message_id}",
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        "Content-Type: multipart/report; report-type=feedback-report;",
        f'\tboundary="{letter.boundary}"',
    )
    parts = (
        ("text/plain; charset=us-ascii", _text(report).encode("ascii", "replace")),
        ("message/feedback-report", failure_fields.write(report)),
        ("text/rfc822-headers", report.header),
    )
    body = b"".join(
        f"--{letter.boundary}\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: 7bit\r\n\r\n".encode()
        + octets
        + b"\r\n"  # this CRLF belongs to the next delimiter (RFC 2046 5.1.1)
        for kind, octets in parts
    )
    return "\r\n".join(header).encode() + b"\r\n\r\n" + body + f"--{letter.boundary}--\r\n".encode()


def _text(report: FailureReport) -> str:
    when = f" on {format_datetime(report.arrived_at)}" if report.arrived_at is not None else ""
    lines = [
        f"This is a report about mail in the name of {report.policy_domain}, as its DMARC record asks for.",
        f"A message from {report.source_address or 'an unknown client'}{when} has failed authentication:",
        f"no aligned domain was authenticated by {' and '.join(report.failed).upper() or 'one of its signatures'}.",
    ]
    if report.incidents > 1:
        lines.append(f"It stands for {report.incidents} similar messages.")
    return "\r\n".join([*lines, "The header follows, without fields that name its recipients.", ""])


def is_report(tree: Part) -> bool:
    """Whether a message claims to be a report in the Abuse Reporting Format (RFC 5965 2)."""
    return tree.media_type == "multipart/report" and tree.parameters.get("report-type", "").lower() == "feedback-report"


def find(octets: bytes, tree: Part) -> FailureReport:
    """The report of a message for which `is_report` is true. Raises BadReport."""
    parts: Sequence[Part] = tree.children[:MAX_PARTS]
    machine = next((part for part in parts if part.media_type == "message/feedback-report"), None)
    if machine is None:
        raise BadReport("there is no part message/feedback-report")
    returned = next((part for part in parts if part.media_type in _RETURNED), None)
    report = failure_fields.read(_octets(octets, machine, failure_fields.MAX_OCTETS))
    return replace(report, header=_header(octets, returned) if returned is not None else b"")


def _header(octets: bytes, part: Part) -> bytes:
    """The header of the returned message, cut to its bound, in 7-bit octets without control characters."""
    found = _octets(octets, part, MAX_HEADER_OCTETS, cut=True)
    fields = _UNSAFE.sub(b"?", found[: header_end(found)]).strip(b"\r\n")
    return fields + b"\r\n" if fields else b""


def _octets(octets: bytes, part: Part, most: int, *, cut: bool = False) -> bytes:
    """The decoded body of a part. Raises BadReport if it has more than `most` octets, unless it is to be cut."""
    found = bytearray()
    for piece in decoded(octets, part):
        found += piece[: most + 1]
        if len(found) > most:
            if cut:
                break
            raise BadReport(f"the part {part.media_type} has more than {most} octets")
    return bytes(found[:most])
