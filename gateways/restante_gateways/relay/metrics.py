"""Metrics of the relay."""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from restante_gateways.relay.outcomes import Outcome
from restante_mail.authentication.tls_result import TlsPolicy, TlsResult

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class RelayMetrics:
    """The relay's metrics. One object for each process and registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._recipients = Counter(
            "restante_relay_recipients", "Number of recipients attempted, by outcome.", ["outcome"], registry=registry
        )
        self._attempts = Histogram(
            "restante_relay_attempt_seconds",
            "Time from a lease to the outcomes of its recipients.",
            buckets=SECONDS,
            registry=registry,
        )
        self._opened = Counter(
            "restante_relay_connections_opened",
            "Number of connections opened to mail servers.",
            ["tls"],
            registry=registry,
        )
        self._tls_sessions = Counter(
            "restante_relay_tls_sessions",
            "Number of TLS sessions by the policy that applied, and result.",
            ["policy", "result"],
            registry=registry,
        )
        self._own_faults = Counter(
            "restante_relay_own_faults",
            "Number of attempts that failed for a reason which an administrator of this relay can mend.",
            registry=registry,
        )
        self._leases = Gauge("restante_relay_leases", "Number of leases held.", registry=registry)
        self._open = Gauge(
            "restante_relay_connections",
            "Number of open connections to mail servers, idle ones included.",
            registry=registry,
        )

    def watch(self, leases: Callable[[], float], connections: Callable[[], float]) -> None:
        """Set the functions that return the values of the gauges."""
        self._leases.set_function(leases)
        self._open.set_function(connections)

    def tls_session(self, policy: TlsPolicy, result: TlsResult | None) -> None:
        """Count a TLS session, or a failed attempt to get one."""
        self._tls_sessions.labels(policy.kind.value, "success" if result is None else result.value).inc()

    def connection_opened(self, *, secured: bool) -> None:
        """Count a connection after EHLO."""
        self._opened.labels("yes" if secured else "no").inc()

    def attempted(self, outcomes: Iterable[Outcome], seconds: float) -> dict[str, int]:
        """Count an attempt; return the number of recipients by outcome."""
        outcomes = tuple(outcomes)
        self._own_faults.inc(any(outcome.ours for outcome in outcomes))
        counts = Count(
            "relayed" if outcome.relayed else "failed" if outcome.final else "deferred" for outcome in outcomes
        )
        for name, count in counts.items():
            self._recipients.labels(name).inc(count)
        self._attempts.observe(seconds)
        return dict(counts)
