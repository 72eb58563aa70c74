"""The POP3 gateway on free ports, with an in-memory core."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import pytest

from restante_gateways.net.authentication import AuthenticationPolicy
from restante_gateways.net.bounds import ConnectionBounds
from restante_gateways.net.runtime import Port, Runtime, RuntimeSettings
from restante_gateways.pop3.errors import REFUSALS
from restante_gateways.pop3.gateway import Pop3Gateway
from restante_gateways.pop3.settings import MaildropSettings, SessionSettings
from restante_process.limits import ConnectionLimits
from tests.gateways.pop3.fake_core import FakeCore
from tests.harness.certificates import pair_maker


@dataclass
class Running:
    """A running gateway."""

    core: FakeCore
    runtime: Runtime
    gateway: Pop3Gateway
    tls: ssl.SSLContext
    log: BytesIO

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
async def running(tmp_path: Path, policy: AuthenticationPolicy, bounds: ConnectionBounds) -> AsyncIterator[Running]:
    pair = pair_maker(tmp_path)("server", "localhost")
    log = BytesIO()
    limits = ConnectionLimits()
    settings = RuntimeSettings(
        "pop3", certificates=(pair,), authentication=policy, limits=limits, drain_seconds=2.0, log_commands=False
    )
    runtime, core = Runtime(settings, command_stream=log), FakeCore()
    for name in ("alice", "bob", "carol"):
        core.account(name)
    impatient = MaildropSettings(
        read_seconds=0.2, read_pause_seconds=0.02, release_seconds=0.2, release_pause_seconds=0.02
    )
    gateway = Pop3Gateway(core, runtime, SessionSettings(maildrop=impatient))
    ports = {"pop3": Port(tls="starttls"), "pop3s": Port(tls="implicit")}
    runtime.listen(ports, gateway.serve, refusals=REFUSALS, bounds=bounds)
    client = ssl.create_default_context(cafile=str(pair.certificate))
    yield Running(core, runtime, gateway, client, log)
    await runtime.drain()
