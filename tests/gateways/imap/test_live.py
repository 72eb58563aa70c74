"""The same conversations, over a real core."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gateways.imap.stage import Stage
from tests.harness.player import Play, each_transcript

pytestmark = pytest.mark.end_to_end


@each_transcript("imap")
async def test_imap_conversation_over_a_real_core(path: Path, play: Play, stage: Stage) -> None:
    await play(path, {"imap": stage.endpoint(), "imaps": stage.endpoint("imaps")}, stage.given)
