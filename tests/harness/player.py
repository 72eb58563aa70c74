"""Plays transcripts (tests/harness/transcript.py) against a running server, over TCP.

    @each_transcript("imap")
    async def test_imap_conversation(path: Path, play: Play, platform: Platform) -> None:
        await play(path, {"imap": Endpoint("127.0.0.1", platform.imap_port)}, platform.given)

`given` is a coroutine function of (text, player) that prepares the state described by the text. It may open sessions
with `await player.session("A")`, log them in by `send` and `answer`, and bind names: `player.names["last"] = "3"`.

`pytest --rewrite` rewrites a transcript that does not match with the server's answers, and the test fails once: read
the difference like code. Lines that matched keep their `...` and `$name`.

This module is a pytest plugin, loaded by tests/conftest.py.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Protocol

import pytest

from tests.harness.transcript import (
    Do,
    Expect,
    Framing,
    Heard,
    Send,
    Step,
    Transcript,
    choose,
    encode,
    fill,
    match,
    parse,
    rewritten,
    visible,
)

TRANSCRIPTS = Path(__file__).resolve().parents[1] / "transcripts"
STEP_TIMEOUT_SECONDS = 10.0
SILENCE_SECONDS = 0.2


@dataclass(frozen=True)
class Endpoint:
    """The address of a protocol's server. `tls` is used from the first octet if `implicit`, else by `-- starttls`."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    implicit: bool = False
    server_name: str = "localhost"


class Transport(Protocol):
    """The octets of a session: a connection, or a script in a test of the player itself."""

    async def send(self, octets: bytes) -> None: ...

    async def receive(self) -> bytes:
        """The next octets; empty once the server has closed."""

    async def start_tls(self) -> None: ...

    async def shutdown(self) -> None:
        """Close the client's direction only."""

    async def close(self) -> None: ...


Connect = Callable[[str], Awaitable[Transport]]
"""A function from a protocol's name to an open transport."""


class StreamTransport:
    """A TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, endpoint: Endpoint) -> None:
        self._reader, self._writer, self._endpoint = reader, writer, endpoint

    @classmethod
    async def connect(cls, endpoint: Endpoint) -> StreamTransport:
        tls = endpoint.tls if endpoint.implicit else None
        name = endpoint.server_name if tls else None
        reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port, ssl=tls, server_hostname=name)
        return cls(reader, writer, endpoint)

    async def send(self, octets: bytes) -> None:
        self._writer.write(octets)
        await self._writer.drain()

    async def receive(self) -> bytes:
        try:
            return await self._reader.read(65_536)
        except ConnectionError:
            return b""

    async def start_tls(self) -> None:
        assert self._endpoint.tls is not None, "this endpoint was given no TLS"
        await self._writer.start_tls(self._endpoint.tls, server_hostname=self._endpoint.server_name)

    async def shutdown(self) -> None:
        self._writer.write_eof()

    async def close(self) -> None:
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except (ConnectionError, ssl.SSLError):
            pass  # the peer has closed first


class Mismatch(AssertionError):
    """The server's answer differs; the text has file, line, the expected and the actual answer."""


class Session:
    """One connection, with the server's octets cut into answers."""

    def __init__(self, transport: Transport, protocol: str, timeout_seconds: float) -> None:
        self.transport = transport
        self._framing = Framing(protocol)
        self._timeout_seconds = timeout_seconds
        self.ended = False

    async def send(self, text: str) -> None:
        """Send text unchanged; the caller adds CRLF."""
        await asyncio.wait_for(self.transport.send(encode(text)), self._timeout_seconds)

    async def answer(self, *, several: bool = False, timeout_seconds: float | None = None) -> str | None:
        """The next answer without its last CRLF; None when the server has closed. Raises TimeoutError.

        `several`: for POP3, read up to the lone dot.
        """
        async with asyncio.timeout(self._timeout_seconds if timeout_seconds is None else timeout_seconds):
            while (answer := self._framing.next_answer(several=several)) is None:
                octets = b"" if self.ended else await self.transport.receive()
                if not octets:
                    self.ended = True
                    return None
                self._framing.buffer += octets
        return answer

    async def start_tls(self) -> None:
        await asyncio.wait_for(self.transport.start_tls(), self._timeout_seconds)

    def unread(self) -> str:
        """The received octets that are no whole answer yet."""
        return visible(self._framing.buffer.decode("utf-8", "surrogateescape"))


