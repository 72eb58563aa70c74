"""The conversations of tests/transcripts/pop3 with the POP3 gateway."""

from __future__ import annotations

import re
from pathlib import Path

from tests.gateways.pop3.conftest import Running
from tests.gateways.pop3.messages import MESSAGES
from tests.harness.player import Endpoint, Play, Player, each_transcript


@each_transcript("pop3")
async def test_pop3_conversation(path: Path, play: Play, running: Running) -> None:
    async def given(text: str, player: Player) -> None:
        for sentence in text.splitlines():
            if match := re.fullmatch(r"(\w+) has the password \"(.*)\"", sentence):
                await running.core.set_password(match[1], match[2])
            elif match := re.fullmatch(r"(\w+) has ([\w, ]+)", sentence):
                for name in match[2].split(", "):
                    await running.core.deliver(match[1], MESSAGES[name])
            else:
                assert sentence == "nothing", sentence

    endpoint = Endpoint("127.0.0.1", running.port, running.tls)
    await play(path, {"pop3": endpoint}, given)
