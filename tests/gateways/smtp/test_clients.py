"""Common clients: curl and swaks. (smtplib is in test_auth.py.)"""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from restante_process.tls import CertificateFiles
from tests.gateways.smtp.conftest import Gateway

pytestmark = pytest.mark.client

MESSAGE = b"From: alice@example.test\r\nSubject: from a client\r\n\r\n.a line with a dot\r\nHello.\r\n"


async def call(*command: str) -> subprocess.CompletedProcess[bytes]:
    return await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=30)


@pytest.mark.needs("curl")
@pytest.mark.parametrize("way", ["starttls", "implicit"])
async def test_curl_submits(gateway: Gateway, certificate: CertificateFiles, tmp_path: Path, way: str) -> None:
    file = tmp_path / "message.eml"
    file.write_bytes(MESSAGE)
    scheme, listener = ("smtps", "submissions") if way == "implicit" else ("smtp", "submission")
    done = await call(
        "curl", "-sS", "--max-time", "10", "--ssl-reqd", "--cacert", str(certificate.certificate),
        f"{scheme}://localhost:{gateway.port(listener)}/client.example.net",
        "--user", "alice@example.test:alice-demo", "--mail-from", "alice@example.test",
        "--mail-rcpt", "bob@example.test", "--mail-rcpt", "erin@example.net", "--upload-file", str(file),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (accepted,) = gateway.core.accepted
    assert bytes(accepted.content) == MESSAGE
    assert [recipient.forward_path.address for recipient in accepted.envelope.recipients] == [
        "bob@example.test", "erin@example.net",
    ]  # fmt: skip


@pytest.mark.needs("curl")
async def test_curl_is_told_of_wrong_passwords(gateway: Gateway, certificate: CertificateFiles, tmp_path: Path) -> None:
    file = tmp_path / "message.eml"
    file.write_bytes(MESSAGE)
    done = await call(
        "curl", "-sS", "--max-time", "10", "--cacert", str(certificate.certificate),
        f"smtps://localhost:{gateway.port('submissions')}", "--user", "alice@example.test:wrong",
        "--mail-from", "alice@example.test", "--mail-rcpt", "bob@example.test", "--upload-file", str(file),
    )  # fmt: skip
    assert done.returncode == 67  # login denied
    assert gateway.core.accepted == []


@pytest.mark.needs("swaks")
async def test_swaks_delivers_pipelined(gateway: Gateway) -> None:
    done = await call(
        "swaks", "--server", "127.0.0.1", "--port", str(gateway.port("mx")), "--pipeline", "--helo", "mta.example.net",
        "--from", "dora@example.net", "--to", "alice@example.test,nobody@example.test,bob@example.test",
        "--header", "Subject: by swaks", "--body", ".\\n..\\ntext",
    )  # fmt: skip
    assert b"550 5.1.1" in done.stdout
    (accepted,) = gateway.core.accepted
    assert [recipient.forward_path.local_part for recipient in accepted.envelope.recipients] == ["alice", "bob"]
    assert b"Subject: by swaks\r\n" in accepted.content
    assert b"\r\n.\r\n..\r\ntext\r\n" in accepted.content


@pytest.mark.needs("swaks")
async def test_swaks_logs_in(lenient: Gateway) -> None:
    for mechanism in ("PLAIN", "LOGIN"):
        done = await call(
            "swaks", "--server", "127.0.0.1", "--port", str(lenient.port("submission")), "--auth", mechanism,
            "--auth-user", "alice@example.test", "--auth-password", "alice-demo",
            "--from", "alice@example.test", "--to", "erin@example.net",
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
    assert len(lenient.core.accepted) == 2
