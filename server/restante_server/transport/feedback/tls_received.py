"""TLS reports of other servers: the reader of received ones (RFC 8460 5.3).

A report counts only with a valid DKIM signature of its author's domain or a parent domain; others are ignored
(RFC 8460 3). A message without results of checks therefore has no report.
"""

from __future__ import annotations

from restante.v1.checks_pb2 import MessageChecks
from restante_mail.envelope.paths import BadPath, parse_path
from restante_mail.feedback import attachments, tls_json
from restante_mail.feedback.errors import BadReport
from restante_mail.feedback.tls_json import TlsDocument
from restante_mail.header.summary import read_header, summary
from restante_mail.limits import DEFAULT_LIMITS
from restante_mail.mime.decoders import decoded
from restante_mail.mime.parts import Part
from restante_server.transport import results
from restante_server.transport.feedback.archive import Kind, NewReport
from restante_server.transport.feedback.reader import Letter, Reader

SECOND = 1_000_000  # microseconds
MAX_PARTS = 5  # of one message, in which a report is sought
_TYPES = frozenset(("application/tlsrpt+gzip", "application/tlsrpt+json"))
_ENDINGS = (".json", ".json.gz")


def new_report(document: TlsDocument, octets: bytes) -> NewReport:
    """The report for the archive; `octets` are its JSON. It is filed under the domain of its first policy."""
    failed = sum(policy.failed_count for policy in document.policies)
    return NewReport(
        kind=Kind.TLS,
        organization=document.organization,
        external_id=document.report_id,
        policy_domain=document.policies[0].domain,
        begin_at=document.begin * SECOND,
        end_at=document.end * SECOND,
        total_count=failed + sum(policy.successful_count for policy in document.policies),
        failed_count=failed,
        address=document.contact,
        document=attachments.compress(octets),
    )


def _candidates(tree: Part) -> list[Part]:
    """The parts of a media type of TLS reports; in a multipart/report of TLS, also those with the name of one."""
    whole = tree.media_type == "multipart/report" and tree.parameters.get("report-type", "").lower() == "tlsrpt"
    leaves = (part for part in tree.walk() if not part.is_multipart and not part.is_message)
    chosen = [
        part for part in leaves if part.media_type in _TYPES or (whole and part.filename.lower().endswith(_ENDINGS))
    ]
    return chosen[:MAX_PARTS]


def _read(letter: Letter, part: Part) -> NewReport:
    if not _is_signed(letter):
        raise BadReport("it has no valid DKIM signature of its author's domain (RFC 8460 3)")
    octets = attachments.decompress(b"".join(decoded(letter.octets, part)), tls_json.MAX_OCTETS)
    return new_report(tls_json.read(octets), octets)


def _is_signed(letter: Letter) -> bool:
    author = _author_domain(letter)
    checks = results.results_of(MessageChecks.FromString(letter.checks))
    signers = [one.domain.lower() for one in checks.dkim if one.authenticates and one.domain]
    return bool(author) and any(author == signer or author.endswith(f".{signer}") for signer in signers)


def _author_domain(letter: Letter) -> str:
    """The domain of the only address in From, in A-labels; "" for any other From."""
    header = letter.octets[: min(letter.tree.body_start, DEFAULT_LIMITS.header_octets)]
    authors = summary(read_header(header, DEFAULT_LIMITS)).from_
    try:
        return parse_path(authors[0].address).ascii_domain if len(authors) == 1 else ""
    except BadPath:
        return ""


READER = Reader(Kind.TLS, "a TLS report", _candidates, _read)
