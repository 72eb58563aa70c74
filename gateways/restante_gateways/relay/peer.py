"""The line to another server, on aiosmtplib's protocol: one command, one reply; octets sent as fast as they are taken.

aiosmtplib's own client buffers a whole message four times over, gives the octets and the reply one time limit together,
and cannot say whether a connection broke before or after the final dot; its protocol does the rest well.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from typing import cast

from aiosmtplib import SMTPException, SMTPResponse, SMTPResponseException
from aiosmtplib.esmtp import parse_esmtp_extensions
from aiosmtplib.protocol import MAX_RESPONSE_LENGTH, SMTPProtocol

from restante_gateways.relay.commands import Offer

WRITE_HIGH_OCTETS = 128 << 10  # waiting to be taken by the other server


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the other server may take, in seconds (RFC 5321 4.5.3.2)."""

    connect: float = 30.0
    greeting: float = 300.0
    command: float = 300.0
    tls: float = 60.0
    data: float = 120.0  # to allow the octets
    piece: float = 180.0  # to take 64 KiB of them
    final: float = 600.0  # to answer the final dot
    transaction: float = 3_600.0  # in all
    quit: float = 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply: its code, and its text by lines."""

    code: int
    text: str

    @property
    def good(self) -> bool:
        """The command was carried out."""
        return 200 <= self.code < 300


class Broken(Exception):
    """The connection is of no further use: lost, silent for too long, or no SMTP. The text tells which."""


class _Protocol(SMTPProtocol):
    """aiosmtplib forgets what comes while no reply is awaited; during DATA a refusal may come at any moment."""

    _early: bytearray | None = None  # during DATA: what has come behind a reply

    def keep_early(self) -> None:
        """From now on nothing that comes is forgotten, until `expect`."""
        self._early = bytearray()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        waiter = self._response_waiter
        if self._early is not None and waiter is not None and (waiter.done() or not self._response_pending):
            if len(self._early) < MAX_RESPONSE_LENGTH:
                self._early += data
        else:
            super().data_received(data)

    def expect(self) -> None:
        """A reply may come from now on, even while octets are written; perhaps one has."""
        self._response_pending = True
        came, self._early = bytes(self._buffer) + bytes(self._early or b""), None
        self._buffer.clear()
        if came:
            self.data_received(came)

    @property
    def answered(self) -> bool:
        """A reply has come that nobody has read yet."""
        waiter = self._response_waiter
        return waiter is not None and waiter.done() and not waiter.cancelled() and waiter.exception() is None

    async def drained(self) -> None:
        """Wait until the other server has taken most of what was written. Raises OSError."""
        await self._drain_helper()


class Line:
    """One connection. Every method raises Broken; the connection is then closed."""

    def __init__(self, protocol: _Protocol, transport: asyncio.Transport, patience: Patience) -> None:
        self._protocol, self._transport, self._patience = protocol, transport, patience
        self.secured = False

    @classmethod
    async def open(cls, address: str, port: int, patience: Patience) -> tuple[Line, Answer]:
        """Connect; the line, and the greeting."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(patience.connect):
                transport, protocol = await loop.create_connection(lambda: _Protocol(loop), address, port)
        except TimeoutError:
            raise Broken(f"no connection within {patience.connect:g} s") from None
        except OSError as error:
            raise Broken(error.strerror or "no connection") from None
        transport.set_write_buffer_limits(high=WRITE_HIGH_OCTETS)
        line = cls(protocol, transport, patience)
        try:
            return line, await line._answer(protocol.read_response(patience.greeting))
        except BaseException:
            line.abandon()
            raise

    @property
    def open_still(self) -> bool:
        """Nobody has closed it, as far as is known."""
        return self._protocol.is_connected

    async def command(self, *words: bytes, seconds: float | None = None) -> Answer:
        """Send a command, wait for its reply."""
        limit = self._patience.command if seconds is None else seconds
        return await self._answer(self._protocol.execute_command(*words, timeout=limit))

    async def hello(self, own_name: str) -> tuple[Answer, Offer]:
        """EHLO, or HELO where that is not known (RFC 5321 3.2)."""
        answer = await self.command(b"EHLO", own_name.encode())
        if answer.good:
            return answer, Offer.of(parse_esmtp_extensions(answer.text)[0])
        if answer.code >= 500:
            answer = await self.command(b"HELO", own_name.encode())
        return answer, Offer()

    async def secure(self, context: ssl.SSLContext, name: str | None) -> Answer:
        """STARTTLS and the handshake. An answer that is not good leaves the connection as it was."""
        try:
            answer = await self._answer(
                self._protocol.start_tls(context, server_hostname=name, timeout=self._patience.tls)
            )
        except ValueError as error:  # a host name that TLS cannot carry
            self.abandon()
            raise Broken(str(error)) from None
        if answer.good:
            # uvloop's TLS transport is none by its class.
            self._transport, self.secured = cast(asyncio.Transport, self._protocol.transport), True
            self._transport.set_write_buffer_limits(high=WRITE_HIGH_OCTETS)
        return answer

    async def ask_to_send(self) -> Answer:
        """DATA. With 354, `send` follows."""
        self._protocol.keep_early()
        return await self.command(b"DATA", seconds=self._patience.data)

    async def send(self, pieces: Iterable[bytes]) -> Answer:
        """Send the octets behind DATA, wait for the last reply. Once they are out, Broken leaves open what happened."""
        self._protocol.expect()
        try:
            for piece in pieces:
                self._protocol.write(piece)
                async with asyncio.timeout(self._patience.piece):
                    await self._protocol.drained()
                if self._protocol.answered:
                    return await self._refused()
        except TimeoutError:
            if self._protocol.answered:
                return await self._refused()
            self.abandon()
            raise Broken(f"takes no octets for {self._patience.piece:g} s") from None
        except OSError:
            if self._protocol.answered:
                return await self._refused()
            self.abandon()
            raise Broken("closed the connection while the message was sent") from None
        return await self._answer(self._protocol.read_response(self._patience.final))

    async def _refused(self) -> Answer:
        """The reply of a server that has not waited for the end: it can only be a refusal."""
        answer = await self._answer(self._protocol.read_response(self._patience.final))
        self.abandon()
        if answer.code < 400:
            raise Broken("answers before the end of the message")
        return answer

    async def close(self) -> None:
        """Say goodbye, if anybody listens."""
        try:
            if self.open_still:
                await self.command(b"QUIT", seconds=self._patience.quit)
        except Broken:
            return  # it has gone already
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Cut the connection: what was under way in it is not taken by the other server."""
        self._transport.abort()

    async def _answer(self, reply: Awaitable[SMTPResponse]) -> Answer:
        try:
            response = await reply
        except SMTPResponseException as error:
            if error.code < 200:  # it could not be read
                self.abandon()
                raise Broken("answers with what is no SMTP reply") from None
            return Answer(error.code, error.message)
        except TimeoutError:
            self.abandon()
            raise Broken("does not answer in time") from None
        except (SMTPException, OSError):
            self.abandon()
            raise Broken("closed the connection") from None
        if not 200 <= response.code < 600:
            self.abandon()
            raise Broken("answers with what is no SMTP reply")
        return Answer(response.code, response.message)
