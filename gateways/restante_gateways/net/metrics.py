"""Metrics of a gateway process, and the small HTTP endpoint that shows them with liveness and readiness."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

MAX_REQUEST_OCTETS = 8192
REQUEST_TIMEOUT_SECONDS = 5.0
COMMAND_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)  # seconds


class GatewayMetrics:
    """The metrics all gateways have; `gateway` is the value of that label. One object a process and registry."""

    def __init__(self, gateway: str, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._gateway = gateway
        self._connections = Gauge(
            "restante_gateway_connections", "Open connections", ["gateway", "listener"], registry=registry
        )
        self._opened = Counter(
            "restante_gateway_connections_opened", "Connections served", ["gateway", "listener"], registry=registry
        )
        self._refused = Counter(
            "restante_gateway_connections_refused",
            "Connections refused, by reason",
            ["gateway", "listener", "reason"],
            registry=registry,
        )
        self._commands = Histogram(
            "restante_gateway_command_seconds",
            "Time from a whole command to its answer",
            ["gateway", "command", "outcome"],
            buckets=COMMAND_BUCKETS,
            registry=registry,
        )
        self._certificate_days = Gauge(
            "restante_gateway_certificate_expiry_days",
            "Days until the certificate expires",
            ["name"],
            registry=registry,
        )
        self._command_children: dict[tuple[str, str], Histogram] = {}

    def connection_opened(self, listener: str) -> None:
        """Counts a connection that is being served."""
        self._connections.labels(self._gateway, listener).inc()
        self._opened.labels(self._gateway, listener).inc()

    def connection_closed(self, listener: str) -> None:
        """Ends what `connection_opened` counted."""
        self._connections.labels(self._gateway, listener).dec()

    def connection_refused(self, listener: str, reason: str) -> None:
        """Counts a connection that was not served; `reason` comes from a small fixed set."""
        self._refused.labels(self._gateway, listener, reason).inc()

    def command(self, command: str, outcome: str, seconds: float) -> None:
        """Counts a finished command; both names come from small fixed sets, never from the client."""
        key = (command, outcome)
        child = self._command_children.get(key)
        if child is None:
            child = self._command_children[key] = self._commands.labels(self._gateway, command, outcome)
        child.observe(seconds)

    def certificates(self, days_left: dict[str, float]) -> None:
        """Shows the days left of each certificate, by name."""
        for name, days in days_left.items():
            self._certificate_days.labels(name).set(days)


class MetricsServer:
    """`GET /metrics`, `/healthz` (this process answers) and `/readyz` (it can serve clients), HTTP/1.1, one request a
    connection, on an address that only operators reach."""

    def __init__(self, registry: CollectorRegistry, ready: Callable[[], bool]) -> None:
        self._registry, self._ready = registry, ready
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Listens; with port 0 on a free one, told by `port`. Raises OSError."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=MAX_REQUEST_OCTETS)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stops listening."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer(head))
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass  # whoever asked has gone, or speaks no HTTP
        finally:
            writer.close()

    def _answer(self, head: bytes) -> bytes:
        words = head.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return _response(HTTPStatus.BAD_REQUEST, b"", body_wanted=True)
        method, target, _ = words
        if method not in (b"GET", b"HEAD"):
            return _response(HTTPStatus.METHOD_NOT_ALLOWED, b"", body_wanted=True)
        status, kind, body = self._page(target.split(b"?", 1)[0])
        return _response(status, body, kind, body_wanted=method == b"GET")

    def _page(self, path: bytes) -> tuple[HTTPStatus, str, bytes]:
        text = "text/plain; charset=utf-8"
        if path == b"/metrics":
            return HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(self._registry)
        if path == b"/healthz":
            return HTTPStatus.OK, text, b"ok\n"
        if path == b"/readyz":
            if self._ready():
                return HTTPStatus.OK, text, b"ready\n"
            return HTTPStatus.SERVICE_UNAVAILABLE, text, b"not ready\n"
        return HTTPStatus.NOT_FOUND, text, b"not found\n"


def _response(status: HTTPStatus, body: bytes, kind: str = "text/plain", *, body_wanted: bool) -> bytes:
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode("ascii") + (body if body_wanted else b"")
