"""Metrics of the checks of inbound mail."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram

from restante_mail.authentication.results import Checks, DnsListResult, Result

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class CheckMetrics:
    """The metrics of the checks. One object for each process and registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._results = Counter(
            "restante_smtp_check_results",
            "Number of results of checks, by check and result.",
            ["check", "result"],
            registry=registry,
        )
        self._wait = Histogram(
            "restante_smtp_check_wait_seconds",
            "Time from the end of a message to the results of its checks.",
            buckets=SECONDS,
            registry=registry,
        )
        self._counters: dict[tuple[str, str], Counter] = {}  # of pairs that have occurred; finding one anew costs more

    def checked(self, checks: Checks, seconds: float) -> None:
        """Count the results for one message, which waited so long for them after its end."""
        self._wait.observe(seconds)
        for pair in _results(checks):
            counter = self._counters.get(pair)
            if counter is None:
                counter = self._counters[pair] = self._results.labels(*pair)
            counter.inc()


def _results(checks: Checks) -> Iterator[tuple[str, str]]:
    """(check, result) of all results; a DNS list has one of its own words."""
    for one in checks.spf:
        yield f"spf-{one.identity.value}", one.result.value
    for signature in checks.dkim:
        yield "dkim", signature.result.value
    if checks.dmarc is not None:
        yield "dmarc", checks.dmarc.result.value
    if checks.arc is not None:
        yield "arc", checks.arc.result.value
    if checks.reverse_dns is not None:
        yield "reverse-dns", checks.reverse_dns.result.value
    for listing in checks.dns_lists:
        yield f"list {listing.zone}", _listing(listing)


def _listing(one: DnsListResult) -> str:
    if one.problem:
        return Result.TEMPERROR.value
    return "listed" if one.listed else "not listed"
