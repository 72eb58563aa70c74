"""The gateway's calls over real gRPC, and its answers when the core fails."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from restante import errors
from restante.link import CoreLink
from restante.target import ProcessIdentity, Target
from restante.v1 import submission_pb2
from restante_gateways.net.runtime import Port, Runtime, RuntimeSettings
from restante_gateways.smtp.gateway import SmtpListener, SmtpSettings, run
from restante_gateways.smtp.settings import Role, SessionSettings
from restante_process.tls import CertificateFiles
from tests.gateways.smtp.conftest import Client, Gateway
from tests.gateways.smtp.contract_core import ContractCore, serving

MAIL = "MAIL FROM:<dora@example.net>"
RCPT = "RCPT TO:<alice@example.test>"
MESSAGE = b"From: dora@example.net\r\nSubject: hello\r\n\r\nHi.\r\n"
BIG = (b"b" * 998 + b"\r\n") * 700


@pytest.fixture
def socket() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rst-") as folder:  # short: it is a socket's address
        yield Path(folder) / "core.sock"


class Running:
    """A gateway's runtime, in the test's process."""

    def __init__(self, runtime: Runtime, tls: ssl.SSLContext) -> None:
        self.gateway = Gateway.of(runtime, tls)

    async def open(self, listener: str = "mx") -> Client:
        client = await self.gateway.connect(listener)
        await client.ask("EHLO c.example.net")
        return client

    async def login(self) -> Client:
        client = await self.open("submissions")
        plain = "AGFsaWNlQGV4YW1wbGUudGVzdABhbGljZS1kZW1v"
        assert (await client.ask(f"AUTH PLAIN {plain}")).startswith("235")
        return client


@contextlib.asynccontextmanager
async def running(
    socket: Path, certificate: CertificateFiles, patience_seconds: float = 0.3, settle_seconds: float = 20.0
) -> AsyncIterator[Running]:
    """A running gateway. `patience_seconds` is the link's; `settle_seconds` is the time to settle a lost answer."""
    link = await CoreLink.connect(
        Target(f"unix:{socket}", ProcessIdentity("smtp", "00")), patience_seconds=patience_seconds
    )
    runtime = Runtime(RuntimeSettings("smtp", certificates=(certificate,), drain_seconds=2.0))
    settings = SmtpSettings(
        {"mx": SmtpListener(Port(), Role.MX), "submissions": SmtpListener(Port(tls="implicit"), Role.SUBMISSION)},
        SessionSettings(Role.MX, "mx.example.test"),
        patience_seconds=settle_seconds,
    )
    serving_ = asyncio.create_task(run(settings, link, runtime))
    while len(runtime.listeners) < 2:
        await asyncio.sleep(0)
    made = Running(runtime, ssl.create_default_context(cafile=str(certificate.certificate)))
    try:
        yield made
    finally:
        await made.gateway.close_clients()
        runtime.draining.set()
        await serving_
        await link.close()


async def deliver(client: Client, content: bytes = MESSAGE, mail: str = MAIL, rcpt: str = RCPT) -> str:
    await client.send(f"{mail}\r\n{rcpt}\r\nDATA\r\n".encode())
    assert await client.codes(3) == [250, 250, 354]
    await client.send(content + b".\r\n")
    return await client.reply()


