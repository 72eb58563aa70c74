"""Another mail server, whose answers a test sets. It speaks just enough SMTP to receive mail.

    async with smtp_peer() as peer:
        peer.replies["RCPT TO:<bob@example.net>"] = "550 5.1.1 who?"
        ...
        assert peer.messages[0].content == b"..."

`replies` maps the beginning of a command line (letter case ignored, the longest match wins) to an answer, or to a
list of answers, one for each occurrence, with the last one repeated; `script` comes first. "greeting" is the first
line, "content" the answer to the final dot. An answer is the lines of a reply, HANG (no further answer), DROP (close
the connection), or bytes, sent unchanged. After a reply with " DROP" at its end the peer closes the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

HANG = "HANG"
DROP = "DROP"
Reply = str | bytes
EXTENSIONS = ("PIPELINING", "SIZE 52428800", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES")


@dataclass
class Received:
    """One message that was received whole."""

    mail: str  # the argument of MAIL FROM:
    recipients: list[str]  # the arguments of RCPT TO:, accepted ones only
    content: bytes  # without dot-stuffing
    secured: bool
    connection: int
    address: str  # of the client


@dataclass
class SmtpPeer:
    """The answers of a peer and the commands and messages that it has received."""

    host: str = "127.0.0.1"
    port: int = 0
    extensions: tuple[str, ...] = EXTENSIONS
    tls: ssl.SSLContext | None = None
    replies: dict[str, Reply | list[Reply]] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    messages: list[Received] = field(default_factory=list)
    connections: int = 0
    open_now: int = 0
    most_open: int = 0
    said_early: str = ""  # a reply sent while content arrives
    said_early_pieces: tuple[bytes, ...] = ()  # the same in pieces, with a pause between them
    script: Callable[[str], Reply | None] = lambda event: None
    implicit: bool = False  # TLS from the first octet
    together: bool = False  # replies to MAIL and RCPT are sent with the one to DATA, in one packet
    reading: asyncio.Event = field(default_factory=asyncio.Event)  # cleared: the peer does not read content

    def __post_init__(self) -> None:
        self.reading.set()

    def reply(self, event: str, usual: str) -> Reply:
        """The answer to an event."""
        scripted = self.script(event)
        if scripted is not None:
            return scripted
        found = max((start for start in self.replies if event.upper().startswith(start.upper())), key=len, default=None)
        if found is None:
            return usual
        said = self.replies[found]
        if isinstance(said, list):
            return said.pop(0) if len(said) > 1 else said[0]
        return said


class _Ended(Exception):
    """The peer closes the connection."""


class _Conversation:
    def __init__(self, peer: SmtpPeer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._peer, self._reader, self._writer = peer, reader, writer
        self._number = peer.connections
        self._secured = peer.implicit
        self._mail = ""
        self._recipients: list[str] = []
        self._late = b""  # replies that wait for the one to DATA

    async def run(self) -> None:
        await self._say("greeting", "220 peer.example ESMTP")
        while line := await self._reader.readline():
            command = line.decode("utf-8", "surrogateescape").rstrip("\r\n")
            self._peer.commands.append(command)
            if not await self._obey(command):
                return

    async def _obey(self, command: str) -> bool:
        verb = command.upper().split(" ", 1)[0]
        if verb == "EHLO":
            offered = self._peer.extensions
            if self._peer.tls is not None and not self._secured:
                offered += ("STARTTLS",)
            lines = ["peer.example", *offered]
            usual = "\n".join(f"250{' ' if line is lines[-1] else '-'}{line}" for line in lines)
            await self._say(command, usual)
        elif verb == "STARTTLS":
            if (await self._say(command, "220 2.0.0 go ahead")).startswith("220"):
                await self._writer.start_tls(self._peer.tls)  # type: ignore[arg-type]
                self._secured = True
        elif verb == "MAIL":
            self._mail, self._recipients = command[len("MAIL FROM:") :], []
            await self._say(command, "250 2.1.0 ok")
        elif verb == "RCPT":
            if (await self._say(command, "250 2.1.5 ok")).startswith("2"):
                self._recipients.append(command[len("RCPT TO:") :])
        elif verb == "DATA":
            if (await self._say(command, "354 go ahead")).startswith("354"):
                await self._content()
        elif verb == "QUIT":
            await self._say(command, "221 2.0.0 bye")
            return False
        else:
            await self._say(command, "250 2.0.0 ok")
        return True

    async def _content(self) -> None:
        lines: list[bytes] = []
        if self._peer.said_early:
            self._writer.write(self._peer.said_early.encode() + b"\r\n")
        for piece in self._peer.said_early_pieces:
            await asyncio.sleep(0.02)
            self._writer.write(piece)
        while True:
            await self._peer.reading.wait()
            line = await self._reader.readuntil(b"\r\n")
            if line == b".\r\n":
                break
            lines.append(line[1:] if line.startswith(b".") else line)
        said = await self._say("content", "250 2.0.0 taken")
        if said.startswith("2"):
            address = self._writer.get_extra_info("peername")[0]
            received = Received(self._mail, self._recipients, b"".join(lines), self._secured, self._number, address)
            self._peer.messages.append(received)

    async def _say(self, event: str, usual: str) -> str:
        reply = self._peer.reply(event, usual)
        if reply == HANG:
            await self._reader.read(-1)  # until the other side disconnects
            raise _Ended
        if reply == DROP:
            raise _Ended
        if isinstance(reply, bytes):
            self._writer.write(reply)
            return reply[:3].decode("latin-1")
        text, _, then = reply.partition(" DROP")
        self._late += text.replace("\n", "\r\n").encode("utf-8", "surrogateescape") + b"\r\n"
        if self._peer.together and event[:4].upper() in ("MAIL", "RCPT") and not then:
            return text
        self._writer.write(self._late)
        self._late = b""
        await self._writer.drain()
        if then or reply.endswith(" DROP"):
            raise _Ended
        return text


@contextlib.asynccontextmanager
async def smtp_peer(
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    tls: ssl.SSLContext | None = None,
    extensions: tuple[str, ...] = EXTENSIONS,
    implicit: bool = False,
) -> AsyncIterator[SmtpPeer]:
    """A peer on a port, for the time of the context; 0: a free port."""
    peer = SmtpPeer(host, port, extensions, tls, implicit=implicit)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        peer.connections += 1
        peer.open_now += 1
        peer.most_open = max(peer.most_open, peer.open_now)
        try:
            await _Conversation(peer, reader, writer).run()
        except (_Ended, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            pass  # the test set DROP, or the other side has disconnected
        except asyncio.CancelledError:
            pass  # the context ends
        finally:
            peer.open_now -= 1
            tasks.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(serve, host, port, limit=1 << 20, ssl=tls if implicit else None)
    peer.port = server.sockets[0].getsockname()[1]
    try:
        yield peer
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
