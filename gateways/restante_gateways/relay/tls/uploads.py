"""Delivering TLS reports to web servers (RFC 8460 5.4).

The core keeps the reports and says which are due. The certificate of the web server is verified, although RFC 8460 3
permits to send a report without: it has addresses of relays and mail servers, and a sender of reports cannot tell a web
server with a wrong certificate from somebody in its place. The domain can give a mail address besides.
"""

from __future__ import annotations

import asyncio

import h11
import structlog

from restante import errors
from restante.v1 import methods
from restante.v1.tls_reports_pb2 import (
    LeaseTlsReportsRequest,
    ReadTlsReportRequest,
    SettleTlsReportRequest,
    TlsReportLease,
)
from restante_gateways.relay.outcomes import visible
from restante_gateways.relay.tls.https import Https, HttpsFailed, Request
from restante_gateways.relay.tls.policies import Core
from restante_mail.authentication.https_url import BadUrl, parse_https

log = structlog.get_logger("relay")

LOOK_SECONDS = 60.0  # between two looks for reports
AT_ONCE = 5  # deliveries
MAX_DETAIL_CHARACTERS = 500
MEDIA_TYPE = "application/tlsrpt+gzip"


class Uploads:
    """Delivers the reports that the core has for web servers."""

    def __init__(self, https: Https, core: Core, seconds: float = LOOK_SECONDS) -> None:
        """`seconds` are those between two looks."""
        self._https, self._core, self._seconds = https, core, seconds

    async def run(self) -> None:
        """Deliver for ever."""
        while True:
            try:
                while await self.deliver():
                    continue
            except errors.RestanteError as error:
                log.warning("TLS reports not delivered", reason=error.reason, detail=error.detail)
            await asyncio.sleep(self._seconds)

    async def deliver(self) -> int:
        """Deliver some of the reports that are due now; returns the number of attempts. Raises RestanteError."""
        request = LeaseTlsReportsRequest(max_leases=AT_ONCE)
        leases = (await self._core.execute(methods.LEASE_TLS_REPORTS, request, independent=True)).leases
        await asyncio.gather(*map(self._deliver, leases))
        return len(leases)

    async def _deliver(self, lease: TlsReportLease) -> None:
        try:
            delivered, detail = await self._attempt(lease, await self._document(lease))
            log.info("TLS report", domain=lease.policy_domain, url=lease.url, delivered=delivered, detail=detail)
            outcome = SettleTlsReportRequest(
                report_id=lease.report_id, lease_id=lease.lease_id, delivered=delivered, detail=detail
            )
            await self._core.execute(methods.SETTLE_TLS_REPORT, outcome, independent=True)
        except errors.LeaseLost:
            log.warning("TLS report leased for too long", domain=lease.policy_domain, url=lease.url)

    async def _document(self, lease: TlsReportLease) -> bytes:
        """The compressed report, in pieces as long as an answer of the core may be. Raises RestanteError."""
        document = bytearray()
        while len(document) < lease.size_octets:
            request = ReadTlsReportRequest(
                report_id=lease.report_id, lease_id=lease.lease_id, offset_octets=len(document)
            )
            piece = (await self._core.execute(methods.READ_TLS_REPORT, request, independent=True)).piece
            if not piece:
                break
            document += piece
        return bytes(document)

    async def _attempt(self, lease: TlsReportLease, document: bytes) -> tuple[bool, str]:
        """Whether the web server took the report, and the outcome in words."""
        status = 0

        def judge(response: h11.Response) -> int:
            nonlocal status
            status = response.status_code
            return 0  # the body says nothing (RFC 8460 5.4)

        try:
            url = parse_https(lease.url)
            request = Request(
                "POST", url.host, url.port, url.target, [("Content-Type", MEDIA_TYPE)], document, url.authority
            )
            await self._https.ask(request, judge)
        except BadUrl as bad:
            return False, f"the address {bad}"
        except HttpsFailed as failed:
            return False, visible(failed.reason)[:MAX_DETAIL_CHARACTERS]
        return 200 <= status < 300, f"HTTP status {status}"
