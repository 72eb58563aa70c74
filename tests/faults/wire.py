"""A running platform for tests of faults, and plain sockets to it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import psutil

from restante.link import CoreLink
from restante_cli.connect import admin_link
from restante_process.options import read_config
from tests.bench.platforms import free_base, platform
from tests.faults.kill_rounds import processes, wait_until_back

DOMAIN = "example.test"
PATIENCE_SECONDS = 40.0  # longer than any command of a gateway may take
PORTS = {"smtp": 25, "submission": 587, "imap": 143, "pop3": 110}

R = TypeVar("R")


class Wire:
    """One connection, read line by line."""

    def __init__(self, port: int, seconds: float = PATIENCE_SECONDS) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=seconds)
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
        self.socket.close()

    def send(self, octets: bytes) -> None:
        self.socket.sendall(octets)

    def line(self) -> bytes:
        """The next line; empty when the server has closed."""
        try:
            return self._file.readline(1 << 20)
        except ConnectionError:
            return b""

    def read(self, octets: int) -> bytes:
        return self._file.read(octets)

    def smtp(self, command: bytes) -> bytes:
        """Send a command and return the last line of the reply."""
        self.send(command + b"\r\n")
        return self.reply()

    def reply(self) -> bytes:
        while (line := self.line())[3:4] == b"-":
            pass
        return line

    def imap(self, command: bytes, tag: bytes = b"x") -> list[bytes]:
        """Send a command and return the lines up to the tagged answer, a continuation or the end."""
        self.send(tag + b" " + command + b"\r\n")
        return self.until(tag)

    def until(self, tag: bytes) -> list[bytes]:
        lines = []
        while line := self.line():
            lines.append(line)
            if line.startswith((tag + b" ", b"+ ")):
                break
        return lines

    def pop3(self, command: bytes) -> bytes:
        self.send(command + b"\r\n")
        return self.line()


@dataclass
class House:
    """A platform: its supervisor, base port and data directory."""

    supervisor: Any
    base: int
    directory: Path

    def wire(self, protocol: str, **more: Any) -> Wire:
        """A connection after its greeting."""
        made = Wire(self.base + PORTS[protocol], **more)
        greeting = made.line()
        assert greeting.startswith((b"220", b"* OK", b"+OK")), greeting
        if protocol in ("smtp", "submission"):
            assert made.smtp(b"EHLO client.example").startswith(b"250")
        return made

    def imap(self, name: str, select: str = "") -> Wire:
        """A logged-in IMAP session."""
        made = self.wire("imap")
        assert b"OK" in made.imap(f"LOGIN {name}@{DOMAIN} {name}-demo".encode())[-1]
        if select:
            assert b"OK" in made.imap(f"SELECT {select}".encode())[-1]
        return made

    def pop3(self, name: str) -> Wire:
        made = self.wire("pop3")
        assert made.pop3(f"USER {name}@{DOMAIN}".encode()).startswith(b"+OK")
        answer = made.pop3(f"PASS {name}-demo".encode())
        assert answer.startswith(b"+OK"), answer
        return made

    def submission(self, name: str) -> Wire:
        made = self.wire("submission")
        plain = base64.b64encode(f"\0{name}@{DOMAIN}\0{name}-demo".encode())
        assert made.smtp(b"AUTH PLAIN " + plain).startswith(b"235")
        return made

    def processes(self) -> dict[str, psutil.Process]:
        return processes(self.supervisor)

    def wait_until_back(self, seconds: float = 20.0) -> None:
        wait_until_back(self.base, seconds)

    def ask(self, question: Callable[[CoreLink], Awaitable[R]]) -> R:
        """Run `question` on a link with the administrator's identity, and return its result."""

        async def run() -> R:
            link = await admin_link(read_config(None, self.directory, ()))
            try:
                return await question(link)
            finally:
                await link.close()

        return asyncio.run(run())

    def change_config(self, change: Callable[[str], str]) -> None:
        """Rewrite the configuration file; a process reads it when it starts."""
        path = self.directory / "restante.toml"
        path.write_text(change(path.read_text()))

    def restart_core(self) -> None:
        """End the core with SIGTERM; the supervisor restarts it."""
        before = self.processes()["core"]
        before.terminate()
        before.wait(30)
        self.wait_until_back()


@contextlib.contextmanager
def house(scratch: Path, environment: Mapping[str, str] | None = None) -> Iterator[House]:
    """A fresh platform with the demo's users. `environment`: further RESTANTE_* settings of its processes."""
    before = dict(os.environ)
    os.environ.update(environment or {})
    base, directory = free_base(), scratch / "data"
    try:
        with platform(directory, base) as supervisor:
            yield House(supervisor, base, directory)
    finally:
        os.environ.clear()
        os.environ.update(before)


def message(subject: str = "", size: int = 100) -> bytes:
    """A message of about `size` octets, with a unique subject by default."""
    head = f"From: someone@example.org\r\nSubject: {subject or secrets.token_hex(4)}\r\n\r\n".encode()
    return head + (b"x" * 70 + b"\r\n") * (1 + size // 72)


def deliver(wire: Wire, *names: str, octets: bytes = b"", sender: str = "someone@example.org") -> bytes:
    """The last reply of a whole SMTP transaction: the first that is not positive, or the one to the final dot."""
    for command in (f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{name}@{DOMAIN}>" for name in names), "DATA"):
        reply = wire.smtp(command.encode())
        if reply[:1] not in b"23":
            wire.smtp(b"RSET")
            return reply
    return wire.smtp((octets or message()).removesuffix(b"\r\n") + b"\r\n.")


def anonymous(process: psutil.Process) -> int:
    """Resident octets without pages of files, which the kernel can drop at any moment."""
    held = process.memory_info()
    return int(held.rss - held.shared)


class Memory:
    """The peak memory of each process, sampled many times a second."""

    def __init__(self, watched: Mapping[str, psutil.Process]) -> None:
        self._watched = dict(watched)
        self.before = {name: anonymous(process) for name, process in self._watched.items()}
        self.most = dict(self.before)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.03):
            for name, process in self._watched.items():
                with contextlib.suppress(psutil.Error):
                    self.most[name] = max(self.most[name], anonymous(process))

    def grown(self) -> dict[str, int]:
        """The peak in MiB above the beginning, by process."""
        return {name: (self.most[name] - self.before[name]) >> 20 for name in self._watched}


def eventually(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait at most `seconds` until the condition is true, and return whether it became true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return condition()
