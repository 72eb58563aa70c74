"""One SMTP connection: aiosmtpd's session with its gaps closed. This is the one place that subclasses it.

aiosmtpd gives the protocol object, its stream and its timer. The command loop, TLS, end of file and replies are ours;
`tests/gateways/smtp/test_aiosmtpd_seams.py` holds every name of aiosmtpd that we lean on or replace.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

import aiosmtpd.smtp
import structlog

from restante import errors
from restante_gateways.net.addresses import Peer
from restante_gateways.net.authentication import authentication_allowed
from restante_gateways.net.logging import SessionLog
from restante_gateways.net.metrics import GatewayMetrics
from restante_gateways.net.tls_stream import facts
from restante_gateways.smtp import replies
from restante_gateways.smtp.core import Core, Identity
from restante_gateways.smtp.errors import reply_to
from restante_gateways.smtp.grammar import MailArguments, RcptArguments
from restante_gateways.smtp.lines import MAX_LINE_OCTETS, BadLine, LineReader
from restante_gateways.smtp.replies import ConnectionClosed, Refused, Reply
from restante_gateways.smtp.settings import Role, SessionSettings
from restante_gateways.smtp.verbs import VERBS, Run
from restante_gateways.smtp.waiting import WaitingTime
from restante_process.tls import Certificates

logging.getLogger("mail.log").setLevel(logging.CRITICAL + 1)  # aiosmtpd's: it prints addresses; we log our own lines
log = structlog.get_logger("smtp")

READ_OCTETS = 65_536
# RFC 9110 9.3. A web page can make a browser send its form here: not one line of it is obeyed.
HTTP_METHODS = frozenset(b"GET POST HEAD PUT DELETE CONNECT OPTIONS TRACE PATCH".split())
_MAX_WAITING_REPLIES_OCTETS = 16_384


class Transaction:
    """An open mail transaction (RFC 5321 3.3)."""

    __slots__ = ("mail", "recipients", "refused_count", "trace_id")

    def __init__(self, mail: MailArguments) -> None:
        self.mail = mail
        self.recipients: dict[RcptArguments, None] = {}  # in order; the same one twice is one
        self.refused_count = 0
        self.trace_id = secrets.token_hex(8)


class SmtpSession(aiosmtpd.smtp.SMTP):
    """The connection and its state; `verbs.py` has what each command does."""

    line_length_limit = READ_OCTETS  # of the stream buffer, which aiosmtpd sizes by it

    def __init__(
        self,
        settings: SessionSettings,
        core: Core,
        peer: Peer,
        lost: Callable[[], None],
        *,
        log: SessionLog,
        metrics: GatewayMetrics,
        certificates: Certificates | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        super().__init__(
            None,
            data_size_limit=settings.max_message_octets,
            enable_SMTPUTF8=True,
            hostname=settings.host_name,
            timeout=settings.command_timeout_seconds,
            loop=asyncio.get_running_loop(),
        )
        self.settings, self.core, self.peer, self.now = settings, core, peer, now
        self.certificates, self.log, self.metrics = certificates, log, metrics
        self.hello_name, self.extended = "", False
        self.identity: Identity | None = None
        self.transaction: Transaction | None = None
        self.login_failures = self.error_count = self.idle_commands = 0
        self.lines = LineReader(MAX_LINE_OCTETS + 64)  # the verb of an AUTH line comes on top
        self._tell_lost = lost
        self._replies = bytearray()
        self._held_line: BadLine | None = None  # met while looking ahead
        self.waiting = WaitingTime(
            settings.login_timeout_seconds if settings.role is Role.SUBMISSION else settings.idle_seconds
        )
        self._deadline, self._too_late = 0.0, replies.TIMED_OUT
        self._reading = self._at_command = self._flushing = self._deaf = self._ended = False
        self._last_word: Reply | None = None
        self._client_done: asyncio.Future[None] = self.loop.create_future()

    # -- what a session is

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted now, taken from the transport: so it is right on 465 too."""
        return self.transport is not None and self.transport.get_extra_info("sslcontext") is not None

    @property
    def _open_transport(self) -> asyncio.Transport | None:
        return cast("asyncio.Transport | None", self.transport)  # uvloop's is one by shape, not by class

    @property
    def starttls_offered(self) -> bool:
        """Whether STARTTLS makes sense now."""
        return self.certificates is not None and not self.tls

    @property
    def authentication_allowed(self) -> bool:
        """Whether credentials may cross this connection as it is now."""
        return authentication_allowed(self.settings.authentication, tls=self.tls, loopback=self.peer.loopback)

    @property
    def authentication_offered(self) -> bool:
        """Whether EHLO lists AUTH. Never on the mx listener."""
        return self.settings.role is Role.SUBMISSION and self.authentication_allowed

    def begin(self, mail: MailArguments) -> None:
        """Opens a mail transaction."""
        self.transaction = Transaction(mail)

    def reset(self) -> None:
        """Drops the mail transaction (RSET, EHLO, after DATA)."""
        self.transaction = None

    def authenticated(self, identity: Identity) -> None:
        """The core has said who this is."""
        self.identity = identity
        self.waiting = WaitingTime(self.settings.idle_seconds)
        self.log.authenticated(identity.account)
        identity.watch(lambda: self.end(replies.SESSION_ENDED))

    def message_accepted(self) -> None:
        """Mail came: the client is no nuisance."""
        self.error_count = self.idle_commands = 0
        self.waiting = WaitingTime(self.settings.idle_seconds)

    # -- the loop

    async def _handle_client(self) -> None:
        try:
            try:
                self.say(Reply(220, "", f"{self.settings.host_name} ESMTP Restante"))
                while not self._ended:
                    await self._one_command()
            except ConnectionClosed:
                pass  # what was said still leaves below, for a client that only closed its own direction
            await self._close_politely()
        except OSError:
            pass  # the client is gone
        except Exception as error:  # the last resort: a bug of ours ends one session, and not silently
            log.error("session failed", error=type(error).__name__, exc_info=error)
        finally:
            if (transport := self._open_transport) is not None:
                transport.close()
                self.loop.call_later(self.settings.linger_seconds, transport.abort)  # should it not take what is unsent

    async def _one_command(self) -> None:
        line = await self.next_line()
        started = time.perf_counter()
        if isinstance(line, BadLine):
            self._answer_bad_line(line)
            return
        name, _, argument = line.partition(b" ")
        name, argument = name.upper(), argument.strip(b" ")
        verb = VERBS.get(name)
        if name in HTTP_METHODS:
            self.end(replies.NOT_HTTP)
            self._finish("?", replies.NOT_HTTP, started)
        elif verb is None:
            self._finish("?", replies.UNKNOWN_COMMAND, started)
        elif len(line) > self.settings.max_command_octets and name != b"AUTH":
            self._finish(verb.name, replies.LINE_TOO_LONG, started)
        elif verb.run_together is not None:
            for reply in await verb.run_together(self, [argument, *self._take_waiting(name + b" ")]):
                self._finish(verb.name, reply, started)
                if not reply.is_error:
                    self.waiting.earn(1.0)
        else:
            self._finish(verb.name, await self._run(verb.run, argument), started)
            if verb.brings_no_mail:
                self.idle_commands += 1
                if self.idle_commands > self.settings.max_idle_commands:
                    self.end(replies.TOO_MANY_COMMANDS)

    def _answer_bad_line(self, line: BadLine) -> None:
        started = time.perf_counter()
        if line is BadLine.BARE_LF:
            self._finish("?", replies.BAD_LINE_END, started)
            self.end(None)  # what follows may be someone else's text, put into this connection
        elif line is BadLine.ENDLESS:
            self._finish("?", replies.LINE_TOO_LONG, started)
            self.end(None)
        else:
            self._finish("?", replies.LINE_TOO_LONG if line is BadLine.TOO_LONG else replies.BAD_LINE_END, started)

    def _take_waiting(self, verb: bytes) -> list[bytes]:
        """The arguments of the same command as far as it waits already, pipelined (RFC 2920)."""
        arguments: list[bytes] = []
        while len(arguments) < 99 and self.lines.peek_line(verb):
            line = self.lines.next_line()
            if not isinstance(line, bytes):
                self._held_line = line
                break
            if len(line) > self.settings.max_command_octets:
                self._held_line = BadLine.TOO_LONG
                break
            arguments.append(line[len(verb) :].strip(b" "))
        return arguments

    async def _run(self, run: Run, argument: bytes) -> Reply | None:
        try:
            return await run(self, argument)
        except Refused as refused:
            return refused.reply
        except (ConnectionClosed, ConnectionError):
            raise
        except Exception as error:  # noqa: BLE001 - every failure of ours is answered, and never as a bounce
            return self.reply_to(error)

    def reply_to(self, error: Exception) -> Reply:
        """The reply to a failed call. A bug of ours is logged with its place, what the core says by its reason."""
        reply = reply_to(error)
        if not isinstance(error, errors.RestanteError):
            log.error("command failed", error=type(error).__name__, exc_info=error)
        elif reply.code == replies.OTHERWISE.code:
            log.warning("command failed", error=type(error).__name__, detail=error.detail)
        if reply is replies.SESSION_ENDED:
            self.end(reply)
        return reply

    async def handle_exception(self, error: Exception) -> str:
        """Never reached from our loop; kept harmless should aiosmtpd's own ever run: 451 and no text of the error."""
        return self.reply_to(error).encode().decode("ascii").rstrip("\r\n")

    def _finish(self, verb: str, reply: Reply | None, started: float) -> None:
        """Says the reply (None: said already), writes the log line, and counts errors until there are too many."""
        if reply is not None and reply is not self._last_word:  # which is said once, at the end
            self.say(reply)
        seconds = time.perf_counter() - started
        outcome = str(reply.code) if reply is not None else "220"
        self.log.finished(verb, outcome, seconds)
        self.metrics.command(verb, outcome, seconds)
        if reply is not None and reply.is_permanent:
            self.error_count += 1
            if self.error_count > self.settings.max_errors:
                self.end(replies.TOO_MANY_ERRORS)

    # -- octets in

    async def next_line(self) -> bytes | BadLine:
        """The next line, or what came in its place. Raises ConnectionClosed; an unfinished last line is no line."""
        if self._held_line is not None:
            line, self._held_line = self._held_line, None
            return line
        found = self.lines.next_line()
        if found is not None:
            return found
        began = self.loop.time()
        # Of the whole line: an octet now and then buys no time.
        until = began + min(self.settings.command_timeout_seconds, self.waiting.left_seconds)
        while (found := self.lines.next_line()) is None:
            self._at_command = True
            try:
                self.lines.feed(await self.read(until))
            finally:
                self._at_command = False
        self.waiting.spend(self.loop.time() - began)
        return found

    async def read(self, until: float, too_late: Reply = replies.TIMED_OUT) -> bytes:
        """At least one octet, by loop time `until`; then the session ends with `too_late`. Raises ConnectionClosed.

        Sends the waiting replies first: all that the client pipelined have been answered.
        """
        await self._flush()
        if self._ended and self._at_command:
            raise ConnectionClosed
        self._deadline, self._too_late = until, too_late
        self._reading = True
        self._watch_clock()
        try:
            data: bytes = await self._reader.read(READ_OCTETS)
        finally:
            self._reading = False
        if not data:
            raise ConnectionClosed
        return data

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """aiosmtpd's, which starts the command loop."""
        super().connection_made(transport)
        self._note_tls()

    def _note_tls(self) -> None:
        if self.tls and self.transport is not None:
            self.peer = dataclasses.replace(self.peer, tls=facts(self.transport.get_extra_info("ssl_object")))

    def data_received(self, data: bytes) -> None:
        """aiosmtpd's, until the session has heard enough."""
        if not self._deaf:
            super().data_received(data)

    def eof_received(self) -> bool:
        """The client has sent all it will: what it sent is still carried out and answered, then we close.

        aiosmtpd cancels the command under way instead, so that a sender who half-closes after the final dot never
        learns that its mail was taken, and sends it twice.
        """
        over_tls = self.tls
        if not self._client_done.done():
            self._client_done.set_result(None)
        if not self._deaf:
            self._reader.feed_eof()
        return not over_tls  # a TLS connection cannot stay half open: asyncio closes it

    # -- octets out

    def say(self, reply: Reply) -> None:
        """Queues a reply; it leaves when the session next waits for the client (RFC 2920 3.2)."""
        self.say_octets(reply.encode())

    def say_octets(self, octets: bytes) -> None:
        """Queues octets that are no Reply: the challenge of AUTH."""
        self._replies += octets
        if len(self._replies) > _MAX_WAITING_REPLIES_OCTETS:
            self._write_replies()

    async def push(self, status: str | bytes) -> None:
        """aiosmtpd's way to say something."""
        self.say_octets((status.encode("ascii", "replace") if isinstance(status, str) else status) + b"\r\n")

    def _write_replies(self) -> None:
        if self._replies and self.transport is not None:
            self._writer.write(bytes(self._replies))
        self._replies.clear()

    async def _flush(self) -> None:
        self._write_replies()
        self._deadline = self.loop.time() + self.settings.stalled_timeout_seconds
        self._flushing = True
        self._watch_clock()
        try:
            await self._writer.drain()
        finally:
            self._flushing = False

    # -- time

    def _reset_timeout(self, duration: float | None = None) -> None:
        self._deadline = self.loop.time() + (duration or self.settings.command_timeout_seconds)
        self._watch_clock()

    def _watch_clock(self) -> None:
        """One timer a connection, left alone while commands come: when it fires early it is set again."""
        if self._timeout_handle is not None and not self._timeout_handle.cancelled():
            if self._timeout_handle.when() <= self._deadline:
                return
            self._timeout_handle.cancel()
        self._timeout_handle = self.loop.call_at(self._deadline, self._timeout_cb)

    def _timeout_cb(self) -> None:
        self._timeout_handle = self.loop.call_later(self.settings.command_timeout_seconds, self._timeout_cb)
        if self.loop.time() < self._deadline:
            self._watch_clock()
        elif self._flushing and (transport := self._open_transport) is not None:
            transport.abort()  # a client that reads nothing would not read a goodbye either
        elif self._reading:
            self.end(self._too_late)
            self._stop_listening()

    # -- the end

    def end(self, last_word: Reply | None) -> None:
        """Ends the session when the command under way is done, with `last_word` unless all has been said."""
        if not self._ended:
            self._ended, self._last_word = True, last_word
        if self._reading and self._at_command:
            self._stop_listening()

    def drain(self) -> None:
        """The process is going down: finish the command under way, say goodbye, close."""
        self.end(replies.SHUTTING_DOWN)

    def _stop_listening(self) -> None:
        if not self._deaf:
            self._deaf = True
            self._reader.feed_eof()
            if (transport := self._open_transport) is not None and not transport.is_reading():
                transport.resume_reading()  # what still comes is read and dropped, up to the client's end

    async def _close_politely(self) -> None:
        """Ends our direction and gives the client a moment: octets we never read would turn the close into a reset,
        which can overtake the last reply."""
        self._stop_listening()
        if self._last_word is not None:
            self.say(self._last_word)
        self._write_replies()
        transport = self._open_transport
        if transport is None:
            return
        if not self._client_done.done() and not self.tls and transport.can_write_eof():
            transport.write_eof()
            await asyncio.wait([self._client_done], timeout=self.settings.linger_seconds)

    def connection_lost(self, error: Exception | None) -> None:
        """Forgets everything; a message under way is abandoned unless its commit has been sent."""
        super().connection_lost(error)
        self._forget_user()
        self._tell_lost()

    def _forget_user(self) -> None:
        if self.identity is not None:
            self.identity.close()
            self.identity = None

    # -- TLS

    async def start_tls(self) -> None:
        """The server's part of a handshake, after which nothing sent or said in clear counts (RFC 3207 4.2)."""
        await self._flush()
        if self.certificates is None or (clear := self._open_transport) is None:
            raise ConnectionClosed
        stream: Any = self._reader
        # From here to the switch of protocols inside start_tls nothing is awaited, so no clear octet can come between.
        self.lines.take_rest()
        self._held_line = None
        stream._buffer.clear()
        try:
            transport = await self.loop.start_tls(
                clear,
                self,
                self.certificates.context,
                server_side=True,
                ssl_handshake_timeout=self.settings.handshake_timeout_seconds,
            )
        except OSError:  # ssl.SSLError and a lost connection are such
            raise ConnectionClosed from None
        if transport is None:  # lost in the very moment
            raise ConnectionClosed
        self.transport = stream._transport = transport
        writer: Any = self._writer
        writer._transport = transport
        replace_writer: Callable[[asyncio.StreamWriter], None] = cast(Any, self)._replace_writer
        replace_writer(self._writer)
        self._note_tls()
        self.hello_name, self.extended = "", False
        self._forget_user()
        self.reset()
