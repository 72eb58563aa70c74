"""The client of one connection: its commands and literals as they come, and the responses to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from typing import Any, NoReturn, TypeVar

from restante import errors
from restante_gateways.imap.errors import Refusal
from restante_gateways.imap.grammar.framing import (
    Command,
    CommandReader,
    CommandRest,
    Event,
    Limits,
    LiteralChunk,
    LiteralStart,
    TooLong,
)
from restante_gateways.imap.grammar.responses import BAD, continuation
from restante_gateways.net.addresses import Peer
from restante_gateways.net.bounds import ConnectionLost, Interruption
from restante_gateways.net.connection import Connection

_YIELD_BLOCKS = 8  # blocks of a long answer before other sessions get their turn
_GLANCE_SECONDS = 0.1  # between two looks at whether the client of a long call is there
_SIGN_OF_LIFE_SECONDS = 10.0  # between two responses that say that a long call goes on
_PROBES = 5  # signs of life, one at each look, for a client that sends no more: a reset may come back

T = TypeVar("T")


class SessionOver(Interruption):
    """The session must end; the text is for the client."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Client:
    """One task reads; any may write."""

    __slots__ = ("_literal", "_reader", "connection", "over")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._reader = CommandReader()
        self._literal: LiteralStart | None = None  # announced, and neither taken nor refused yet
        self.over: str | None = None  # the reason why the session must end, for the client

    @property
    def peer(self) -> Peer:
        """The client's address, its listener, and its transport security."""
        return self.connection.peer

    # --- reading ---

    async def next_event(self, interruptible: bool = True) -> Event | None:
        """The next event; None when the client sends no more. Raises Interruption."""
        while (event := self._reader.next_event()) is None:
            octets = await self.connection.read(interruptible=interruptible)
            if not octets:
                return None
            self._reader.feed(octets)
        if self.over is not None:
            raise SessionOver(self.over)
        self._literal = event if isinstance(event, LiteralStart) else None
        return event

    async def next_line(self) -> bytes:
        """A line that is no command: DONE, or a step of SASL. Raises ConnectionLost at the end of the stream."""
        match await self.next_event():
            case None:
                raise ConnectionLost
            case Command(octets):
                return octets
            case LiteralStart():
                self.refuse_literal()
        return b"{"  # neither DONE nor base64

    def keep_literal(self) -> None:
        """Make the announced literal a part of its command."""
        self._reader.keep()
        self._ask_for_literal()

    def take_literal(self) -> None:
        """Ask for the announced literal, which `literal` then reads."""
        self._reader.stream()
        self._ask_for_literal()

    def refuse_literal(self) -> None:
        """Drop the command with its announced literal."""
        self._reader.refuse()
        self._literal = None

    def _ask_for_literal(self) -> None:
        if self._literal is not None and self._literal.synchronising:
            self.write(continuation(b"go on"))
        self._literal = None

    async def literal(self) -> AsyncIterator[bytes]:
        """The octets of a literal that was taken, as they come. Draining waits for its end. Raises ConnectionLost."""
        while True:
            event = await self._amid_literal()
            assert isinstance(event, LiteralChunk)
            yield event.octets
            if event.last:
                return

    async def rest_of_command(self) -> bytes:
        """The rest of a command, behind the literal that was taken. Raises ConnectionLost, Refusal."""
        event = await self._amid_literal()
        if isinstance(event, TooLong):
            raise Refusal(BAD("Line too long."))
        assert isinstance(event, CommandRest)
        return event.octets

    async def _amid_literal(self) -> Event:
        event = await self.next_event(interruptible=False)
        if event is None:
            raise ConnectionLost
        return event

    # --- writing ---

    def write(self, octets: bytes) -> None:
        """Queue octets; small answers need no more."""
        self.connection.write(octets)

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

    async def wait_for(self, call: Coroutine[Any, Any, T], sign: bytes) -> T:
        """The result of a long call, cancelled as soon as the client is gone or the session over.

        `sign` is a response that says that the call goes on. A client that sends no more may still listen: only
        writing to it shows whether it does. Raises ConnectionLost, SessionRevoked.
        """
        working = asyncio.ensure_future(call)
        loop, connection = asyncio.get_running_loop(), self.connection
        sign_at, probes = loop.time() + _SIGN_OF_LIFE_SECONDS, _PROBES
        try:
            while not (await asyncio.wait([working], timeout=_GLANCE_SECONDS))[0]:
                if connection.lost:
                    raise ConnectionLost
                if self.over is not None:
                    raise errors.SessionRevoked
                probing = connection.ended and probes > 0
                if probing or loop.time() >= sign_at:
                    connection.write(sign)
                    sign_at, probes = loop.time() + _SIGN_OF_LIFE_SECONDS, probes - probing
            return working.result()
        finally:
            working.cancel()

    # --- the connection ---

    def logged_in(self, limits: Limits, idle_timeout_seconds: float) -> None:
        """Commands may be as long as these limits from now on, and may take their time."""
        self._reader.limits = limits
        self.connection.set_deadline(None)
        self.connection.idle_timeout_seconds = idle_timeout_seconds

    def forget_input(self) -> None:
        """Drop all octets received so far: nothing sent in clear is taken as sent under TLS (RFC 9051 11.1)."""
        self._reader.reset()

    def end(self, reason: str) -> None:
        """End the session as soon as the command under way is done."""
        self.over = reason
        self.connection.interrupt(SessionOver(reason))

    def abort(self) -> NoReturn:
        """Cut the connection: the client is amid a literal, and would take any word for a part of it."""
        self.connection.abort()
        raise ConnectionLost
