"""The state of one SMTP session and its life: a subclass of aiosmtpd's SMTP class, the only one in this project.

It keeps aiosmtpd's life cycle of a session, its Session object, and the method name `smtp_NAME` for the command NAME.
It replaces
- the command loop: aiosmtpd accepts a bare LF as a line end, sends no enhanced codes, waits after each reply until the
  client has read it, counts no errors, and cancels the current command when the client closes its sending direction;
- the envelope: its arguments are parsed values instead of upper-case text, and it holds no content in memory;
- the commands, for the same reasons. DATA and BDAT stream the content, the core verifies pipelined RCPTs together, and
  AUTH accepts mechanism names in any case and responses of 12,288 octets.

The commands are in the classes derived from it: `mail_commands` has those of a transaction, `session` the others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime

import aiosmtpd.smtp

from restante_gateways.net.addresses import Peer
from restante_gateways.net.authentication import authentication_allowed
from restante_gateways.net.connection import Connection
from restante_gateways.net.logging import SessionLog
from restante_gateways.net.metrics import GatewayMetrics
from restante_gateways.net.transport import ConnectionTransport
from restante_gateways.smtp.channel import Channel
from restante_gateways.smtp.checks.service import Checker
from restante_gateways.smtp.command_loop import CommandLoop, Run
from restante_gateways.smtp.core import Core, Identity
from restante_gateways.smtp.replies import refuse
from restante_gateways.smtp.settings import Role, SessionSettings
from restante_gateways.smtp.transaction import Transaction
from restante_process.tls import Certificates

logging.getLogger("mail.log").setLevel(logging.CRITICAL + 1)  # aiosmtpd's log shows addresses

NEVER_SECONDS = 1e9  # for aiosmtpd's timer; the connection enforces the real limits


class SessionState(aiosmtpd.smtp.SMTP):
    """The state of one connection; `serve` runs its commands."""

    session: aiosmtpd.smtp.Session  # has the name from EHLO or HELO
    envelope: Transaction

    def __init__(
        self,
        connection: Connection,
        settings: SessionSettings,
        core: Core,
        *,
        log: SessionLog,
        metrics: GatewayMetrics,
        certificates: Certificates | None = None,
        checker: Checker | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(None, hostname=settings.host_name, timeout=NEVER_SECONDS, loop=loop)
        self._settings, self._core, self._now = settings, core, now
        self._certificates, self._log = certificates, log
        self._checks = checker.connected(connection.peer.client.host, now) if checker is not None else None
        submission = settings.role is Role.SUBMISSION
        self._channel = Channel(
            connection,
            line_seconds=settings.command_timeout_seconds,
            max_command_octets=settings.max_command_octets,
            wait=settings.login_timeout_seconds if submission else settings.idle_seconds,
        )
        self._commands = CommandLoop(self._channel, self._command, settings, log, metrics)
        self._identity: Identity | None = None
        self._login_failures = 0
        self._task: asyncio.Task[None] | None = None  # the running `_handle_client`
        self._finished: asyncio.Future[None] = loop.create_future()

    def _command(self, name: str) -> Run | None:
        """The command of a name in capitals, if this protocol has it."""
        return getattr(self, f"smtp_{name}", None)

    # -- the life of a session

    async def serve(self) -> None:
        """Serve the connection until it ends. The listener then closes it. Raises TlsFailed, ConnectionLost."""
        self.connection_made(ConnectionTransport(self._channel.connection))  # starts `_handle_client`
        try:
            await self._finished
        finally:
            self.connection_lost(None)  # cancels `_handle_client` if it still runs
            if self._task is not None:
                await asyncio.wait([self._task])
            self._forget_user()
            if self._checks is not None:
                self._checks.close()

    async def _handle_client(self) -> None:
        """The session's task, which aiosmtpd starts."""
        self._task = asyncio.current_task()
        try:
            await self._commands.run()
        except Exception as error:  # noqa: BLE001 - `serve` raises it
            self._finished.set_exception(error)
        else:
            self._finished.set_result(None)
        finally:
            await self.envelope.abandon()

    # -- facts

    @property
    def _peer(self) -> Peer:
        return self._channel.connection.peer

    @property
    def _tls(self) -> bool:
        return self._peer.tls is not None

    @property
    def _starttls_offered(self) -> bool:
        return self._peer.starttls and self._certificates is not None and not self._tls

    @property
    def _authentication_allowed(self) -> bool:
        """Whether the connection is currently secure enough for credentials."""
        return authentication_allowed(self._settings.authentication, tls=self._tls, loopback=self._peer.loopback)

    @property
    def _authentication_offered(self) -> bool:
        """Whether EHLO lists AUTH. Never on an mx listener."""
        return self._settings.role is Role.SUBMISSION and self._authentication_allowed

    def _create_envelope(self) -> Transaction:
        """Create the envelope for aiosmtpd."""
        return Transaction(lmtp=self._settings.role is Role.LMTP)

    async def _reset(self) -> None:
        ended, self.envelope = self.envelope, self._create_envelope()
        await ended.abandon()

    def _forget_user(self) -> None:
        if self._identity is not None:
            self._identity.close()
            self._identity = None


def no_argument(argument: bytes, verb: str) -> None:
    """Raises Refused if a command that takes no argument has one."""
    if argument:
        raise refuse(501, "5.5.4", f"Syntax: {verb}")