async def test_mail_of_another_mta_in_the_words_of_the_contract(socket: Path, certificate: CertificateFiles) -> None:
    core = ContractCore()
    async with serving(core, socket), running(socket, certificate) as system:
        client = await system.open()
        reply = await deliver(
            client,
            mail='MAIL FROM:<"d d"@example.net> BODY=8BITMIME RET=FULL ENVID=Ab+2B SIZE=99 SMTPUTF8',
            rcpt="RCPT TO:<Alice@example.test> NOTIFY=FAILURE,DELAY ORCPT=rfc822;Al+2Bice@example.test",
        )
        assert reply == "250 2.6.0 Message accepted as 1"
        verify = core.operations[0].verify_recipients
        assert (verify.reverse_path, list(verify.forward_paths)) == ('"d d"@example.net', ["Alice@example.test"])
        assert (verify.size_octets, verify.client_address) == (99, "127.0.0.1")
        assert core.operations[0].client_address == "127.0.0.1"
        assert core.operations[0].session_token == b""
        ((begin, content),) = core.accepted.values()
        assert content == MESSAGE
        assert len(begin.request_id) == 16
        assert begin.reverse_path == '"d d"@example.net'
        assert begin.options == submission_pb2.EnvelopeOptions(
            dsn_return=submission_pb2.DSN_RETURN_FULL, envelope_id="Ab+2B", smtputf8=True, body_8bit=True
        )
        (recipient,) = begin.recipients
        assert recipient.forward_path == "Alice@example.test"
        assert recipient.original_recipient == "rfc822;Al+2Bice@example.test"
        assert set(recipient.notify) == {
            submission_pb2.NOTIFY_CONDITION_FAILURE, submission_pb2.NOTIFY_CONDITION_DELAY,
        }  # fmt: skip
        assert " with UTF8SMTP id " in begin.trace_field
        assert begin.trace_field.endswith("\r\n")


async def test_a_verdict_is_given_again_while_the_core_says_so(socket: Path, certificate: CertificateFiles) -> None:
    core = ContractCore()
    core.verdicts_good_milliseconds = 300
    async with serving(core, socket), running(socket, certificate) as system:
        client = await system.open()
        assert await client.ask(MAIL) == "250 2.1.0 Sender OK"
        for rcpt in (RCPT, "RCPT TO:<nobody@example.test>", "RCPT TO:<nobody@example.test>", RCPT.lower()):
            await client.ask(rcpt)
        assert await client.ask("RSET") == "250 2.0.0 OK"
        asked = [list(operation.verify_recipients.forward_paths) for operation in core.operations]
        # Only the accepted recipients are sent again.
        assert asked == [["alice@example.test"], ["nobody@example.test"], ["nobody@example.test"]]
        assert (await deliver(client)).startswith("250 2.6.0")
        assert len(core.operations) == 3
        await asyncio.sleep(0.35)
        assert (await deliver(client)).startswith("250 2.6.0")
        assert len(core.operations) == 4
        user = await system.login()
        before = len(core.operations)
        await deliver(user, mail="MAIL FROM:<alice@example.test>")
        assert any(operation.HasField("verify_recipients") for operation in core.operations[before:])


async def test_recipients_are_verified_a_hundred_at_a_time(socket: Path, certificate: CertificateFiles) -> None:
    core = ContractCore()
    async with serving(core, socket), running(socket, certificate) as system:
        client = await system.open()
        await client.send(f"{MAIL}\r\n".encode())
        await client.send(b"".join(b"RCPT TO:<u%d@example.test>\r\n" % n for n in range(250)))
        assert await client.codes(251) == [250] * 251
        sizes = [len(operation.verify_recipients.forward_paths) for operation in core.operations]
        assert sum(sizes) == 250
        assert max(sizes) <= 100
        assert (await client.ask("RCPT TO:<nobody@example.test>")).startswith("550 5.1.1")


async def test_a_large_content_is_streamed_with_credit(socket: Path, certificate: CertificateFiles) -> None:
    core = ContractCore()
    async with serving(core, socket), running(socket, certificate) as system:
        client = await system.open()
        assert (await deliver(client, BIG * 5)).startswith("250")
        assert [content for _, content in core.accepted.values()] == [BIG * 5]


