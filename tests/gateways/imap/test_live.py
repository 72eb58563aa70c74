"""The same conversations, over a real core."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from io import BytesIO
from pathlib import Path

import pytest

from restante_gateways.sasl import AuthenticationPolicy
from tests.gateways.imap.conftest import start
from tests.gateways.imap.live_core import LiveCore, live_core
from tests.gateways.imap.stage import NAME, PASSWORD, Stage
from tests.harness.player import Play, each_transcript

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveCore]:
    with live_core(tmp_path_factory.mktemp("core") / "data") as running:
        yield running


@pytest.fixture
async def stage(core: LiveCore, tmp_path: Path) -> AsyncIterator[Stage]:
    await core.fresh_account(NAME, PASSWORD)
    link = await core.link("imap")
    stage = start(tmp_path, AuthenticationPolicy.EXCEPT_LOOPBACK, link, BytesIO())
    yield stage
    await stage.runtime.drain()
    stage.runtime.commands.flush()
    await link.close()


@each_transcript("imap")
async def test_imap_conversation_over_a_real_core(path: Path, play: Play, stage: Stage) -> None:
    await play(path, {"imap": stage.endpoint(), "imaps": stage.endpoint("imaps")}, stage.given)
