"""One IMAP connection: where it stands, whose it is, and the commands it carries out one after the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterable
from typing import TYPE_CHECKING

from restante import errors
from restante.v1 import session_pb2
from restante_gateways.core import sasl
from restante_gateways.core.login import Verify, by_exchange, by_password, verifier
from restante_gateways.imap import table
from restante_gateways.imap.appending import append, append_of
from restante_gateways.imap.errors import Refusal, ends_session, is_temporary, status_of
from restante_gateways.imap.grammar import framing
from restante_gateways.imap.grammar.framing import Command, CommandReader, LiteralStart, TooLong
from restante_gateways.imap.grammar.parser import ParseError, Parser, Refused
from restante_gateways.imap.grammar.responses import BAD, BYE, NO, OK, Status, continuation
from restante_gateways.imap.identity import Identity
from restante_gateways.imap.selected import Selecting, SessionOver
from restante_gateways.imap.table import BadCommand, Declined, Entry, MissingTag, State
from restante_gateways.imap.view.departed import Lapsed
from restante_gateways.net.authentication import authentication_allowed
from restante_gateways.net.connection import (
    Connection,
    ConnectionLost,
    Draining,
    TimedOut,
)

if TYPE_CHECKING:
    from restante_gateways.imap.gateway import ImapGateway

_BEFORE_LOGIN_SECONDS = 60.0
_MAX_LOGIN_TRIES = 3
_MAX_BAD_IN_A_ROW = 20
_YIELD_COMMANDS = 8  # commands before others get their turn
_YIELD_BLOCKS = 8  # blocks of a local answer before others get their turn


class Session(Selecting):
    """One connection. Its commands run one after the other, so that none sees another's half state (RFC 3501 5.5)."""

    __slots__ = (
        "_bad_in_a_row",
        "_closing",
        "_commands",
        "_gateway",
        "_log",
        "_login_tries",
        "_starting_tls",
        "mechanisms",
        "reader",
        "tag",
    )

    def __init__(self, gateway: ImapGateway, connection: Connection) -> None:
        super().__init__(gateway.link, connection, gateway.folders)
        self._gateway = gateway
        self.reader = CommandReader()
        self.mechanisms: tuple[str, ...] = ()
        self.tag = b"*"  # of the command under way
        self._starting_tls = self._closing = False
        self._login_tries = self._bad_in_a_row = self._commands = 0
        self._log = gateway.session_log(connection.peer)

    # --- the conversation ---

    async def run(self) -> None:
        """Serve the connection until it ends. Interruptions and lost connections are dealt with here."""
        self.connection.set_deadline(_BEFORE_LOGIN_SECONDS)
        try:
            self.mechanisms = await self._gateway.mechanisms(self.connection.peer)
            self.write(OK("Restante is ready.", b"CAPABILITY " + self.capability_text()).encode())
            while not self._closing and (event := await self._next_event()) is not None:
                await self._handle(event)
        except Draining:
            self.write(BYE("The server is going down; please come back.", b"UNAVAILABLE").encode())
        except TimedOut:
            self.write(BYE("Too long without a command.").encode())
        except SessionOver as over:
            self.write(BYE(over.text).encode())
        except Lapsed:
            self.write(BYE("Another session removed messages that cannot be read any more.").encode())
        except ConnectionLost:
            pass  # nobody is there to be told
        finally:
            self._leave()

    async def _next_event(self, interruptible: bool = True) -> framing.Event | None:
        """The next event; None when the client sends no more."""
        while (event := self.reader.next_event()) is None:
            octets = await self.connection.read(interruptible=interruptible)
            if not octets:
                return None
            self.reader.feed(octets)
        if self._over is not None:
            raise SessionOver(self._over)
        return event

    async def _handle(self, event: framing.Event) -> None:
        match event:
            case Command(octets):
                await self._command(octets)
            case LiteralStart():
                await self._literal(event)
            case TooLong(tag, literal, fatal):
                refusal = NO("That is too large.", b"TOOBIG") if literal else BAD("The line is too long.")
                self.write(refusal.encode(tag or b"*"))
                if fatal:
                    raise SessionOver("What you send cannot be followed.")
            case _:
                raise AssertionError(f"{event!r} outside of a literal")

    async def _command(self, octets: bytes) -> None:
        try:
            tag, entry, p = table.read_entry(octets)
            command = self._parse(tag, entry, p)
        except MissingTag as error:
            self._bad(b"*", error)
        except BadCommand as error:
            self._bad(error.tag, error)
        else:
            self._bad_in_a_row = 0
            self.tag = tag
            await self._carry_out(entry, command.run(self))

    def _parse(self, tag: bytes, entry: Entry, p: Parser) -> table.Command:
        """The command, if it is allowed now and well-formed. Raises BadCommand."""
        if self.state not in entry.states:
            raise BadCommand(tag, f"{entry.name} is not allowed now")
        try:
            return entry.parse(p)
        except Refused as reason:
            return Declined(entry, reason)
        except ParseError as error:
            raise BadCommand(tag, str(error)) from error

    def _bad(self, tag: bytes, error: ParseError) -> None:
        """Behaviour 42: BAD, and the conversation goes on; but not for ever."""
        self.write(BAD(f"{error}.").encode(tag))
        self._bad_in_a_row += 1
        if self._bad_in_a_row >= _MAX_BAD_IN_A_ROW:
            raise SessionOver("Too many commands that make no sense.")

    async def _literal(self, literal: LiteralStart) -> None:
        """A message of APPEND is streamed; any other literal becomes part of its command."""
        try:
            tag, entry, p = table.read_entry(literal.prefix)
            if self.state not in entry.states:
                raise BadCommand(tag, f"{entry.name} is not allowed now")
            message = append_of(tag, entry, p)
        except (MissingTag, BadCommand) as error:
            self.reader.refuse()
            self._bad(error.tag if isinstance(error, BadCommand) else b"*", error)
            return
        if message is not None:
            self.tag = tag
            await self._carry_out(entry, append(self, message, literal))
        elif literal.keepable:
            self.reader.keep()
            if literal.synchronising:
                self.write(continuation(b"go on"))
        else:
            self.reader.refuse()
            self.write(BAD("The literal is too large.").encode(tag))

    async def _carry_out(self, entry: Entry, work: Awaitable[Status]) -> None:
        """Run a command, tell what may be told, then answer with its tag."""
        started = time.perf_counter()
        self._follow()
        try:
            status = await work
        except Refusal as refusal:
            status = refusal.status
        except errors.RestanteError as error:
            status = self._failed(error)
            if is_temporary(error) and self.followed is not None and not self.followed.change_number:
                self.followed = None  # the core could not answer this: it is not asked more
        if entry.tells and self._view is not None:
            await self.catch_up_if_possible()
            uid = entry.name.startswith("UID ")
            await self.write_blocks(self._view.tell(may_expunge=not entry.holds_numbers, with_uid=uid))
        self.write(status.encode(self.tag))
        self._gateway.finished(self._log, entry.name, status, time.perf_counter() - started)
        if self._over is not None:
            raise SessionOver(self._over)
        if self._starting_tls:
            await self._start_tls()
        await self.flow()
        self._commands += 1
        if self._commands % _YIELD_COMMANDS == 0:
            await asyncio.sleep(0)  # pipelined commands that need no call would keep all others waiting

    def _failed(self, error: errors.RestanteError) -> Status:
        """What a command is answered with that the core refused; the session may be over with it."""
        if ends_session(error) and self.identity is not None:
            self._over = "Your session is over; please log in again."
        return status_of(error)

    def _leave(self) -> None:
        self.stop_pushing()
        self.deselect()
        if self.identity is not None:
            self._gateway.left(self, self.identity)
            self.identity.close()

    # --- writing ---

    async def flow(self) -> None:
        """After much was written: wait until the client has taken it. Raises ConnectionLost."""
        if self.connection.write_paused:
            await self.connection.drain()

    async def write_blocks(self, blocks: Iterable[bytes]) -> None:
        """Write a long answer as the client takes it, giving other sessions their turn."""
        for count, block in enumerate(blocks, start=1):
            self.connection.write(block)
            if self.connection.write_paused:
                await self.connection.drain()
            elif count % _YIELD_BLOCKS == 0:
                await asyncio.sleep(0)

    # --- what commands ask of the connection ---

    def close_after_answer(self) -> None:
        """LOGOUT: the tagged answer is the last thing that is sent."""
        self._closing = True

    def capability_text(self) -> bytes:
        """What is offered now, for CAPABILITY and for the code."""
        words = table.capabilities(self.state)
        if self.state is State.NOT_AUTHENTICATED:
            if self.may_start_tls:
                words.append("STARTTLS")
            words += [f"AUTH={name}" for name in self.mechanisms] if self.may_authenticate else ["LOGINDISABLED"]
        return " ".join(words).encode("ascii")

    @property
    def may_start_tls(self) -> bool:
        """Whether STARTTLS is offered."""
        return self.connection.peer.starttls and self.connection.peer.tls is None

    def start_tls_after_answer(self) -> None:
        """STARTTLS: the handshake follows the tagged answer."""
        self._starting_tls = True

    async def _start_tls(self) -> None:
        self._starting_tls = False
        self.reader.reset()  # nothing that came in clear is taken as sent under TLS (RFC 3501 6.2.1)
        await self.connection.start_tls(self._gateway.tls_context())
        self.mechanisms = await self._gateway.mechanisms(self.connection.peer)

    async def next_line(self) -> bytes:
        """A line that is no command: DONE, or a step of SASL. Raises ConnectionLost at the end of the stream."""
        event = await self._next_event()
        match event:
            case None:
                raise ConnectionLost
            case Command(octets):
                return octets
            case LiteralStart():
                self.reader.refuse()
                return b"{"  # no line that anyone waits for
            case _:
                return b"{"

    async def next_event_amid_literal(self) -> framing.Event:
        """The next event while a literal is read; draining waits for its end. Raises ConnectionLost."""
        event = await self._next_event(interruptible=False)
        if event is None:
            raise ConnectionLost
        return event

    # --- login ---

    @property
    def may_authenticate(self) -> bool:
        """Whether credentials may cross this connection as it is."""
        peer = self.connection.peer
        return authentication_allowed(self._gateway.authentication, tls=peer.tls is not None, loopback=peer.loopback)

    async def authenticate(self, mechanism: str, initial: sasl.Secret | None) -> Status:
        """AUTHENTICATE, from its first step to its end (RFC 3501 6.2.2)."""
        response = None if initial is None else initial.reveal()
        try:
            return await self._log_in(by_exchange(self._verify, mechanism, response, self._ask))
        except sasl.Cancelled:
            return BAD("Authentication given up.")
        except sasl.MalformedResponse as error:
            return BAD(f"Authentication failed: {error}.")

    async def login(self, credentials: sasl.Secret) -> Status:
        """LOGIN, which the core sees as PLAIN."""
        return await self._log_in(by_password(self._verify, credentials))

    @property
    def _verify(self) -> Verify:
        return verifier(self._link, self.connection.peer, session_pb2.SCOPE_IMAP)

    async def _ask(self, challenge: bytes) -> bytes:
        self.write(continuation(challenge))
        return await self.next_line()

    async def _log_in(self, proof: Awaitable[session_pb2.Session]) -> Status:
        try:
            session = await proof
        except errors.AuthenticationFailed:
            self._login_tries += 1
            if self._login_tries >= _MAX_LOGIN_TRIES:
                self._over = "Too many failed logins."
            raise
        client_address = self.connection.peer.client.host
        self.identity = Identity(self._gateway.accounts, session, client_address, self.end)
        self.state = State.AUTHENTICATED
        self.reader.limits = self._gateway.limits_after_login
        self.connection.set_deadline(None)
        self.connection.idle_timeout_seconds = self._gateway.idle_timeout_seconds
        self._log.authenticated(session.address)
        self._gateway.joined(self, self.identity)
        return OK("Logged in.", b"CAPABILITY " + self.capability_text())
