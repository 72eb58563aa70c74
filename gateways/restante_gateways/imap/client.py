"""The client's side of one connection: incoming commands and literals, outgoing responses."""

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

_YIELD_BLOCKS = 8  # of a long response, before the task yields to other sessions
_GLANCE_SECONDS = 0.1  # interval of the checks during a long call that the client is still connected
_SIGN_OF_LIFE_SECONDS = 10.0  # interval of untagged responses during a long call
_PROBES = 5  # responses, one at each check, to a client that closed its sending side: a dead one answers with a reset

T = TypeVar("T")


class SessionOver(Interruption):
    """The session must end; `text` goes to the client in a BYE."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Client:
    """Reads and writes of one connection. One task reads; any task may write."""

    __slots__ = ("_literal", "_reader", "connection", "over", "reads")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._reader = CommandReader()
        self._literal: LiteralStart | None = None  # announced, but neither accepted nor refused yet
        self.over: str | None = None  # the reason why the session must end, for the client
        self.reads = 0  # of the connection: events between two of them had all arrived at the earlier one

    @property
    def peer(self) -> Peer:
        """The client's address, its listener, and its transport security."""
        return self.connection.peer

    # --- reading ---

    async def next_event(self, interruptible: bool = True) -> Event | None:
        """The next event; None at the end of the stream. Raises Interruption, also when the stream is out of sync."""
        while (event := self._reader.next_event()) is None:
            if self._reader.out_of_sync:
                raise SessionOver("Command stream out of sync.")
            octets = await self.connection.read(interruptible=interruptible)
            if not octets:
                return None
            self.reads += 1
            self._reader.feed(octets)
        if self.over is not None:
            raise SessionOver(self.over)
        self._literal = event if isinstance(event, LiteralStart) else None
        return event

    async def next_line(self) -> bytes:
        """The next line outside of the command syntax: DONE, or a SASL response. Raises ConnectionLost at the end."""
        match await self.next_event():
            case None:
                raise ConnectionLost
            case Command(octets):
                return octets
            case LiteralStart():
                self.refuse_literal()
        return b"{"  # neither DONE nor base64

    def keep_literal(self) -> None:
        """Accept the announced literal as a part of its command's text."""
        self._reader.keep()
        self._ask_for_literal()

    def take_literal(self) -> None:
        """Accept the announced literal; `literal` then reads it as a stream."""
        self._reader.stream()
        self._ask_for_literal()

    def refuse_literal(self) -> None:
        """Discard the command together with its announced literal."""
        self._reader.refuse()
        self._literal = None

    def _ask_for_literal(self) -> None:
        if self._literal is not None and self._literal.synchronising:
            self.write(continuation(b"go on"))
        self._literal = None

    async def literal(self) -> AsyncIterator[bytes]:
        """The octets of an accepted literal, as they arrive. A drain waits for its end. Raises ConnectionLost."""
        while True:
            event = await self._amid_literal()
            assert isinstance(event, LiteralChunk)
            yield event.octets
            if event.last:
                return

    async def rest_of_command(self) -> bytes:
        """The rest of a command after its accepted literal. Raises ConnectionLost, Refusal."""
        event = await self._amid_literal()
        if isinstance(event, TooLong):
            raise Refusal(BAD("The line is too long."))
        assert isinstance(event, CommandRest)
        return event.octets

    async def _amid_literal(self) -> Event:
        event = await self.next_event(interruptible=False)
        if event is None:
            raise ConnectionLost
        return event

    # --- writing ---

    def write(self, octets: bytes) -> None:
        """Queue octets without waiting. Large responses need `flow` or `write_blocks`."""
        self.connection.write(octets)

    async def flow(self) -> None:
        """Wait until the write buffer has drained below its limit. Raises ConnectionLost."""
        if self.connection.write_paused:
            await self.connection.drain()

    async def write_blocks(self, blocks: Iterable[bytes]) -> None:
        """Write a long response at the client's pace, yielding to other sessions. Raises ConnectionLost."""
        for count, block in enumerate(blocks, start=1):
            self.connection.write(block)
            if self.connection.write_paused:
                await self.connection.drain()
            elif count % _YIELD_BLOCKS == 0:
                await asyncio.sleep(0)

    async def wait_for(self, call: Coroutine[Any, Any, T], sign: bytes) -> T:
        """The result of a long call, which is cancelled when the client disconnects or the session ends.

        `sign` is an untagged response sent while the call runs. A client that closed its sending side may still read;
        only a write shows whether it does. Raises ConnectionLost, SessionRevoked.
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
        """Apply the limits of logged-in clients, and replace the login deadline by the idle timeout."""
        self._reader.limits = limits
        self.connection.set_deadline(None)
        self.connection.idle_timeout_seconds = idle_timeout_seconds

    def forget_input(self) -> None:
        """Discard all octets received before TLS, so that none counts as sent under TLS (RFC 9051 11.1)."""
        self._reader.reset()

    def end(self, reason: str) -> None:
        """End the session when the current command has finished."""
        self.over = reason
        self.connection.interrupt(SessionOver(reason))

    def abort(self) -> NoReturn:
        """Abort the connection amid a literal of a response: the client would read a BYE as a part of the literal."""
        self.connection.abort()
        raise ConnectionLost
