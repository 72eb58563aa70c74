"""State shared by all sessions of the process."""

from __future__ import annotations

import asyncio
import itertools
import ssl
import time

from restante import errors
from restante.link import CoreLink
from restante_gateways.core.sessions import AccountSessions
from restante_gateways.imap.announcements import Announcements
from restante_gateways.imap.core.login import mechanisms
from restante_gateways.imap.folders.registry import OpenFolders
from restante_gateways.imap.folders.settings import FolderSettings
from restante_gateways.imap.grammar.framing import Limits
from restante_gateways.imap.grammar.responses import Status
from restante_gateways.net.addresses import Peer
from restante_gateways.net.logging import SessionLog
from restante_gateways.net.runtime import Runtime

_MECHANISMS_SECONDS = 60.0  # cache time of the core's list
_STANDARD_MECHANISMS = ("PLAIN", "LOGIN")
_KEEP_ALIVE_SECONDS = 120.0
_LINE_OCTETS = 65_536
_KEPT_OCTETS = 65_536


class Shared:
    """The link to the core, the account sessions, the open folders and the runtime."""

    def __init__(
        self,
        link: CoreLink,
        runtime: Runtime,
        max_message_octets: int,
        idle_seconds: float,
        folders: FolderSettings,
        stream_patience_seconds: float,
    ) -> None:
        self.link, self._runtime = link, runtime
        self.accounts = AccountSessions(link)
        self.accounts.follow(link.watch)
        self.folders = OpenFolders(link, folders)
        self.authentication = runtime.settings.authentication
        self.limits_after_login = Limits(
            _LINE_OCTETS, _KEPT_OCTETS, streamed=max_message_octets, discarded=2 * max_message_octets
        )
        self.idle_timeout_seconds = idle_seconds
        self.stream_patience_seconds = stream_patience_seconds
        self.announced = set[Announcements]()  # of all sessions after login
        self._names = itertools.count(1)
        self._mechanisms: dict[tuple[str, bool, bool], tuple[float, tuple[str, ...]]] = {}

    async def mechanisms(self, peer: Peer) -> tuple[str, ...]:
        """The SASL mechanisms that the core offers to such a client on this listener; cached for a minute."""
        key = (peer.listener, peer.tls is not None, peer.loopback)
        known = self._mechanisms.get(key)
        now = time.monotonic()
        if known is not None and now - known[0] < _MECHANISMS_SECONDS:
            return known[1]
        try:
            offered = await mechanisms(self.link, peer)
        except errors.RestanteError:
            return known[1] if known is not None else _STANDARD_MECHANISMS  # the core decides at login anyway
        self._mechanisms[key] = (now, offered)
        return offered

    def tls_context(self) -> ssl.SSLContext:
        """The TLS context of STARTTLS."""
        assert self._runtime.certificates is not None
        return self._runtime.certificates.context

    def session_log(self, peer: Peer) -> SessionLog:
        """The command log of a new session."""
        return self._runtime.commands.session(peer, f"{next(self._names):x}")

    def finished(self, session_log: SessionLog, command: str, status: Status, seconds: float) -> None:
        """Log and count a finished command."""
        outcome = status.condition.decode("ascii").lower()
        session_log.finished(command, outcome, seconds)
        self._runtime.metrics.command(command, outcome, seconds)

    async def keep_alive(self) -> None:
        """Send an untagged OK to every idling connection at intervals, for ever."""
        while True:
            await asyncio.sleep(_KEEP_ALIVE_SECONDS)
            for announcements in tuple(self.announced):
                announcements.keep_alive()
