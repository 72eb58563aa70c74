"""The player of transcripts: over real sockets with a scripted server, and over a scripted transport."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.harness.player import Endpoint, Mismatch, Play, Player, StreamTransport, Transport, play_file

HEADER = "# A sample.   RFC 9051 7.5.1\n"
Replies = Mapping[bytes, bytes | None]
"""{beginning of a client's line: the server's answer}; None: the server closes."""


@asynccontextmanager
async def server(replies: Replies, greeting: bytes = b"") -> AsyncIterator[Endpoint]:
    """A server on loopback that answers line by line."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        while line := await reader.readline():
            answer = next((text for start, text in replies.items() if line.startswith(start)), b"")
            if answer is None:
                break
            writer.write(answer)
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield Endpoint("127.0.0.1", listening.sockets[0].getsockname()[1])
    finally:
        listening.close()
        await listening.wait_closed()


def write(tmp_path: Path, body: str, protocol: str = "imap") -> Path:
    path = tmp_path / protocol / "sample.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_text(HEADER + body)
    return path


IMAP = {
    b"a1": b"* 1 FETCH (UID 7)\r\n* 2 FETCH (UID 9)\r\na1 OK done\r\n",
    b"a2 UID FETCH 9": b"* 2 FETCH (UID 9 BODY[] {7}\r\nhi\r\n\r\nx)\r\na2 OK done\r\n",
    b"a3": b"* BYE\r\na3 OK\r\n",
    b"idle": b"* 4 EXISTS\r\n* 1 RECENT\r\n",
    b"out": None,
}


async def test_a_conversation_that_holds_passes(tmp_path: Path, play: Play) -> None:
    path = write(
        tmp_path,
        "A S: * OK ...\nA C: a1 FETCH\nA S: * 2 FETCH (UID $last)\nA S: * 1 FETCH ...\nA S: a1 OK ...\n"
        "B S: * OK ...\nB C: a2 UID FETCH $last BODY[]\nB S: * 2 FETCH (UID $last BODY[] {7}\nB S| hi\nB S|\nB S| x)\n"
        "B S: a2 OK done\nB C: idle\nB S: * 1 RECENT\nB S: * 4 EXISTS\nA -- silent\nA C: out\nA -- closed\n",
    )
    async with server(IMAP, b"* OK hello\r\n") as endpoint:
        await play(path, {"imap": endpoint})


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("C: a1\nS: * 1 FETCH (UID 7)\nS: a1 OK ...\n", "got:      * 2 FETCH (UID 9)"),
        ("C: a1\nS: * ...\nS: * ...\nS: * ...\nS: a1 OK ...\n", "got:      a1 OK done"),
        ("C: a1\nS: * 1 FETCH (UID $x)\nS: * 2 FETCH (UID $x)\nS: a1 OK ...\n", "$x = 7"),
        ("C: a1\nS: * ...\nS: * ...\nS: a1 NO ...\n", ":5: session A\nexpected: a1 NO ...\ngot:      a1 OK done"),
        ("C: a1\nS: * ...\nS: * ...\n", "expected: the end of session A\ngot:      a1 OK done"),
        ("C: nothing\nS: x\n", "got:      nothing in time"),
        ("C: out\nS: x\n", "got:      the end"),
        ("C: a3\n-- closed\n", "expected: closed\ngot:      * BYE"),
        ("C: nothing\n-- closed\n", "the connection is still open"),
        ("C: a3\n-- silent\n", "expected: silent\ngot:      * BYE"),
        ("C: out\n-- silent\n", "the server has closed"),
        ("C: $never\nS: x\n", "uses $never, which nothing has bound"),
    ],
)
async def test_what_does_not_hold_fails_and_says_where_and_why(tmp_path: Path, body: str, said: str) -> None:
    path = write(tmp_path, body)
    async with server(IMAP) as endpoint:
        with pytest.raises(Mismatch) as raised:
            await play_file(path, lambda _: StreamTransport.connect(endpoint), None, {}, 0.3, rewrite=False)
    assert str(path) in str(raised.value)
    assert said in str(raised.value)


