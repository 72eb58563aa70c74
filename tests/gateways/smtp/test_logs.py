"""The logs of a session: their members, and the data that they never contain."""

from __future__ import annotations

import io
import json
from typing import Literal

import pytest
import structlog

from restante_gateways.net.logging import CommandLog
from restante_process import logs
from tests.gateways.smtp.conftest import Gateway

SECRETS = ("nobody@example.test", "dora@example.net", "Zm9vYmFy", "alice-demo", "AGFsaWNl", "the-inside-of-a-letter")


@pytest.mark.parametrize("form", ["json", "console"])
async def test_no_content_no_secret_no_unknown_name_is_logged(
    gateway: Gateway, form: Literal["json", "console"], capfd: pytest.CaptureFixture[str]
) -> None:
    logs.configure("smtp", form=form, level="debug")
    lines = io.BytesIO()
    gateway.runtime.commands = CommandLog("smtp", lines)
    try:
        client = await gateway.connect()
        await client.ask("EHLO c")
        await client.ask("MAIL FROM:<dora@example.net>")
        await client.ask("RCPT TO:<nobody@example.test>")
        await client.ask("RCPT TO:<alice@example.test>")
        await client.ask("AUTH PLAIN Zm9vYmFy")
        gateway.core.failures["feed"] = RuntimeError("bug")
        await client.send(b"DATA\r\nthe-inside-of-a-letter\r\n.\r\n")
        assert await client.codes(2) == [354, 451]
        submitting = await gateway.connect("submissions")
        await submitting.ask("EHLO c")
        await submitting.ask("AUTH PLAIN AGFsaWNlQGV4YW1wbGUudGVzdABhbGljZS1kZW1v")
        await submitting.ask("NOOP")
        gateway.runtime.commands.flush()
    finally:
        structlog.reset_defaults()
    written = lines.getvalue().decode() + "".join(capfd.readouterr())
    assert "RuntimeError" in written
    for secret in SECRETS:
        assert secret not in written


async def test_every_command_has_its_line(gateway: Gateway) -> None:
    lines = io.BytesIO()
    gateway.runtime.commands = CommandLog("smtp", lines)
    client = await gateway.connect()
    for command in ("EHLO c", "FROB", "STARTTLS x", "QUIT"):
        await client.ask(command)
    submitting = await gateway.logged_in()
    await submitting.ask("NOOP")
    gateway.runtime.commands.flush()
    found = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert [(line["listener"], line["command"], line["outcome"]) for line in found] == [
        ("mx", "EHLO", "250"), ("mx", "?", "500"), ("mx", "STARTTLS", "501"), ("mx", "QUIT", "221"),
        ("submissions", "EHLO", "250"), ("submissions", "AUTH", "235"), ("submissions", "NOOP", "250"),
    ]  # fmt: skip
    assert found[-1]["account"] == "alice@example.test"
    assert all(line["client"] == "127.0.0.1" and line["milliseconds"] >= 0 for line in found)
