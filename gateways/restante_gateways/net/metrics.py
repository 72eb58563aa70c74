"""Metrics of all gateways."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from restante_process.metrics import Durations

COMMAND_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)  # seconds


class GatewayMetrics(Collector):
    """The metrics of all gateways; `gateway` is the value of that label. One object for each process and registry."""

    def __init__(self, gateway: str, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._gateway = gateway
        self._connections = Gauge(
            "restante_gateway_connections", "Number of open connections.", ["gateway", "listener"], registry=registry
        )
        self._opened = Counter(
            "restante_gateway_connections_opened",
            "Number of connections served.",
            ["gateway", "listener"],
            registry=registry,
        )
        self._refused = Counter(
            "restante_gateway_connections_refused",
            "Number of connections refused, by reason.",
            ["gateway", "listener", "reason"],
            registry=registry,
        )
        self._durations: dict[tuple[str, str], Durations] = {}  # of commands, by name and outcome
        registry.register(self)

    def connection_opened(self, listener: str) -> None:
        """Count a connection that is now served."""
        self._connections.labels(self._gateway, listener).inc()
        self._opened.labels(self._gateway, listener).inc()

    def connection_closed(self, listener: str) -> None:
        """Count the end of a connection that `connection_opened` counted."""
        self._connections.labels(self._gateway, listener).dec()

    def connection_refused(self, listener: str, reason: str) -> None:
        """Count a refused connection; `reason` comes from a small fixed set."""
        self._refused.labels(self._gateway, listener, reason).inc()

    def command(self, command: str, outcome: str, seconds: float) -> None:
        """Count a finished command; both names come from small fixed sets, never from the client."""
        durations = self._durations.get((command, outcome))
        if durations is None:
            durations = self._durations[command, outcome] = Durations(COMMAND_BUCKETS)
        durations.note(seconds)

    def describe(self) -> tuple[HistogramMetricFamily]:
        """The metric of commands without values, for the registry."""
        text = "Time from a complete command to its response."
        labels = ["gateway", "command", "outcome"]
        return (HistogramMetricFamily("restante_gateway_command_seconds", text, labels=labels),)

    def collect(self) -> tuple[Metric]:
        """The metric of commands, for the registry. May be called on any thread."""
        (found,) = self.describe()
        for (command, outcome), durations in list(self._durations.items()):
            found.add_metric([self._gateway, command, outcome], durations.buckets(), durations.seconds)
        return (found,)
