"""A folder, a view of the DNS and an address for a foreign mail server.

The servers change to users of their own, so their folder is open to all and outside pytest's private one. They ask the
name server of /etc/resolv.conf on port 53: a mount namespace gives them a file of their own, which needs root.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from restante_process.tls import CertificateFiles
from tests.harness.requirements import missing

DNS_PORT = 53
SECONDS = 20.0


def require_root() -> None:
    """End the test as in `missing` where no private view of the DNS can be made."""
    if os.geteuid() != 0:
        missing("foreign mail servers change users and need port 53 on loopback: run as root")
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode != 0:
        missing("this machine allows no mount namespace (unshare --mount)")


@dataclass(frozen=True)
class Place:
    """The surroundings of one server. `host` is its loopback address, the same port serves all servers of a test."""

    directory: Path
    domain: str
    host: str
    port: int
    nameserver: str
    certificate: CertificateFiles
    trusted: Path  # PEM of the authorities that it trusts

    @property
    def name(self) -> str:
        """The server's host name."""
        return f"mx.{self.domain}"

    def command(self, *command: str | Path) -> list[str]:
        """The command with the test's name server in its /etc/resolv.conf."""
        resolv = self.directory / "resolv.conf"
        resolv.write_text(f"nameserver {self.nameserver}\noptions timeout:2 attempts:2\n")
        bind = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", bind, str(resolv), *map(str, command)]

    async def run(self, *command: str | Path, text: bytes = b"") -> str:
        """The output of a command, which must succeed."""
        process = await asyncio.create_subprocess_exec(
            *self.command(*command),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(SECONDS):
            out, _ = await process.communicate(text)
        assert process.returncode == 0, f"{command[0]}: {process.returncode}\n{out.decode(errors='replace')}"
        return out.decode(errors="replace")

    async def until_open(self, host: str, port: int) -> None:
        """Wait until somebody serves a port."""
        async with asyncio.timeout(SECONDS):
            while True:
                with contextlib.suppress(OSError):
                    (await asyncio.open_connection(host, port))[1].close()
                    return
                await asyncio.sleep(0.05)

    @contextlib.asynccontextmanager
    async def running(self, *command: str | Path, log: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """A process in the foreground, for the time of the context; its output goes to the file `log`."""
        with (self.directory / log).open("ab") as file:
            process = await asyncio.create_subprocess_exec(*self.command(*command), stdout=file, stderr=file)
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
                try:
                    async with asyncio.timeout(SECONDS):
                        await process.wait()
                except TimeoutError:
                    process.kill()
                    await process.wait()


@contextlib.contextmanager
def public_directory() -> Iterator[Path]:
    """A folder that every user may enter, removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix="restante-peer-"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def free_port(hosts: Sequence[str]) -> int:
    """A port that is free on all hosts."""
    while True:
        with contextlib.ExitStack() as opened:
            first = opened.enter_context(socket.socket())
            first.bind((hosts[0], 0))
            port = int(first.getsockname()[1])
            try:
                for host in hosts[1:]:
                    opened.enter_context(socket.socket()).bind((host, port))
            except OSError:
                continue
            return port
