"""The IMAP gateway on free ports, over a core in this process (`running`) or in a process of its own (`stage`)."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from restante.link import CoreLink
from restante_gateways.core import streams
from restante_gateways.imap import gateway as imap_gateway
from restante_gateways.imap.folders.settings import FolderSettings
from restante_gateways.imap.gateway import ImapGateway, ImapSettings
from restante_gateways.net.authentication import AuthenticationPolicy
from restante_gateways.net.bounds import ConnectionBounds
from restante_gateways.net.runtime import Port, Runtime, RuntimeSettings
from tests.gateways.imap.stage import NAME, PASSWORD, Stage
from tests.harness.certificates import pair_maker
from tests.harness.core_process import CoreProcess, running_core
from tests.harness.faulty_link import FaultyLink
from tests.harness.local_core import LocalCore, open_local_core

MAX_MESSAGE_OCTETS = 600_000


@dataclass
class Running(Stage):
    """A gateway, and the core behind its link."""

    core: LocalCore
    link: FaultyLink
    log: BytesIO
    gateway: ImapGateway

    def open_connections(self) -> int:
        """The connections of clients now."""
        return int(
            self.runtime.metrics.registry.get_sample_value(
                "restante_gateway_connections", {"gateway": "imap", "listener": "imap"}
            )
            or 0
        )


def start(
    folder: Path,
    policy: AuthenticationPolicy,
    link: CoreLink,
    log: BytesIO,
    **settings: Any,
) -> tuple[Stage, ImapGateway]:
    """A gateway on free ports."""
    pair = pair_maker(folder)("server", "localhost")
    process = RuntimeSettings("imap", certificates=(pair,), authentication=policy, drain_seconds=2.0)
    runtime = Runtime(process, command_stream=log)
    listeners = {"imap": Port(tls="starttls"), "imaps": Port(tls="implicit")}
    gateway = ImapGateway(ImapSettings(listeners, MAX_MESSAGE_OCTETS, **settings), link, runtime)
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
def stream_patience_seconds() -> float:
    return streams.PATIENCE_SECONDS


@pytest.fixture
async def core(store_template: Path, tmp_path: Path) -> AsyncIterator[LocalCore]:
    settings = {"limits.max_message_octets": MAX_MESSAGE_OCTETS}
    async with open_local_core(store_template, tmp_path / "core", **settings) as core:
        yield core


@pytest.fixture
async def running(
    core: LocalCore,
    tmp_path: Path,
    policy: AuthenticationPolicy,
    folders: FolderSettings,
    stream_patience_seconds: float,
) -> AsyncIterator[Running]:
    link, log = await core.link("imap", FaultyLink), BytesIO()
    more = {"folders": folders, "stream_patience_seconds": stream_patience_seconds}
    stage, gateway = start(tmp_path, policy, link, log, **more)
    yield Running(stage.runtime, stage.tls, core, link, log, gateway)
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
