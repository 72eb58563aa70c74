"""The failures of DMARC that one core process has seen since its last write, for failure reports (RFC 9991).

Similar failures are one entry with a number, so that a flood of forged mail is a few reports (RFC 9991 8.1). A core
that is killed loses those of the last seconds.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from restante_mail.authentication import authres
from restante_mail.authentication.dmarc.record import parse_record
from restante_mail.authentication.results import Checks
from restante_mail.feedback import failure
from restante_mail.feedback.failure import FailureReport
from restante_mail.feedback.redaction import shown_header
from restante_process.config import Config
from restante_server.db.engine import Database
from restante_server.db.operation import Write
from restante_server.transport.feedback import failure_incidents
from restante_server.transport.feedback.failure_incidents import Incident
from restante_server.transport.feedback.observe import Treatment

log = logging.getLogger(__name__)

MAX_HELD = 200  # different failures in memory; others are not reported
USER_AGENT = "Restante"
_DELIVERIES = {Treatment.NONE: "delivered", Treatment.QUARANTINED: "spam", Treatment.REFUSED: "reject"}


@dataclass
class FailureTally:
    """Collects failures. Belongs to the event loop."""

    hostname: str  # in Authentication-Results
    domains: frozenset[str] = frozenset()  # policy domains that may get reports; "*": all; none: nothing is collected
    own: frozenset[str] = (
        frozenset()
    )  # addresses that get or write reports, in lower case: mail to them is not reported
    left_out: int = 0  # failures above the bounds since the last write
    _held: dict[bytes, Incident] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Config) -> FailureTally:
        """The tally with the configured domains."""
        given = settings.reports
        own = (*given.addresses, settings.report_author)
        return cls(
            settings.transport.hostname,
            frozenset(name.lower() for name in given.failure_domains),
            frozenset(address.lower() for address in own),
        )

    def note(
        self,
        source: str,
        reverse_path: str,
        recipients: Sequence[str],
        header: bytes,
        checks: Checks,
        treatment: Treatment,
        now: int,
    ) -> None:
        """Collect the failure of a message, if its domain asks for a report and may get one. `now` in microseconds."""
        dmarc = checks.dmarc
        if not self.domains or dmarc is None or not dmarc.failures_to:
            return
        record = parse_record(dmarc.record.encode("ascii", "replace"))
        if not (
            failure.is_reported(dmarc.policy_domain, self.domains)
            and failure.wants_reports(record)
            and failure.is_wanted(record.failure_options, checks)
        ):
            return
        if failure.is_automatic(header, reverse_path) or self._is_own(reverse_path, *recipients):
            return
        report = _report(source, reverse_path, checks)
        digest = _digest(report, dmarc.author_domain)
        held = self._held.get(digest)
        if held is not None:  # a report shows the first of similar failures
            self._held[digest] = replace(held, count=held.count + 1)
        elif len(self._held) >= MAX_HELD:
            self.left_out += 1
        else:
            shown = replace(
                report,
                authentication_results=authres.value(self.hostname, checks, client_address=source),
                delivery=_DELIVERIES[treatment],
                arrived_at=datetime.fromtimestamp(now // 1_000_000, UTC),
                header=shown_header(header, recipients),
            )
            self._held[digest] = Incident(dmarc.failures_to, shown, 1)

    async def flush(self, db: Database) -> None:
        """Write the failures. They are kept if the write fails. Logs the number of those above the bounds."""
        held = self._held
        if not held:
            return
        self._held = {}

        try:
            rows = await asyncio.to_thread(failure_incidents.prepared, held)
            self.left_out += await db.write(Write(lambda tx: failure_incidents.add(tx, rows), rows=2 * len(held)))
            if self.left_out:
                log.warning("%d failures of DMARC are not reported: too many different ones wait", self.left_out)
                self.left_out = 0
        except BaseException:
            for digest, incident in held.items():
                later = self._held.get(digest)
                self._held[digest] = incident if later is None else replace(later, count=later.count + incident.count)
            raise

    def _is_own(self, *addresses: str) -> bool:
        return any(address.lower() in self.own for address in addresses)


def _report(source: str, reverse_path: str, checks: Checks) -> FailureReport:
    """What the checks say of the failure."""
    dmarc = checks.dmarc
    assert dmarc is not None
    failed = failure.failed_mechanisms(dmarc)
    signature = failure.failed_signature(checks)
    spf = failure.failed_spf(checks) if "spf" in failed else None
    return FailureReport(
        policy_domain=dmarc.policy_domain,
        failure="dmarc" if failed else "signature",  # RFC 9991 4, RFC 6591 3.2.1
        source_address=source,
        reverse_path=reverse_path,
        failed=failed,
        dkim_domain=signature.domain if signature is not None else "",
        dkim_identity=signature.identity if signature is not None else "",
        dkim_selector=signature.selector if signature is not None else "",
        spf_domain=spf.domain if spf is not None else "",
        spf_record=spf.record if spf is not None else "",
        user_agent=USER_AGENT,
    )


def _digest(report: FailureReport, author_domain: str) -> bytes:
    """The digest of what similar failures have in common: the domains, the client, and the reason."""
    common: Collection[str] = (
        report.policy_domain,
        author_domain,
        report.failure,
        *report.failed,
        report.source_address,
        report.dkim_domain,
        report.dkim_selector,
        report.spf_domain,
    )
    return hashlib.sha256(json.dumps(common).encode()).digest()
