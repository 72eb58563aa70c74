"""Every conversation of tests/transcripts/smtp, over the recording core."""

from __future__ import annotations

from pathlib import Path

from tests.gateways.smtp.conftest import Gateway
from tests.harness.player import Endpoint, Play, each_transcript


@each_transcript("smtp")
async def test_conversation(path: Path, play: Play, gateway: Gateway) -> None:
    await play(
        path,
        {
            "smtp": Endpoint("127.0.0.1", gateway.port("mx"), gateway.tls),
            "submission": Endpoint("127.0.0.1", gateway.port("submission"), gateway.tls),
            "submissions": Endpoint("127.0.0.1", gateway.port("submissions"), gateway.tls, implicit=True),
        },
    )


async def test_dots_arrive_as_they_were_meant(play: Play, gateway: Gateway) -> None:
    path = Path(__file__).parents[2] / "transcripts" / "smtp" / "dots.txt"
    await play(path, {"smtp": Endpoint("127.0.0.1", gateway.port("mx"))})
    content = bytes(gateway.core.accepted[0].content)
    assert content == b"Subject: dots\r\n\r\n.\r\n..\r\nhidden\r\na.\r\n .\r\n"  # RFC 5321 4.5.2