class Player:
    """One run of one transcript."""

    def __init__(
        self,
        transcript: Transcript,
        connect: Connect,
        *,
        timeout_seconds: float = STEP_TIMEOUT_SECONDS,
        record: bool = False,
    ) -> None:
        self.names: dict[str, str] = {}
        self.heard: list[tuple[list[Expect], Heard]] = []  # filled when `record` is set, for `rewritten`
        self._transcript, self._connect, self._timeout_seconds = transcript, connect, timeout_seconds
        self._record = record
        self._sessions: dict[str, Session] = {}

    async def session(self, name: str) -> Session:
        """The session of a letter, connected at its first use."""
        if name not in self._sessions:
            protocol = self._transcript.protocols.get(name, self._transcript.path.parent.name)
            transport = await asyncio.wait_for(self._connect(protocol), self._timeout_seconds)
            self._sessions[name] = Session(transport, protocol, self._timeout_seconds)
        return self._sessions[name]

    async def play(self) -> None:
        """Play all steps. Raises Mismatch at the first that does not match."""
        for group in _groups(self._transcript.steps):
            await self._step(group)
        for name, session in self._sessions.items():
            await self._nothing_more(name, session)

    async def _step(self, group: list[Step]) -> None:
        first = group[0]
        session = await self.session(first.session)
        if isinstance(first, Send):
            await self._send(session, [step for step in group if isinstance(step, Send)])
        elif isinstance(first, Do):
            await self._do(session, first)
        else:
            await self._expect(session, [step for step in group if isinstance(step, Expect)])

    async def _send(self, session: Session, sends: list[Send]) -> None:
        try:
            text = "".join(fill(step.text, self.names) for step in sends)
        except KeyError as error:
            self._fail(sends[0], f"a client line uses ${error.args[0]}, which nothing has bound")
        try:
            await session.send(text)
        except (ConnectionError, TimeoutError) as error:
            self._fail(sends[0], f"could not be sent: {error!r}")

    async def _do(self, session: Session, step: Do) -> None:
        if step.verb == "starttls":
            await session.start_tls()
        elif step.verb == "shutdown":
            await session.transport.shutdown()
        elif step.verb == "close":
            await session.transport.close()
            del self._sessions[step.session]
        else:
            await self._quiet(session, step)

    async def _quiet(self, session: Session, step: Do) -> None:
        """Check `-- closed` and `-- silent`."""
        wanted = None if step.verb == "closed" else SILENCE_SECONDS
        try:
            said = await session.answer(timeout_seconds=wanted)
        except TimeoutError:
            if step.verb == "closed":
                self._fail(step, "the connection is still open", session)
            return
        if said is not None:
            self._fail(step, f"expected: {step.verb}\ngot:      {visible(said)}", session)
        if step.verb == "silent":
            self._fail(step, "the server has closed the connection", session)

    async def _expect(self, session: Session, expected: list[Expect]) -> None:
        """Match the answers of one session up to the last expected one; only untagged ones match in any order."""
        waiting, heard = list(expected), Heard()
        while not self._complete(expected, waiting, heard):
            # When recording, an unmatched step may stay in front, and then says nothing about the next answer.
            several = bool(waiting) and waiting[0].several
            actual: str | None = None
            got = "nothing in time"
            try:
                actual = await session.answer(several=several)
                got = "the end" if actual is None else visible(actual)
            except TimeoutError:
                pass  # reported below
            chosen = None if actual is None or not waiting else self._matching(waiting, actual)
            if chosen is None and not self._record:
                alike = [step for step in waiting if step.untagged] if actual and actual.startswith("* ") else []
                wanted = "\n          ".join(visible(step.text) for step in alike or waiting[:1])
                self._fail(waiting[0], f"expected: {wanted}\ngot:      {got}", session)
            if actual is None:
                break
            heard.append((None if chosen is None else chosen[0], actual))
            if chosen is not None:
                waiting.remove(chosen[0])
                self.names |= chosen[1]
        if self._record:
            self.heard.append((expected, heard))

    def _complete(self, expected: list[Expect], waiting: list[Expect], heard: Heard) -> bool:
        """Whether a group has all its answers; when recording, all its tagged ones."""
        if not self._record:
            return not waiting
        ends = sum(not step.untagged for step in expected)
        if ends == 0:
            return len(heard) >= len(expected)
        return sum(not actual.startswith("* ") for _, actual in heard) >= ends

    def _matching(self, waiting: list[Expect], actual: str) -> tuple[Expect, dict[str, str]] | None:
        """The step that `actual` matches, and the names it binds."""
        if actual.startswith("* ") and waiting[0].untagged:
            tagged = next((index for index, step in enumerate(waiting) if not step.untagged), len(waiting))
            return choose(waiting[:tagged], actual, self.names)
        step = waiting[0]
        if self._record and not actual.startswith("* "):  # the untagged ones before it have not arrived
            step = next((step for step in waiting if not step.untagged), step)
        bound = match(step.text, actual, self.names)
        return None if bound is None else (step, bound)

    async def _nothing_more(self, name: str, session: Session) -> None:
        """Check that a session has no further answer at the end."""
        if session.ended:
            return
        try:
            said = await session.answer(timeout_seconds=0.02)
        except TimeoutError:
            return
        if said is not None:
            last = self._transcript.steps[-1]
            self._fail(last, f"expected: the end of session {name}\ngot:      {visible(said)}", session)

    def _fail(self, step: Step, what: str, session: Session | None = None) -> NoReturn:
        names = "".join(f"\n${name} = {visible(value)}" for name, value in sorted(self.names.items()))
        rest = f"\nunread:   {session.unread()}" if session is not None and session.unread() else ""
        raise Mismatch(f"{self._transcript.path}:{step.number}: session {step.session}\n{what}{rest}{names}")

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.transport.close()


