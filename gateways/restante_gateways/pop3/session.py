"""One POP3 connection, from greeting to QUIT."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Iterable
from typing import Protocol

from restante import errors
from restante.v1 import session_pb2
from restante_gateways.core import login, sasl
from restante_gateways.core.sessions import AccountSessions
from restante_gateways.net.authentication import AuthenticationPolicy, authentication_allowed
from restante_gateways.net.connection import (
    Connection,
    ConnectionLost,
    Draining,
    Interruption,
    TimedOut,
)
from restante_gateways.net.logging import SessionLog
from restante_gateways.net.metrics import GatewayMetrics
from restante_gateways.pop3.commands import TABLE, State
from restante_gateways.pop3.maildrop import Core, Maildrop
from restante_gateways.pop3.protocol import (
    MAX_LINE_OCTETS,
    DotStuffer,
    LineReader,
    LineTooLong,
    Malformed,
    Response,
    negative,
    positive,
    split_command,
)
from restante_gateways.pop3.replies import ends_session, response_to
from restante_gateways.pop3.retrieval import Retriever
from restante_gateways.pop3.snapshot import NoSuchMessage, Snapshot
from restante_process.tls import Certificates

MECHANISMS = ("PLAIN", "LOGIN")
LOGIN_SECONDS = 60.0  # from the greeting to the end of a successful login
LOGIN_ATTEMPTS = 3
MAX_ERRORS = 30  # commands in a row that were none
TURN_COMMANDS = 64  # pipelined commands after which others get their turn

UNKNOWN_COMMAND = negative("unknown command")
WRONG_STATE = {
    State.AUTHORIZATION: negative("log in first"),
    State.TRANSACTION: negative("this command comes before login"),
}
NO_SUCH_MESSAGE = negative("no such message")
NOT_DELETED = negative("it is not certain that the messages were deleted", "SYS/TEMP")
LINE_TOO_LONG = negative("line too long")
SHUTTING_DOWN = negative("the server is going down, come back soon", "SYS/TEMP")


class Ended(Interruption):
    """The core ended this session, or gave the maildrop to another."""

    def __init__(self, error: errors.RestanteError) -> None:
        super().__init__(error.reason)
        self.error = error


class Gateway(Protocol):
    """What a session needs of the process around it."""

    core: Core
    sessions: AccountSessions
    policy: AuthenticationPolicy
    metrics: GatewayMetrics

    @property
    def certificates(self) -> Certificates | None:
        """For STLS."""


class Session:
    """State of one connection; `run` serves it."""

    mechanisms = MECHANISMS

    def __init__(self, connection: Connection, gateway: Gateway, log: SessionLog) -> None:
        self.connection, self._gateway, self._log = connection, gateway, log
        self.state = State.AUTHORIZATION
        self.user_name: bytes | None = None
        self.retrieved = 0
        self._lines = LineReader()
        self._maildrop: Maildrop | None = None
        self._failed_logins = self._errors = 0
        self._done = False

    # -- the conversation

    async def run(self) -> None:
        """Serves the connection until it ends, and gives the maildrop back."""
        self.connection.set_deadline(LOGIN_SECONDS)
        self.write(bytes(positive("Restante POP3 ready")))
        try:
            await self._converse()
        except TimedOut:
            pass  # RFC 1939 3: closed without a response, and nothing is deleted
        except Draining:
            self.write(bytes(SHUTTING_DOWN))
        except Ended as ended:
            self.write(bytes(response_to(ended.error)))
        except ConnectionLost:
            pass  # nothing is deleted without QUIT
        finally:
            await self._leave()

    async def _converse(self) -> None:
        turn = 0
        while not self._done:
            line = self._lines.next_line()
            if line is None:
                turn = 0
                data = await self.connection.read()
                if not data:
                    return
                self._lines.feed(data)
                continue
            await self._obey(line)
            turn += 1
            if turn % TURN_COMMANDS == 0:
                await asyncio.sleep(0)

    async def _obey(self, line: bytes | LineTooLong) -> None:
        began = time.perf_counter()
        verb, response = await self._answer(line)
        if response is not None:
            self.connection.write(bytes(response))
        outcome = "ok" if response is None else response.outcome
        seconds = time.perf_counter() - began
        self._log.finished(verb, outcome, seconds)
        self._gateway.metrics.command(verb, outcome, seconds)
        if self.connection.write_paused:
            await self.connection.drain()

    async def _answer(self, line: bytes | LineTooLong) -> tuple[str, Response | None]:
        """The verb, for logs, and the response, None when it is written already."""
        if isinstance(line, LineTooLong):
            return "?", self._nonsense(LINE_TOO_LONG)
        verb, argument = split_command(line)
        entry = TABLE.get(verb)
        if entry is None:
            return "?", self._nonsense(UNKNOWN_COMMAND)
        if self.state not in entry.states:
            return verb, self._nonsense(WRONG_STATE[self.state])
        try:
            response = await entry.parse(argument).run(self)
        except Malformed as error:
            return verb, self._nonsense(negative(str(error)))
        except NoSuchMessage:
            response = NO_SUCH_MESSAGE
        except errors.RestanteError as error:
            if ends_session(error):
                raise Ended(error) from None
            response = response_to(error)
        self._errors = 0
        return verb, response

    def _nonsense(self, response: Response) -> Response:
        """Whoever sends nothing but errors speaks another protocol."""
        self._errors += 1
        self._done = self._done or self._errors >= MAX_ERRORS
        return response

    async def _next_line(self) -> bytes:
        """A line inside an exchange. Raises Malformed, ConnectionLost, Interruption."""
        while (line := self._lines.next_line()) is None:
            data = await self.connection.read()
            if not data:
                raise ConnectionLost
            self._lines.feed(data)
        if isinstance(line, LineTooLong):
            raise sasl.MalformedResponse("line too long")
        return line

    async def _leave(self) -> None:
        maildrop, self._maildrop = self._maildrop, None
        if maildrop is not None:
            await maildrop.abandon()
        self._log.event("session ended", retrieved=self.retrieved, octets_out=self.connection.octets_out)

    # -- for commands: what is written

    def write(self, octets: bytes) -> None:
        """Queues octets for the client."""
        self.connection.write(octets)

    def write_all(self, pieces: Iterable[bytes]) -> None:
        """Queues a short answer."""
        for piece in pieces:
            self.connection.write(piece)

    async def stream(self, pieces: Iterable[bytes]) -> None:
        """Writes an answer of any length, as fast as the client takes it."""
        for piece in pieces:
            self.connection.write(piece)
            await asyncio.sleep(0)  # a listing of a great maildrop must not hold up the others
            if self.connection.write_paused:
                await self.connection.drain()

    async def stream_message(self, octets: AsyncIterator[bytes], stuffer: DotStuffer) -> None:
        """Writes the rest of a message and its end.

        What breaks off here cannot be told in the protocol: only a lost connection keeps the client from taking half a
        message for the whole.
        """
        try:
            async for piece in octets:
                self.connection.write(stuffer.feed(piece))
                if self.connection.write_paused:
                    await self.connection.drain()
        except errors.RestanteError:
            self.connection.abort()
            raise ConnectionLost from None
        self.connection.write(stuffer.finish())

    # -- for commands: the maildrop

    @property
    def maildrop(self) -> Maildrop:
        """Ours, in the TRANSACTION state."""
        assert self._maildrop is not None
        return self._maildrop

    @property
    def snapshot(self) -> Snapshot:
        """The messages of the maildrop."""
        return self.maildrop.snapshot

    @property
    def retriever(self) -> Retriever:
        """Their octets."""
        return self.maildrop.retriever

    async def quit(self) -> Response:
        """Ends the session, and with it the messages marked as deleted (RFC 1939 6)."""
        self._done = True
        maildrop, self._maildrop = self._maildrop, None
        if maildrop is None:
            return positive("bye")
        wanted = maildrop.snapshot.deleted_count
        try:
            deleted = await maildrop.quit()
        except errors.RestanteError as error:
            return response_to(error) if ends_session(error) or not wanted else NOT_DELETED
        if not wanted:
            return positive("bye")
        if deleted is None:
            return positive("bye, none of the marked messages is left in the maildrop")
        text = f"bye, {deleted} messages deleted"
        return positive(text if deleted == wanted else f"{text}, {wanted - deleted} had left the maildrop before")

    # -- for commands: login and TLS

    @property
    def authentication_allowed(self) -> bool:
        """Whether credentials may cross this connection."""
        peer = self.connection.peer
        return authentication_allowed(self._gateway.policy, tls=peer.tls is not None, loopback=peer.loopback)

    @property
    def may_start_tls(self) -> bool:
        """Whether STLS would work now."""
        peer = self.connection.peer
        return self.state is State.AUTHORIZATION and peer.starttls and peer.tls is None

    @property
    def tls_wanted(self) -> Response:
        """The refusal of credentials in clear."""
        return negative("use STLS before authentication" if self.may_start_tls else "authentication needs TLS")

    def capabilities(self) -> list[str]:
        """Lines of CAPA: what holds now (RFC 2449 6)."""
        lines = ["TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "EXPIRE NEVER", "IMPLEMENTATION Restante"]
        if self.may_start_tls:
            lines.append("STLS")
        if self.authentication_allowed:
            lines += ["USER", f"SASL {' '.join(self.mechanisms)}"]
        return lines

    async def start_tls(self, go_ahead: bytes) -> None:
        """Says `go_ahead` and turns to TLS; nothing the client said in clear survives. Raises TlsFailed."""
        certificates = self._gateway.certificates
        assert certificates is not None
        self.write(go_ahead)
        self._lines.clear()
        self.user_name = None
        await self.connection.start_tls(certificates.context)

    async def exchange(self, mechanism: str, initial: bytes | None) -> Response:
        """A SASL exchange with the client (RFC 5034 4). Raises RestanteError."""
        self._lines.max_octets = sasl.MAX_LINE_OCTETS + 2
        try:
            return await self._log_in(login.by_exchange(self._verify, mechanism, initial, self._ask))
        except sasl.Cancelled:
            return negative("authentication cancelled")
        except sasl.MalformedResponse:
            return self.login_failed(negative("malformed response"))
        finally:
            self._lines.max_octets = MAX_LINE_OCTETS

    async def log_in(self, credentials: sasl.Secret) -> Response:
        """Logs in with name and password. Raises RestanteError."""
        return await self._log_in(login.by_password(self._verify, credentials))

    async def _log_in(self, proof: Awaitable[session_pb2.Session]) -> Response:
        try:
            user = await proof
        except (errors.AuthenticationFailed, errors.PermissionDenied, errors.ExchangeInvalid) as error:
            return self.login_failed(response_to(error))
        return await self._enter(user)

    @property
    def _verify(self) -> login.Verify:
        return login.verifier(self._gateway.core, self.connection.peer, session_pb2.SCOPE_POP3)

    async def _ask(self, challenge: bytes) -> bytes:
        self.write(b"+ %b\r\n" % challenge)
        return await self._next_line()

    def login_failed(self, response: Response) -> Response:
        """Counts a failed login; after three the connection ends."""
        self._failed_logins += 1
        self._done = self._failed_logins >= LOGIN_ATTEMPTS
        return response

    async def _enter(self, user: session_pb2.Session) -> Response:
        maildrop = await Maildrop.open(
            self._gateway.core,
            self._gateway.sessions,
            user,
            self.connection.peer.client.host,
            lambda error: self.connection.interrupt(Ended(error)),
        )
        self._maildrop = maildrop
        self._log.authenticated(maildrop.account)
        self.state = State.TRANSACTION
        self.connection.set_deadline(None)
        return positive(f"{len(maildrop.snapshot)} messages ({maildrop.snapshot.octets} octets)")
