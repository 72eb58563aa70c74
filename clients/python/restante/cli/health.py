"""Readiness of the children, and their metrics all together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from restante.cli.supervisor import Supervisor
from restante.config import Config

PROCESSES = ("core", "imap", "pop3", "smtp", "relay")
ANSWER_SECONDS = 5.0
POLL_SECONDS = 0.05
MAX_ANSWER_OCTETS = 8 << 20


async def get(host: str, port: int, path: str) -> tuple[int, bytes]:
    """Status and body of a GET. Raises OSError, TimeoutError."""
    async with asyncio.timeout(ANSWER_SECONDS):
        reader, writer = await asyncio.open_connection(host, port, limit=MAX_ANSWER_OCTETS)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            answer = await reader.read(-1)
        finally:
            writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    return (int(words[1]) if len(words) > 1 and words[1].isdigit() else 0), body


async def ready(host: str, port: int) -> bool:
    """Whether a process can serve clients now."""
    try:
        status, _ = await get(host, port, "/readyz")
    except (OSError, TimeoutError):
        return False
    return status == 200


async def wait_until_ready(host: str, port: int, seconds: float, *ended: asyncio.Event) -> bool:
    """Wait for a process; False when it was not ready in time, or one of `ended` came first."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not any(event.is_set() for event in ended):
                if await ready(host, port):
                    return True
                await asyncio.sleep(POLL_SECONDS)
    return False


@contextlib.asynccontextmanager
async def served(settings: Config, supervisor: Supervisor) -> AsyncIterator[None]:
    """While entered: /metrics of all children, /healthz, and /readyz that is true when every child is ready."""
    if settings.health.up < 0:
        yield
        return

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(2 * ANSWER_SECONDS):
                request = await reader.readuntil(b"\r\n\r\n")
                path = [*request.split(b" ", 2), b""][1].decode("ascii", "replace")
                status, body = await _answer(settings, supervisor, path)
                head = (
                    f"HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {len(body)}\r\n"
                )
                writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, settings.health.host, settings.health.up)
    async with server:
        yield


async def _answer(settings: Config, supervisor: Supervisor, path: str) -> tuple[str, bytes]:
    host = settings.health.host
    ports: dict[str, int] = {name: port for name in PROCESSES if (port := getattr(settings.health, name)) >= 0}
    if path == "/healthz":
        return "200 OK", b"ok\n"
    if path == "/readyz":
        states = await asyncio.gather(*(ready(host, port) for port in ports.values()))
        late = [name for name, state in zip(ports, states, strict=True) if not state]
        return ("503 Service Unavailable", f"not ready: {' '.join(late)}\n".encode()) if late else ("200 OK", b"ok\n")
    if path == "/metrics":
        bodies = await asyncio.gather(*(get(host, port, "/metrics") for port in ports.values()), return_exceptions=True)
        restarts = "".join(
            f'restante_restarts_total{{process="{child.name}"}} {child.restarts}\n' for child in supervisor.children
        )
        head = (
            "# HELP restante_restarts_total How often a process was started again.\n"
            "# TYPE restante_restarts_total counter\n"
        )
        found = [body[1] for body in bodies if isinstance(body, tuple)]
        return "200 OK", _merged(found) + (head + restarts).encode()
    return "404 Not Found", b""


def _merged(expositions: list[bytes]) -> bytes:
    """Metrics of several processes: each family described once. Names differ by process, or by label."""
    described: set[bytes] = set()
    lines: list[bytes] = []
    for exposition in expositions:
        for line in exposition.splitlines():
            if line.startswith(b"#"):
                if line in described:
                    continue
                described.add(line)
            lines.append(line)
    return b"\n".join(lines) + b"\n" if lines else b""
