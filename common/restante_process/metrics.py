"""The metrics registry of a process, with the metrics common to all processes."""

from __future__ import annotations

import platform
from importlib.metadata import version

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
