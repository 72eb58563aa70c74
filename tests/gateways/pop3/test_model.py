"""Random pipelined sessions compared with RFC 1939: one answer for each command, in order."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.gateways.pop3.conftest import Running

MULTI_LINE = {"RETR", "TOP", "LIST", "UIDL"}


class Model:
    """A maildrop by RFC 1939's definition."""

    def __init__(self, messages: list[bytes], uid_validity: int) -> None:
        self.messages, self.uid_validity, self.deleted = messages, uid_validity, set[int]()

    @property
    def left(self) -> list[int]:
        return [n for n in range(1, len(self.messages) + 1) if n not in self.deleted]

    def answer(self, verb: str, *numbers: int) -> tuple[str, bytes | None]:
        """The beginning of the status line, and the rest of a multi-line answer or None."""
        if verb == "NOOP":
            return "+OK", None
        if verb == "RSET":
            self.deleted.clear()
            return "+OK", None
        if verb == "STAT":
            return f"+OK {len(self.left)} {sum(len(self.messages[n - 1]) for n in self.left)}", None
        if verb in ("LIST", "UIDL") and not numbers:
            facts = {
                n: str(len(self.messages[n - 1])) if verb == "LIST" else f"{self.uid_validity}.{n}" for n in self.left
            }
            return "+OK", "".join(f"{n} {fact}\r\n" for n, fact in facts.items()).encode()
        number = numbers[0]
        if number not in self.left:
            return "-ERR", None
        message = self.messages[number - 1]
        if verb == "DELE":
            self.deleted.add(number)
            return "+OK", None
        if verb == "LIST":
            return f"+OK {number} {len(message)}", None
        if verb == "UIDL":
            return f"+OK {number} {self.uid_validity}.{number}", None
        if verb == "TOP":
            header, blank, body = message.partition(b"\r\n\r\n")
            return "+OK", header + blank + b"".join(body.splitlines(keepends=True)[: numbers[1]])
        return f"+OK {len(message)} octets", message


def some_command(dice: random.Random, count: int) -> tuple[str, *tuple[int, ...]]:
    verb = dice.choice(["NOOP", "RSET", "STAT", "LIST", "UIDL", "LIST", "UIDL", "RETR", "RETR", "RETR", "TOP", "DELE"])
    if verb in ("NOOP", "RSET", "STAT") or (verb in ("LIST", "UIDL") and dice.random() < 0.5):
        return (verb,)
    number = dice.randint(1, count + 1)
    return (verb, number, dice.randint(0, 4)) if verb == "TOP" else (verb, number)


@pytest.mark.parametrize("seed", range(12))
async def test_every_command_gets_its_answer(running: Running, seed: int) -> None:
    """Any order of commands leaves the maildrop in the state required by RFC 1939 5 and 6."""
    dice = random.Random(seed)
    running.link.cut_streams_to(dice.choice([64, 1000, 256 << 10]))
    messages = []
    for n in range(dice.randint(1, 40)):
        lines = [b"." * dice.randint(0, 3) + b"x" * dice.randint(0, 60) for _ in range(dice.randint(0, 12))]
        messages.append(b"Subject: %d\r\n\r\n" % n + b"".join(line + b"\r\n" for line in lines))
    await running.fill(*messages)
    validity = (await running.core.folder("alice")).uid_validity
    model = Model(messages, validity)
    commands = [some_command(dice, len(messages)) for _ in range(200)]
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    text = "".join(" ".join(map(str, command)) + "\r\n" for command in commands)
    writer.write(f"USER alice@example.test\r\nPASS alice-demo\r\n{text}QUIT\r\n".encode())
    async with asyncio.timeout(20):
        for _ in range(3):
            assert (await reader.readline()).startswith(b"+OK")
        for command in commands:
            status, rest = model.answer(*command)
            line = (await reader.readline()).decode().rstrip("\r\n")
            assert line == status or line.startswith(f"{status} "), command
            if rest is not None:
                got = b""
                while (line_octets := await reader.readline()) != b".\r\n":
                    got += line_octets.removeprefix(b".")
                assert got == rest, command
        assert (await reader.read()).startswith(b"+OK bye")
    writer.close()
    assert [message.uid for message in await running.core.inbox("alice")] == model.left
