"""A whole installation for tests: `restante up` in a separate directory, with a domain and users.

    async with organisation(directory, "example.test", ["alice"], overrides={"relay.nameservers": [...]}) as ours:
        ours.smtp("submission"), ours.imap(), ...

Several may run at once: each takes free ports, and its MX listens at a given address.
"""

from __future__ import annotations

import asyncio
import contextlib
import imaplib
import json
import random
import secrets
import signal
import smtplib
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, TypeVar

from restante import errors
from restante.methods import Method, Request, Response
from restante.v1 import methods
from restante.v1.admin_pb2 import CreateAccountRequest, CreateDomainRequest
from restante_cli import authority
from restante_cli.connect import admin_link
from restante_process.config import Config
from restante_process.config_file import load

PORTS = range(10_000, 20_000)
START_SECONDS = 60.0
END_SECONDS = 30.0
POLL_SECONDS = 0.1
T = TypeVar("T")


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Free ports, below the range of outgoing connections."""
    with contextlib.ExitStack() as opened:
        found: list[int] = []
        for port in random.sample(PORTS, len(PORTS)):
            try:
                opened.enter_context(socket.socket()).bind((host, port))
            except OSError:
                continue
            found.append(port)
            if len(found) == count:
                return found
    raise RuntimeError("no free ports")


async def eventually(look: Callable[[], T], seconds: float = 20.0, what: str = "it") -> T:
    """Run `look` on a thread until its result is true, and return the result. Raises AssertionError."""
    deadline = time.monotonic() + seconds
    while True:
        found = await asyncio.to_thread(look)
        if found:
            return found
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:g} s"
        await asyncio.sleep(POLL_SECONDS)


@dataclass
class Organisation:
    """One running installation."""

    domain: str
    settings: Config
    process: asyncio.subprocess.Process | None = field(default=None, repr=False)

    @property
    def host(self) -> str:
        """The host that its clients connect to."""
        return self.settings.smtp.listeners["submission"].host

    @property
    def trust(self) -> ssl.SSLContext:
        """A TLS context that trusts its certificates."""
        context = ssl.create_default_context(cafile=str(self.settings.directory / "ca.pem"))
        context.check_hostname = False
        return context

    def port(self, listener: str) -> int:
        """The port of mx, submission, submissions, lmtp, imap, imaps, pop3 or pop3s."""
        gateways = (self.settings.smtp.listeners, self.settings.imap.listeners, self.settings.pop3.listeners)
        return next(found[listener].port for found in gateways if listener in found)

    def address(self, name: str) -> str:
        """The address of a user."""
        return f"{name}@{self.domain}"

    @contextlib.contextmanager
    def submission(self, name: str) -> Iterator[smtplib.SMTP]:
        """A logged-in session on the submission port, with TLS."""
        with smtplib.SMTP(self.host, self.port("submission"), timeout=30) as client:
            client.starttls(context=self.trust)
            client.login(self.address(name), password(name))
            yield client

    @contextlib.contextmanager
    def imap(self, name: str) -> Iterator[imaplib.IMAP4]:
        """A logged-in IMAP session, with TLS."""
        with imaplib.IMAP4_SSL(self.host, self.port("imaps"), ssl_context=self.trust, timeout=30) as client:
            client.login(self.address(name), password(name))
            yield client

    def inbox(self, name: str) -> list[bytes]:
        """The octets of every message in a user's Inbox."""
        with self.imap(name) as client:
            client.select("INBOX", readonly=True)
            _, found = client.search(None, "ALL")
            numbers = found[0].split()
            if not numbers:
                return []
            _, answer = client.fetch(b",".join(numbers).decode(), "(BODY.PEEK[])")
            return [item[1] for item in answer if isinstance(item, tuple)]

    def mail(self, name: str, subject: str = "") -> list[EmailMessage]:
        """The messages in a user's Inbox with this text in the subject."""
        read = [message_from_bytes(octets, policy=policy.default) for octets in self.inbox(name)]
        return [message for message in read if subject in str(message["Subject"])]

    async def admin(self, *arguments: str) -> Any:
        """The JSON output of `restante admin ...`. Raises AssertionError with its error output when it fails."""
        file = str(self.settings.directory / "restante.toml")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "restante_cli", "admin", "--config", file, *arguments, "--output", "json",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return json.loads(out)

    async def call(self, method: Method[Request, Response], request: Request) -> Response:
        """One operation with the administrator's identity."""
        link = await admin_link(self.settings)
        try:
            return await link.execute(method, request)
        finally:
            await link.close()

    async def stop(self) -> None:
        """End its processes with SIGTERM."""
        if self.process is None or self.process.returncode is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(END_SECONDS):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
            raise

    async def start(self) -> None:
        """Start its processes, with their logs in up.log in its directory. Returns when all are ready."""
        directory = self.settings.directory
        with (directory / "up.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "restante_cli", "up", "--data", str(directory), stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_SECONDS
        health = self.settings.health
        while not await asyncio.to_thread(_ready, health.host, health.up):
            ended = self.process.returncode
            assert ended is None, f"restante up ended with {ended}:\n{(directory / 'up.log').read_text()[-4000:]}"
            assert time.monotonic() < deadline, (directory / "up.log").read_text()[-4000:]
            await asyncio.sleep(POLL_SECONDS)


def password(name: str) -> str:
    """The password of a user."""
    return f"{name}-secret"


def _ready(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=5) as connection:
            connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return connection.recv(4096).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(value)


def _write_config(directory: Path, domain: str, mx: tuple[str, int], overrides: Mapping[str, Any]) -> None:
    names = (
        "submission",
        "submissions",
        "lmtp",
        "imap",
        "imaps",
        "pop3",
        "pop3s",
        "up",
        "core",
        "imap_",
        "pop3_",
        "smtp_",
        "relay_",
    )
    ports = dict(zip(names, free_ports(len(names)), strict=True))

    def listener(name: str, tls: str) -> dict[str, Any]:
        return {"host": "127.0.0.1", "port": ports[name], "tls": tls}

    values: dict[str, Any] = {
        "data": str(directory),
        "core.api_port": 0,
        "core.drain_seconds": 3.0,
        "tls.certificates": [{"certificate": f"{directory}/tls/cert.pem", "key": f"{directory}/tls/key.pem"}],
        "store.reserve_octets": 0,
        "transport.hostname": f"mx.{domain}",
        "transport.first_retry_minutes": 0.02,
        "transport.longest_retry_minutes": 0.05,
        "smtp.listeners": {
            "mx": {"host": mx[0], "port": mx[1], "role": "mx"},
            "submission": listener("submission", "starttls") | {"role": "submission"},
            "submissions": listener("submissions", "implicit") | {"role": "submission"},
            "lmtp": listener("lmtp", "none") | {"role": "lmtp", "allow_from": ["127.0.0.1"]},
        },
        "imap.listeners": {"imap": listener("imap", "starttls"), "imaps": listener("imaps", "implicit")},
        "pop3.listeners": {"pop3": listener("pop3", "starttls"), "pop3s": listener("pop3s", "implicit")},
        "health.up": ports["up"],
        **{f"health.{name}": ports[name + "_"] for name in ("imap", "pop3", "smtp", "relay")},
        "health.core": ports["core"],
        **overrides,
    }
    (directory / "restante.toml").write_text("".join(f"{key} = {_toml(value)}\n" for key, value in values.items()))


async def _populate(ours: Organisation, people: Sequence[str]) -> None:
    link = await admin_link(ours.settings)
    try:
        request = CreateDomainRequest(name=ours.domain, request_id=secrets.token_bytes(16))
        try:
            await link.execute(methods.CREATE_DOMAIN, request)
        except errors.DomainExists:
            return
        for name in people:
            account = CreateAccountRequest(
                address=ours.address(name), display_name=name.capitalize(), password=password(name),
                request_id=secrets.token_bytes(16),
            )  # fmt: skip
            await link.execute(methods.CREATE_ACCOUNT, account)
    finally:
        await link.close()


@contextlib.asynccontextmanager
async def organisation(
    directory: Path,
    domain: str,
    people: Sequence[str],
    *,
    mx: tuple[str, int] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> AsyncIterator[Organisation]:
    """An installation of `domain` for the time of the context. `mx`: its address for mail from other servers."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority.make(directory, ("localhost", "127.0.0.1", f"mx.{domain}"))
    _write_config(directory, domain, mx or ("127.0.0.1", free_ports(1)[0]), overrides or {})
    ours = Organisation(domain, load(directory / "restante.toml", {}))
    try:
        await ours.start()
        await _populate(ours, people)
        yield ours
    finally:
        await ours.stop()
