"""The log line and the metrics of each finished call."""

from __future__ import annotations

import time

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram

from restante_server.api.engine.caller import Caller

log = structlog.get_logger("restante.core")

BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class CallObserver:
    """Records every finished call: unary, operation or stream. `quiet` logs only calls that failed or took long."""

    def __init__(self, registry: CollectorRegistry, *, quiet: bool = False, slow_seconds: float = 1.0) -> None:
        self._quiet, self._slow_seconds = quiet, slow_seconds
        self._calls = Counter("restante_rpc", "Number of finished calls.", ["method", "outcome"], registry=registry)
        self._seconds = Histogram(
            "restante_rpc_duration_seconds",
            "Duration of finished calls.",
            ["method"],
            buckets=BUCKETS_SECONDS,
            registry=registry,
        )
        self._bound: dict[tuple[str, str], tuple[Counter, Histogram]] = {}  # `labels()` costs more than the count

    def finished(self, path: str, caller: Caller, outcome: str, began: float) -> None:
        """Record a call. `began` is a moment of time.perf_counter(); `outcome` is OK, CANCELLED or an ErrorReason."""
        seconds = time.perf_counter() - began
        bound = self._bound.get((path, outcome))
        if bound is None:
            name = path.rpartition(".")[2]
            bound = self._bound[path, outcome] = (self._calls.labels(name, outcome), self._seconds.labels(name))
        bound[0].inc()
        bound[1].observe(seconds)
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
