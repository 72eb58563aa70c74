"""DMARC aggregate reports as kept reports: their rows in the archive, and the reader of received ones (RFC 9990)."""

from __future__ import annotations

from restante_mail.feedback import aggregate_xml, attachments
from restante_mail.feedback.aggregate import AggregateReport
from restante_mail.mime.decoders import decoded
from restante_mail.mime.parts import Part
from restante_server.transport.feedback.archive import Kind, NewReport
from restante_server.transport.feedback.reader import Letter, Reader

SECOND = 1_000_000  # microseconds
MAX_PARTS = 20  # of one message, in which a report is sought
_TYPES = frozenset(
    "application/gzip application/x-gzip application/zip application/x-zip-compressed application/xml text/xml".split()
)
_ENDINGS = (".xml.gz", ".xml", ".zip")


def new_report(report: AggregateReport, address: str) -> NewReport:
    """The report for the archive; it takes as long as the compression of its XML."""
    return NewReport(
        kind=Kind.DMARC_AGGREGATE,
        organization=report.organization,
        external_id=report.report_id,
        policy_domain=report.published.domain,
        begin_at=report.begin * SECOND,
        end_at=report.end * SECOND,
        total_count=sum(count for _, count in report.rows),
        failed_count=sum(count for row, count in report.rows if not (row.dkim_aligned or row.spf_aligned)),
        address=address,
        document=attachments.compress(aggregate_xml.write(report)),
    )


def _candidates(tree: Part) -> list[Part]:
    """The parts that may be a report, by media type or file name."""
    leaves = (part for part in tree.walk() if not part.is_multipart and not part.is_message)
    chosen = [part for part in leaves if part.media_type in _TYPES or part.filename.lower().endswith(_ENDINGS)]
    return chosen[:MAX_PARTS]


def _read(letter: Letter, part: Part) -> NewReport:
    report = aggregate_xml.read(attachments.decompress(b"".join(decoded(letter.octets, part))))
    return new_report(report, report.email)


READER = Reader(Kind.DMARC_AGGREGATE, "a DMARC aggregate report", _candidates, _read)
