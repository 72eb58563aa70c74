"""The octets of one SMTP session: lines and content in, replies out, each within its time."""

from __future__ import annotations

import asyncio
import ssl

from restante_gateways.net.connection import Connection
from restante_gateways.smtp.lines import MAX_LINE_OCTETS, BadLine, LineReader
from restante_gateways.smtp.replies import Reply, SessionOver
from restante_gateways.smtp.waiting import WaitingTime

MAX_TAKEN_TOGETHER = 99  # commands behind the one under way; VerifyRecipients takes 100


class Channel:
    """A connection as SMTP reads and writes it. An Interruption of the connection passes through every wait."""

    def __init__(self, connection: Connection, *, line_seconds: float, max_command_octets: int, wait: float) -> None:
        """`line_seconds`: for one line to come whole. `wait`: see `waiting`."""
        self.connection = connection
        self.waiting = WaitingTime(wait)  # for commands, all together
        self._line_seconds, self._max_command_octets = line_seconds, max_command_octets
        self._lines = LineReader(MAX_LINE_OCTETS + 64)  # the verb of an AUTH line comes on top
        self._held: BadLine | None = None  # met while looking ahead
        self._loop = asyncio.get_running_loop()

    # -- in

    async def next_line(self) -> bytes | BadLine:
        """The next line, or what came in its place; an unfinished last line is no line.

        Raises SessionOver when the client sends no more, and Interruption, TimedOut among them.
        """
        if self._held is not None:
            line, self._held = self._held, None
            return line
        found = self._lines.next_line()
        if found is not None:
            return found
        began = self._loop.time()
        # Of the whole line: an octet now and then buys no time.
        until = began + min(self._line_seconds, self.waiting.left_seconds)
        while (found := self._lines.next_line()) is None:
            self._lines.feed(await self.read(until, interruptible=True))
        self.waiting.spend(self._loop.time() - began)
        return found

    def take_waiting(self, verb: bytes) -> list[bytes]:
        """The arguments of the same command as far as it waits already, pipelined (RFC 2920)."""
        start, arguments = verb + b" ", list[bytes]()
        while len(arguments) < MAX_TAKEN_TOGETHER and self._lines.peek_line(start):
            line = self._lines.next_line()
            if isinstance(line, bytes) and len(line) > self._max_command_octets:
                line = BadLine.TOO_LONG
            if not isinstance(line, bytes):
                self._held = line
                break
            arguments.append(line[len(start) :].strip(b" "))
        return arguments

    def take_rest(self) -> bytes:
        """The octets that have come and are no command: the beginning of a content."""
        return self._lines.take_rest()

    def put_back(self, octets: bytes) -> None:
        """The octets behind a content, which are commands again."""
        self._lines.feed(octets)

    async def read(self, until: float, *, interruptible: bool) -> bytes:
        """At least one octet, by loop time `until`. The replies said so far leave first.

        Raises SessionOver when the client sends no more, TimedOut, and other Interruptions when `interruptible`.
        """
        connection = self.connection
        if connection.write_paused:
            await connection.drain()
        connection.set_deadline_at(until)
        data = await connection.read(interruptible=interruptible)
        if not data:
            raise SessionOver(None)
        return data

    # -- out

    def say(self, reply: Reply) -> None:
        """Queues a reply; it leaves when the session next waits for the client (RFC 2920 3.2)."""
        self.connection.gather(reply.encode())

    def say_octets(self, octets: bytes) -> None:
        """Queues octets that are no Reply: the challenge of AUTH."""
        self.connection.gather(octets)

    # -- TLS

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """The server's part of a handshake. Nothing sent in clear counts afterwards (RFC 3207 4.2). Raises
        TlsFailed."""
        self._lines.take_rest()
        self._held = None
        await self.connection.start_tls(context)
