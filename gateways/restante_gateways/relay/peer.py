"""The SMTP client's connection to another server, on aiosmtplib's protocol: commands, replies, and message octets.

aiosmtplib's own client buffers a whole message four times, has one time limit for octets and reply together, and cannot
report whether a connection broke before or after the final dot. Its protocol class does the greeting, EHLO and STARTTLS
well, but awaits each reply before the next command; `replies` reads those of transactions.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

from aiosmtplib import SMTPException, SMTPResponse, SMTPResponseException
from aiosmtplib.esmtp import parse_esmtp_extensions
from aiosmtplib.protocol import SMTPProtocol

from restante_gateways.relay.commands import DATA, Offer
from restante_gateways.relay.replies import Answer, NotSmtp, ReplyReader

WRITE_HIGH_OCTETS = 128 << 10  # unsent octets
_CONTROLS = bytes(range(32)) + b"\x7f"


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


class Broken(Exception):
    """The connection is unusable: lost, silent for too long, or not SMTP. The text has the reason."""


class HandshakeFailed(Broken):
    """The TLS handshake has failed. `verify_code`: OpenSSL's code of a refused certificate (X509_V_ERR_...), else 0."""

    def __init__(self, error: ssl.SSLError) -> None:
        if isinstance(error, ssl.SSLCertVerificationError):
            super().__init__(f"certificate refused: {error.verify_message}")
            self.verify_code = error.verify_code
        else:
            super().__init__(f"handshake failed: {error.reason or 'not TLS'}")
            self.verify_code = 0


