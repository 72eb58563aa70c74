"""A smarthost that refuses this installation: the mail waits, the administrator reads why, and it goes when it may."""

from __future__ import annotations

import asyncio
import smtplib
from pathlib import Path
from typing import Any

import pytest

from tests.harness.organisation import Organisation, free_ports, organisation
from tests.harness.smtp_peer import smtp_peer

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

ALICE, BOB, EVE = "alice@example.test", "bob@example.net", "eve@example.net"
REFUSAL = "530 5.7.0 Authentication required"
TEXT = f"From: {ALICE}\r\nTo: {BOB}\r\nSubject: x\r\n\r\nHello.\r\n".encode()


def rcpt(ours: Organisation, address: str) -> str:
    """The reply to RCPT in a user's session."""
    with ours.submission("alice") as client:
        client.mail(ALICE)
        code, said = client.rcpt(address)
        assert code == 250
        return said.decode()


def send(ours: Organisation, address: str) -> None:
    with ours.submission("alice") as client:
        client.sendmail(ALICE, [address], TEXT)


async def recipient(ours: Organisation, address: str, state: str, detail: str) -> dict[str, Any]:
    """The event of a recipient with a state and this text, once there is one."""
    found: list[dict[str, Any]] = []
    for _ in range(100):
        found = await ours.admin("trace", ALICE)
        for event in (event for one in found for event in one["events"]):
            if (event["recipient"], event["state"]) == (address, state) and detail in event["detail"]:
                return dict(event)
        await asyncio.sleep(0.2)
    raise AssertionError(found)


async def test_mail_waits_for_a_smarthost_that_wants_a_login_and_an_unknown_address_is_remembered(
    tmp_path: Path,
) -> None:
    async with smtp_peer() as peer:
        smarthost = {"host": "127.0.0.1", "port": peer.port, "tls": "none", "recipient_domains": ["*"]}
        overrides = {"relay.smarthosts": {"smart": smarthost}, "transport.first_retry_minutes": 0.02}
        mx = ("127.0.0.2", free_ports(1, "127.0.0.2")[0])
        async with organisation(tmp_path / "ours", "example.test", ["alice"], mx=mx, overrides=overrides) as ours:
            peer.replies["MAIL"] = REFUSAL
            await asyncio.to_thread(send, ours, BOB)
            shown = f"the server refuses this relay, not the message: {REFUSAL}"
            await recipient(ours, BOB, "pending", shown)
            (listed,) = await ours.admin("queue", "list")
            assert shown in str(await ours.admin("queue", "show", str(listed["id"])))
            log = (ours.settings.directory / "up.log").read_text()
            assert "a configured server takes no mail from this relay" in log and REFUSAL in log
            peer.replies = {f"RCPT TO:<{EVE}": "550 5.1.1 no such user"}
            await recipient(ours, BOB, "relayed", "")
            assert await asyncio.to_thread(rcpt, ours, EVE) == "2.1.5 Recipient OK"
            await asyncio.to_thread(send, ours, EVE)
            await recipient(ours, EVE, "failed", "5.1.1")
            said = await asyncio.to_thread(rcpt, ours, EVE)
            assert said.startswith("2.1.5 Recipient OK, but mail to this address failed on 20")
            assert said.endswith(": 550 5.1.1 no such user")
            with pytest.raises(smtplib.SMTPRecipientsRefused), smtplib.SMTP(*mx, timeout=30) as stranger:
                stranger.sendmail("dora@example.org", [EVE], TEXT)
