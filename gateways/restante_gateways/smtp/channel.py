"""Input and output of one SMTP session: lines and content in, replies out, with time limits."""

from __future__ import annotations

import asyncio
import ssl

from restante_gateways.net.connection import Connection
from restante_gateways.smtp.lines import MAX_LINE_OCTETS, BadLine, LineReader
from restante_gateways.smtp.replies import Reply, SessionOver
from restante_gateways.smtp.waiting import WaitingTime

MAX_TAKEN_TOGETHER = 99  # commands after the current one; VerifyRecipients takes 100


class Channel:
    """SMTP lines and replies over a connection. Every wait may raise an Interruption of the connection."""

    def __init__(self, connection: Connection, *, line_seconds: float, max_command_octets: int, wait: float) -> None:
        """`line_seconds` limits one whole line, `wait` the waiting time for all commands together."""
        self.connection = connection
        self.waiting = WaitingTime(wait)  # for all commands together
        self._line_seconds, self._max_command_octets = line_seconds, max_command_octets
        self._lines = LineReader(MAX_LINE_OCTETS + 64)  # plus the verb of an AUTH line
        self._held: BadLine | None = None  # found by `take_waiting`
        self._loop = asyncio.get_running_loop()

    # -- in

    async def next_line(self) -> bytes | BadLine:
        """The next line, or a BadLine. An unfinished last line does not count.

        Raises SessionOver at the end of the stream, and Interruption, including TimedOut.
        """
        if self._held is not None:
            line, self._held = self._held, None
            return line
        found = self._lines.next_line()
        if found is not None:
            return found
        began = self._loop.time()
        # The limit is for the whole line, so single octets now and then do not extend it.
        until = began + min(self._line_seconds, self.waiting.left_seconds)
        while (found := self._lines.next_line()) is None:
            self._lines.feed(await self.read(until, interruptible=True))
        self.waiting.spend(self._loop.time() - began)
        return found

    def take_waiting(self, verb: bytes) -> list[bytes]:
        """The arguments of pipelined commands with the same verb that have arrived already (RFC 2920)."""
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
        """The buffered octets after DATA: the beginning of the content."""
        return self._lines.take_rest()

    def take(self, limit: int) -> bytes:
        """At most `limit` of the buffered octets: the beginning of a chunk after BDAT."""
        return self._lines.take(limit)

    def put_back(self, octets: bytes) -> None:
        """Give the octets after the content back to the line reader."""
        self._lines.feed(octets)

    async def read(self, until: float, *, interruptible: bool) -> bytes:
        """At least one octet, by loop time `until`. Queued replies are sent first.

        Raises SessionOver at the end of the stream, TimedOut, and other Interruptions if `interruptible`.
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
        """Queue a reply until the session next waits for the client (RFC 2920 3.2)."""
        self.connection.gather(reply.encode())

    def say_octets(self, octets: bytes) -> None:
        """Queue octets other than a Reply: the challenge of AUTH."""
        self.connection.gather(octets)

    # -- TLS

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Run the server's part of a handshake, and discard octets sent in clear (RFC 3207 4.2). Raises TlsFailed."""
        self._lines.take_rest()
        self._held = None
        await self.connection.start_tls(context)
