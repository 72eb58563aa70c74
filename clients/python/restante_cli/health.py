"""The supervisor's HTTP pages: readiness of the children of `restante up`, and the metrics of all of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from http import HTTPStatus

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from restante_cli.supervisor import Supervisor
from restante_process.config import Config
from restante_process.http import HttpServer, Page, Pages, fetch

ANSWER_SECONDS = 5.0
POLL_SECONDS = 0.05


async def problem(host: str, port: int) -> str:
    """The reason why a process cannot serve clients now; empty when it can."""
    try:
        page = await fetch(host, port, "/readyz", seconds=ANSWER_SECONDS)
    except TimeoutError:
        return f"no answer within {ANSWER_SECONDS:.0f} s"
    except OSError as error:
        return f"port {port} of {host}: {error.strerror or error}"
    if page.status == HTTPStatus.OK:
        return ""
    return "; ".join(page.body.decode("utf-8", "replace").split("\n")).strip("; ")


async def ready(host: str, *ports: int) -> bool:
    """Whether one of the processes with these ports can serve clients now."""
    return not all(await asyncio.gather(*(problem(host, port) for port in ports)))


async def wait_until_ready(host: str, port: int, seconds: float, *ended: asyncio.Event) -> str:
    """Wait until a process is ready, for at most `seconds`, or until one of `ended` is set.

    Returns the last reason against the process, or "".
    """
    found = "no probe has run yet"
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not any(event.is_set() for event in ended):
                found = await problem(host, port)
                if not found:
                    break
                await asyncio.sleep(POLL_SECONDS)
    return found


@contextlib.asynccontextmanager
async def served(settings: Config, ports: Mapping[str, int], supervisor: Supervisor) -> AsyncIterator[None]:
    """Serve, inside the context, /metrics of all children, /healthz, and /readyz: 200 when every child is ready.

    `ports` has the health port of each child by its name. /readyz is 503 until the start is complete, because a child
    that ends before that ends all.
    """
    if settings.health.up < 0:
        yield
        return
    server = HttpServer(_pages(settings.health.host, ports, supervisor))
    await server.start(settings.health.host, settings.health.up)
    try:
        yield
    finally:
        await server.stop()


def _pages(host: str, ports: Mapping[str, int], supervisor: Supervisor) -> Pages:
    async def healthz() -> Page:
        return Page(b"ok\n")

    async def readyz() -> Page:
        found = await asyncio.gather(*(problem(host, port) for port in ports.values()))
        lines = [f"{name}: {each}\n" for name, each in zip(ports, found, strict=True) if each]
        if not supervisor.complete:
            lines.append("up: still starting\n")
        return Page("".join(lines).encode(), HTTPStatus.SERVICE_UNAVAILABLE) if lines else Page(b"ready\n")

    async def metrics() -> Page:
        found = await asyncio.gather(
            *(fetch(host, port, "/metrics", seconds=ANSWER_SECONDS) for port in ports.values()), return_exceptions=True
        )
        texts = {
            name: page.body.decode() if isinstance(page, Page) and page.status == HTTPStatus.OK else ""
            for name, page in zip(ports, found, strict=True)
        }
        restarts = {child.name: child.restarts for child in supervisor.children}
        return Page(merged(texts, restarts), content_type=CONTENT_TYPE_LATEST)

    return {"/healthz": healthz, "/readyz": readyz, "/metrics": metrics}


def merged(texts: Mapping[str, str], restarts: Mapping[str, int]) -> bytes:
    """Merge the metrics of several processes: every sample gets the label `process`, each family stands once.

    `texts` has the answer of each process; empty for a process that did not answer.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Merged(texts, restarts))
    return generate_latest(registry)


class _Merged(Collector):
    def __init__(self, texts: Mapping[str, str], restarts: Mapping[str, int]) -> None:
        self._texts, self._restarts = texts, restarts

    def collect(self) -> Iterable[Metric]:
        up = GaugeMetricFamily(
            "restante_process_up", "Whether the process answered the last probe: 1 or 0.", labels=["process"]
        )
        started = CounterMetricFamily(
            "restante_process_restarts", "Number of times the process was started again.", labels=["process"]
        )
        families: dict[str, Metric] = {}
        for process, text in self._texts.items():
            up.add_metric([process], 1.0 if text else 0.0)
            for family in text_string_to_metric_families(text):
                known = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                known.samples.extend(
                    sample._replace(labels={"process": process} | sample.labels) for sample in family.samples
                )
        for process, count in self._restarts.items():
            started.add_metric([process], float(count))
        yield from (up, started, *families.values())
