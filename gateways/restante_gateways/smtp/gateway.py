"""The SMTP gateway's process: settings, listeners and sessions."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from restante.link import CoreLink
from restante_gateways.core.retry import PATIENCE_SECONDS
from restante_gateways.net.bounds import ConnectionBounds
from restante_gateways.net.connection import Connection
from restante_gateways.net.runtime import Port, Runtime
from restante_gateways.smtp.checks.metrics import CheckMetrics
from restante_gateways.smtp.checks.service import Checker
from restante_gateways.smtp.checks.settings import CheckSettings
from restante_gateways.smtp.core import Core
from restante_gateways.smtp.lmtp import LmtpSession
from restante_gateways.smtp.replies import Reply
from restante_gateways.smtp.session import SmtpSession
from restante_gateways.smtp.settings import Role, SessionSettings
from restante_gateways.smtp.upstream import Upstream
from restante_process.config import Config
from restante_process.limits import Refusal

REFUSALS = {
    refusal: Reply(421, "4.7.0", f"{refusal.value.capitalize()}, try again later").encode() for refusal in Refusal
}


@dataclass(frozen=True)
class SmtpListener:
    """One port and its role."""

    port: Port
    role: Role


@dataclass(frozen=True)
class SmtpSettings:
    """Settings of the SMTP gateway. `sessions` applies to all listeners, except for role and authentication."""

    listeners: Mapping[str, SmtpListener]
    sessions: SessionSettings
    bounds: ConnectionBounds = field(default_factory=ConnectionBounds)
    checks: CheckSettings | None = None  # on mx listeners; None: mail is not checked
    patience_seconds: float = PATIENCE_SECONDS  # for repetitions after a lost answer of the core

    @classmethod
    def from_config(cls, config: Config) -> SmtpSettings:
        """The settings in the configuration file. Raises ValueError."""
        smtp = config.smtp
        listeners = {
            name: SmtpListener(
                Port(
                    listener.host,
                    listener.port,
                    listener.tls,
                    listener.proxy_from,
                    listener.path,
                    listener.allow_from if listener.role == "lmtp" else None,
                ),
                Role(listener.role),
            )
            for name, listener in smtp.listeners.items()
        }
        sessions = SessionSettings(
            role=Role.MX,
            host_name=config.transport.hostname,
            max_message_octets=config.limits.max_message_octets,
            max_recipients=config.limits.max_recipients,
            max_hops=smtp.max_hops,
            command_timeout_seconds=smtp.command_seconds,
            data_timeout_seconds=smtp.command_seconds,
            idle_seconds=smtp.idle_seconds,
            data_seconds=smtp.data_seconds,
            data_octets_per_second=smtp.data_octets_per_second,
            max_data_seconds=smtp.longest_data_seconds,
            evidence=frozenset(config.greylisting.skip_passing),
        )
        checks = CheckSettings.from_config(config.checks, config.transport.hostname, config.reports.failure_domains)
        return cls(listeners, sessions, checks=checks)


async def run(settings: SmtpSettings, core: CoreLink, runtime: Runtime) -> None:
    """Serve until `runtime.draining` is set, then drain. Raises OSError, ValueError."""
    upstream = Upstream(core, settings.patience_seconds)
    upstream.sessions.follow(core.watch)
    listen(settings, upstream, runtime)
    runtime.started()
    await runtime.draining.wait()
    await runtime.drain()


def listen(settings: SmtpSettings, core: Core, runtime: Runtime) -> None:
    """Accept on all listeners. Raises OSError, ValueError."""
    authentication = runtime.settings.authentication
    by_name = {
        name: settings.sessions.of_listener(listener.role, authentication)
        for name, listener in settings.listeners.items()
    }

    checker = None
    if settings.checks is not None and settings.checks.any:
        checker = Checker(settings.checks, CheckMetrics(runtime.metrics.registry))

    async def serve(connection: Connection) -> None:
        peer = connection.peer
        sessions = by_name[peer.listener]
        kind = LmtpSession if sessions.role is Role.LMTP else SmtpSession
        session = kind(
            connection,
            sessions,
            core,
            log=runtime.commands.session(peer, secrets.token_hex(4)),
            metrics=runtime.metrics,
            certificates=runtime.certificates,
            checker=checker if sessions.role is Role.MX else None,
        )
        await session.serve()

    ports = {name: listener.port for name, listener in settings.listeners.items()}
    runtime.listen(ports, serve, refusals=REFUSALS, bounds=settings.bounds)