def _groups(steps: list[Step]) -> Iterator[list[Step]]:
    """The steps in groups that are played together."""
    group: list[Step] = []
    for step in steps:
        if group and not _together(group[-1], step):
            yield group
            group = []
        group.append(step)
    if group:
        yield group


def _together(one: Step, other: Step) -> bool:
    """Whether two adjacent steps belong to one group: client lines sent at once, or expectations matched together."""
    return one.session == other.session and type(one) is type(other) and not isinstance(one, Do)


Given = Callable[[str, Player], Awaitable[None]]
"""A function that prepares the state described by the `given:` lines."""


class Play(Protocol):
    """The type of the fixture `play`."""

    async def __call__(
        self,
        path: Path,
        endpoints: Mapping[str, Endpoint],
        given: Given | None = None,
        names: Mapping[str, str] | None = None,
        timeout_seconds: float = STEP_TIMEOUT_SECONDS,
    ) -> None:
        """Play the transcript in `path`. `names` are bound from the start. Raises Mismatch."""


def each_transcript(folder: str) -> pytest.MarkDecorator:
    """A mark that gives a test the parameter `path`: each transcript of tests/transcripts/FOLDER."""
    paths = sorted((TRANSCRIPTS / folder).glob("*.txt"))
    if not paths:
        raise ValueError(f"there are no transcripts in {folder}")
    return pytest.mark.parametrize("path", paths, ids=[path.stem for path in paths])


async def play_file(
    path: Path, connect: Connect, given: Given | None, names: Mapping[str, str], timeout_seconds: float, rewrite: bool
) -> None:
    """Play a transcript; with `rewrite`, replace the lines that the server answered differently, and fail once."""
    transcript = parse(path)
    player = Player(transcript, connect, timeout_seconds=timeout_seconds, record=rewrite)
    player.names |= names
    try:
        if given is not None:
            await given(transcript.given, player)
        elif transcript.given:
            raise ValueError(f"{path}: has a `given:`, and nobody to make it")
        try:
            await player.play()
        finally:
            if rewrite and (text := rewritten(transcript, player.heard)) != "\n".join(transcript.lines):
                path.write_bytes(encode(text))
                pytest.fail(f"{path}: rewritten; read the difference, then run it again", pytrace=False)
    finally:
        await player.close()


@pytest.fixture
def play(request: pytest.FixtureRequest) -> Play:
    """A function that plays one transcript against a running server; see the docstring of tests/harness/player.py."""
    rewrite = bool(request.config.getoption("--rewrite"))

    async def run(
        path: Path,
        endpoints: Mapping[str, Endpoint],
        given: Given | None = None,
        names: Mapping[str, str] | None = None,
        timeout_seconds: float = STEP_TIMEOUT_SECONDS,
    ) -> None:
        async def connect(protocol: str) -> Transport:
            return await StreamTransport.connect(endpoints[protocol])

        await play_file(path, connect, given, names or {}, timeout_seconds, rewrite)

    return run


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="write transcripts anew with what the server said")
