"""The IMAP gateway on free ports, with an in-memory core (`running`) or a real one (`stage`)."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pytest

from restante.link import CoreLink
from restante_gateways.imap import gateway as imap_gateway
from restante_gateways.imap.folders.settings import FolderSettings
from restante_gateways.imap.gateway import ImapGateway, ImapSettings
from restante_gateways.net.authentication import AuthenticationPolicy
from restante_gateways.net.bounds import ConnectionBounds
from restante_gateways.net.runtime import Port, Runtime, RuntimeSettings
from tests.gateways.imap.memory_core import MemoryCore
from tests.gateways.imap.stage import NAME, PASSWORD, Stage
from tests.harness.certificates import pair_maker
from tests.harness.core_process import CoreProcess, running_core

MAX_MESSAGE_OCTETS = 600_000


@dataclass
class Running(Stage):
    """A gateway over an in-memory core."""

    core: MemoryCore
    log: BytesIO
    gateway: ImapGateway


def start(
    folder: Path,
    policy: AuthenticationPolicy,
    core: MemoryCore | CoreLink,
    log: BytesIO,
    folders: FolderSettings | None = None,
) -> tuple[Stage, ImapGateway]:
    """A gateway on free ports."""
    pair = pair_maker(folder)("server", "localhost")
    settings = RuntimeSettings("imap", certificates=(pair,), authentication=policy, drain_seconds=2.0)
    runtime = Runtime(settings, command_stream=log)
    listeners = {"imap": Port(tls="starttls"), "imaps": Port(tls="implicit")}
    wanted = ImapSettings(listeners, MAX_MESSAGE_OCTETS, folders=folders or FolderSettings())
    gateway = ImapGateway(wanted, core, runtime)  # type: ignore[arg-type]
    bounds = ConnectionBounds(linger_seconds=0.5)
    runtime.listen(listeners, gateway.serve, refusals=imap_gateway.REFUSALS, bounds=bounds)
    return Stage(runtime, ssl.create_default_context(cafile=str(pair.certificate))), gateway


@pytest.fixture
def policy() -> AuthenticationPolicy:
    return AuthenticationPolicy.EXCEPT_LOOPBACK


@pytest.fixture
def folders() -> FolderSettings:
    return FolderSettings()


@pytest.fixture
async def running(tmp_path: Path, policy: AuthenticationPolicy, folders: FolderSettings) -> AsyncIterator[Running]:
    core, log = MemoryCore(), BytesIO()
    stage, gateway = start(tmp_path, policy, core, log, folders)
    yield Running(stage.runtime, stage.tls, core, log, gateway)
    await stage.runtime.drain()
    stage.runtime.commands.flush()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoreProcess]:
    with running_core(
        tmp_path_factory.mktemp("core") / "data", RESTANTE_LIMITS__MAX_MESSAGE_OCTETS="600000"
    ) as running:
        yield running


@pytest.fixture
async def stage(live: CoreProcess, tmp_path: Path) -> AsyncIterator[Stage]:
    await live.account(NAME, PASSWORD, fresh=True)
    link = await live.link("imap")
    stage, _ = start(tmp_path, AuthenticationPolicy.EXCEPT_LOOPBACK, link, BytesIO())
    yield stage
    await stage.runtime.drain()
    stage.runtime.commands.flush()
    await link.close()
