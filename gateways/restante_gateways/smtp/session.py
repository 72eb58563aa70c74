"""One SMTP session: a subclass of aiosmtpd's SMTP class, the only one in this project.

It keeps aiosmtpd's life cycle of a session, its Session object, and the method name `smtp_NAME` for the command NAME.
It replaces
- the command loop: aiosmtpd accepts a bare LF as a line end, sends no enhanced codes, waits after each reply until the
  client has read it, counts no errors, and cancels the current command when the client closes its sending direction;
- the envelope: its arguments are parsed values instead of upper-case text, and it holds no content in memory;
- the commands, for the same reasons. DATA and BDAT stream the content, the core verifies pipelined RCPTs together, and
  AUTH accepts mechanism names in any case and responses of 12,288 octets.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import aiosmtpd.smtp
import structlog

from restante import errors
from restante_gateways.net.addresses import Peer
from restante_gateways.net.authentication import authentication_allowed
from restante_gateways.net.connection import Connection
from restante_gateways.net.logging import SessionLog
from restante_gateways.net.metrics import GatewayMetrics
from restante_gateways.net.transport import ConnectionTransport
from restante_gateways.smtp import auth, recipients, replies
from restante_gateways.smtp.channel import Channel
from restante_gateways.smtp.checks.evidence import client_evidence
from restante_gateways.smtp.checks.service import Checker
from restante_gateways.smtp.chunks import parse_chunk
from restante_gateways.smtp.command_loop import CommandLoop, Ended, Run
from restante_gateways.smtp.core import Core, Evidence, Identity
from restante_gateways.smtp.grammar import parse_hello, parse_mail
from restante_gateways.smtp.receive import Reception, discard
from restante_gateways.smtp.replies import Reply, refuse
from restante_gateways.smtp.settings import Role, SessionSettings
from restante_gateways.smtp.transaction import Transaction
from restante_gateways.smtp.waiting import WaitingTime
from restante_process.tls import Certificates

logging.getLogger("mail.log").setLevel(logging.CRITICAL + 1)  # aiosmtpd's log shows addresses
log = structlog.get_logger("smtp")

COMMANDS = "EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT"  # of every listener, for HELP
COMMAND_METHODS = tuple(f"smtp_{name}" for name in f"{COMMANDS} EXPN STARTTLS AUTH".split())
NEVER_SECONDS = 1e9  # for aiosmtpd's timer; the connection enforces the real limits


class SmtpSession(aiosmtpd.smtp.SMTP):
    """The state and the commands of one connection; `serve` runs it."""

    session: aiosmtpd.smtp.Session  # has the name from EHLO or HELO
    envelope: Transaction
    commands = COMMANDS  # without those that depend on the connection's state
    need_hello = replies.NEED_HELLO

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

    def __dir__(self) -> tuple[str, ...]:
        """The names of the commands alone. aiosmtpd examines all that `dir` lists, four times for each session."""
        return COMMAND_METHODS

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

    @property
    def _not_open(self) -> Reply:
        """The refusal of RCPT and DATA without a transaction."""
        return replies.NEED_MAIL if self.session.host_name else self.need_hello

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

    # -- the commands, by aiosmtpd's names; their arguments are octets, stripped of spaces

    async def smtp_EHLO(self, argument: bytes) -> Reply:
        """EHLO: set the client's name and list the current extensions. RFC 5321 4.1.1.1."""
        self.session.host_name, self.session.extended_smtp = parse_hello(argument), True
        await self._reset()
        offers = [
            self._settings.host_name,
            "PIPELINING",  # RFC 2920
            f"SIZE {self._settings.max_message_octets}",  # RFC 1870
            "8BITMIME",  # RFC 6152
            "SMTPUTF8",  # RFC 6531
            "ENHANCEDSTATUSCODES",  # RFC 2034
            "DSN",  # RFC 3461
            "CHUNKING",  # RFC 3030
            f"LIMITS RCPTMAX={self._settings.max_recipients}",  # RFC 9422 4
        ]
        if self._starttls_offered:
            offers.append("STARTTLS")
        if self._authentication_offered:
            offers.append(f"AUTH {' '.join(self._settings.mechanisms)}")
        return Reply(250, "", "\n".join(offers))

    async def smtp_HELO(self, argument: bytes) -> Reply:
        """HELO: set the client's name, without extensions. RFC 5321 4.1.1.1."""
        self.session.host_name, self.session.extended_smtp = parse_hello(argument), False
        await self._reset()
        return Reply(250, "", self._settings.host_name)

    async def smtp_MAIL(self, argument: bytes) -> Reply:
        """MAIL: open a transaction. RFC 5321 4.1.1.2."""
        if not self.session.host_name:
            return self.need_hello
        if self._settings.role is Role.SUBMISSION and self._identity is None:
            return replies.NEED_AUTHENTICATION if self._authentication_allowed else replies.NEED_TLS
        if self.envelope.mail is not None:
            return replies.NESTED_MAIL
        mail = parse_mail(argument, extended=self.session.extended_smtp, authentication=self._authentication_offered)
        if mail.size_octets is not None and mail.size_octets > self._settings.max_message_octets:
            return replies.MESSAGE_TOO_BIG  # RFC 1870 6.1
        self.envelope.begin(mail)
        if self._checks is not None:
            self.envelope.checks = self._checks.message(self.session.host_name, mail.reverse_path)
        return Reply(250, "2.1.0", "Sender OK")

    async def smtp_RCPT(self, argument: bytes) -> list[Reply]:
        """RCPT: add recipients; one call to the core verifies all pipelined ones. RFC 5321 4.1.1.3."""
        arguments = [argument, *self._channel.take_waiting(b"RCPT")]
        if self.envelope.mail is None:
            return [self._not_open] * len(arguments)
        if self.envelope.reception is not None:
            return [replies.CONTENT_BEGUN] * len(arguments)
        answers = await recipients.verify(
            arguments,
            self.envelope,
            lambda mail, wanted: self._core.verify(self._peer, self._identity, mail, wanted, self._evidence),
            extended=self.session.extended_smtp,
            max_recipients=self._settings.max_recipients,
        )
        self._channel.waiting.earn(float(sum(not reply.is_error for reply in answers)))
        return answers

    async def smtp_DATA(self, argument: bytes) -> Reply | list[Reply]:
        """DATA: receive the content, and end the transaction in every case. RFC 5321 4.1.1.4."""
        _no_argument(argument, "DATA")
        if self.envelope.reception is not None:
            return replies.CONTENT_BEGUN
        if (refusal := self._content_refusal) is not None:
            return refusal
        self._channel.say(replies.START_MAIL_INPUT)
        try:
            answers = await self._begin_reception().data()
        finally:
            await self._reset()
        return self._content_ended(answers)

    async def smtp_BDAT(self, argument: bytes) -> Reply | list[Reply]:
        """BDAT: receive a chunk of the content; the last one ends the transaction in every case. RFC 3030 2."""
        chunk = parse_chunk(argument)
        reception = self.envelope.reception
        if reception is None and (refusal := self._content_refusal) is not None:
            await discard(self._channel, chunk, self._settings, refusal)
            return refusal
        answers = await (reception or self._begin_reception()).chunk(chunk)
        if chunk.last:
            await self._reset()
            return self._content_ended(answers)
        if not chunk.size_octets:
            self._commands.count_idle()
        return answers

    @property
    def _content_refusal(self) -> Reply | None:
        """The refusal of a content before it begins."""
        if self.envelope.mail is None:
            return self._not_open
        if not self.envelope.recipients:
            return replies.NO_VALID_RECIPIENT if self.envelope.refused_count else replies.NEED_RECIPIENT
        return self.envelope.content_refusal

    @property
    def _evidence(self) -> Evidence | None:
        """What is known about the client of mail from another MTA; None: the mail is not."""
        if self._settings.role is not Role.MX:
            return None
        return partial(client_evidence, self.envelope.checks, self._settings.evidence)

    def _begin_reception(self) -> Reception:
        envelope = self.envelope.closed(
            self.session, self._peer, self._identity, host_name=self._settings.host_name, now=self._now()
        )
        acceptance, answers = self._core.open(envelope), self.envelope.answers
        self.envelope.reception = Reception(self._channel, acceptance, self._settings, answers)
        return self.envelope.reception

    def _content_ended(self, answers: list[Reply]) -> list[Reply]:
        if not all(reply.is_error for reply in answers):
            self._commands.mail_accepted()
            self._channel.waiting = WaitingTime(self._settings.idle_seconds)
        return answers

    async def smtp_RSET(self, argument: bytes) -> Reply:
        """RSET: discard the transaction. RFC 5321 4.1.1.5."""
        _no_argument(argument, "RSET")
        await self._reset()
        return replies.OK

    async def smtp_NOOP(self, argument: bytes) -> Reply:
        """NOOP: reply OK to any argument. RFC 5321 4.1.1.9."""
        return replies.OK

    async def smtp_VRFY(self, argument: bytes) -> Reply:
        """VRFY: the same reply for all names, which reveals no recipients. RFC 5321 3.5.3 and 7.3."""
        if not argument:
            raise refuse(501, "5.5.4", "Syntax: VRFY string")
        return replies.CANNOT_VERIFY

    async def smtp_EXPN(self, argument: bytes) -> Reply:  # type: ignore[override]
        """EXPN: refuse, since it would reveal addresses. RFC 5321 7.3."""
        return replies.NOT_OFFERED

    async def smtp_HELP(self, argument: bytes) -> Reply:
        """HELP: list the commands of this listener. RFC 5321 4.1.1.8."""
        starttls = " STARTTLS" if self._starttls_offered else ""
        authentication = " AUTH" if self._authentication_offered else ""
        return Reply(214, "2.0.0", f"Commands: {self.commands}{starttls}{authentication}\nSee RFC 5321")

    async def smtp_QUIT(self, argument: bytes) -> Reply:
        """QUIT: end the session. RFC 5321 4.1.1.10."""
        _no_argument(argument, "QUIT")
        self._commands.end(replies.CLOSING)
        return replies.CLOSING

    async def smtp_STARTTLS(self, argument: bytes) -> Reply | None:
        """STARTTLS: run a handshake, then reset the session. RFC 3207 4."""
        _no_argument(argument, "STARTTLS")
        if self._tls:
            return Reply(503, "5.5.1", "TLS is active already")
        if not self._starttls_offered or self._certificates is None:
            return replies.NOT_OFFERED
        if self.envelope.mail is not None:
            return replies.OUT_OF_SEQUENCE
        self._channel.say(Reply(220, "2.0.0", "Ready to start TLS"))
        await self._channel.start_tls(self._certificates.context)
        self.session.host_name, self.session.extended_smtp = "", False
        self._forget_user()
        return None

    async def smtp_AUTH(self, argument: bytes) -> Reply:
        """AUTH: pass the client's exchange to the core, which verifies it. RFC 4954 4."""
        if self._settings.role is not Role.SUBMISSION:
            return replies.NOT_OFFERED
        if not self.session.host_name or not self.session.extended_smtp:
            return replies.NEED_HELLO
        if self.envelope.mail is not None or self._identity is not None:
            return replies.OUT_OF_SEQUENCE
        if not self._authentication_allowed:
            return replies.NEED_TLS_TO_AUTHENTICATE
        mechanism, initial = auth.parse(argument, self._settings.mechanisms)
        try:
            identity = await auth.exchange(self._channel, self._core, self._peer, mechanism, initial)
        except errors.RestanteError as error:
            return self._login_failed(error)
        self._identity = identity
        self._channel.waiting = WaitingTime(self._settings.idle_seconds)
        self._log.authenticated(identity.account)
        identity.watch(lambda: self._channel.connection.interrupt(Ended()))
        return replies.AUTHENTICATED

    def _login_failed(self, error: errors.RestanteError) -> Reply:
        """The reply to a failed login. Counts wrong credentials, but not failures of the core."""
        reply = auth.refusal(error)
        if reply.is_permanent:
            self._login_failures += 1
            if self._login_failures >= self._settings.max_login_attempts:
                self._commands.end(replies.TOO_MANY_ERRORS)
        return reply


def _no_argument(argument: bytes, verb: str) -> None:
    if argument:
        raise refuse(501, "5.5.4", f"Syntax: {verb}")