class _Protocol(SMTPProtocol):
    """aiosmtplib's protocol, which reads one reply for each command, until `pipeline` is called.

    After that, commands may be sent before the replies to earlier ones, and the reply to a message may arrive at any
    moment after DATA: a server may refuse a message before its end, even in one packet with the 354.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._writable = asyncio.Event()
        self._writable.set()
        self._arrived = asyncio.Event()
        self._replies: ReplyReader | None = None
        self._is_smtp = True

    # -- for the event loop

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._replies is None:
            super().data_received(data)
            return
        try:
            self._replies.feed(data)
        except NotSmtp:
            self._is_smtp = False
        self._arrived.set()

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
        self._arrived.set()

    # -- for Line

    @property
    def is_pipelined(self) -> bool:
        """Whether `pipeline` was called."""
        return self._replies is not None

    def pipeline(self) -> ReplyReader:
        """Read replies with a ReplyReader from now on."""
        if self._replies is None:
            self._replies = ReplyReader()
        return self._replies

    async def reply(self, seconds: float) -> Answer:
        """The next reply after `pipeline`. Raises NotSmtp, OSError, and TimeoutError after `seconds`."""
        replies = self.pipeline()
        if not replies.is_ready:
            async with asyncio.timeout(seconds):
                while not replies.is_ready:
                    if not self._is_smtp:
                        raise NotSmtp
                    if not self.is_connected:
                        raise ConnectionResetError
                    self._arrived.clear()
                    await self._arrived.wait()
        answer = replies.next()
        assert answer is not None
        return answer

    async def drained(self) -> None:
        """Wait until the write buffer has drained below its limit. Raises OSError."""
        await self._writable.wait()
        if not self.is_connected:
            raise ConnectionResetError


class Line:
    """One connection. Every method raises Broken after closing the connection."""

    def __init__(self, protocol: _Protocol, transport: asyncio.Transport, patience: Patience) -> None:
        self._protocol, self._transport, self._patience = protocol, transport, patience
        self.secured = False
        self.tls_failed = ""  # the reason why TLS, which the server offers, is not used

    @classmethod
    async def open(
        cls,
        address: str,
        port: int,
        patience: Patience,
        local_address: str = "",
        tls: tuple[ssl.SSLContext, str] | None = None,
    ) -> tuple[Line, Answer]:
        """Connect; return the line and the greeting. With `tls`, a context and the server's name, TLS comes first."""
        loop = asyncio.get_running_loop()
        context, name = tls or (None, None)
        try:
            async with asyncio.timeout(patience.connect):
                transport, protocol = await loop.create_connection(
                    lambda: _Protocol(loop),
                    address,
                    port,
                    ssl=context,
                    server_hostname=name,
                    local_addr=(local_address, 0) if local_address else None,
                )
        except TimeoutError:
            raise Broken(f"no connection within {patience.connect:g} s") from None
        except ssl.SSLError as error:
            raise HandshakeFailed(error) from None
        except ValueError as error:  # a host name that TLS cannot carry
            raise Broken(str(error)) from None
        except OSError as error:
            raise Broken(f"cannot connect: {error.strerror}" if error.strerror else "cannot connect") from None
        transport.set_write_buffer_limits(high=WRITE_HIGH_OCTETS)
        line = cls(protocol, transport, patience)
        line.secured = tls is not None
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
        if not self._protocol.is_pipelined:
            return await self._answer(self._protocol.execute_command(*words, timeout=limit))
        self.send_commands([words])
        return await self.reply(limit)

    async def hello(self, own_name: str) -> tuple[Answer, Offer]:
        """Send EHLO, or HELO if the server does not know EHLO (RFC 5321 3.2)."""
        answer = await self.command(b"EHLO", own_name.encode())
        if answer.good:
            return answer, Offer.of(*parse_esmtp_extensions(answer.text))
        if answer.code >= 500:
            answer = await self.command(b"HELO", own_name.encode())
        return answer, Offer()

    async def secure(self, context: ssl.SSLContext, name: str | None) -> Answer:
        """Send STARTTLS and run the handshake. A negative reply leaves the connection unchanged.

        Raises HandshakeFailed for an error of TLS.
        """
        try:
            answer = await self._answer(self._handshake(context, name))
        except ValueError as error:  # a host name that TLS cannot carry
            self.abandon()
            raise Broken(str(error)) from None
        if answer.good:
            # uvloop's TLS transport has the methods, but not the class.
            self._transport, self.secured = cast(asyncio.Transport, self._protocol.transport), True
            self._transport.set_write_buffer_limits(high=WRITE_HIGH_OCTETS)
        return answer

    async def handed_over(self) -> asyncio.Transport:
        """Send STARTTLS, and hand the connection over for a handshake that the caller makes."""
        answer = await self.command(b"STARTTLS")
        if answer.good:
            return self._transport
        await self.close()
        raise Broken(f"STARTTLS refused: {answer.code} {answer.text}")

    async def _handshake(self, context: ssl.SSLContext, name: str | None) -> SMTPResponse:
        try:
            return await self._protocol.start_tls(context, server_hostname=name, timeout=self._patience.tls)
        except ssl.SSLError as error:
            self.abandon()
            raise HandshakeFailed(error) from None

    @property
    def certificate(self) -> bytes:
        """The server's certificate in DER; empty without TLS."""
        tls = self._transport.get_extra_info("ssl_object")
        return b"" if tls is None else tls.getpeercert(binary_form=True) or b""

    @property
    def own_address(self) -> str:
        """The address of this end; empty when the connection is lost."""
        address = self._transport.get_extra_info("sockname")
        return str(address[0]) if address else ""

    def send_commands(self, commands: Sequence[tuple[bytes, ...]]) -> None:
        """Send commands, each given as its words, without waiting for replies (RFC 2920). Take each one by `reply`."""
        lines = [b" ".join(words) for words in commands]
        if any(line.translate(None, _CONTROLS) != line for line in lines):
            raise ValueError("a command contains a control character")
        replies = self._protocol.pipeline()
        # After DATA the reply to the message may arrive at once, too.
        replies.expect(len(lines) + (DATA in commands))
        try:
            self._protocol.write(b"\r\n".join(lines) + b"\r\n")
        except SMTPException:
            self.abandon()
            raise Broken("the server closed the connection") from None

    async def reply(self, seconds: float | None = None) -> Answer:
        """The reply to the earliest command of `send_commands` that has none yet."""
        return await self._answer(self._protocol.reply(self._patience.command if seconds is None else seconds))

    async def data_reply(self) -> Answer:
        """The reply to DATA. After 354, call `send`."""
        answer = await self.reply(self._patience.data)
        if answer.code != 354:
            self._protocol.pipeline().expect_none()
        return answer

    async def send(self, pieces: Iterable[bytes]) -> Answer:
        """Send the octets after DATA and wait for the final reply.

        If Broken is raised after the last octet, the server may or may not have accepted the message.
        """
        replies = self._protocol.pipeline()
        try:
            for piece in pieces:
                if replies.is_ready:
                    return await self._refused()
                self._protocol.write(piece)
                async with asyncio.timeout(self._patience.piece):
                    await self._protocol.drained()
        except TimeoutError:
            if replies.is_ready:
                return await self._refused()
            self.abandon()
            raise Broken(f"the server accepted no octets for {self._patience.piece:g} s") from None
        except (SMTPException, OSError):
            if replies.is_ready:
                return await self._refused()
            self.abandon()
            raise Broken("the server closed the connection during the message") from None
        return await self.reply(self._patience.final)

    async def _refused(self) -> Answer:
        """The reply before the end of the message. It must be a refusal; a positive one raises Broken."""
        answer = await self.reply(self._patience.final)
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

    async def _answer(self, reply: Awaitable[SMTPResponse | Answer]) -> Answer:
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
        except NotSmtp:
            self.abandon()
            raise Broken("the server's answer is not an SMTP reply") from None
        except (SMTPException, OSError):
            self.abandon()
            raise Broken("the server closed the connection") from None
        if isinstance(response, Answer):
            return response
        if not 200 <= response.code < 600:
            self.abandon()
            raise Broken("the server's answer is not an SMTP reply")
        return Answer(response.code, response.message)