async def test_without_credit_nothing_flows(socket: Path, certificate: CertificateFiles) -> None:
    core = ContractCore()
    core.grant = False
    async with serving(core, socket), running(socket, certificate) as system:
        client = await system.open()
        await client.send(f"{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode())
        assert await client.codes(3) == [250, 250, 354]
        with pytest.raises(TimeoutError):  # noqa: PT012 - at some point of the loop
            async with asyncio.timeout(0.5):
                for _ in range(60):
                    await client.send(BIG)


async def test_a_refused_content_reaches_nobody(socket: Path, certificate: CertificateFiles) -> None:
    core = ContractCore()
    async with serving(core, socket), running(socket, certificate) as system:
        client = await system.open()
        assert (await deliver(client, BIG + b"\0\r\n")).startswith("550 5.6.0")
        assert (await deliver(client, b"\0\r\n")).startswith("550 5.6.0")
        await asyncio.sleep(0.05)
        assert core.accepted == {}
        assert (len(core.begun), core.aborted) == (1, 1)  # no acceptance began for the small one
        assert (await deliver(client)).startswith("250")


@pytest.mark.parametrize(
    ("error", "reply"),
    [
        (errors.MailLoop(hops=101), "554 5.4.6 Mail loop detected: 101 Received fields"),
        (errors.InvalidContent(problem="NUL at octet 7"), "550 5.6.0 NUL at octet 7"),
        (errors.StoreBusy(), "451 4.3.0 Temporary failure"),
        (errors.StoreFull(), "452 4.3.1 Insufficient system storage"),
    ],
)
async def test_a_commit_that_is_refused(
    socket: Path, certificate: CertificateFiles, error: errors.RestanteError, reply: str
) -> None:
    core = ContractCore()
    core.refuse_commit = error
    async with serving(core, socket), running(socket, certificate) as system:
        client = await system.open()
        assert (await deliver(client)).startswith(reply)
        core.refuse_commit = None
        assert (await deliver(client)).startswith("250")


async def test_a_lost_answer_is_asked_for_again_under_the_same_request_id(
    socket: Path, certificate: CertificateFiles
) -> None:
    core = ContractCore()
    core.lose_answers = 2
    async with serving(core, socket), running(socket, certificate) as system:
        client = await system.open()
        assert (await deliver(client)).startswith("250 2.6.0")
        assert len(core.accepted) == 1  # one acceptance for all attempts
        assert len(core.begun) == 3


async def test_a_core_that_never_comes_back_leaves_the_client_without_a_word(
    socket: Path, certificate: CertificateFiles
) -> None:
    core = ContractCore()
    core.lose_answers = 100
    async with serving(core, socket), running(socket, certificate, settle_seconds=0.2) as system:
        client = await system.open()
        assert await deliver(client) == ""  # the core may have accepted it: neither 250 nor a refusal would be true
        client = await system.open()
        core.lose_answers = 1
        assert await deliver(client, BIG) == ""  # not held, so it cannot be settled


async def test_a_core_that_is_away_is_451_and_found_again(socket: Path, certificate: CertificateFiles) -> None:
    core = ContractCore()
    async with running(socket, certificate) as system:
        client = await system.open()
        assert (await client.ask(MAIL)).startswith("250")
        assert (await client.ask(RCPT)).startswith("451 4.3.0")
        assert (await client.ask("DATA")).startswith("554")
        submitting = await system.open("submissions")
        assert (await submitting.ask("AUTH PLAIN AGEAYg==")).startswith("454 4.7.0")
        async with serving(core, socket):
            await client.ask("RSET")
            for _ in range(50):
                await client.ask("RSET")
                await client.ask(MAIL)
                if (await client.ask(RCPT)).startswith("250"):
                    break
                await asyncio.sleep(0.1)
            await client.ask("RSET")
            assert (await deliver(client)).startswith("250")
        await client.ask(MAIL)
        assert (await client.ask(RCPT)).startswith("451 4.3.0")
        async with serving(core, socket):
            await asyncio.sleep(1.2)
            await client.ask("RSET")
            assert (await deliver(client)).startswith("250")


async def test_a_small_submission_is_one_operation(socket: Path, certificate: CertificateFiles) -> None:
    core = ContractCore()
    async with serving(core, socket), running(socket, certificate) as system:
        client = await system.login()
        reply = await deliver(client, mail="MAIL FROM:<alice@example.test> RET=HDRS", rcpt="RCPT TO:<bob@example.test>")
        assert reply == "250 2.6.0 Message accepted as 1"
        (request,) = core.submitted.values()
        assert request.submission.content == MESSAGE
        assert request.submission.reverse_path == "alice@example.test"
        assert " with ESMTPSA id " in request.trace_field
        (token,) = core.sessions.tokens
        assert [operation.session_token for operation in core.operations] == [b"", token, token]
        client_context = core.operations[0].authenticate.client
        assert (client_context.tls, client_context.loopback, client_context.listener) == (True, True, "submissions")


async def test_a_large_submission_is_uploaded_first(socket: Path, certificate: CertificateFiles) -> None:
    core = ContractCore()
    async with serving(core, socket), running(socket, certificate) as system:
        client = await system.login()
        assert (await deliver(client, BIG * 4)).startswith("250")
        (request,) = core.submitted.values()
        assert core.uploads[request.submission.upload_id] == BIG * 4


async def test_an_upload_that_fails_is_answered_at_the_end_of_the_content(
    socket: Path, certificate: CertificateFiles
) -> None:
    core = ContractCore()
    core.refuse_upload = errors.StoreFull()
    async with serving(core, socket), running(socket, certificate) as system:
        client = await system.login()
        assert (await deliver(client, BIG * 6)).startswith("452 4.3.1")
        assert (await client.ask("NOOP")).startswith("250")
        assert core.submitted == {}


async def test_a_submission_broken_off_is_forgotten(socket: Path, certificate: CertificateFiles) -> None:
    core = ContractCore()
    async with serving(core, socket), running(socket, certificate) as system:
        client = await system.login()
        assert (await deliver(client, BIG * 2 + b"\0\r\n")).startswith("550")
        assert core.submitted == {}  # no message uses the upload, which lapses


async def test_a_sender_who_is_not_permitted(socket: Path, certificate: CertificateFiles) -> None:
    core = ContractCore()
    core.refuse_submit = errors.SenderNotPermitted(address="bob@example.test", field="From")
    async with serving(core, socket), running(socket, certificate) as system:
        client = await system.login()
        assert await deliver(client) == "550 5.7.1 You may not send as bob@example.test (From)"  # RFC 6409 6.1


async def test_a_lost_answer_to_a_submission_is_settled(socket: Path, certificate: CertificateFiles) -> None:
    core = ContractCore()
    core.lose_answers = 1
    async with serving(core, socket), running(socket, certificate) as system:
        client = await system.login()
        assert (await deliver(client)).startswith("250")
        assert len(core.submitted) == 1


@pytest.mark.parametrize("content", [MESSAGE, BIG * 2])
async def test_a_content_that_comes_for_longer_than_a_token_lives_is_taken(
    socket: Path, certificate: CertificateFiles, content: bytes
) -> None:
    core = ContractCore()
    core.sessions.token_seconds = 1.0
    async with serving(core, socket), running(socket, certificate) as system:
        client = await system.login()
        await client.send(b"MAIL FROM:<alice@example.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n")
        assert await client.codes(3) == [250, 250, 354]
        for at in range(0, 5 * len(content), len(content)):
            await client.send(content[at // 5 : (at + len(content)) // 5])
            await asyncio.sleep(0.6)
        await client.send(b".\r\n")
        assert (await client.reply()).startswith("250")
        first, *_, last = core.sessions.tokens
        assert core.sessions.tokens[first].until < time.monotonic() - 1
        assert len(core.sessions.tokens) >= 3
        assert core.operations[-1].session_token == last


async def test_a_session_that_cannot_be_renewed_is_ended(socket: Path, certificate: CertificateFiles) -> None:
    core = ContractCore()
    core.sessions.token_seconds = 0.5
    async with serving(core, socket), running(socket, certificate) as system:
        client = await system.login()
        core.sessions.tokens.clear()
        assert (await client.reply()).startswith("421 4.7.0")


async def test_a_session_that_is_over_is_renewed_no_more(socket: Path, certificate: CertificateFiles) -> None:
    core = ContractCore()
    core.sessions.token_seconds = 0.5
    async with serving(core, socket), running(socket, certificate) as system:
        client = await system.login()
        await client.ask("QUIT")
        await client.close()
        await asyncio.sleep(0.1)
        before = len(core.operations)
        await asyncio.sleep(0.8)
        assert len(core.operations) == before


async def test_sessions_of_an_old_credential_are_ended(socket: Path, certificate: CertificateFiles) -> None:
    core = ContractCore()
    async with serving(core, socket), running(socket, certificate) as system:
        client = await system.login()
        while not core.watchers:
            await asyncio.sleep(0.01)
        core.end_sessions(account_id=8, version=9)
        core.end_sessions(account_id=7, version=3)
        assert (await client.ask("NOOP")).startswith("250")
        core.end_sessions(account_id=7, version=4)
        assert (await client.reply()).startswith("421 4.7.0")
