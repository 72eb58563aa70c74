"""The SMTP client's connection to another server, on aiosmtplib's protocol: commands, replies, and message octets.

aiosmtplib's own client buffers a whole message four times, has one time limit for octets and reply together, and cannot
report whether a connection broke before or after the final dot. Its protocol class does the rest well.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from typing import cast

from aiosmtplib import SMTPException, SMTPResponse, SMTPResponseException
from aiosmtplib.esmtp import parse_esmtp_extensions
from aiosmtplib.protocol import SMTPProtocol

from restante_gateways.relay.commands import Offer

WRITE_HIGH_OCTETS = 128 << 10  # unsent octets
MAX_HELD_OCTETS = 32 << 10  # of replies; aiosmtplib's limit of one reply


@dataclass(frozen=True, slots=True)
class Patience:
    """Time limits for the other server, in seconds (RFC 5321 4.5.3.2)."""

    connect: float = 30.0
    greeting: float = 300.0
    command: float = 300.0
    tls: float = 60.0
    data: float = 120.0  # for the reply to DATA
    piece: float = 180.0  # for 64 KiB of octets
    final: float = 600.0  # for the reply to the final dot
    transaction: float = 3_600.0  # for a message as a whole
    quit: float = 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply: its code, and its text by lines."""

    code: int
    text: str

    @property
    def good(self) -> bool:
        """Whether the command succeeded (2yz)."""
        return 200 <= self.code < 300


class Broken(Exception):
    """The connection is unusable: lost, silent for too long, or not SMTP. The text has the reason."""


