"""The checks of one message: SPF from MAIL on, the others while its content comes and at its end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime

from restante_gateways.net.dns_answers import DnsAnswers, Questions
from restante_gateways.smtp.checks.metrics import CheckMetrics
from restante_gateways.smtp.checks.settings import CheckSettings
from restante_gateways.smtp.checks.work import Work
from restante_mail.authentication.arc.validate import ArcValidator
from restante_mail.authentication.dkim.content import Content, HeaderFields
from restante_mail.authentication.dkim.verify import Verifier
from restante_mail.authentication.dmarc.author import Author, author
from restante_mail.authentication.dmarc.destinations import failure_addresses, report_addresses
from restante_mail.authentication.dmarc.evaluation import dmarc
from restante_mail.authentication.dmarc.record import parse_record
from restante_mail.authentication.dns import Address, DnsFailure
from restante_mail.authentication.results import Checks, DmarcResult, DnsListResult, ReverseDnsResult, SpfResult
from restante_mail.authentication.spf.evaluation import Client, check_helo, check_mail_from
from restante_mail.envelope.paths import Path
from restante_mail.feedback.failure import is_wanted, wants_reports

MAX_EARLY_QUESTIONS = 20  # asked when the header is complete, so that their answers are there at the end

ClientResults = Callable[[], Awaitable[tuple[ReverseDnsResult | None, tuple[DnsListResult, ...]]]]


class MessageChecks:
    """The checks of one message. `feed` the content, then await `results`; `close` ends them in any case."""

    def __init__(
        self,
        address: Address,
        helo: str,
        reverse_path: Path | None,
        settings: CheckSettings,
        metrics: CheckMetrics,
        dns: DnsAnswers,
        now: Callable[[], datetime],
        client_results: ClientResults,
    ) -> None:
        self._settings, self._metrics, self._dns, self._now = settings, metrics, dns, now
        self._client_results = client_results
        self._client = Client(address, helo, settings.host_name, now())
        self._reverse_path = reverse_path
        self._spf = asyncio.create_task(self._check_spf()) if settings.spf else None
        self._author = Author(problem="the header is too long")
        self._early: list[asyncio.Task[None]] = []
        self._header_is_new = False
        self._work = Work()
        self._content = Content() if settings.of_content else None
        self._dkim = Verifier(self._content) if self._content is not None and settings.dkim else None
        self._arc = ArcValidator(self._content) if self._content is not None and settings.arc else None
        if self._content is not None:
            self._content.on_header(self._header_came)

    async def feed(self, octets: bytes) -> None:
        """The next octets of the content."""
        if self._content is None:
            return
        await self._work.fed(self._content, octets)
        if self._header_is_new:
            self._header_is_new = False
            self._ask_early()

    async def results(self) -> Checks:
        """All results, at most `seconds` after the end of the content. What the DNS has not answered is temperror."""
        dns, content, arrived = self._timed(), self._content, self._now()
        clock = asyncio.get_running_loop().time
        began = clock()
        compute = self._work.compute
        if content is not None:
            await compute(content.finish)
        dkim = await self._dkim.results(dns, arrived, compute) if self._dkim is not None else ()
        arc = await self._arc.result(dns, arrived, compute) if self._arc is not None else None
        spf = await self._spf if self._spf is not None else ()
        result = await dmarc(self._author, spf, dkim, dns) if self._settings.dmarc else None
        reverse_dns, dns_lists = await self._client_results()
        checks = Checks(spf, dkim, result, arc, reverse_dns, dns_lists)
        if result is not None and result.record:
            checks = replace(checks, dmarc=await self._with_destinations(result, checks, dns))
        self._metrics.checked(checks, clock() - began)
        return checks

    async def before_content(self, *, spf: bool, reverse_dns: bool) -> Checks:
        """Those of these results that are made. They need no content, and are there after at most `seconds`."""
        return Checks(
            spf=await self._spf if spf and self._spf is not None else (),
            reverse_dns=(await self._client_results())[0] if reverse_dns else None,
        )

    def close(self) -> None:
        """Give up what still runs."""
        for task in (self._spf, *self._early):
            if task is not None:
                task.cancel()

    def _timed(self) -> Questions:
        return self._dns.until(asyncio.get_running_loop().time() + self._settings.seconds)

    async def _check_spf(self) -> tuple[SpfResult, ...]:
        dns, path = self._timed(), self._reverse_path
        helo = await check_helo(self._client, dns)
        return (
            (helo,) if path is None else (helo, await check_mail_from(self._client, path.local_part, path.domain, dns))
        )

    def _header_came(self, header: HeaderFields) -> None:
        """Perhaps called on a thread."""
        self._author = author(b"".join(field.octets for field in header.named(b"from")))
        self._header_is_new = True

    async def _with_destinations(self, result: DmarcResult, checks: Checks, dns: Questions) -> DmarcResult:
        """The result with the addresses that may get reports; none while the DNS does not say that they agree."""
        record = parse_record(result.record.encode("ascii", "replace"))
        domain = result.policy_domain
        with contextlib.suppress(DnsFailure):
            result = replace(result, report_to=await report_addresses(record, domain, dns))
        if self._settings.reports_failures(domain) and wants_reports(record):
            with contextlib.suppress(DnsFailure):
                if is_wanted(record.failure_options, checks):
                    result = replace(result, failures_to=await failure_addresses(record, domain, dns))
        return result

    def _ask_early(self) -> None:
        """Ask the questions of the header now, so that the DNS answers while the body comes."""
        names = [f"_dmarc.{domain}" for domain in self._author.domains] if self._settings.dmarc else []
        names += self._dkim.key_names if self._dkim is not None else ()
        names += self._arc.key_names if self._arc is not None else ()
        dns = self._timed()
        for name in [name for name in names if not dns.knows_txt(name)][:MAX_EARLY_QUESTIONS]:
            self._early.append(asyncio.create_task(_ask(dns, name)))


async def _ask(dns: Questions, name: str) -> None:
    """Ask for the TXT records of a name. The answer is kept by the cache of the DNS."""
    with contextlib.suppress(DnsFailure):  # the check itself asks again
        await dns.txt(name)
