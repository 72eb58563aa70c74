"""One POP3 connection, from its greeting to QUIT."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from typing import Protocol

from restante import errors
from restante.v1 import session_pb2
from restante_gateways.core import login, sasl
from restante_gateways.core.sessions import AccountSessions
from restante_gateways.net.authentication import AuthenticationPolicy, authentication_allowed
from restante_gateways.net.bounds import ConnectionLost, Draining, Interruption, TimedOut
from restante_gateways.net.connection import Connection
from restante_gateways.net.logging import SessionLog
from restante_gateways.net.metrics import GatewayMetrics
from restante_gateways.pop3 import commands  # noqa: F401 - the import fills the table
from restante_gateways.pop3.errors import ends_session, response_to
from restante_gateways.pop3.maildrop import Core, Maildrop
from restante_gateways.pop3.output import Output
from restante_gateways.pop3.protocol import (
    MAX_LINE_OCTETS,
    LineReader,
    LineTooLong,
    Malformed,
    Response,
    negative,
    positive,
    split_command,
)
from restante_gateways.pop3.retrieval import Retriever
from restante_gateways.pop3.settings import SessionSettings
from restante_gateways.pop3.snapshot import NoSuchMessage, Snapshot
from restante_gateways.pop3.table import TABLE, State
from restante_process.tls import Certificates

UNKNOWN_COMMAND = negative("unknown command")
WRONG_STATE = {
    State.AUTHORIZATION: negative("log in first"),
    State.TRANSACTION: negative("this command is only allowed before login"),
}
NO_SUCH_MESSAGE = negative("no such message")
NOT_DELETED = negative(
    "the server cannot tell whether the messages were deleted, check them in the next session", "SYS/TEMP"
)
LINE_TOO_LONG = negative("line too long")
SHUTTING_DOWN = negative("the server is shutting down, connect again later", "SYS/TEMP")


class Ended(Interruption):
    """The core ended this session, or another session has the maildrop."""

    def __init__(self, error: errors.RestanteError) -> None:
        super().__init__(error.reason)
        self.error = error


class Gateway(Protocol):
    """The state of the process, for its sessions."""

    core: Core
    sessions: AccountSessions
    policy: AuthenticationPolicy
    metrics: GatewayMetrics
    settings: SessionSettings

    @property
    def certificates(self) -> Certificates | None:
        """The certificates for STLS."""


class Session:
    """The state of one connection; `run` serves it. Commands use it by the protocol `table.Session`."""

    def __init__(self, connection: Connection, gateway: Gateway, log: SessionLog) -> None:
        self._connection, self._gateway, self._log = connection, gateway, log
        self._settings = gateway.settings
        self.output = Output(connection)
        self._state = State.AUTHORIZATION
        self.user_name: bytes | None = None
        self.retrieved = 0
        self._lines = LineReader()
        self._maildrop: Maildrop | None = None
        self._failed_logins = self._errors = 0
        self._done = False

    # -- the conversation

    async def run(self) -> None:
        """Serve the connection until it ends, then release the maildrop."""
        self._connection.set_deadline(self._settings.login_seconds)
        self.output.write(bytes(positive("Restante POP3 ready")))
        try:
            await self._converse()
        except TimedOut:
            pass  # RFC 1939 3: close without a response, and delete nothing
        except Draining:
            self.output.write(bytes(SHUTTING_DOWN))
        except Ended as ended:
            self.output.write(bytes(response_to(ended.error)))
        except ConnectionLost:
            pass  # without QUIT nothing is deleted
        finally:
            await self._leave()

    async def _converse(self) -> None:
        turn = 0
        while not self._done:
            line = self._lines.next_line()
            if line is None:
                turn = 0
                data = await self._connection.read()
                if not data:
                    return
                self._lines.feed(data)
                continue
            await self._obey(line)
            turn += 1
            if turn % self._settings.turn_commands == 0:
                await asyncio.sleep(0)

    async def _obey(self, line: bytes | LineTooLong) -> None:
        began = time.perf_counter()
        verb, response = await self._answer(line)
        if response is not None:
            self._connection.write(bytes(response))
        outcome = "ok" if response is None else response.outcome
        seconds = time.perf_counter() - began
        self._log.finished(verb, outcome, seconds)
        self._gateway.metrics.command(verb, outcome, seconds)
        if self._connection.write_paused:
            await self._connection.drain()

    async def _answer(self, line: bytes | LineTooLong) -> tuple[str, Response | None]:
        """The verb, for logs, and the response; None if the command has written it already."""
        if isinstance(line, LineTooLong):
            return "?", self._nonsense(LINE_TOO_LONG)
        verb, argument = split_command(line)
        entry = TABLE.get(verb)
        if entry is None:
            return "?", self._nonsense(UNKNOWN_COMMAND)
        if self._state not in entry.states:
            return verb, self._nonsense(WRONG_STATE[self._state])
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
        """Count an unusable line; end the session after `max_errors` in a row."""
        self._errors += 1
        self._done = self._done or self._errors >= self._settings.max_errors
        return response

    async def _next_line(self) -> bytes:
        """A line inside a SASL exchange. Raises sasl.MalformedResponse, ConnectionLost, Interruption."""
        while (line := self._lines.next_line()) is None:
            data = await self._connection.read()
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
        self._log.event("session ended", retrieved=self.retrieved, octets_out=self._connection.octets_out)

    # -- for commands: the maildrop

    @property
    def maildrop(self) -> Maildrop:
        """The maildrop; only in the TRANSACTION state."""
        assert self._maildrop is not None
        return self._maildrop

    @property
    def snapshot(self) -> Snapshot:
        """The messages of the maildrop."""
        return self.maildrop.snapshot

    @property
    def retriever(self) -> Retriever:
        """The reader of the messages' octets."""
        return self.maildrop.retriever

    async def quit(self) -> Response:
        """End the session and delete the marked messages (RFC 1939 6)."""
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
        return positive(text if deleted == wanted else f"{text}, another session had removed {wanted - deleted}")

    # -- for commands: login and TLS

    @property
    def mechanisms(self) -> Sequence[str]:
        """The SASL mechanisms."""
        return self._settings.mechanisms

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self._connection.peer.tls is not None

    @property
    def authentication_allowed(self) -> bool:
        """Whether the connection is secure enough for credentials."""
        loopback = self._connection.peer.loopback
        return authentication_allowed(self._gateway.policy, tls=self.tls, loopback=loopback)

    @property
    def may_start_tls(self) -> bool:
        """Whether STLS is possible now."""
        return self._state is State.AUTHORIZATION and self._connection.peer.starttls and not self.tls

    async def start_tls(self, go_ahead: bytes) -> None:
        """Send `go_ahead`, discard all input received in clear, and start TLS. Raises TlsFailed."""
        certificates = self._gateway.certificates
        assert certificates is not None
        self.output.write(go_ahead)
        self._lines.clear()
        self.user_name = None
        await self._connection.start_tls(certificates.context)

    async def exchange(self, mechanism: str, initial: bytes | None) -> Response:
        """Log in by a SASL exchange with the client (RFC 5034 4). Raises RestanteError."""
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
        """Log in with name and password. Raises RestanteError."""
        return await self._log_in(login.by_password(self._verify, credentials))

    async def _log_in(self, proof: Awaitable[session_pb2.Session]) -> Response:
        try:
            user = await proof
        except (errors.AuthenticationFailed, errors.PermissionDenied, errors.ExchangeInvalid) as error:
            return self.login_failed(response_to(error))
        return await self._enter(user)

    @property
    def _verify(self) -> login.Verify:
        return login.verifier(self._gateway.core, self._connection.peer, session_pb2.SCOPE_POP3)

    async def _ask(self, challenge: bytes) -> bytes:
        self.output.write(b"+ %b\r\n" % challenge)
        return await self._next_line()

    def login_failed(self, response: Response) -> Response:
        """Count a failed login; after `max_login_attempts` the connection ends. Return the response."""
        self._failed_logins += 1
        self._done = self._failed_logins >= self._settings.max_login_attempts
        return response

    async def _enter(self, user: session_pb2.Session) -> Response:
        maildrop = await Maildrop.open(
            self._gateway.core,
            self._gateway.sessions,
            user,
            self._connection.peer.client.host,
            lambda error: self._connection.interrupt(Ended(error)),
            self._settings.maildrop,
        )
        self._maildrop = maildrop
        self._log.authenticated(maildrop.account)
        self._state = State.TRANSACTION
        self._connection.set_deadline(None)
        return positive(f"{len(maildrop.snapshot)} messages ({maildrop.snapshot.octets} octets)")
