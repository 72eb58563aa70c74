"""The metrics registry of a process, with the metrics common to all processes."""

from __future__ import annotations

import platform
from bisect import bisect_left
from collections.abc import Sequence
from importlib.metadata import version
from itertools import accumulate

from prometheus_client import CollectorRegistry, Gauge, Info, ProcessCollector, disable_created_metrics

from restante_process.certificates import Expiry


def new_registry(process: str) -> CollectorRegistry:
    """A registry with `restante_build_info` and the `process_*` family (CPU, memory, file descriptors, start)."""
    disable_created_metrics()  # type: ignore[no-untyped-call] # a `_created` series beside each counter doubles them and says little
    registry = CollectorRegistry()
    build = Info(
        "restante_build",
        "Constant 1, with the versions of Restante and Python and the process as labels.",
        registry=registry,
    )
    build.info({"process": process, "version": version("restante"), "python": platform.python_version()})
    ProcessCollector(registry=registry)
    return registry


class CertificateMetrics:
    """The metric of the expiry of this process's certificates."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._expiry = Gauge(
            "restante_certificate_expiry_timestamp_seconds",
            "Expiry of a certificate in use, in seconds since 1970-01-01 UTC.",
            ["name"],
            registry=registry,
        )

    def show(self, certificates: list[Expiry]) -> None:
        """Replace the certificates in the metric."""
        self._expiry.clear()
        for each in certificates:
            self._expiry.labels(each.name).set(each.not_after.timestamp())


class Durations:
    """The durations of calls, counted in buckets for a HistogramMetricFamily. For one thread.

    Adding one to prometheus_client's own Histogram costs four times as much.
    """

    __slots__ = ("_bounds", "counts", "seconds")

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds` are the highest durations of each bucket but the last, in seconds, ascending."""
        self._bounds = bounds
        self.seconds = 0.0  # in all
        self.counts = [0] * (len(bounds) + 1)  # of each bucket alone; the last one has no bound

    def note(self, seconds: float) -> None:
        """Count a duration."""
        self.seconds += seconds
        self.counts[bisect_left(self._bounds, seconds)] += 1

    def add(self, other: Durations) -> None:
        """Add the durations of other calls, with the same bounds."""
        self.seconds += other.seconds
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]

    def buckets(self) -> list[tuple[str, float]]:
        """The buckets as prometheus_client has them: by their bounds, each with all durations up to it."""
        bounds = (*map(str, self._bounds), "+Inf")
        return list(zip(bounds, accumulate(self.counts), strict=True))
