"""The stage of conversations: a gateway's listeners, and the preparation by transcripts' `given:` lines.

The preparation uses only IMAP, so that the same transcripts run over any core.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import ssl
from dataclasses import dataclass

from restante_gateways.net.runtime import Runtime
from tests.harness.player import Endpoint, Player

NAME, PASSWORD = "alice@example.test", "alice-demo"


@dataclass
class Stage:
    """A gateway with alice's account."""

    runtime: Runtime
    tls: ssl.SSLContext

    def endpoint(self, listener: str = "imap") -> Endpoint:
        """The address of a listener."""
        (address,) = self.runtime.addresses()[listener]
        return Endpoint(address.host, address.port, self.tls, implicit=listener == "imaps")

    async def given(self, text: str, player: Player) -> None:
        """Prepare the state described by a transcript's `given:` lines."""
        sessions: list[str] = []
        for line in filter(None, re.split(r";\s*|\n", text)):
            if (
                asked := re.fullmatch(r"sessions? ([A-Z](?:(?:, | and )[A-Z])*) (?:has|have) (it|\S+) (.*)", line)
            ) is not None:
                sessions = re.findall(r"[A-Z]", asked[1])
                await self._open(player, sessions, "INBOX" if asked[2] == "it" else asked[2], asked[3])
            elif re.fullmatch(r"sessions? ([A-Z](?:(?:, | and )[A-Z])*) logged in", line):
                for name in re.findall(r"\b[A-Z]\b", line):
                    await self._log_in(player, name)
            else:
                await self._mail(line)

    async def _mail(self, line: str) -> None:
        asked = re.fullmatch(r"(\d+) messages? in (\w+)(?:, (.*))?", line)
        if asked is None:
            raise ValueError(f"nobody knows how to make: {line}")
        flags: dict[int, list[str]] = {}
        for number, name in re.findall(r"the (\w+) (\\\w+)", asked[3] or ""):
            at = ["first", "second", "third", "fourth"].index(number) + 1
            flags.setdefault(at, []).append(name)
        client = await Client.open(self)
        for number in range(1, int(asked[1]) + 1):
            head = f'APPEND {asked[2]} ({" ".join(flags.get(number, []))}) " 1-Jan-2024 09:00:05 +0000" '
            content = message(number)
            await client.ok(head.encode() + b"{%d+}\r\n%b" % (len(content), content))
        await client.ok(f"SELECT {asked[2]}")  # nothing of it is recent any more
        await client.ok("UNSELECT")
        client.writer.close()

    async def _log_in(self, player: Player, name: str) -> None:
        session = await player.session(name)
        await session.answer()
        await session.send(f"login LOGIN {NAME} {PASSWORD}\r\n")
        answer = await session.answer()
        assert answer is not None and answer.startswith("login OK"), answer

    async def _open(self, player: Player, names: list[str], folder: str, how: str) -> None:
        verb = {"selected": "SELECT", "examined": "EXAMINE", "selected with CONDSTORE": "SELECT"}[how]
        for name in names:
            await self._log_in(player, name)
            session = await player.session(name)
            condstore = " (CONDSTORE)" if "CONDSTORE" in how else ""
            await session.send(f"open {verb} {folder}{condstore}\r\n")
            while not (answer := await session.answer() or "open").startswith("open"):
                pass
            assert answer.startswith("open OK"), answer


def message(number: int) -> bytes:
    """A small message, different for each number."""
    return (
        f"Date: Mon, {number:02d} Jan 2024 10:00:00 +0100\r\n"
        f"From: Bob Example <bob@example.test>\r\n"
        f"To: alice@example.test\r\n"
        f"Subject: Number {number}\r\n"
        f"Message-ID: <{number}@example.test>\r\n"
        f"\r\n"
        f"This is message {number}.\r\n"
    ).encode()


class Client:
    """A client that sends and reads lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._tags = itertools.count(1)

    @classmethod
    async def open(cls, stage: Stage, select: str = "") -> Client:
        """Connect, log in as alice, and select a folder if one is named."""
        endpoint = stage.endpoint()
        client = cls(*await asyncio.open_connection(endpoint.host, endpoint.port))
        await client.line()
        await client.ok(f"LOGIN {NAME} {PASSWORD}")
        if select:
            await client.ok(f"SELECT {select}")
        return client

    async def line(self) -> bytes:
        """One line without its end; b"" at the end of the stream."""
        async with asyncio.timeout(5):
            return (await self.reader.readline()).removesuffix(b"\r\n")

    async def run(self, command: str | bytes) -> list[bytes]:
        """Run a command and return all lines of the answer, the tagged one last and without its tag."""
        tag = b"t%d" % next(self._tags)
        text = command.encode() if isinstance(command, str) else command
        self.writer.write(tag + b" " + text + b"\r\n")
        lines: list[bytes] = []
        while not (line := await self.line()).startswith(tag + b" "):
            assert line or lines[-1:] != [b""], f"closed after {lines}"
            lines.append(line)
        return [*lines, line.removeprefix(tag + b" ")]

    async def ok(self, command: str | bytes) -> list[bytes]:
        """Run a command that must succeed, and return its untagged lines."""
        *lines, tagged = await self.run(command)
        assert tagged.startswith(b"OK"), tagged
        return lines

    async def status(self, command: str | bytes) -> bytes:
        """Run a command and return the tagged line alone."""
        return (await self.run(command))[-1]
