"""An IMAP client that reads whole responses with their literals, for the stress of many sessions."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Callable

LITERAL = re.compile(rb"\{(\d+)\}\r\n$")
PATIENCE_SECONDS = 60.0  # for one response: the machine is busy


class Closed(Exception):
    """The server ended the connection; the text is its last response."""


class Wire:
    """One connection. It calls `heard` with each untagged response as it arrives."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: Callable[[bytes], None]
    ) -> None:
        self._reader, self._writer, self.heard = reader, writer, heard
        self._tags = itertools.count(1)

    @classmethod
    async def connect(cls, port: int, heard: Callable[[bytes], None]) -> Wire:
        """Connect to a port of this machine and read the greeting."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        wire = cls(reader, writer, heard)
        await wire.response()
        return wire

    async def response(self) -> bytes:
        """One response with its literals, without the last line end."""
        pieces: list[bytes] = []
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                line = await self._reader.readline()
                if not line.endswith(b"\r\n"):
                    raise Closed(b"".join(pieces).decode("ascii", "replace"))
                pieces.append(line)
                if (found := LITERAL.search(line)) is None:
                    return b"".join(pieces).removesuffix(b"\r\n")
                pieces.append(await self._reader.readexactly(int(found[1])))

    async def command(self, *parts: bytes) -> bytes:
        """Send a command, with all parts but the first as literals (LITERAL+). Returns the answer without its tag."""
        return await self._answer(self.send(*parts))

    def send(self, *parts: bytes) -> bytes:
        """Send a command and return its tag."""
        tag = b"s%d" % next(self._tags)
        text = tag + b" " + parts[0]
        for literal in parts[1:]:
            text += b"{%d+}\r\n" % len(literal) + literal
        self._writer.write(text + b"\r\n")
        return tag

    async def idle(self, seconds: float) -> bytes:
        """Stay in IDLE for `seconds`, and return the tagged answer."""
        tag = self.send(b"IDLE")
        assert (await self._until(b"+")).startswith(b"+")
        listening = asyncio.create_task(self._answer(tag))
        await asyncio.sleep(seconds)
        self._writer.write(b"DONE\r\n")
        return await listening

    async def close(self) -> None:
        """Close the connection."""
        self._writer.close()

    async def _answer(self, tag: bytes) -> bytes:
        return (await self._until(tag + b" ")).removeprefix(tag + b" ")

    async def _until(self, start: bytes) -> bytes:
        while not (response := await self.response()).startswith(start):
            if response.startswith(b"* BYE"):
                raise Closed(response.decode("ascii", "replace"))
            self.heard(response)
        return response


def fetched(response: bytes) -> tuple[int, dict[bytes, bytes | list[bytes]]] | None:
    """The number and the items of a FETCH response: atoms and strings as octets, a flag list as a list."""
    found = re.match(rb"\* (\d+) FETCH \(", response)
    if found is None:
        return None
    items: dict[bytes, bytes | list[bytes]] = {}
    at = found.end()
    while response[at : at + 1] != b")":
        name = re.compile(rb" ?([A-Z0-9.]+(?:\[[^\]]*\])?(?:<\d+>)?) ").match(response, at)
        assert name is not None, response[at : at + 80]
        items[name[1]], at = _value(response, name.end())
    assert at == len(response) - 1, response[at:]
    return int(found[1]), items


def _value(text: bytes, at: int) -> tuple[bytes | list[bytes], int]:
    if (literal := re.compile(rb"\{(\d+)\}\r\n").match(text, at)) is not None:
        end = literal.end() + int(literal[1])
        return text[literal.end() : end], end
    if (quoted := re.compile(rb'"((?:[^"\\]|\\.)*)"').match(text, at)) is not None:
        return quoted[1], quoted.end()
    if text[at : at + 1] == b"(":
        values: list[bytes] = []
        at += 1
        while text[at : at + 1] != b")":
            value, at = _value(text, at)
            values.append(value if isinstance(value, bytes) else b"(" + b" ".join(value) + b")")
            if text[at : at + 1] == b" ":
                at += 1
        return values, at + 1
    atom = re.compile(rb"[^ ()]+").match(text, at)
    assert atom is not None, text[at : at + 80]
    return atom[0], atom.end()
