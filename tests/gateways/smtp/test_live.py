"""SMTP to POP3 over a real core: conversations, unchanged contents, submission, and a killed core."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from restante_process.tls import CertificateFiles
from tests.gateways.smtp.conftest import Client
from tests.gateways.smtp.live import MAX_MESSAGE_OCTETS, RESTART_SECONDS, Platform
from tests.harness.core_process import CoreProcess, running_core
from tests.harness.player import Play, each_transcript
from tests.mail.material import cpython_corpus, shared_corpus

pytestmark = pytest.mark.end_to_end

MAIL = "MAIL FROM:<dora@example.net>"
LINE = b"A line of some length, with nothing in it that would matter to anybody.\r\n"
NESTED = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(100))
CONTENTS = {
    "plain": b"From: dora@example.net\r\nSubject: plain\r\n\r\nHello.\r\n",
    "no body": b"From: dora@example.net\r\nSubject: no body\r\n",
    "no header": b"\r\nOnly a body.\r\n",
    "empty": b"",
    "one line end": b"\r\n",
    "dots": b"Subject: dots\r\n\r\n.\r\n..\r\n...\r\n.a\r\na.\r\n",
    "eight bit": "Subject: Grüße\r\n\r\nÄÖÜ\r\n".encode() + b"\xff\xfe\xe4\r\n",
    "long line": b"Subject: long\r\n\r\n" + b"l" * 100_000 + b"\r\n",
    "large header": b"".join(b"X-Field-%d: %b\r\n" % (n, b"v" * 70) for n in range(1300)) + b"\r\nText.\r\n",
    "folded": b"Subject: a\r\n\tb\r\n  c\r\nTo: x:;\r\n\r\nText.\r\n",
    "nested": b"Subject: nested\r\n" + NESTED + b"deep\r\n",
    "no final boundary": b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\npart\r\n",
    "embedded": b"Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nText.\r\n",
    "spaces": b"Subject: spaces \r\n\r\n trailing \r\n\t\r\n\r\n\r\n",
    "control": b"Subject: control\r\n\r\n\x01\x02\x08\x0b\x0c\x1b\x7f\r\n",
    "half a megabyte": b"Subject: half\r\n\r\n" + LINE * 7_000,
    "attachment of 25 MB": b"Subject: big\r\n\r\n" + (b"QUJD" * 19 + b"\r\n") * 340_000,
}


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoreProcess]:
    directory = tmp_path_factory.mktemp("core") / "data"
    with running_core(directory, RESTANTE_LIMITS__MAX_MESSAGE_OCTETS=str(MAX_MESSAGE_OCTETS)) as process:
        yield process


@pytest.fixture
async def platform(core: CoreProcess, certificate: CertificateFiles) -> AsyncIterator[Platform]:
    running = Platform(core, certificate)
    await running.start()
    yield running
    await running.stop()


def without_head(message: bytes) -> bytes:
    """A delivered message without the fields that delivery puts before it."""
    received = rb"Received: [^\r]*\r\n(?:[ \t][^\r]*\r\n)*"
    head = re.match(rb"Return-Path: [^\r]*\r\nDelivered-To: [^\r]*\r\n" + received, message)  # RFC 5321 4.4
    assert head is not None, message[:200]
    assert b" for " not in head[0]
    return message[head.end() :]


async def deliver(client: Client, content: bytes, recipient: str = "alice") -> str:
    await client.send(f"{MAIL} BODY=8BITMIME\r\nRCPT TO:<{recipient}@example.test>\r\nDATA\r\n".encode())
    assert await client.codes(3) == [250, 250, 354]
    await client.send(re.sub(rb"(?m)^\.", b"..", content) + b".\r\n")
    return await client.reply()


@each_transcript("smtp")
async def test_conversation_over_a_real_core(path: Path, play: Play, platform: Platform) -> None:
    await play(path, platform.endpoints())


@pytest.mark.parametrize("name", CONTENTS)
async def test_contents_come_out_as_they_went_in(platform: Platform, name: str) -> None:
    await platform.take_all("alice")
    client = await platform.gateway.connect()
    await client.ask("EHLO client.example.net")
    assert (await deliver(client, CONTENTS[name])).startswith("250 2.6.0")
    (message,) = await platform.take_all("alice")
    assert without_head(message) == CONTENTS[name]


async def test_what_delivery_writes_in_front(platform: Platform) -> None:
    await platform.take_all("bob")
    client = await platform.gateway.connect()
    await client.ask("EHLO client.example.net")
    await deliver(client, CONTENTS["plain"], "bob+lists")
    (message,) = await platform.take_all("bob")
    assert message.startswith(b"Return-Path: <dora@example.net>\r\n")
    received = rb"Received: from client\.example\.net \(\[127\.0\.0\.1\]\)\r\n by mx\.example\.test with ESMTP id "
    assert re.search(received, message)


async def test_a_long_return_path_is_kept(platform: Platform) -> None:
    await platform.take_all("alice")
    sender = f"bounces+{'v' * 150}=alice=example.test@lists.example.net"
    client = await platform.gateway.connect()
    await client.send(f"EHLO c\r\nMAIL FROM:<{sender}>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n\r\n.\r\n".encode())
    assert await client.codes(5) == [250, 250, 250, 354, 250]
    (message,) = await platform.take_all("alice")
    assert message.startswith(f"Return-Path: <{sender}>\r\n".encode())


async def test_recipients_share_a_message_and_each_has_it(platform: Platform) -> None:
    for name in ("alice", "bob", "carol"):
        await platform.take_all(name)
    client = await platform.gateway.connect()
    await client.ask("EHLO client.example.net")
    await client.send(
        f"{MAIL}\r\nRCPT TO:<alice@example.test>\r\nRCPT TO:<bob@example.test>\r\nRCPT TO:<CAROL@Example.Test>\r\n"
        "DATA\r\nSubject: all\r\n\r\nText.\r\n.\r\n".encode()
    )
    assert await client.codes(6) == [250, 250, 250, 250, 354, 250]
    for name in ("alice", "bob", "carol"):
        (message,) = await platform.take_all(name)
        assert without_head(message) == b"Subject: all\r\n\r\nText.\r\n"


async def test_a_submission_is_completed_and_its_bcc_removed(platform: Platform) -> None:
    await platform.take_all("bob")
    client = await platform.gateway.logged_in()
    await client.send(
        b"MAIL FROM:<alice@example.test>\r\nRCPT TO:<bob@example.test>\r\nRCPT TO:<erin@example.net>\r\nDATA\r\n"
        b"From: alice@example.test\r\nTo: bob@example.test\r\nBcc: erin@example.net\r\nSubject: x\r\n\r\nHi.\r\n.\r\n"
    )
    assert await client.codes(5) == [250, 250, 250, 354, 250]
    (message,) = await platform.take_all("bob")
    assert b"\r\nDate: " in message  # RFC 6409 8
    assert b"\r\nMessage-ID: <" in message
    assert b"Bcc" not in message
    assert b"erin" not in message
    assert b" with ESMTPSA id " in message  # RFC 3848 1


@pytest.mark.parametrize(
    ("reverse_path", "fields"),
    [
        ("bob@example.test", b"From: alice@example.test\r\n"),
        ("alice@example.test", b"From: bob@example.test\r\n"),
        ("alice@example.test", b"From: alice@example.test, bob@example.test\r\nSender: alice@example.test\r\n"),
        ("alice@example.test", b"From: alice@example.test\r\nSender: bob@example.test\r\n"),
        ("someone@example.net", b"From: alice@example.test\r\n"),
    ],
)
async def test_nobody_writes_as_somebody_else(platform: Platform, reverse_path: str, fields: bytes) -> None:
    client = await platform.gateway.logged_in()
    await client.send(f"MAIL FROM:<{reverse_path}>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n".encode())
    assert await client.codes(3) == [250, 250, 354]
    await client.send(fields + b"To: bob@example.test\r\n\r\nHi.\r\n.\r\n")
    assert (await client.reply()).startswith("550 5.7.1")  # RFC 6409 6.1


async def test_two_from_fields_are_refused(platform: Platform) -> None:
    client = await platform.gateway.logged_in()
    await client.send(b"MAIL FROM:<alice@example.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n")
    assert await client.codes(3) == [250, 250, 354]
    await client.send(b"From: alice@example.test\r\nFrom: alice@example.test\r\n\r\nHi.\r\n.\r\n")
    assert (await client.reply()).startswith("550 5.")


async def test_a_large_submission_arrives(platform: Platform) -> None:
    await platform.take_all("bob")
    client = await platform.gateway.logged_in()
    await client.send(b"MAIL FROM:<alice@example.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n")
    assert await client.codes(3) == [250, 250, 354]
    await client.send(b"From: alice@example.test\r\nTo: bob@example.test\r\n\r\n" + LINE * 20_000 + b".\r\n")
    assert (await client.reply()).startswith("250 2.6.0")
    (message,) = await platform.take_all("bob")
    assert message.endswith(LINE * 20_000)


async def test_a_changed_password_ends_the_session(platform: Platform) -> None:
    from restante.v1 import methods
    from restante.v1.admin_pb2 import SetPasswordRequest

    client = await platform.gateway.logged_in("carol")
    admin = await platform.core.link("admin")
    try:
        await admin.execute(
            methods.SET_PASSWORD, SetPasswordRequest(address="carol@example.test", password="carol-demo")
        )
    finally:
        await admin.close()
    async with asyncio.timeout(5):
        assert (await client.reply()).startswith("421 4.7.0")


@pytest.mark.faults
async def test_a_full_disk_is_452_and_nothing_is_taken(tmp_path: Path, certificate: CertificateFiles) -> None:
    core = CoreProcess(tmp_path / "data", RESTANTE_STORE__RESERVE_OCTETS=str(1 << 60))
    core.start()
    platform = Platform(core, certificate)
    await platform.start()
    try:
        client = await platform.gateway.connect()
        await client.send(f"EHLO c\r\n{MAIL}\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n".encode())
        replies = [await client.reply() for _ in range(4)]
        assert replies[2].startswith("452 4.3.1")
        assert replies[3].startswith("554 5.5.1")
        assert await platform.take_all("alice") == []  # reading still works
    finally:
        await platform.stop()
        core.stop()


@pytest.mark.faults
async def test_a_core_killed_before_the_final_dot_delays_and_loses_nothing(platform: Platform) -> None:
    await platform.take_all("alice")
    client = await platform.gateway.connect()
    await client.send(f"EHLO c\r\n{MAIL}\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n".encode())
    assert await client.codes(4) == [250, 250, 250, 354]
    await client.send(CONTENTS["plain"])
    platform.core.kill()
    await client.send(b".\r\n")
    restarting = asyncio.create_task(asyncio.to_thread(platform.core.start))
    reply = await client.reply(RESTART_SECONDS)
    await restarting
    assert reply.startswith("250 2.6.0")  # RFC 5321 6.1
    (message,) = await platform.take_all("alice")
    assert without_head(message) == CONTENTS["plain"]


@pytest.mark.faults
async def test_acknowledged_mail_survives_the_core(platform: Platform) -> None:
    await platform.take_all("alice")
    client = await platform.gateway.connect()
    await client.ask("EHLO c")
    assert (await deliver(client, CONTENTS["plain"])).startswith("250 2.6.0")
    platform.core.kill()
    await asyncio.to_thread(platform.core.start)
    (message,) = await platform.take_all("alice")  # RFC 5321 6.1
    assert without_head(message) == CONTENTS["plain"]


@pytest.mark.parametrize(
    "corpus", [pytest.param(shared_corpus, id="shared"), pytest.param(cpython_corpus, id="cpython")]
)
async def test_real_mail_comes_out_as_it_went_in(platform: Platform, corpus: Callable[[], dict[str, bytes]]) -> None:
    await platform.take_all("alice")
    client = await platform.gateway.connect()
    await client.ask("EHLO client.example.net")
    sent: list[bytes] = []
    for name, octets in corpus().items():
        content = re.sub(rb"\r\n|\r|\n", b"\r\n", octets)
        content += b"" if content.endswith(b"\r\n") or not content else b"\r\n"
        reply = await deliver(client, content)
        if b"\0" in content:
            assert reply.startswith("550 5.6.0"), name
            continue
        assert reply.startswith("250 2.6.0"), (name, reply)
        sent.append(content)
    assert sent
    came = [without_head(message) for message in await platform.take_all("alice")]
    for went_in, came_out in zip(sent, came, strict=True):
        assert came_out == without_forged_head(went_in)


def without_forged_head(content: bytes) -> bytes:
    """Remove forged copies of fields that only delivery may write, as the core does (docs/design.md "Heads")."""
    header, blank, body = content.partition(b"\r\n\r\n")
    fields = re.findall(rb"[^\r]*(?:\r\n[ \t][^\r]*)*(?:\r\n|$)", header)
    kept = [field for field in fields if not re.match(rb"(?i)(?:return-path|delivered-to)[ \t]*:", field)]
    return b"".join(kept) + blank + body


@pytest.mark.slow
@pytest.mark.parametrize("octets", [200, 900_000])
async def test_a_submission_that_takes_longer_than_a_token_lives(
    octets: int, certificate: CertificateFiles, tmp_path: Path
) -> None:
    """The token is renewed while the content arrives, and a large upload continues with the renewed session."""
    with running_core(tmp_path / "data", RESTANTE_SESSIONS__TOKEN_MINUTES="0.05") as core:
        platform = Platform(core, certificate)
        await platform.start()
        try:
            client = await platform.gateway.logged_in()
            await client.send(b"MAIL FROM:<alice@example.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n")
            assert await client.codes(3) == [250, 250, 354]
            content = b"From: alice@example.test\r\nSubject: slow\r\n\r\n" + LINE * (octets // len(LINE))
            began = time.monotonic()
            for start in range(0, len(content), len(content) // 10 + 1):
                await client.send(content[start : start + len(content) // 10 + 1])
                await asyncio.sleep(0.8)
            assert time.monotonic() - began > 7
            await client.send(b".\r\n")
            assert (await client.reply()).startswith("250 2.6.0")
            (taken,) = await platform.take_all("bob")
            assert taken.endswith(content[content.index(b"Subject:") :])
        finally:
            await platform.stop()
