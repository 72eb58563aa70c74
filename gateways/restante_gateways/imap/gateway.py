"""The IMAP gateway's process: settings, listeners and shutdown."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from restante.link import CoreLink
from restante_gateways.core import streams
from restante_gateways.imap.folders.settings import FolderSettings
from restante_gateways.imap.grammar.responses import BYE
from restante_gateways.imap.session import Session
from restante_gateways.imap.shared import Shared
from restante_gateways.net.bounds import ConnectionBounds
from restante_gateways.net.connection import Connection
from restante_gateways.net.runtime import Port, Runtime
from restante_process.config import Config
from restante_process.limits import Refusal

REFUSALS = {
    Refusal.TOO_MANY_CONNECTIONS: BYE("The server has too many connections; try again later.", b"UNAVAILABLE").encode(),
    Refusal.TOO_MANY_FROM_ADDRESS: BYE("Your address has too many connections; close some of them.", b"LIMIT").encode(),
    Refusal.TOO_FAST: BYE("Your address opens connections too fast; try again later.", b"LIMIT").encode(),
}


@dataclass(frozen=True)
class ImapSettings:
    """Settings of the IMAP gateway."""

    listeners: Mapping[str, Port]
    max_message_octets: int = 50 << 20
    idle_seconds: float = 1_800.0  # RFC 3501 5.4: at least 30 minutes
    bounds: ConnectionBounds = field(default_factory=ConnectionBounds)
    folders: FolderSettings = field(default_factory=FolderSettings)
    stream_patience_seconds: float = streams.PATIENCE_SECONDS  # a broken FETCH waits this long for a core

    @classmethod
    def from_config(cls, config: Config) -> ImapSettings:
        """The settings in the configuration file."""
        listeners = {
            name: Port(listener.host, listener.port, listener.tls, listener.proxy_from)
            for name, listener in config.imap.listeners.items()
        }
        return cls(listeners, config.limits.max_message_octets, config.imap.idle_minutes * 60)


class ImapGateway:
    """The server of IMAP connections."""

    def __init__(self, settings: ImapSettings, link: CoreLink, runtime: Runtime) -> None:
        self._shared = Shared(
            link,
            runtime,
            settings.max_message_octets,
            settings.idle_seconds,
            settings.folders,
            settings.stream_patience_seconds,
        )

    async def serve(self, connection: Connection) -> None:
        """Serve one connection, from its greeting to its end."""
        await Session(self._shared, connection).run()

    async def keep_alive(self) -> None:
        """Send an untagged OK to every idling connection at intervals, for ever."""
        await self._shared.keep_alive()


async def run(settings: ImapSettings, core: CoreLink, runtime: Runtime) -> None:
    """Serve until `runtime.draining` is set, then drain. Raises OSError, ValueError."""
    gateway = ImapGateway(settings, core, runtime)
    runtime.listen(settings.listeners, gateway.serve, refusals=REFUSALS, bounds=settings.bounds)
    keeping_alive = asyncio.ensure_future(gateway.keep_alive())
    runtime.started()
    try:
        await runtime.draining.wait()
        await runtime.drain()
    finally:
        keeping_alive.cancel()
