"""Reports of single failures of DMARC as kept reports, and the reader of received ones (RFC 9991).

The document of such a report has the form of a message: the fields of its part message/feedback-report, a blank line,
and the header of the message that has failed, as far as it is shown.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from restante_mail.feedback import attachments, failure_fields, failure_message
from restante_mail.feedback.failure import FailureReport
from restante_mail.header.fields import header_end
from restante_mail.header.summary import read_header, summary
from restante_mail.mime.parts import Part
from restante_server.transport.feedback.archive import Kind, NewReport
from restante_server.transport.feedback.reader import Letter, Reader

SECOND = 1_000_000  # microseconds
MAX_ADDRESS = 320  # characters of an author that are kept


def document(report: FailureReport) -> bytes:
    """The report as it is kept; see the module."""
    return failure_fields.write(report) + b"\r\n" + report.header


def parsed(octets: bytes) -> FailureReport:
    """The report of a document."""
    end = header_end(octets)
    return failure_fields.read(octets[:end], octets[end:])


def new_report(report: FailureReport, organization: str, address: str, external_id: str) -> NewReport:
    """The report for the archive. Its period is the moment when the latest of its messages came."""
    at = 0 if report.arrived_at is None else int(report.arrived_at.timestamp()) * SECOND
    return NewReport(
        kind=Kind.DMARC_FAILURE,
        organization=organization,
        external_id=external_id,
        policy_domain=report.policy_domain,
        begin_at=at,
        end_at=at,
        total_count=report.incidents,
        failed_count=report.incidents,
        address=address,
        document=attachments.compress(document(report)),
    )


def _candidates(tree: Part) -> list[Part]:
    return [tree] if failure_message.is_report(tree) else []


def _read(letter: Letter, part: Part) -> NewReport:
    """A received report. Its message's id tells it from others; without one, its content does."""
    report = failure_message.find(letter.octets, part)
    facts = summary(read_header(letter.octets[: header_end(letter.octets)]))
    author = facts.from_[0].address[:MAX_ADDRESS] if facts.from_ else ""
    content = hashlib.sha256(document(replace(report, incidents=1))).hexdigest()
    return new_report(report, author.rpartition("@")[2].lower(), author, facts.message_id[:MAX_ADDRESS] or content)


READER = Reader(Kind.DMARC_FAILURE, "a DMARC failure report", _candidates, _read)
