"""A running SMTP gateway over a recording core, with a client that sends octets."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from restante_gateways.net.authentication import AuthenticationPolicy
from restante_gateways.net.bounds import ConnectionBounds
from restante_gateways.net.runtime import Port, Runtime, RuntimeSettings
from restante_gateways.smtp.checks.settings import CheckSettings
from restante_gateways.smtp.gateway import SmtpListener, SmtpSettings, listen
from restante_gateways.smtp.settings import Role, SessionSettings
from restante_process.tls import CertificateFiles
from tests.gateways.smtp.recording import RecordingCore
from tests.harness.certificates import pair_maker


class Client:
    """A connection to one listener: octets out, whole replies in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, octets: bytes) -> None:
        self.writer.write(octets)
        await self.writer.drain()

    async def reply(self, seconds: float = 10.0) -> str:
        """One reply with all its lines, without the last CRLF; empty when the server has closed."""
        lines: list[str] = []
        while True:
            line = await asyncio.wait_for(self.reader.readline(), seconds)
            lines.append(line.decode("utf-8").removesuffix("\r\n"))
            if line[3:4] != b"-":
                return "\n".join(lines)

    async def ask(self, line: bytes | str) -> str:
        """Send one command and return its reply."""
        await self.send((line.encode() if isinstance(line, str) else line) + b"\r\n")
        return await self.reply()

    async def codes(self, count: int) -> list[int]:
        """The codes of the next replies."""
        return [int((await self.reply())[:3]) for _ in range(count)]

    async def start_tls(self, context: ssl.SSLContext) -> None:
        await self.writer.start_tls(context, server_hostname="localhost")

    async def close(self) -> None:
        self.writer.close()
        try:
            await asyncio.wait_for(self.writer.wait_closed(), 1)
        except TimeoutError:
            self.writer.transport.abort()
        except (ConnectionError, ssl.SSLError):
            pass  # the server has closed first


class Gateway:
    """The gateway under test."""

    def __init__(self, core: RecordingCore, runtime: Runtime, tls: ssl.SSLContext) -> None:
        self.core, self.runtime, self.tls = core, runtime, tls
        self._clients: list[Client] = []

    @classmethod
    def of(cls, runtime: Runtime, tls: ssl.SSLContext) -> Gateway:
        """A gateway with an external core."""
        return cls(RecordingCore(), runtime, tls)

    def port(self, listener: str) -> int:
        return self.runtime.addresses()[listener][0].port

    async def connect(self, listener: str = "mx", *, greet: bool = True) -> Client:
        """Connect a client and read the greeting."""
        tls = self.tls if listener == "submissions" else None
        name = "localhost" if tls else None
        port = self.port(listener)
        client = Client(*await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=name))
        self._clients.append(client)
        if greet:
            protocol = "LMTP" if listener == "lmtp" else "ESMTP"
            assert (await client.reply()).startswith(f"220 mx.example.test {protocol} ")
        return client

    async def logged_in(self, name: str = "alice") -> Client:
        """A client of the submissions listener, logged in as `name`."""
        client = await self.connect("submissions")
        await client.ask("EHLO client.example.net")
        plain = f"\0{name}@example.test\0{name}-demo".encode()
        assert (await client.ask(b"AUTH PLAIN " + base64.b64encode(plain))).startswith("235 2.7.0")
        return client

    async def close_clients(self) -> None:
        for client in self._clients:
            await client.close()


MakeGateway = Callable[..., AbstractAsyncContextManager[Gateway]]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
    """A self-signed pair for localhost."""
    return pair_maker(tmp_path_factory.mktemp("tls"))("server", "localhost")


@pytest.fixture
def make_gateway(certificate: CertificateFiles) -> MakeGateway:
    """A gateway as a context manager; keyword arguments are those of SessionSettings, `bounds` of its connections.

    With `checks` it has an mx listener more, "proxied", whose clients name themselves in a PROXY header.
    """

    @contextlib.asynccontextmanager
    async def make(
        authentication: AuthenticationPolicy = AuthenticationPolicy.REQUIRED,
        bounds: ConnectionBounds = ConnectionBounds(),  # noqa: B008 - it cannot be changed
        checks: CheckSettings | None = None,
        **session: Any,
    ) -> AsyncIterator[Gateway]:
        runtime = Runtime(
            RuntimeSettings("smtp", certificates=(certificate,), authentication=authentication, drain_seconds=2.0)
        )
        sessions = SessionSettings(
            **{"role": Role.MX, "host_name": "mx.example.test", "max_message_octets": 100_000, **session}
        )
        listeners = {
            "mx": SmtpListener(Port(tls="starttls"), Role.MX),
            "submission": SmtpListener(Port(tls="starttls"), Role.SUBMISSION),
            "submissions": SmtpListener(Port(tls="implicit"), Role.SUBMISSION),
            "lmtp": SmtpListener(Port(tls="none", allow_from=("127.0.0.1",)), Role.LMTP),
        }
        if checks is not None:
            listeners["proxied"] = SmtpListener(Port(tls="none", proxy_from=("127.0.0.0/8",)), Role.MX)
        core = RecordingCore()
        listen(SmtpSettings(listeners, sessions, bounds, checks), core, runtime)
        gateway = Gateway(core, runtime, ssl.create_default_context(cafile=str(certificate.certificate)))
        try:
            yield gateway
        finally:
            core.gate.set()
            await gateway.close_clients()
            await runtime.drain()

    return make


@pytest.fixture
async def gateway(make_gateway: MakeGateway) -> AsyncIterator[Gateway]:
    """A gateway with default limits."""
    async with make_gateway() as running:
        yield running


@pytest.fixture
async def lenient(make_gateway: MakeGateway) -> AsyncIterator[Gateway]:
    """A gateway with the demo's policy: authentication without TLS on loopback."""
    async with make_gateway(authentication=AuthenticationPolicy.EXCEPT_LOOPBACK) as running:
        yield running
