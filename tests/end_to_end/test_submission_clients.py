"""Common mail programs submit with STARTTLS and with TLS, and the delivered message equals the sent one.

Only the server's first fields differ: Return-Path, Delivered-To and Received.
"""

from __future__ import annotations

import base64
import imaplib
import json
import os
import re
import secrets
import smtplib
import subprocess
import time
from collections.abc import Mapping, Sequence
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest

from tests.harness.demo import Demo
from tests.harness.requirements import missing, program

pytestmark = [pytest.mark.end_to_end, pytest.mark.client]

SECONDS = 60
HARD = (
    "one line\r\n.\r\n..\r\n.dot at the start\r\nFrom here, quoted by nobody\r\n  spaces at both ends  \r\n\ttab\r\n"
    "umlauts äöü and ✉\r\n" + "x" * 990 + "\r\n\r\n\r\nthe end after empty lines\r\n\r\n"
)
PORTS = ["submission", "submissions"]


def hard_mail(demo: Demo) -> tuple[str, bytes]:
    """(a token in its subject, octets) of a complete message, to which the server adds no missing field."""
    token = secrets.token_hex(8)
    head = (
        f"Date: Mon, 23 Nov 2026 12:00:00 +0100\r\nMessage-ID: <{token}@client.example>\r\n"
        f"From: Alice <{demo.address('alice')}>\r\nTo: {demo.address('bob')}\r\nSubject: {token}\r\n"
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    )
    return token, (head + HARD).encode()


def arrived(demo: Demo, token: str, name: str = "bob") -> bytes:
    """Wait for the message with a token in its subject in a user's Inbox, and return it."""
    until = time.monotonic() + 15
    with imaplib.IMAP4_SSL("localhost", demo.port("imaps"), ssl_context=demo.tls()) as client:
        client.login(demo.address(name), demo.password(name))
        while time.monotonic() < until:
            client.select("INBOX", readonly=True)
            _, found = client.search(None, "SUBJECT", f'"{token}"')
            numbers = found[0].split()
            if numbers:
                assert len(numbers) == 1
                _, answer = client.fetch(numbers[0].decode(), "(BODY.PEEK[])")
                part = answer[0]
                assert isinstance(part, tuple)
                return bytes(part[1])
            time.sleep(0.1)
    raise AssertionError(f"nothing with {token} has come")


def less_the_head(octets: bytes, demo: Demo) -> bytes:
    """The message without the server's first fields, which must be present."""
    head = re.match(
        rb"Return-Path: <alice@example\.test>\r\nDelivered-To: bob@example\.test\r\n"
        rb"Received: [^\r]*\r\n(?:[ \t][^\r]*\r\n)+",
        octets,
    )
    assert head is not None, octets[:500]
    assert b"with ESMTPSA" in head[0] and b"by mx.example.test" in head[0]  # RFC 3848
    return octets[head.end() :]


