"""The relay's process: its settings and its parts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from restante.link import CoreLink
from restante_gateways.net.resolver import Resolver
from restante_gateways.net.runtime import Runtime
from restante_gateways.relay import leases, pool
from restante_gateways.relay.attempt import Attempts
from restante_gateways.relay.configured import Routes, Sources
from restante_gateways.relay.leases import Core, Leases
from restante_gateways.relay.metrics import RelayMetrics
from restante_gateways.relay.peer import Patience
from restante_gateways.relay.pool import Pool, Room
from restante_gateways.relay.routes import Allowed, Ourselves, Router
from restante_gateways.relay.tls import reporting
from restante_gateways.relay.tls.destination import Policies
from restante_gateways.relay.tls.fetch import Fetcher
from restante_gateways.relay.tls.https import Bounds, Https
from restante_gateways.relay.tls.policies import StsPolicies
from restante_gateways.relay.tls.reporting import Reporter
from restante_gateways.relay.tls.security import Security
from restante_gateways.relay.tls.sessions import Sessions
from restante_gateways.relay.tls.uploads import Uploads
from restante_process.config import Config, Smarthost, Source

LEASES_PER_CONNECTION = 5  # so that a slow destination leaves work for the other connections
MEMORY_OCTETS = 128 << 20  # of messages in transfer


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """Settings of the relay. See `restante_process.config.Relay`."""

    own_name: str
    send: bool = True
    connections: int = 20
    connections_per_host: int = 8
    first_connections_per_host: int = 2
    nameservers: tuple[str, ...] = ()
    routes: tuple[tuple[str, str], ...] = ()
    smarthosts: Mapping[str, Smarthost] = field(default_factory=dict)
    sources: Mapping[str, Source] = field(default_factory=dict)
    allow_private: tuple[str, ...] = ()
    port: int = 25
    mta_sts: bool = True
    dnssec: bool = False
    authorities: str = ""
    https: Bounds = Bounds()
    report_seconds: float = reporting.REPORT_SECONDS
    ourselves: tuple[tuple[str, int], ...] = ()  # (host, port) of this installation's own MX
    patience: Patience = Patience()
    memory_octets: int = MEMORY_OCTETS
    drain_seconds: float = 10.0
    keep_seconds: float = pool.KEEP_SECONDS
    slow_seconds: float = pool.SLOW_SECONDS
    alone_seconds: float = pool.ALONE_SECONDS
    renew_seconds: float = leases.RENEW_SECONDS

    @classmethod
    def from_config(cls, config: Config) -> RelaySettings:
        """The settings in the configuration file."""
        relay = config.relay
        listeners = config.smtp.listeners.values()
        return cls(
            own_name=config.transport.hostname,
            send=relay.send,
            connections=relay.connections,
            connections_per_host=relay.connections_per_host,
            first_connections_per_host=relay.first_connections_per_host,
            nameservers=relay.nameservers,
            routes=tuple(relay.routes.items()),
            smarthosts=relay.smarthosts,
            sources=relay.sources,
            allow_private=relay.allow_private,
            port=relay.port,
            mta_sts=relay.mta_sts,
            dnssec=relay.dnssec,
            authorities=relay.authorities,
            ourselves=tuple((each.host, each.port) for each in listeners if each.role == "mx"),
            drain_seconds=config.core.drain_seconds,
        )


class Relay:
    """The relay: leases, attempts and connection pool."""

    def __init__(self, settings: RelaySettings, core: Core, metrics: RelayMetrics) -> None:
        """Raises ValueError for unusable settings."""
        if not settings.own_name.isascii() or not settings.own_name.isprintable() or " " in settings.own_name:
            raise ValueError(f"transport.hostname: {settings.own_name!r} is not a host name in ASCII (A-labels)")
        for key in ("connections", "connections_per_host", "first_connections_per_host"):
            if getattr(settings, key) < 1:
                raise ValueError(f"relay.{key} must be at least 1")
        self._drain_seconds, self._send = settings.drain_seconds, settings.send
        self._draining = asyncio.Event()
        resolver = Resolver(settings.nameservers, [settings.own_name], validating=settings.dnssec)
        sessions = Sessions(metrics.tls_session)
        try:
            security = Security(sessions, settings.authorities)
        except OSError as error:  # ssl.SSLError is one
            raise ValueError(f"relay.authorities: {settings.authorities}: {error.strerror or error}") from None
        self._pool = Pool(
            settings.own_name,
            security,
            settings.patience,
            metrics,
            settings.connections,
            settings.connections_per_host,
            first_per_host=settings.first_connections_per_host,
            keep_seconds=settings.keep_seconds,
            slow_seconds=settings.slow_seconds,
            alone_seconds=settings.alone_seconds,
        )
        https = Https(resolver, Allowed(settings.allow_private), security.verified, settings.https)
        self._sts = None
        if settings.mta_sts:
            self._sts = StsPolicies(resolver, Fetcher(https), core, sessions)
        self._reporter = Reporter(sessions, resolver, core, settings.report_seconds)
        self._uploads = Uploads(https, core, settings.report_seconds)
        router = Router(
            resolver,
            Routes(dict(settings.routes), settings.smarthosts, settings.port),
            settings.allow_private,
            settings.port,
            Ourselves(settings.ourselves),
            Sources.of(settings.sources),
            policies=Policies(resolver, sessions, sts=self._sts, dane=settings.dnssec, port=settings.port),
        )
        attempts = Attempts(router, self._pool, Room(settings.memory_octets), core, self._draining.is_set)
        most = LEASES_PER_CONNECTION * settings.connections
        self._leases = Leases(core, attempts, metrics, most, send=settings.send, renew_seconds=settings.renew_seconds)
        metrics.watch(lambda: self._leases.count, lambda: self._pool.open_connections)

    async def run(self, draining: asyncio.Event) -> None:
        """Take leases until `draining` is set; then finish current attempts, within `drain_seconds`."""
        work = [self._leases.take, self._leases.renew, self._pool.tidy, self._reporter.run]
        if self._sts is not None:
            work.append(self._sts.refresh)
        if self._send:
            work.append(self._uploads.run)
        loops = [asyncio.create_task(each()) for each in work]
        ended = asyncio.create_task(draining.wait())
        try:
            await asyncio.wait([ended, *loops], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._draining.set()
            for task in (ended, loops[0]):
                task.cancel()
            await self._leases.finish(self._drain_seconds)
            for task in loops:
                task.cancel()
            results = await asyncio.gather(*loops, return_exceptions=True)
            await self._pool.close_idle()
            await self._reporter.finish()
        for result in results:
            if isinstance(result, Exception):  # a bug: the process ends, and its supervisor restarts it
                raise result


async def run(settings: RelaySettings, core: CoreLink, runtime: Runtime) -> None:
    """Serve until `runtime.draining` is set, then drain. Raises ValueError."""
    relay = Relay(settings, core, RelayMetrics(runtime.metrics.registry))
    runtime.started()
    await relay.run(runtime.draining)
