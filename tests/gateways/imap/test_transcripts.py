"""Every conversation of tests/transcripts/imap, with the gateway over a core in this process."""

from __future__ import annotations

from pathlib import Path

from tests.gateways.imap.conftest import Running
from tests.harness.player import Play, each_transcript


@each_transcript("imap")
async def test_imap_conversation(path: Path, play: Play, running: Running) -> None:
    await play(path, {"imap": running.endpoint(), "imaps": running.endpoint("imaps")}, running.given)