async def test_smtp_replies_and_pop3_answers_of_several_lines(tmp_path: Path, play: Play) -> None:
    smtp = server({b"EHLO": b"250-mx\r\n250-SIZE\r\n250 DSN\r\n"}, b"220 mx\r\n")
    pop3 = server({b"LIST": b"+OK 1\r\n1 20\r\n.\r\n", b"STAT": b"+OK 1 20\r\n", b"TOP": b"-ERR\r\n"}, b"+OK\r\n")
    path = write(
        tmp_path,
        "sessions: S smtp, P pop3\nS S: 220 ...\nS C: EHLO x\nS S: 250-mx\nS S| 250-SIZE\nS S| ...\n"
        "P S: +OK\nP C: STAT\nP C: LIST\nP S: +OK 1 20\nP S: +OK 1\nP S| 1 $size\nP S| .\nP C: TOP 1 0\nP S: -ERR\n",
    )
    async with smtp as one, pop3 as other:
        await play(path, {"smtp": one, "pop3": other})


async def test_given_is_handed_over_and_may_open_sessions_and_bind_names(tmp_path: Path, play: Play) -> None:
    path = write(
        tmp_path, "given: a session that has logged in\nC: a2 UID FETCH $uid\nS: * ...\nS| ...\nS: a2 OK done\n"
    )

    async def given(text: str, player: Player) -> None:
        assert text == "a session that has logged in"
        session = await player.session("A")
        await session.send("a3 LOGIN\r\n")
        assert [await session.answer(), await session.answer()] == ["* BYE", "a3 OK"]
        player.names["uid"] = "9"

    async with server(IMAP) as endpoint:
        await play(path, {"imap": endpoint}, given)
        with pytest.raises(ValueError, match="nobody to make it"):
            await play(path, {"imap": endpoint})


async def test_names_may_be_bound_from_the_start(tmp_path: Path, play: Play) -> None:
    path = write(tmp_path, "C: $tag\nS: * BYE\nS: a3 OK\n")
    async with server(IMAP) as endpoint:
        await play(path, {"imap": endpoint}, names={"tag": "a3"})


async def test_rewrite_records_what_the_server_said_and_then_the_transcript_holds(tmp_path: Path, play: Play) -> None:
    path = write(
        tmp_path,
        "C: a1\nS: * 1 FETCH (UID $x)\nS: a1 NO\nC: a2 UID FETCH 9\nS: * nonsense\nS: a2 BAD\nC: idle\nS: *\nS: *\n",
    )
    async with server(IMAP) as endpoint:
        with pytest.raises(pytest.fail.Exception, match="rewritten"):
            await play_file(path, lambda _: StreamTransport.connect(endpoint), None, {}, 0.3, rewrite=True)
        assert path.read_text() == (
            HEADER + "C: a1\nS: * 1 FETCH (UID $x)\nS: * 2 FETCH (UID 9)\nS: a1 OK done\n"
            "C: a2 UID FETCH 9\nS: * 2 FETCH (UID 9 BODY[] {7}\nS| hi\nS|\nS| x)\nS: a2 OK done\n"
            "C: idle\nS: * 4 EXISTS\nS: * 1 RECENT\n"
        )
        await play(path, {"imap": endpoint})
        await play_file(path, lambda _: StreamTransport.connect(endpoint), None, {}, 0.3, rewrite=True)


class Script:
    """A transport with answers from a list, which records the sent octets."""

    def __init__(self, *answers: bytes) -> None:
        self.sent: list[bytes] = []
        self.done: list[str] = []
        self._answers = list(answers)

    async def send(self, octets: bytes) -> None:
        self.sent.append(octets)

    async def receive(self) -> bytes:
        return self._answers.pop(0) if self._answers else b""

    async def start_tls(self) -> None:
        self.done.append("starttls")

    async def shutdown(self) -> None:
        self.done.append("shutdown")

    async def close(self) -> None:
        self.done.append("close")


async def test_neighbouring_client_lines_are_sent_in_one_piece(tmp_path: Path) -> None:
    script = Script(b"250 a\r\n25", b"0 b\r\n")
    path = write(
        tmp_path, "C: MAIL\nC: RCPT\nC~ DA\nS: 250 a\nS: 250 b\nC~ TA\\r\\n\n-- starttls\n-- shutdown\n", "smtp"
    )

    async def connect(protocol: str) -> Transport:
        assert protocol == "smtp"
        return script

    await play_file(path, connect, None, {}, 1, rewrite=False)
    assert script.sent == [b"MAIL\r\nRCPT\r\nDA", b"TA\r\n"]
    assert script.done == ["starttls", "shutdown", "close"]
