"""The POP3 gateway's process: settings, listeners and sessions."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from restante.link import CoreLink
from restante_gateways.core.sessions import AccountSessions
from restante_gateways.net.bounds import ConnectionBounds
from restante_gateways.net.connection import Connection
from restante_gateways.net.runtime import Port, Runtime, ports
from restante_gateways.pop3.errors import REFUSALS
from restante_gateways.pop3.maildrop import Core
from restante_gateways.pop3.session import Session
from restante_gateways.pop3.settings import SessionSettings
from restante_process.config import Config
from restante_process.tls import Certificates

IDLE_SECONDS = 600.0  # RFC 1939 3 requires at least ten minutes


@dataclass(frozen=True)
class Pop3Settings:
    """Settings of the POP3 gateway."""

    listeners: Mapping[str, Port]
    bounds: ConnectionBounds = field(default_factory=lambda: ConnectionBounds(idle_timeout_seconds=IDLE_SECONDS))
    sessions: SessionSettings = field(default_factory=SessionSettings)

    @classmethod
    def from_config(cls, config: Config) -> Pop3Settings:
        """The settings in the configuration file."""
        idle_seconds = max(IDLE_SECONDS, config.pop3.idle_minutes * 60)
        return cls(ports(config.pop3.listeners), ConnectionBounds(idle_timeout_seconds=idle_seconds))


class Pop3Gateway:
    """State shared by all sessions of the process."""

    def __init__(self, core: Core, runtime: Runtime, settings: SessionSettings) -> None:
        self.settings = settings
        self.core, self.policy, self.metrics = core, runtime.settings.authentication, runtime.metrics
        self._runtime = runtime
        self.sessions = AccountSessions(core)

    @property
    def certificates(self) -> Certificates | None:
        """The certificates for STLS."""
        return self._runtime.certificates

    async def serve(self, connection: Connection) -> None:
        """Serve one connection."""
        log = self._runtime.commands.session(connection.peer, secrets.token_hex(4))
        await Session(connection, self, log).run()


async def run(settings: Pop3Settings, core: CoreLink, runtime: Runtime) -> None:
    """Serve until `runtime.draining` is set, then drain. Raises OSError, ValueError."""
    gateway = Pop3Gateway(core, runtime, settings.sessions)
    gateway.sessions.follow(core.watch)
    runtime.listen(settings.listeners, gateway.serve, refusals=REFUSALS, bounds=settings.bounds)
    runtime.started()
    await runtime.draining.wait()
    await runtime.drain()
