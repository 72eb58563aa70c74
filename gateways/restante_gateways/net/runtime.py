"""The runtime of a gateway process: listeners, certificates, logs, metrics, signals and draining."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Literal

import structlog

from restante_gateways.net.authentication import AuthenticationPolicy
from restante_gateways.net.bounds import ConnectionBounds
from restante_gateways.net.listener import Listener, ListenerSettings, Session
from restante_gateways.net.logging import CommandLog
from restante_gateways.net.metrics import GatewayMetrics
from restante_process import logs, sockets
from restante_process.addresses import Endpoint, parse_networks
from restante_process.config import Listener as ConfiguredListener
from restante_process.http import HttpServer
from restante_process.limits import ConnectionLimiter, ConnectionLimits, Refusal
from restante_process.metrics import CertificateMetrics, new_registry
from restante_process.readiness import Readiness, pages
from restante_process.tls import CertificateFiles, Certificates

log = structlog.get_logger("runtime")


@dataclass(frozen=True)
class Port:
    """The address of a listener. A systemd socket of the listener's name replaces `host` and `port`."""

    host: str = "127.0.0.1"
    port: int = 0
    tls: Literal["none", "starttls", "implicit"] = "starttls"
    proxy_from: tuple[str, ...] = ()  # networks of load balancers; if set, every connection needs a PROXY header
    path: str = ""  # a Unix socket instead of host and port
    allow_from: tuple[str, ...] | None = None  # networks of the only clients by TCP; None: all networks


@dataclass(frozen=True)
class RuntimeSettings:
    """Settings of one gateway process."""

    gateway: str
    certificates: tuple[CertificateFiles, ...] = ()
    authentication: AuthenticationPolicy = AuthenticationPolicy.REQUIRED
    limits: ConnectionLimits = field(default_factory=ConnectionLimits)
    reuse_port: bool = False  # several processes on one port
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None  # None: no endpoint; 0: any free one
    log_format: Literal["json", "console"] = "json"
    log_level: str = "info"
    log_commands: bool = True  # one line for each finished command
    drain_seconds: float = 10.0


def ports(listeners: Mapping[str, ConfiguredListener]) -> dict[str, Port]:
    """The configured listeners of a gateway."""
    return {
        name: Port(listener.host, listener.port, listener.tls, listener.proxy_from)
        for name, listener in listeners.items()
    }


