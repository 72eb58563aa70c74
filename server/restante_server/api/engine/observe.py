"""The log line and the metrics of each finished call."""

from __future__ import annotations

import time

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from restante_process.metrics import Durations
from restante_server.api.engine.caller import Caller

log = structlog.get_logger("restante.core")

BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class CallObserver(Collector):
    """Records every finished call: unary, operation or stream. `quiet` logs only calls that failed or took long."""

    def __init__(self, registry: CollectorRegistry, *, quiet: bool = False, slow_seconds: float = 1.0) -> None:
        self._quiet, self._slow_seconds = quiet, slow_seconds
        self._durations: dict[tuple[str, str], Durations] = {}
        registry.register(self)

    def finished(self, path: str, caller: Caller, outcome: str, began: float) -> None:
        """Record a call. `began` is a moment of time.perf_counter(); `outcome` is OK, CANCELLED or an ErrorReason."""
        seconds = time.perf_counter() - began
        durations = self._durations.get((path, outcome))
        if durations is None:
            durations = self._durations[path, outcome] = Durations(BUCKETS_SECONDS)
        durations.note(seconds)
        if self._quiet and outcome == "OK" and seconds < self._slow_seconds:
            return
        log.info(
            "call",
            method=path.rpartition(".")[2],
            actor=caller.actor,
            subject=caller.mailbox_id or None,
            gateway=caller.identity or None,
            client=caller.client_address or None,
            outcome=outcome,
            milliseconds=round(seconds * 1_000, 2),
        )

    def describe(self) -> tuple[CounterMetricFamily, HistogramMetricFamily]:
        """The metrics without values, for the registry."""
        return (
            CounterMetricFamily("restante_rpc", "Number of finished calls.", labels=["method", "outcome"]),
            HistogramMetricFamily("restante_rpc_duration_seconds", "Duration of finished calls.", labels=["method"]),
        )

    def collect(self) -> tuple[Metric, ...]:
        """The metrics, for the registry. May be called on any thread."""
        calls, seconds = self.describe()
        of_method: dict[str, Durations] = {}
        for (path, outcome), durations in list(self._durations.items()):
            name = path.rpartition(".")[2]
            calls.add_metric([name, outcome], sum(durations.counts))
            of_method.setdefault(name, Durations(BUCKETS_SECONDS)).add(durations)
        for name, durations in of_method.items():
            seconds.add_metric([name], durations.buckets(), durations.seconds)
        return calls, seconds
