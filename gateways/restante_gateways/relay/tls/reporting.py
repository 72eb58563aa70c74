"""Reporting counted TLS sessions to the core, with the records of domains that want reports (RFC 8460)."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence

import structlog
from google.protobuf.timestamp_pb2 import Timestamp

from restante import errors
from restante.v1 import methods
from restante.v1.tls_pb2 import (
    ReportTlsSessionsRequest,
    TlsFailure,
    TlsPolicyKind,
    TlsResultType,
    TlsSessions,
)
from restante_gateways.net.resolver import LookupFailed, Resolver
from restante_gateways.relay.tls.policies import Core
from restante_gateways.relay.tls.sessions import Session, Sessions
from restante_mail.authentication.tls_report import report_record
from restante_mail.authentication.tls_result import TlsPolicy

log = structlog.get_logger("relay")

REPORT_SECONDS = 60.0  # between two reports; a relay that is killed loses the counts of so long
LAST_SECONDS = 5.0  # for the report of a process that ends
MAX_UNSENT = 20  # requests that the core has not taken; the earliest beyond that are dropped
AT_ONCE = 20  # records looked up together
SESSIONS_OF_REQUEST = 100
OCTETS_OF_REQUEST = 384 << 10  # an operation has at most 1 MiB, and one message may have as many again
FAILURES_OF_SESSIONS = 100
MAX_LINE_CHARACTERS = 1_000  # of a policy; a TLSA record with a whole certificate is longer, and is cut


class Reporter:
    """Reports the counts of this process."""

    def __init__(
        self,
        sessions: Sessions,
        resolver: Resolver,
        core: Core,
        seconds: float = REPORT_SECONDS,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`seconds` are those between two reports."""
        self._sessions, self._resolver, self._core, self._clock = sessions, resolver, core, clock
        self._seconds = seconds
        self._unsent: deque[ReportTlsSessionsRequest] = deque(maxlen=MAX_UNSENT)

    async def run(self) -> None:
        """Report for ever."""
        while True:
            await asyncio.sleep(self._seconds)
            await self.report()

    async def finish(self) -> None:
        """Report for the last time, within LAST_SECONDS."""
        try:
            async with asyncio.timeout(LAST_SECONDS):
                await self.report()
        except TimeoutError:
            log.warning("TLS sessions not reported", reason="no time is left")

    async def report(self) -> None:
        """Report all counts so far. What the core does not take now is sent again with the next report."""
        counts = self._sessions.taken()
        if counts:
            try:
                records = await self._records(sorted({kind.policy.domain for kind in counts}))
            except BaseException:  # the process ends: `finish` reports them
                self._sessions.put_back(counts)
                raise
            self._unsent.extend(requests(counts, records, self._clock()))
        while self._unsent:
            try:
                await self._core.execute(methods.REPORT_TLS_SESSIONS, self._unsent[0], independent=True)
            except errors.RestanteError as error:
                log.warning("TLS sessions not reported", reason=error.reason, detail=error.detail)
                if not error.caused_by_client:
                    return
            self._unsent.popleft()

    async def _records(self, domains: Sequence[str]) -> dict[str, str]:
        """The report records of the domains that have one."""
        found: dict[str, str] = {}
        for start in range(0, len(domains), AT_ONCE):
            some = domains[start : start + AT_ONCE]
            found |= dict(zip(some, await asyncio.gather(*map(self._record, some)), strict=True))
        return found

    async def _record(self, domain: str) -> str:
        try:
            return report_record(await self._resolver.txt(f"_smtp._tls.{domain}"))
        except LookupFailed:
            return ""  # it is looked up again with the next sessions


def requests(counts: Counter[Session], records: dict[str, str], now: float) -> Iterator[ReportTlsSessionsRequest]:
    """The requests that report these counts."""
    by_policy: dict[TlsPolicy, list[tuple[Session, int]]] = defaultdict(list)
    for session, count in counts.items():
        by_policy[session.policy].append((session, count))
    messages = (
        message for policy, some in by_policy.items() for message in _messages(policy, some, records[policy.domain])
    )
    counted_at = Timestamp(seconds=int(now))
    request, octets = ReportTlsSessionsRequest(), 0
    for message in messages:
        octets += message.ByteSize()
        if request.sessions and (octets > OCTETS_OF_REQUEST or len(request.sessions) == SESSIONS_OF_REQUEST):
            yield request
            request, octets = ReportTlsSessionsRequest(), message.ByteSize()
        if not request.sessions:
            request.request_id = secrets.token_bytes(16)
            request.counted_at.CopyFrom(counted_at)
        request.sessions.append(message)
    if request.sessions:
        yield request


def _messages(policy: TlsPolicy, counts: Sequence[tuple[Session, int]], record: str) -> Iterator[TlsSessions]:
    failures = [_failure(session, count) for session, count in counts if session.result is not None]
    successful = sum(count for session, count in counts if session.result is None)
    for start in range(0, max(len(failures), 1), FAILURES_OF_SESSIONS):
        yield TlsSessions(
            policy_domain=policy.domain,
            kind=TlsPolicyKind.Value(f"TLS_POLICY_KIND_{policy.kind.name}"),
            policy_lines=[line[:MAX_LINE_CHARACTERS] for line in policy.lines],
            mx_patterns=policy.patterns,
            successful_count=0 if start else successful,
            failures=failures[start : start + FAILURES_OF_SESSIONS],
            report_record=record,
        )


def _failure(session: Session, count: int) -> TlsFailure:
    assert session.result is not None
    return TlsFailure(
        result=TlsResultType.Value(f"TLS_RESULT_TYPE_{session.result.name}"),
        sending_address=session.sending_address,
        receiving_host=session.receiving_host,
        receiving_address=session.receiving_address,
        reason=session.reason,
        session_count=count,
    )
