"""Mail for a server without 8BITMIME, and mail with long lines, leaves in 7 bits (RFC 6152 3)."""

from __future__ import annotations

import pytest

from tests.gateways.relay.conftest import running
from tests.harness.outbound_queue import OutboundQueue
from tests.harness.smtp_peer import EXTENSIONS, smtp_peer

BOB = "bob@example.net"
HEADER = b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: "
SEVEN = tuple(word for word in EXTENSIONS if word != "8BITMIME")
SIGNED = (
    b"Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\n%s\r\n--b\r\n"
    b"Content-Type: application/pgp-signature\r\n\r\nx\r\n--b--\r\n"
)


async def test_a_server_without_8bitmime_gets_seven_bits() -> None:
    core = OutboundQueue()
    async with smtp_peer(extensions=SEVEN) as peer, running(core, {"*": f"127.0.0.1:{peer.port}"}):
        assert await core.outcomes(core.put(BOB, content=HEADER + "8bit\r\n\r\nGrüße\r\n".encode())) == [
            ("relayed", "2.0.0")
        ]
        assert await core.outcomes(core.put(BOB, content=HEADER + b"8bit\r\n\r\nplain\r\n")) == [("relayed", "2.0.0")]
    first, second = peer.messages
    assert first.content == HEADER + b"quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe\r\n"
    assert first.mail == f"<alice@example.test> SIZE={len(first.content)}"
    assert second.content == HEADER + b"8bit\r\n\r\nplain\r\n"
    assert core.reads == 3


async def test_a_long_line_leaves_in_short_ones() -> None:  # RFC 5321 4.5.3.1.6
    core = OutboundQueue()
    async with smtp_peer() as peer, running(core, {"*": f"127.0.0.1:{peer.port}"}, memory_octets=1_000):
        assert await core.outcomes(core.put(BOB, content=HEADER + b"7bit\r\n\r\n" + b"x" * 5_000)) == [
            ("relayed", "2.0.0")
        ]
        assert max(map(len, peer.messages[0].content.split(b"\r\n"))) <= 76
        signed = SIGNED % (b"x" * 5_000)
        assert await core.outcomes(core.put(BOB, content=signed)) == [("relayed", "2.0.0")]
        assert peer.messages[1].content == signed  # most servers take long lines; a broken signature helps nobody


@pytest.mark.parametrize("extensions", [SEVEN, ("SIZE",)])
async def test_what_cannot_be_converted_fails_with_the_reason(extensions: tuple[str, ...]) -> None:
    core = OutboundQueue()
    async with smtp_peer(extensions=extensions) as peer, running(core, {"*": f"127.0.0.1:{peer.port}"}):
        lease = core.put(BOB, content=SIGNED % "Grüße".encode())
        assert await core.outcomes(lease) == [("failed", "5.6.3")]
        assert "multipart/signed" in core.reports[lease][0].diagnostic
    assert not peer.messages and not core.reports[lease][0].remote_host
