"""The IMAP gateway's own cost of a command: `python -m tests.bench.bench_imap_commands [ROW ...]` prints JSON.

A gateway and a core in this process. The link repeats the core's first answer to each request, so that a round costs
what the gateway does: reading, parsing, its view, rendering, writing. CPU microseconds of the gateway's thread for a
command, the least of three rounds; a client in a process of its own sends one command after the other.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import uvloop

from restante.execute import Followed
from restante.link import CoreLink
from restante.methods import Method, Request, Response
from restante_gateways.net.authentication import AuthenticationPolicy
from tests.gateways.imap.conftest import start
from tests.harness.local_core import LocalCore, address, password, prepare_store

MESSAGES = 500
COMMANDS = 1_000  # of a round
ROUNDS = 3
BODY = b"From: alice@example.test\r\nSubject: hello\r\n\r\n" + b"The quick brown fox jumps over the lazy dog.\r\n" * 40
LIST = b"(UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)"

ROWS: dict[str, Callable[[int], bytes]] = {
    "noop": lambda n: b"NOOP",
    "select": lambda n: b"SELECT " + (b"INBOX", b"Drafts")[n % 2],
    "status": lambda n: b"STATUS INBOX (MESSAGES UNSEEN UIDNEXT)",
    "status-other": lambda n: b"STATUS Drafts (MESSAGES UNSEEN UIDNEXT)",
    "fetch-flags": lambda n: b"FETCH %d:%d (FLAGS)" % (n % 400 + 1, n % 400 + 51),
    "fetch-list": lambda n: b"FETCH %d:%d %b" % (n % 400 + 1, n % 400 + 21, LIST),
    "fetch-full": lambda n: b"FETCH %d (UID FLAGS BODY.PEEK[])" % (n * 7 % MESSAGES + 1),
    "fetch-next": lambda n: b"FETCH %d (UID FLAGS BODY.PEEK[])" % (n % MESSAGES + 1),
    "store": lambda n: b"STORE %d FLAGS (\\Seen \\Answered)" % (n % MESSAGES + 1),
    "copy": lambda n: b"COPY %d Drafts" % (n % MESSAGES + 1),
    "append": lambda n: b"APPEND Drafts {%d+}\r\n%b" % (len(BODY), BODY),
    "search": lambda n: b"UID SEARCH UNSEEN",
    "idle": lambda n: b"IDLE\r\nDONE",
    "expunge": lambda n: b"EXPUNGE",
}


CLIENT = """
import itertools, json, socket, sys
port, commands = json.load(sys.stdin)
connection = socket.create_connection(("127.0.0.1", port))
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
lines, tags = connection.makefile("rb", 1 << 18), itertools.count(1)
lines.readline()
for command in commands:
    tag = b"a%d " % next(tags)
    connection.sendall(tag + command.encode("latin-1") + b"\\r\\n")
    for line in lines:
        if line.startswith(tag):
            assert line.startswith(tag + b"OK"), line
            break
"""  # each command after the answer to the one before


class RepeatingLink(CoreLink):
    """A link that sends each request once, and then repeats its answer."""

    def __init__(self, *target: Any, **options: Any) -> None:
        super().__init__(*target, **options)
        self._answers: dict[tuple[str, bytes], tuple[Any, int]] = {}
        self.operations = 0

    async def execute(
        self,
        method: Method[Request, Response],
        request: Request,
        *,
        followed: Followed | None = None,
        **options: Any,
    ) -> Response:
        self.operations += 1
        named: Any = request
        request_id = getattr(named, "request_id", b"")
        if request_id:
            named.request_id = b""
        key = method.field, named.SerializeToString(deterministic=True)
        if key not in self._answers:
            if request_id:
                named.request_id = request_id
            answer = await super().execute(method, request, followed=followed, **options)
            self._answers[key] = answer, 0 if followed is None else followed.change_number
        response, number = self._answers[key]
        await asyncio.sleep(0)
        if followed is not None:
            followed.change_number = max(followed.change_number, number)
        return response  # type: ignore[no-any-return]


async def cpu_of(port: int, row: str, count: int) -> float:
    """CPU seconds of this thread while a client logs in, selects INBOX, and runs `count` commands."""
    commands = [f"LOGIN {address('alice')} {password('alice')}", "SELECT INBOX"]
    commands += [ROWS[row](number).decode("latin-1") for number in range(count)]
    began = time.thread_time()
    client = await asyncio.create_subprocess_exec(sys.executable, "-I", "-c", CLIENT, stdin=subprocess.PIPE)
    await client.communicate(json.dumps([port, commands]).encode())
    if client.returncode:
        raise SystemExit(f"{row}: the client failed")
    return time.thread_time() - began


async def measure(rows: list[str], directory: Path) -> None:
    async with LocalCore(directory) as core:
        for _ in range(MESSAGES):
            await core.deliver("alice", BODY)
        link = await core.link("imap", RepeatingLink)
        (directory / "tls").mkdir()
        stage, _ = start(directory / "tls", AuthenticationPolicy.EXCEPT_LOOPBACK, link, BytesIO())
        port = stage.endpoint().port
        for row in rows:
            await cpu_of(port, row, COMMANDS)
            session = min([await cpu_of(port, row, 0) for _ in range(ROUNDS)])
            before = link.operations
            cost = min([await cpu_of(port, row, COMMANDS) for _ in range(ROUNDS)]) - session
            operations = (link.operations - before) / ROUNDS / COMMANDS
            figures = {"row": row, "microseconds": round(cost / COMMANDS * 1e6, 1), "operations": round(operations, 2)}
            print(json.dumps(figures), flush=True)
        await stage.runtime.drain()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "store"
        prepare_store(directory)
        uvloop.run(measure(sys.argv[1:] or list(ROWS), directory))


if __name__ == "__main__":
    main()
