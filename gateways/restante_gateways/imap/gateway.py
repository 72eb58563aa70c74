"""The IMAP gateway's process: listeners, the link to the core, and what its sessions share."""

from __future__ import annotations

import asyncio
import itertools
import ssl
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog

from restante import errors
from restante.link import CoreLink
from restante.v1 import methods, session_pb2
from restante_gateways.core.login import client_context
from restante_gateways.core.sessions import AccountSessions
from restante_gateways.imap import commands  # noqa: F401 - fills the table
from restante_gateways.imap.folders.opened import OpenFolders
from restante_gateways.imap.grammar.framing import Limits
from restante_gateways.imap.grammar.responses import BYE, Status
from restante_gateways.imap.identity import Identity
from restante_gateways.imap.session import Session
from restante_gateways.net.addresses import Peer
from restante_gateways.net.connection import Connection, ConnectionBounds
from restante_gateways.net.logging import SessionLog
from restante_gateways.net.runtime import Port, Runtime
from restante_process.config import Config
from restante_process.limits import Refusal

log = structlog.get_logger("imap")

REFUSALS = {
    Refusal.TOO_MANY_CONNECTIONS: BYE("Too many connections; come back later.", b"UNAVAILABLE").encode(),
    Refusal.TOO_MANY_FROM_ADDRESS: BYE("Too many connections from your address.", b"LIMIT").encode(),
    Refusal.TOO_FAST: BYE("Too many new connections from your address.", b"LIMIT").encode(),
}
_MECHANISMS_SECONDS = 60.0  # how long the core's list is taken to hold
_MECHANISMS_TIMEOUT_SECONDS = 2.0
_STANDARD_MECHANISMS = ("PLAIN", "LOGIN")
_KEEP_ALIVE_SECONDS = 120.0
_LINE_OCTETS = 65_536
_KEPT_OCTETS = 65_536


@dataclass(frozen=True)
class ImapSettings:
    """Settings of the IMAP gateway."""

    listeners: Mapping[str, Port]
    max_message_octets: int = 50 << 20
    idle_seconds: float = 1_800.0  # RFC 3501 5.4: at least 30 minutes
    bounds: ConnectionBounds = field(default_factory=ConnectionBounds)

    @classmethod
    def from_config(cls, config: Config) -> ImapSettings:
        """The settings that the configuration file gives."""
        listeners = {
            name: Port(listener.host, listener.port, listener.tls, listener.proxy_from)
            for name, listener in config.imap.listeners.items()
        }
        return cls(listeners, config.limits.max_message_octets, config.imap.idle_minutes * 60)


class ImapGateway:
    """What all sessions of the process share."""

    def __init__(self, settings: ImapSettings, link: CoreLink, runtime: Runtime) -> None:
        self.link, self._runtime = link, runtime
        self.folders = OpenFolders(link)
        self.authentication = runtime.settings.authentication
        most = settings.max_message_octets
        self.limits_after_login = Limits(_LINE_OCTETS, _KEPT_OCTETS, streamed=most, discarded=2 * most)
        self.idle_timeout_seconds = settings.idle_seconds
        self._sessions: defaultdict[int, set[Session]] = defaultdict(set)  # by account
        self._names = itertools.count(1)
        self._mechanisms: dict[tuple[str, bool, bool], tuple[float, tuple[str, ...]]] = {}
        self.accounts = AccountSessions(link)
        self.accounts.follow(link.watch)

    async def serve(self, connection: Connection) -> None:
        """One connection, from its greeting to its end."""
        await Session(self, connection).run()

    async def mechanisms(self, peer: Peer) -> tuple[str, ...]:
        """What the core offers on this listener to such a client; asked once a minute."""
        key = (peer.listener, peer.tls is not None, peer.loopback)
        known = self._mechanisms.get(key)
        now = time.monotonic()
        if known is not None and now - known[0] < _MECHANISMS_SECONDS:
            return known[1]
        request = session_pb2.GetMechanismsRequest(client=client_context(peer))
        try:
            answer = await self.link.execute(
                methods.GET_MECHANISMS, request, timeout=_MECHANISMS_TIMEOUT_SECONDS, independent=True
            )
        except errors.RestanteError:
            return known[1] if known is not None else _STANDARD_MECHANISMS  # the core decides at login anyway
        self._mechanisms[key] = (now, tuple(answer.mechanisms))
        return tuple(answer.mechanisms)

    def tls_context(self) -> ssl.SSLContext:
        """For STARTTLS."""
        assert self._runtime.certificates is not None
        return self._runtime.certificates.context

    def session_log(self, peer: Peer) -> SessionLog:
        """The command log of a new session."""
        return self._runtime.commands.session(peer, f"{next(self._names):x}")

    def finished(self, session_log: SessionLog, command: str, status: Status, seconds: float) -> None:
        """Note a finished command."""
        outcome = status.condition.decode("ascii").lower()
        session_log.finished(command, outcome, seconds)
        self._runtime.metrics.command(command, outcome, seconds)

    def joined(self, session: Session, identity: Identity) -> None:
        """A session has logged in."""
        self._sessions[identity.account_id].add(session)

    def left(self, session: Session, identity: Identity) -> None:
        """A session is at its end."""
        sessions = self._sessions[identity.account_id]
        sessions.discard(session)
        if not sessions:
            del self._sessions[identity.account_id]

    async def keep_alive(self) -> None:
        """Says a word on idling connections now and then."""
        while True:
            await asyncio.sleep(_KEEP_ALIVE_SECONDS)
            for sessions in tuple(self._sessions.values()):
                for session in tuple(sessions):
                    session.keep_alive()


async def run(settings: ImapSettings, core: CoreLink, runtime: Runtime) -> None:
    """Serves until `runtime.draining` is set, then drains. Raises OSError, ValueError."""
    gateway = ImapGateway(settings, core, runtime)
    runtime.listen_streams(settings.listeners, gateway.serve, refusals=REFUSALS, bounds=settings.bounds)
    keeping_alive = asyncio.ensure_future(gateway.keep_alive())
    runtime.started()
    try:
        await runtime.draining.wait()
        await runtime.drain()
    finally:
        keeping_alive.cancel()