class _Protocol(SMTPProtocol):
    """aiosmtplib's protocol with two additions: waiting until octets are sent, and a reply at any moment after DATA.

    aiosmtplib discards octets that arrive while no reply is awaited. A server may refuse a message before its end, even
    in one packet with the 354.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._writable = asyncio.Event()
        self._writable.set()
        self._held: bytearray | None = None  # since DATA: octets received and not passed on yet
        self._data_answered = False
        self._final: asyncio.Task[SMTPResponse] | None = None  # the reply to the message

    # -- for the event loop

    def data_received(self, data: bytes) -> None:
        """Pass on the reply to DATA, and hold the octets after it until `expect_final`."""
        if self._held is None:
            super().data_received(data)
        elif len(self._held) < MAX_HELD_OCTETS:
            self._held += data
            if not self._data_answered and (end := _end_of_reply(self._held)):
                first = bytes(self._held[:end])
                del self._held[:end]
                self._data_answered = True
                super().data_received(first)
        else:
            self._release()  # not SMTP; aiosmtplib raises the error

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        super().pause_writing()
        self._writable.clear()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        super().resume_writing()
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        super().connection_lost(exc)
        self._writable.set()

    # -- for Line

    def expect_data_reply(self) -> None:
        """Prepare for the reply to DATA, before sending it."""
        self._held, self._data_answered = bytearray(), False

    def forget_data(self) -> None:
        """Return to one reply for each command, after a refused DATA."""
        self._held = None

    async def expect_final(self) -> None:
        """Expect the final reply from now on, even while octets are written; it may have arrived already."""
        self._final = asyncio.create_task(self.read_response(), name="reply to a message")
        self._final.add_done_callback(_noted)
        await asyncio.sleep(0)  # let `read_response` start waiting
        self._release()

    @property
    def answered(self) -> bool:
        """Whether the final reply has arrived."""
        final = self._final
        return final is not None and final.done() and not final.cancelled() and final.exception() is None

    async def final_reply(self, seconds: float) -> SMTPResponse:
        """The final reply. Raises the errors of `read_response`, and TimeoutError."""
        assert self._final is not None
        async with asyncio.timeout(seconds):
            return await self._final

    async def drained(self) -> None:
        """Wait until the write buffer has drained below its limit. Raises OSError."""
        await self._writable.wait()
        if not self.is_connected:
            raise ConnectionResetError

    def _release(self) -> None:
        held, self._held = self._held, None
        if held:
            super().data_received(bytes(held))


def _end_of_reply(octets: bytearray) -> int:
    """The end of the first reply, after its last line (RFC 5321 4.2.1); 0 if it is incomplete."""
    start = 0
    while (end := octets.find(b"\n", start) + 1) > 0:
        if octets[start + 3 : start + 4] != b"-":
            return end
        start = end
    return 0


def _noted(final: asyncio.Task[SMTPResponse]) -> None:
    """Retrieve the error of a reply that no task awaits any more, so that asyncio does not log it."""
    if not final.cancelled():
        final.exception()


class Line:
    """One connection. Every method raises Broken after closing the connection."""

    def __init__(self, protocol: _Protocol, transport: asyncio.Transport, patience: Patience) -> None:
        self._protocol, self._transport, self._patience = protocol, transport, patience
        self.secured = False

    @classmethod
    async def open(cls, address: str, port: int, patience: Patience) -> tuple[Line, Answer]:
        """Connect; return the line and the greeting."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(patience.connect):
                transport, protocol = await loop.create_connection(lambda: _Protocol(loop), address, port)
        except TimeoutError:
            raise Broken(f"no connection within {patience.connect:g} s") from None
        except OSError as error:
            raise Broken(f"cannot connect: {error.strerror}" if error.strerror else "cannot connect") from None
        transport.set_write_buffer_limits(high=WRITE_HIGH_OCTETS)
        line = cls(protocol, transport, patience)
        try:
            return line, await line._answer(protocol.read_response(patience.greeting))
        except BaseException:
            line.abandon()
            raise

    @property
    def open_still(self) -> bool:
        """Whether the connection is open, to the knowledge of this process."""
        return self._protocol.is_connected

    async def command(self, *words: bytes, seconds: float | None = None) -> Answer:
        """Send a command and wait for its reply."""
        limit = self._patience.command if seconds is None else seconds
        return await self._answer(self._protocol.execute_command(*words, timeout=limit))

    async def hello(self, own_name: str) -> tuple[Answer, Offer]:
        """Send EHLO, or HELO if the server does not know EHLO (RFC 5321 3.2)."""
        answer = await self.command(b"EHLO", own_name.encode())
        if answer.good:
            return answer, Offer.of(parse_esmtp_extensions(answer.text)[0])
        if answer.code >= 500:
            answer = await self.command(b"HELO", own_name.encode())
        return answer, Offer()

    async def secure(self, context: ssl.SSLContext, name: str | None) -> Answer:
        """Send STARTTLS and run the handshake. A negative reply leaves the connection unchanged."""
        try:
            answer = await self._answer(
                self._protocol.start_tls(context, server_hostname=name, timeout=self._patience.tls)
            )
        except ValueError as error:  # a host name that TLS cannot carry
            self.abandon()
            raise Broken(str(error)) from None
        if answer.good:
            # uvloop's TLS transport has the methods, but not the class.
            self._transport, self.secured = cast(asyncio.Transport, self._protocol.transport), True
            self._transport.set_write_buffer_limits(high=WRITE_HIGH_OCTETS)
        return answer

    async def ask_to_send(self) -> Answer:
        """Send DATA. After the reply 354, call `send`."""
        self._protocol.expect_data_reply()
        answer = await self.command(b"DATA", seconds=self._patience.data)
        if answer.code != 354:
            self._protocol.forget_data()
        return answer

    async def send(self, pieces: Iterable[bytes]) -> Answer:
        """Send the octets after DATA and wait for the final reply.

        If Broken is raised after the last octet, the server may or may not have accepted the message.
        """
        await self._protocol.expect_final()
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
            raise Broken(f"the server accepted no octets for {self._patience.piece:g} s") from None
        except OSError:
            if self._protocol.answered:
                return await self._refused()
            self.abandon()
            raise Broken("the server closed the connection during the message") from None
        return await self._answer(self._protocol.final_reply(self._patience.final))

    async def _refused(self) -> Answer:
        """The reply before the end of the message. It must be a refusal; a positive one raises Broken."""
        answer = await self._answer(self._protocol.final_reply(self._patience.final))
        self.abandon()
        if answer.code < 400:
            raise Broken("the server accepted the message before its end")
        return answer

    async def close(self) -> None:
        """Send QUIT if the connection is open, then close it."""
        try:
            if self.open_still:
                await self.command(b"QUIT", seconds=self._patience.quit)
        except Broken:
            return  # the connection is closed already
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Abort the connection, so that the other server does not accept an unfinished message."""
        self._transport.abort()

    async def _answer(self, reply: Awaitable[SMTPResponse]) -> Answer:
        try:
            response = await reply
        except SMTPResponseException as error:
            if error.code < 200:  # not a valid reply
                self.abandon()
                raise Broken("the server's answer is not an SMTP reply") from None
            return Answer(error.code, error.message)
        except TimeoutError:
            self.abandon()
            raise Broken("the server did not answer in time") from None
        except (SMTPException, OSError):
            self.abandon()
            raise Broken("the server closed the connection") from None
        if not 200 <= response.code < 600:
            self.abandon()
            raise Broken("the server's answer is not an SMTP reply")
        return Answer(response.code, response.message)
