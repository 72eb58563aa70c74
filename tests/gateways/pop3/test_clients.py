"""Common clients: Python's poplib, curl, fetchmail."""

from __future__ import annotations

import asyncio
import os
import poplib
import subprocess
from pathlib import Path

import pytest

from tests.gateways.pop3.conftest import Running
from tests.gateways.pop3.messages import MESSAGES

LARGE = b"From: bob@example.test\r\nSubject: large\r\n\r\n" + b".a line that begins with a dot\r\n" * 40_000


async def fill(running: Running) -> list[bytes]:
    """Put messages into alice's Inbox and return them."""
    messages = [*MESSAGES.values(), LARGE]
    await running.fill(*messages)
    return messages


async def call(*command: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    return await asyncio.to_thread(
        subprocess.run, command, capture_output=True, timeout=30, env={**os.environ, **(environment or {})}
    )


def certificate(running: Running) -> str:
    assert running.runtime.certificates is not None
    return str(running.runtime.settings.certificates[0].certificate)


@pytest.mark.parametrize("way", ["plain", "stls", "tls"])
async def test_poplib(running: Running, way: str) -> None:
    messages = await fill(running)

    def visit() -> tuple[list[bytes], list[bytes]]:
        client: poplib.POP3
        if way == "tls":
            client = poplib.POP3_SSL("localhost", running.tls_port, timeout=10, context=running.tls)
        else:
            client = poplib.POP3("localhost", running.port, timeout=10)
            if way == "stls":
                client.stls(running.tls)
        assert ("STLS" in client.capa()) is (way == "plain")
        client.user("alice@example.test")
        client.pass_("alice-demo")
        assert client.stat() == (4, sum(map(len, messages)))
        assert client.list()[1] == [b"%d %d" % (n, len(message)) for n, message in enumerate(messages, 1)]
        ids = [line.split()[1] for line in client.uidl()[1]]
        retrieved = [b"\r\n".join(client.retr(n)[1]) + b"\r\n" for n in range(1, 5)]
        assert client.top(4, 2)[1] == messages[3].split(b"\r\n")[:5]
        for n in (1, 3, 4):
            client.dele(n)
        client.rset()
        for n in (1, 2, 4):
            client.dele(n)
        assert client.stat() == (1, len(messages[2]))
        client.quit()
        return ids, retrieved

    ids, retrieved = await asyncio.to_thread(visit)
    assert retrieved == messages
    assert len(set(ids)) == 4
    assert await running.contents() == [messages[2]]


@pytest.mark.client
@pytest.mark.needs("curl")
async def test_curl(running: Running) -> None:
    messages = await fill(running)
    user, trust = ("--user", "alice@example.test:alice-demo"), ("--cacert", certificate(running))
    plain, secure = f"pop3://localhost:{running.port}", f"pop3s://localhost:{running.tls_port}"
    listed = await call("curl", "-sS", "--max-time", "10", *user, f"{plain}/")
    assert listed.stdout.split(b"\r\n")[0] == b"1 %d" % len(messages[0]), listed.stderr
    for url, options in (
        (plain, ()),
        (plain, ("--ssl-reqd", *trust)),
        (secure, trust),
        (secure, (*trust, "--login-options", "AUTH=PLAIN")),
        (secure, (*trust, "--login-options", "AUTH=LOGIN", "--sasl-ir")),
    ):
        for number in (2, 4):
            got = await call("curl", "-sS", "--max-time", "10", *options, *user, f"{url}/{number}")
            assert got.stdout == messages[number - 1], (url, options, got.stderr)
    refused = await call("curl", "-sS", "--max-time", "10", "--user", "alice@example.test:wrong", f"{plain}/")
    assert refused.returncode == 67
    assert (await call("curl", "-sS", "--max-time", "10", "-I", *user, "-X", "DELE", f"{plain}/1")).returncode == 0
    assert len(await running.contents()) == 3


@pytest.mark.client
@pytest.mark.needs("fetchmail")
@pytest.mark.parametrize("options", ["keep", "nokeep", "nokeep expunge 1", "nokeep fetchlimit 2"])
async def test_fetchmail(running: Running, tmp_path: Path, options: str) -> None:
    messages = await fill(running)
    rcfile, received = tmp_path / "fetchmailrc", tmp_path / "received"
    rcfile.write_text(
        f"poll localhost protocol pop3 port {running.port} auth password uidl\n"
        f"  user alice@example.test password alice-demo {options}\n"
        f"  sslproto tls1.2+ sslcertck sslcertfile {certificate(running)}\n"
        f"  mda \"cat >> {received}; printf '\\\\n===\\\\n' >> {received}\"\n"
    )
    rcfile.chmod(0o600)
    home = {"HOME": str(tmp_path), "FETCHMAILHOME": str(tmp_path)}
    command = ("fetchmail", "-f", str(rcfile), "--idfile", str(tmp_path / "ids"), "--pidfile", str(tmp_path / "pid"))
    done = await call(*command, environment=home)
    # 13: the limit of messages was reached
    assert done.returncode in (0, 13), done.stdout + done.stderr
    count = 2 if "fetchlimit" in options else 4
    assert received.read_bytes().count(b"\n===\n") == count
    bodies = [message.partition(b"\r\n\r\n")[2].replace(b"\r\n", b"\n") for message in messages[:count]]
    text = received.read_bytes()
    assert all(body in text for body in bodies)
    left = await running.contents()
    assert left == (messages if options == "keep" else messages[count:])
    if options == "keep":
        again = await call(*command, environment=home)
        assert again.returncode == 1, again.stdout  # nothing new: the unique ids are the same
    assert all(context.tls for context in running.contexts())