class Runtime:
    """One gateway process. A gateway listens, calls `started`, waits for `draining`, drains and returns.

    The owner of the link to the core must set the condition `core` of `readiness`.
    """

    def __init__(self, settings: RuntimeSettings, *, command_stream: BinaryIO | None = None) -> None:
        """Command lines go to `command_stream`; None discards them. Raises CertificateError."""
        self.settings = settings
        self.metrics = GatewayMetrics(settings.gateway, new_registry(settings.gateway))
        self._expiries = CertificateMetrics(self.metrics.registry)
        self.commands = CommandLog(settings.gateway, command_stream, form=settings.log_format)
        self.certificates = Certificates(settings.certificates) if settings.certificates else None
        self.limiter = ConnectionLimiter(settings.limits)
        self.draining = asyncio.Event()
        self.listeners: list[Listener] = []
        self.metrics_port = 0
        self._handed = sockets.activated(os.environ)
        self.readiness = Readiness(gateway="not started yet", core="no answer yet")

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, settings: RuntimeSettings, *, signals: bool = True) -> AsyncIterator[Runtime]:
        """Configure logs, open the metrics endpoint, watch the certificates and install signal handlers.

        SIGTERM and SIGINT set `draining`; SIGHUP reloads the certificates. Raises CertificateError, OSError.
        """
        logs.configure(settings.gateway, form=settings.log_format, level=settings.log_level)
        if settings.log_level in ("info", "debug") and settings.log_commands:
            runtime = cls(settings, command_stream=sys.stderr.buffer)
        else:
            runtime = cls(settings)
        server = HttpServer(pages(runtime.metrics.registry, runtime.readiness))
        if settings.metrics_port is not None:
            await server.start(settings.metrics_host, settings.metrics_port)
            runtime.metrics_port = server.port
        watching = None
        if runtime.certificates is not None:
            watching = asyncio.ensure_future(runtime.certificates.watch(after_check=runtime._show_expiry))
        loop = asyncio.get_running_loop()
        if signals:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, runtime.end)
            loop.add_signal_handler(signal.SIGHUP, runtime.reload)
        try:
            yield runtime
        finally:
            await runtime.drain()
            if signals:
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                    loop.remove_signal_handler(number)
            if watching is not None:
                watching.cancel()
            await server.stop()
            runtime.commands.flush()

    def started(self) -> None:
        """Declare in `/readyz` that the gateway accepts clients."""
        self.readiness.set("gateway", "")

    def end(self) -> None:
        """Set `draining`, so that the gateway stops accepting, drains and returns."""
        self.readiness.set("gateway", "draining")
        self.draining.set()

    def reload(self, certificates: Sequence[CertificateFiles] | None = None) -> None:
        """Reload all certificates, or replace them by these. A bad one is logged, and the old one stays in use."""
        if self.certificates is not None:
            if certificates is None:
                self.certificates.reload(force=True)
            else:
                self.certificates.replace(certificates)
            self._show_expiry()

    def listen(
        self,
        ports: Mapping[str, Port],
        session: Session,
        *,
        refusals: Mapping[Refusal, bytes],
        bounds: ConnectionBounds,
    ) -> None:
        """Accept on `ports`, by listener name, and run `session` for each client. Raises OSError, ValueError."""
        for name, port in ports.items():
            if port.tls != "none" and self.certificates is None:
                raise ValueError(f"listener {name} needs a certificate")
            settings = ListenerSettings(
                name,
                implicit_tls=port.tls == "implicit",
                starttls=port.tls == "starttls",
                proxy_from=parse_networks(port.proxy_from),
                allow_from=None if port.allow_from is None else parse_networks(port.allow_from),
                bounds=bounds,
                refusals=refusals,
            )
            opened = self._sockets(name, port)
            if not opened:
                log.info("another process serves the socket", listener=name, path=port.path)
                continue
            listener = Listener(
                settings,
                opened,
                session,
                limiter=self.limiter,
                metrics=self.metrics,
                certificates=self.certificates,
            )
            self.listeners.append(listener)
            listener.start()
            log.info(
                "listening",
                listener=name,
                tls=port.tls,
                addresses=[port.path] if port.path else [f"{a.host}:{a.port}" for a in listener.addresses],
            )

    def addresses(self) -> dict[str, list[Endpoint]]:
        """The addresses of each listener, by its name."""
        return {listener.settings.name: listener.addresses for listener in self.listeners}

    async def drain(self) -> None:
        """End all listeners and their sessions, within `drain_seconds`."""
        self.end()
        listeners, self.listeners = self.listeners, []
        await asyncio.gather(*(listener.drain(self.settings.drain_seconds) for listener in listeners))

    def _sockets(self, name: str, port: Port) -> Sequence[sockets.Socket]:
        handed = self._handed.pop(name, None)
        if handed:
            return handed
        if port.path:
            return self._unix_socket(name, port.path)
        try:
            return sockets.bind(port.host, port.port, reuse_port=self.settings.reuse_port)
        except sockets.CannotListen as error:
            raise sockets.CannotListen(error.errno, f"listener {name}: {error}") from None

    def _unix_socket(self, name: str, path: str) -> Sequence[sockets.Socket]:
        """The socket at `path`; none if another process of this gateway serves it."""
        try:
            made = sockets.bind_unix(path)
        except sockets.CannotListen as error:
            raise sockets.CannotListen(error.errno, f"listener {name}: {error}") from None
        if made is None and not self.settings.reuse_port:
            raise sockets.CannotListen(errno.EADDRINUSE, f"listener {name}: another program serves {path}")
        return [] if made is None else [made]

    def _show_expiry(self) -> None:
        if self.certificates is not None:
            self._expiries.show(self.certificates.expiries())
