"""300 acknowledged changes, each followed at once by a NOOP of a client of another gateway, which must report it."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from io import BytesIO
from pathlib import Path

import pytest

from restante.link import CoreLink
from restante.v1 import methods
from restante.v1.submission_pb2 import EnvelopeRecipient
from restante.v1.transport_pb2 import AcceptBegin, AcceptMessageRequest
from restante_gateways.net.authentication import AuthenticationPolicy
from tests.gateways.imap.conftest import start
from tests.gateways.imap.stage import NAME, PASSWORD, Client, Stage, message
from tests.harness.core_process import CoreProcess, running_core
from tests.harness.postgres import PostgresServer

pytestmark = pytest.mark.end_to_end

ROUNDS = 300


async def gateway(stack: AsyncExitStack, core: CoreProcess, folder: Path) -> Stage:
    """A separate gateway, closed with the stack."""
    folder.mkdir()
    link = await core.link("imap")
    stack.push_async_callback(link.close)
    stage, _ = start(folder, AuthenticationPolicy.EXCEPT_LOOPBACK, link, BytesIO())
    stack.push_async_callback(stage.runtime.drain)
    return stage


class Conversation:
    """One client changes a folder, another sends NOOP; `known` and `gone` count the reports to the second."""

    def __init__(self, smtp: CoreLink, writer: Client, reader: Client) -> None:
        self.smtp, self.writer, self.reader = smtp, writer, reader
        self.known = 0
        self.stale: list[str] = []

    async def noop(self, what: str, shown: Callable[[list[bytes]], bool]) -> None:
        lines = await self.reader.ok("NOOP")
        for line in lines:
            if exists := re.fullmatch(rb"\* (\d+) EXISTS", line):
                self.known = int(exists[1])
            self.known -= line.endswith(b" EXPUNGE")
        if not shown(lines):
            self.stale.append(what)

    async def deliver(self) -> None:
        """Deliver a message, like the SMTP gateway before it answers 250."""
        begin = AcceptBegin(
            request_id=secrets.token_bytes(16),
            reverse_path="someone@example.org",
            recipients=[EnvelopeRecipient(forward_path=NAME)],
            trace_field="Received: from a by b; Mon, 23 Nov 2026 20:00:00 +0000\r\n",
        )
        await self.smtp.execute(methods.ACCEPT_MESSAGE, AcceptMessageRequest(start=begin, content=message(1)))
        expected = self.known + 1
        await self.noop("delivery", lambda _: self.known == expected)

    async def append(self) -> None:
        await self.writer.ok(b"APPEND INBOX {%d+}\r\n%b" % (len(message(2)), message(2)))
        expected = self.known + 1
        await self.noop("APPEND", lambda _: self.known == expected)

    async def copy(self) -> None:
        await self.writer.ok("NOOP")
        await self.writer.ok("COPY 1 INBOX")
        expected = self.known + 1
        await self.noop("COPY", lambda _: self.known == expected)

    async def store(self) -> None:
        number = self.known
        await self.writer.ok("NOOP")
        *_, fetched = await self.writer.ok(f"STORE {number} +FLAGS (\\Seen $Label{number % 7})")
        flags = set(re.findall(rb"[\\$]\w+", fetched)) - {b"\\Recent"}
        await self.noop("STORE", lambda lines: any(_flags(line, number) == flags for line in lines))

    async def expunge(self) -> None:
        number = self.known
        await self.writer.ok("NOOP")
        await self.writer.ok(f"STORE {number} +FLAGS.SILENT (\\Deleted)")
        await self.writer.ok("EXPUNGE")
        await self.noop("EXPUNGE", lambda lines: b"* %d EXPUNGE" % number in lines)

    async def move(self) -> None:
        number = self.known
        await self.writer.ok("NOOP")
        await self.writer.ok(f"MOVE {number} Archive")
        await self.noop("MOVE", lambda lines: b"* %d EXPUNGE" % number in lines)

    async def run(self, rounds: int) -> None:
        kinds: list[Callable[[], Awaitable[None]]] = [self.deliver, self.append, self.copy, self.store]
        kinds += [self.expunge, self.move]
        for at in range(rounds):
            await kinds[at % len(kinds)]()


def _flags(line: bytes, number: int) -> set[bytes] | None:
    if not line.startswith(b"* %d FETCH" % number):
        return None
    return set(re.findall(rb"[\\$]\w+", line)) - {b"\\Recent"}


async def converse(first: CoreProcess, second: CoreProcess, folder: Path) -> list[str]:
    """The stale answers of 300 rounds, with changes at the first core and NOOPs at the second."""
    await first.account(NAME, PASSWORD, fresh=True)
    async with AsyncExitStack() as stack:
        here = await gateway(stack, first, folder / "here")
        there = await gateway(stack, second, folder / "there")
        smtp = await first.link("smtp")
        stack.push_async_callback(smtp.close)
        writer, reader = await Client.open(here, "INBOX"), await Client.open(there, "INBOX")
        stack.callback(writer.writer.close)
        stack.callback(reader.writer.close)
        conversation = Conversation(smtp, writer, reader)
        await conversation.run(ROUNDS)
        return conversation.stale


@pytest.fixture
async def cores(postgres: PostgresServer, tmp_path: Path) -> AsyncIterator[tuple[CoreProcess, CoreProcess]]:
    """Two cores over one PostgreSQL store."""
    with postgres.database() as url:
        first, second = tmp_path / "first", tmp_path / "second"
        first.mkdir()
        second.mkdir()
        with (
            running_core(first / "data", RESTANTE_STORE__URL=url) as one,
            running_core(second / "data", RESTANTE_STORE__URL=url) as two,
        ):
            yield one, two


async def test_nothing_is_stale_with_one_core(live: CoreProcess, tmp_path: Path) -> None:
    assert await converse(live, live, tmp_path) == []


@pytest.mark.postgres
async def test_nothing_is_stale_with_two_cores(cores: tuple[CoreProcess, CoreProcess], tmp_path: Path) -> None:
    assert await converse(*cores, tmp_path) == []