def run(arguments: Sequence[str | Path], environment: Mapping[str, str] | None = None, text: str = "") -> str:
    """The output of a program, which must succeed."""
    done = subprocess.run(
        [str(one) for one in arguments],
        input=text,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("port", PORTS)
def test_smtplib(demo: Demo, port: str) -> None:
    token, octets = hard_mail(demo)
    if port == "submissions":
        client: smtplib.SMTP = smtplib.SMTP_SSL("localhost", demo.port(port), context=demo.tls(), timeout=SECONDS)
    else:
        client = smtplib.SMTP("localhost", demo.port(port), timeout=SECONDS)
        client.starttls(context=demo.tls())
    with client:
        client.login(demo.address("alice"), demo.password("alice"))
        client.sendmail(demo.address("alice"), [demo.address("bob")], octets, ["BODY=8BITMIME"])
    assert less_the_head(arrived(demo, token), demo) == octets


@pytest.mark.needs("curl")
@pytest.mark.parametrize("port", PORTS)
def test_curl(demo: Demo, port: str, tmp_path: Path) -> None:
    token, octets = hard_mail(demo)
    (tmp_path / "mail").write_bytes(octets)
    scheme = "smtps" if port == "submissions" else "smtp"
    run(
        [
            "curl", "--silent", "--show-error", "--ssl-reqd", "--cacert", demo.ca,
            "--url", f"{scheme}://localhost:{demo.port(port)}/client.example",
            "--user", f"{demo.address('alice')}:{demo.password('alice')}",
            "--mail-from", demo.address("alice"), "--mail-rcpt", demo.address("bob"),
            "--upload-file", tmp_path / "mail",
        ]
    )  # fmt: skip
    assert less_the_head(arrived(demo, token), demo) == octets


def swaks(demo: Demo, port: str, mail: Path, *more: str | Path) -> str:
    return run(
        [
            "swaks", "--server", "localhost", "--port", str(demo.port(port)), "--ehlo", "client.example",
            "--auth", "PLAIN", "--auth-user", demo.address("alice"), "--auth-password", demo.password("alice"),
            "--from", demo.address("alice"), "--to", demo.address("bob"), "--data", f"@{mail}",
            "--no-data-fixup", *more,
        ]
    )  # fmt: skip


@pytest.mark.needs("swaks")
def test_swaks_without_tls_on_loopback(demo: Demo, tmp_path: Path) -> None:
    token, octets = hard_mail(demo)
    (tmp_path / "mail").write_bytes(octets.replace(b"\n.", b"\n..") + b".\r\n")  # without a correction for the program
    swaks(demo, "submission", tmp_path / "mail")
    came = arrived(demo, token)
    assert b"with ESMTPA " in came[:400]
    assert came.endswith(octets)


@pytest.mark.needs("swaks")
@pytest.mark.parametrize("port", PORTS)
def test_swaks(demo: Demo, port: str, tmp_path: Path) -> None:
    if "TLS supported" not in run(["swaks", "--support"]):
        missing("swaks has no TLS (Debian package libnet-ssleay-perl)")
    token, octets = hard_mail(demo)
    (tmp_path / "mail").write_bytes(octets.replace(b"\n.", b"\n..") + b".\r\n")
    how = ["--tls-on-connect"] if port == "submissions" else ["--tls"]
    swaks(demo, port, tmp_path / "mail", *how, "--tls-verify", "--tls-ca-path", demo.ca)
    assert less_the_head(arrived(demo, token), demo) == octets


@pytest.mark.needs("mutt")
@pytest.mark.parametrize("port", PORTS)
def test_mutt(demo: Demo, port: str, tmp_path: Path) -> None:
    token = secrets.token_hex(8)
    scheme = "smtps" if port == "submissions" else "smtp"
    user = demo.address("alice").replace("@", "%40")
    (tmp_path / "muttrc").write_text(
        f'set smtp_url = "{scheme}://{user}@localhost:{demo.port(port)}"\n'
        f'set smtp_pass = "{demo.password("alice")}"\nset from = "Alice <{demo.address("alice")}>"\n'
        f'set ssl_ca_certificates_file = "{demo.ca}"\nset ssl_force_tls = yes\nset ssl_starttls = yes\n'
        'set use_envelope_from = yes\nset hostname = "client.example"\nset copy = no\nset record = ""\n'
        'set send_charset = "utf-8"\nset text_flowed = no\nset charset = "utf-8"\n'
    )
    attachment = bytes(range(256)) * 50
    (tmp_path / "octets.bin").write_bytes(attachment)
    text = HARD.replace("\r\n", "\n")
    run(
        [
            "mutt",
            "-n",
            "-F",
            tmp_path / "muttrc",
            "-s",
            token,
            "-a",
            tmp_path / "octets.bin",
            "--",
            demo.address("bob"),
        ],
        {"HOME": str(tmp_path), "LC_ALL": "C.UTF-8"},
        text,
    )
    came = message_from_bytes(less_the_head(arrived(demo, token), demo), policy=policy.default)
    body, attached = came.iter_parts()
    assert isinstance(body, EmailMessage) and isinstance(attached, EmailMessage)
    assert body.get_content().replace("\r\n", "\n").rstrip("\n") == text.rstrip("\n")
    assert attached.get_content() == attachment and attached.get_filename() == "octets.bin"


@pytest.mark.needs("git")
@pytest.mark.parametrize("port", PORTS)
def test_git_send_email(demo: Demo, port: str, tmp_path: Path) -> None:
    programs = Path(run([program("git"), "--exec-path"]).strip())
    if not (programs / "git-send-email").exists():
        missing("git send-email is not installed (Debian package git-email)")
    for module, package in (("IO::Socket::SSL", "libio-socket-ssl-perl"), ("Authen::SASL", "libauthen-sasl-perl")):
        if subprocess.run(["perl", f"-M{module}", "-e", "1"], capture_output=True, check=False).returncode:
            missing(f"git send-email has no {module} (Debian package {package})")
    token = secrets.token_hex(8)
    environment = {"HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}
    git: list[str | Path] = ["git", "-C", tmp_path / "work", "-c", "user.name=Alice"]
    git += ["-c", f"user.email={demo.address('alice')}"]
    run(["git", "init", "--quiet", tmp_path / "work"], environment)
    (tmp_path / "work" / "file").write_text("tab\tand ümlaut\n.\n..\n  spaces  \n")
    run([*git, "add", "file"], environment)
    run([*git, "commit", "--quiet", "-m", f"{token}\n\nA dot:\n.\n"], environment)
    run([*git, "format-patch", "-1", "--quiet", "--output", tmp_path / "a.patch"], environment)
    run(
        [
            *git, "send-email", "--quiet", "--confirm=never", "--no-validate", "--suppress-cc=all",
            f"--from=Alice <{demo.address('alice')}>", f"--to={demo.address('bob')}",
            "--smtp-server=localhost", f"--smtp-server-port={demo.port(port)}",
            f"--smtp-encryption={'ssl' if port == 'submissions' else 'tls'}", f"--smtp-ssl-cert-path={demo.ca}",
            f"--smtp-user={demo.address('alice')}", f"--smtp-pass={demo.password('alice')}",
            "--smtp-domain=client.example", tmp_path / "a.patch",
        ],
        environment,
    )  # fmt: skip
    came = less_the_head(arrived(demo, token), demo).replace(b"\r\n", b"\n")
    patch = (tmp_path / "a.patch").read_bytes()
    assert came.partition(b"\n\n")[2].rstrip(b"\n") == patch.partition(b"\n\n")[2].rstrip(b"\n")


@pytest.mark.needs("msmtp")
@pytest.mark.parametrize("port", PORTS)
def test_msmtp(demo: Demo, port: str, tmp_path: Path) -> None:
    token, octets = hard_mail(demo)
    run(
        [
            "msmtp", "--file=/dev/null", "--host=localhost", f"--port={demo.port(port)}", "--auth=on", "--tls=on",
            f"--tls-starttls={'off' if port == 'submissions' else 'on'}", f"--tls-trust-file={demo.ca}",
            f"--user={demo.address('alice')}", f"--passwordeval=echo {demo.password('alice')}",
            f"--from={demo.address('alice')}", "--domain=client.example", "--dsn-notify=success", "--dsn-return=hdrs",
            "--", demo.address("bob"),
        ],
        text=octets.decode().replace("\r\n", "\n"),
    )  # fmt: skip
    assert less_the_head(arrived(demo, token), demo) == octets
    report = message_from_bytes(arrived_about(demo, token), policy=policy.default)
    status = list(report.iter_parts())[1].as_string()
    assert "Action: delivered" in status and f"Final-Recipient: rfc822; {demo.address('bob')}" in status  # RFC 3461 4.1


def arrived_about(demo: Demo, token: str) -> bytes:
    """Wait for the report to alice about the message with a Message-ID of this token, and return it."""
    until = time.monotonic() + 15
    with imaplib.IMAP4_SSL("localhost", demo.port("imaps"), ssl_context=demo.tls()) as client:
        client.login(demo.address("alice"), demo.password("alice"))
        while time.monotonic() < until:
            client.select("INBOX", readonly=True)
            _, found = client.search(None, "FROM", '"Mail Delivery System"')
            for number in found[0].split():
                _, answer = client.fetch(number.decode(), "(BODY.PEEK[])")
                part = answer[0]
                assert isinstance(part, tuple)
                if token.encode() in part[1]:
                    return bytes(part[1])
            time.sleep(0.1)
    raise AssertionError(f"no report about {token} has come")


NODEMAILER = Path(__file__).parent / "nodemailer"


@pytest.mark.builds
@pytest.mark.needs("node", "npm")
@pytest.mark.parametrize("port", PORTS)
def test_nodemailer(demo: Demo, port: str) -> None:
    lock, installed = NODEMAILER / "package-lock.json", NODEMAILER / "node_modules" / ".installed-lock.json"
    if not installed.exists() or installed.read_bytes() != lock.read_bytes():
        run(["npm", "--prefix", NODEMAILER, "ci", "--ignore-scripts", "--no-progress"])
        installed.write_bytes(lock.read_bytes())
    token, attachment = secrets.token_hex(8), bytes(range(256)) * 400
    message = {
        "from": {"name": "Alice Müller", "address": demo.address("alice")},
        "to": [demo.address("bob"), "jörg@elsewhere.example"],
        "subject": f"{token} Grüße",
        "messageId": f"<{token}@client.example>",
        "text": HARD,
        "html": "<p>Grüße</p>",
        "attachments": [
            {
                "filename": "Übersicht.bin",
                "content": base64.b64encode(attachment).decode(),
                "encoding": "base64",
                "contentType": "application/octet-stream",
            }
        ],
        "dsn": {"id": "QQ+1", "return": "headers", "notify": ["success"], "recipient": demo.address("alice")},
    }
    transport = {
        "host": "localhost",
        "port": demo.port(port),
        "secure": port == "submissions",
        "requireTLS": True,
        "auth": {"user": demo.address("alice"), "pass": demo.password("alice")},
        "tls": {"ca": Path(demo.ca).read_text()},
    }
    said = run(["node", NODEMAILER / "send.js"], text=json.dumps({"transport": transport, "messages": [message]}))
    (answer,) = json.loads(said)
    assert (answer["accepted"], answer["rejected"]) == (message["to"], [])  # the second by SMTPUTF8 (RFC 6531 3.1)
    assert answer["response"].startswith("250 2.6.0")
    octets = arrived(demo, token)
    assert b"with UTF8SMTPSA" in octets[:400]
    came = message_from_bytes(octets, policy=policy.default)
    assert isinstance(came, EmailMessage)
    assert (came["Subject"], came["From"].addresses[0].display_name) == (message["subject"], "Alice Müller")
    body, attached = came.get_body(("plain",)), list(came.iter_attachments())
    assert body is not None and body.get_content().replace("\r\n", "\n").rstrip("\n") == HARD.replace(
        "\r\n", "\n"
    ).rstrip("\n")
    assert [(one.get_filename(), one.get_content()) for one in attached] == [("Übersicht.bin", attachment)]
    assert b"Action: delivered" in arrived_about(demo, token)
