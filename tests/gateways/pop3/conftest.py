"""The POP3 gateway on free ports, over a core in this process."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import pytest

from restante.v1.session_pb2 import AuthenticateRequest, ClientContext
from restante_gateways.net.authentication import AuthenticationPolicy
from restante_gateways.net.bounds import ConnectionBounds
from restante_gateways.net.runtime import Port, Runtime, RuntimeSettings
from restante_gateways.pop3.errors import REFUSALS
from restante_gateways.pop3.gateway import Pop3Gateway
from restante_gateways.pop3.settings import MaildropSettings, SessionSettings
from restante_process.limits import ConnectionLimits
from tests.harness.certificates import pair_maker
from tests.harness.faulty_link import FaultyLink
from tests.harness.local_core import LocalCore, open_local_core


@dataclass
class Running:
    """A running gateway."""

    core: LocalCore
    link: FaultyLink
    runtime: Runtime
    gateway: Pop3Gateway
    tls: ssl.SSLContext
    log: BytesIO

    async def fill(self, *messages: bytes) -> None:
        """Put messages into alice's Inbox."""
        for message in messages:
            await self.core.deliver("alice", message)

    async def leave(self, *uids: int) -> None:
        """Move messages of alice's Inbox to the Archive, by another session."""
        ids = [message.message_id for message in await self.core.inbox("alice") if message.uid in uids]
        await (await self.core.user("alice")).messages.move(ids, "Archive")

    async def contents(self) -> list[bytes]:
        """The messages in alice's Inbox."""
        user = await self.core.user("alice")
        return [await user.contents.read(message.message_id) for message in await self.core.inbox("alice")]

    async def released(self) -> None:
        """Wait until no session holds alice's maildrop."""
        async with asyncio.timeout(5):
            while await self.core.maildrop_is_leased("alice"):
                await asyncio.sleep(0.01)

    def contexts(self) -> list[ClientContext]:
        """How the logins described their clients."""
        return [request.client for request in self.link.requests if isinstance(request, AuthenticateRequest)]

    def set_maildrop(self, **changed: float) -> None:
        """Change settings for later sessions."""
        settings = self.gateway.settings
        self.gateway.settings = replace(settings, maildrop=replace(settings.maildrop, **changed))

    @property
    def port(self) -> int:
        return self.runtime.addresses()["pop3"][0].port

    @property
    def tls_port(self) -> int:
        return self.runtime.addresses()["pop3s"][0].port


@pytest.fixture
def policy() -> AuthenticationPolicy:
    return AuthenticationPolicy.EXCEPT_LOOPBACK


@pytest.fixture
def bounds() -> ConnectionBounds:
    return ConnectionBounds(linger_seconds=0.5)


@pytest.fixture
def token_seconds() -> float:
    return 900.0


@pytest.fixture
async def core(store_template: Path, tmp_path: Path, token_seconds: float) -> AsyncIterator[LocalCore]:
    settings = {"sessions.token_minutes": token_seconds / 60}
    async with open_local_core(store_template, tmp_path / "core", **settings) as core:
        yield core


@pytest.fixture
async def running(
    core: LocalCore, tmp_path: Path, policy: AuthenticationPolicy, bounds: ConnectionBounds
) -> AsyncIterator[Running]:
    pair = pair_maker(tmp_path)("server", "localhost")
    log = BytesIO()
    limits = ConnectionLimits()
    settings = RuntimeSettings(
        "pop3", certificates=(pair,), authentication=policy, limits=limits, drain_seconds=2.0, log_commands=False
    )
    runtime, link = Runtime(settings, command_stream=log), await core.link("pop3", FaultyLink)
    impatient = MaildropSettings(
        read_seconds=0.2, read_pause_seconds=0.02, release_seconds=0.2, release_pause_seconds=0.02
    )
    gateway = Pop3Gateway(link, runtime, SessionSettings(maildrop=impatient))
    gateway.sessions.follow(link.watch)
    ports = {"pop3": Port(tls="starttls"), "pop3s": Port(tls="implicit")}
    runtime.listen(ports, gateway.serve, refusals=REFUSALS, bounds=bounds)
    client = ssl.create_default_context(cafile=str(pair.certificate))
    yield Running(core, link, runtime, gateway, client, log)
    await runtime.drain()
