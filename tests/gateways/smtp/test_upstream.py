"""The gateway's calls to a core, and its answers when the core or the link fails."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeVar

import pytest

from restante import errors
from restante.v1 import submission_pb2
from restante.v1.session_pb2 import AuthenticateRequest
from restante.v1.transport_pb2 import AcceptMessageRequest, AcceptSubmissionRequest, VerifyRecipientsRequest
from restante_gateways.net.runtime import Port, Runtime, RuntimeSettings
from restante_gateways.smtp.checks.settings import CheckSettings
from restante_gateways.smtp.gateway import SmtpListener, SmtpSettings, run
from restante_gateways.smtp.settings import Role, SessionSettings
from restante_process.tls import CertificateFiles
from restante_server.db.operation import Write
from restante_server.directory import known
from restante_server.transport.outbound import failed_addresses
from restante_server.transport.outbound.failed_addresses import Failure
from tests.gateways.smtp.conftest import Client, Gateway
from tests.harness.faulty_link import FaultyLink, until
from tests.harness.local_core import LocalCore, open_local_core

R = TypeVar("R")

MAIL = "MAIL FROM:<dora@example.net>"
FROM_ALICE = "MAIL FROM:<alice@example.test>"
RCPT = "RCPT TO:<alice@example.test>"
MESSAGE = b"From: dora@example.net\r\nSubject: hello\r\n\r\nHi.\r\n"
OWN = b"From: alice@example.test\r\nSubject: hello\r\n\r\nHi.\r\n"
BIG = (b"b" * 998 + b"\r\n") * 700


@pytest.fixture
def token_seconds() -> float:
    return 900.0


@pytest.fixture
async def core(store_template: Path, tmp_path: Path, token_seconds: float) -> AsyncIterator[LocalCore]:
    settings = {"sessions.token_minutes": token_seconds / 60}
    async with open_local_core(store_template, tmp_path / "core", **settings) as core:
        yield core


async def inbox(core: LocalCore, name: str = "alice") -> list[bytes]:
    """The messages in an Inbox."""
    user = await core.user(name)
    return [await user.contents.read(message.message_id) for message in await core.inbox(name)]


class Running:
    """A gateway's runtime, in the test's process."""

    def __init__(self, link: FaultyLink, runtime: Runtime, tls: ssl.SSLContext) -> None:
        self.link, self.gateway = link, Gateway.of(runtime, tls)

    def requests(self, kind: type[R]) -> list[R]:
        """The requests of a type, in order."""
        return [request for request in self.link.requests if isinstance(request, kind)]

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
    core: LocalCore,
    certificate: CertificateFiles,
    patience_seconds: float = 0.3,
    settle_seconds: float = 20.0,
    checks: CheckSettings | None = None,
) -> AsyncIterator[Running]:
    """A running gateway. `patience_seconds` is the link's; `settle_seconds` is the time to settle a lost answer."""
    link = await core.link("smtp", FaultyLink, patience_seconds=patience_seconds)
    runtime = Runtime(RuntimeSettings("smtp", certificates=(certificate,), drain_seconds=2.0))
    settings = SmtpSettings(
        {"mx": SmtpListener(Port(), Role.MX), "submissions": SmtpListener(Port(tls="implicit"), Role.SUBMISSION)},
        SessionSettings(Role.MX, "mx.example.test"),
        checks=checks,
        patience_seconds=settle_seconds,
    )
    serving_ = asyncio.create_task(run(settings, link, runtime))
    while len(runtime.listeners) < 2:
        await asyncio.sleep(0)
    made = Running(link, runtime, ssl.create_default_context(cafile=str(certificate.certificate)))
    try:
        yield made
    finally:
        await made.gateway.close_clients()
        runtime.draining.set()
        await serving_


async def deliver(client: Client, content: bytes = MESSAGE, mail: str = MAIL, rcpt: str = RCPT) -> str:
    await client.send(f"{mail}\r\n{rcpt}\r\nDATA\r\n".encode())
    assert await client.codes(3) == [250, 250, 354]
    await client.send(content + b".\r\n")
    return await client.reply()


async def test_mail_of_another_mta_in_the_words_of_the_contract(core: LocalCore, certificate: CertificateFiles) -> None:
    async with running(core, certificate) as system:
        client = await system.open()
        reply = await deliver(
            client,
            mail='MAIL FROM:<"d d"@example.net> BODY=8BITMIME RET=FULL ENVID=Ab+2B SIZE=99 SMTPUTF8',
            rcpt="RCPT TO:<Alice@example.test> NOTIFY=FAILURE,DELAY ORCPT=rfc822;Al+2Bice@example.test",
        )
        assert re.fullmatch(r"250 2\.6\.0 Message accepted as \d+", reply)
        (verify,) = system.requests(VerifyRecipientsRequest)
        assert (verify.reverse_path, list(verify.forward_paths)) == ('"d d"@example.net', ["Alice@example.test"])
        assert (verify.size_octets, verify.client_address) == (99, "127.0.0.1")
        assert system.link.contexts == [(b"", "127.0.0.1"), (b"", "")]
        (begin,) = (request.start for request in system.requests(AcceptMessageRequest))
        (content,) = await inbox(core)
        assert content.endswith(MESSAGE)
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


async def test_a_verdict_is_given_again_while_the_core_says_so(core: LocalCore, certificate: CertificateFiles) -> None:
    async with running(core, certificate) as system:
        client = await system.open()
        assert await client.ask(MAIL) == "250 2.1.0 Sender OK"
        for rcpt in (RCPT, "RCPT TO:<nobody@example.test>", "RCPT TO:<nobody@example.test>", RCPT.lower()):
            await client.ask(rcpt)
        assert await client.ask("RSET") == "250 2.0.0 OK"
        asked = [list(request.forward_paths) for request in system.requests(VerifyRecipientsRequest)]
        # Only the accepted recipients are sent again.
        assert asked == [["alice@example.test"], ["nobody@example.test"], ["nobody@example.test"]]
        assert (await deliver(client)).startswith("250 2.6.0")
        assert len(system.requests(VerifyRecipientsRequest)) == 3
        await asyncio.sleep(known.SECONDS + 0.05)
        assert (await deliver(client)).startswith("250 2.6.0")
        assert len(system.requests(VerifyRecipientsRequest)) == 4
        user = await system.login()
        await deliver(user, OWN, mail=FROM_ALICE)
        assert len(system.requests(VerifyRecipientsRequest)) == 5


async def test_recipients_are_verified_a_hundred_at_a_time(core: LocalCore, certificate: CertificateFiles) -> None:
    async with running(core, certificate) as system:
        client = await system.open()
        await client.send(f"{MAIL}\r\n".encode())
        await client.send(b"".join(b"RCPT TO:<alice+%d@example.test>\r\n" % n for n in range(250)))
        assert await client.codes(251) == [250] * 251
        sizes = [len(request.forward_paths) for request in system.requests(VerifyRecipientsRequest)]
        assert sum(sizes) == 250
        assert max(sizes) <= 100
        assert (await client.ask("RCPT TO:<nobody@example.test>")).startswith("550 5.1.1")


async def test_a_user_is_warned_of_an_address_that_failed_and_others_are_not(
    core: LocalCore, certificate: CertificateFiles
) -> None:
    failure = Failure("eve@example.net", "5.1.1", "550 5.1.1 no such user", time.time_ns() // 1_000 - 1_000_000)
    await core.process.core.db.write(Write(lambda tx: failed_addresses.note(tx, [failure])))
    async with running(core, certificate) as system:
        user, stranger = await system.login(), await system.open()
        for client, expected in (
            (user, "250 2.1.5 Recipient OK, but mail to this address failed on"),
            (stranger, "550"),
        ):
            await client.ask(FROM_ALICE)
            assert (await client.ask("RCPT TO:<Eve@EXAMPLE.net>")).startswith(expected)
        assert len(system.requests(VerifyRecipientsRequest)) == 2


async def test_vrfy_and_expn_ask_the_core_nothing(core: LocalCore, certificate: CertificateFiles) -> None:
    """Their answers depend on no directory, so that neither text nor time tells who exists (RFC 5321 7.3)."""
    async with running(core, certificate) as system:
        for client in (await system.open(), await system.login()):
            before = len(system.link.requests)
            for verb in ("VRFY", "EXPN"):
                answers = {await client.ask(f"{verb} {name}") for name in ("alice", "alice@example.test", "nobody")}
                assert len(answers) == 1 and answers.pop()[:3] in ("252", "502")
            assert len(system.link.requests) == before


async def test_a_large_content_is_streamed_with_credit(core: LocalCore, certificate: CertificateFiles) -> None:
    async with running(core, certificate) as system:
        client = await system.open()
        assert (await deliver(client, MESSAGE + BIG * 5)).startswith("250")
        (content,) = await inbox(core)
        assert content.endswith(MESSAGE + BIG * 5)


async def test_without_credit_nothing_flows(core: LocalCore, certificate: CertificateFiles) -> None:
    async with running(core, certificate) as system:
        system.link.credit_withheld = True
        client = await system.open()
        await client.send(f"{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode())
        assert await client.codes(3) == [250, 250, 354]
        with pytest.raises(TimeoutError):  # noqa: PT012 - at some point of the loop
            async with asyncio.timeout(0.5):
                for _ in range(60):
                    await client.send(BIG)


async def test_a_refused_content_reaches_nobody(core: LocalCore, certificate: CertificateFiles) -> None:
    async with running(core, certificate) as system:
        client = await system.open()
        assert (await deliver(client, BIG + b"\0\r\n")).startswith("550 5.6.0")
        assert (await deliver(client, b"\0\r\n")).startswith("550 5.6.0")
        await until(lambda: system.link.aborted == 1)
        assert await inbox(core) == []
        assert len(system.link.begun) == 1  # no acceptance began for the small one
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
    core: LocalCore, certificate: CertificateFiles, error: errors.RestanteError, reply: str
) -> None:
    async with running(core, certificate) as system:
        system.link.commit_refusal = error
        system.link.refuse(error, "AcceptMessage")
        client = await system.open()
        assert (await deliver(client)).startswith(reply)
        assert (await deliver(client, MESSAGE + BIG)).startswith(reply)
        system.link.commit_refusal = None
        system.link.heal()
        assert (await deliver(client)).startswith("250")
        assert (await deliver(client, MESSAGE + BIG)).startswith("250")


async def test_a_lost_answer_is_asked_for_again_under_the_same_request_id(
    core: LocalCore, certificate: CertificateFiles
) -> None:
    async with running(core, certificate) as system:
        system.link.lose_answers("AcceptMessage", 2)
        client = await system.open()
        assert (await deliver(client)).startswith("250 2.6.0")
        assert len(await inbox(core)) == 1  # one acceptance for all attempts
        assert len({request.start.request_id for request in system.requests(AcceptMessageRequest)}) == 1
        assert len(system.requests(AcceptMessageRequest)) == 3


async def test_a_core_that_never_comes_back_leaves_the_client_without_a_word(
    core: LocalCore, certificate: CertificateFiles
) -> None:
    async with running(core, certificate, settle_seconds=0.2) as system:
        system.link.lose_answers("AcceptMessage")
        client = await system.open()
        assert await deliver(client) == ""  # the core may have accepted it: neither 250 nor a refusal would be true
        system.link.lose_answers("Accept", 1)  # a second attempt would be answered
        client = await system.open()
        assert await deliver(client, MESSAGE + BIG) == ""  # not held, so it cannot be settled


async def test_a_core_that_is_away_is_451_and_found_again(core: LocalCore, certificate: CertificateFiles) -> None:
    async with running(core, certificate) as system:
        await core.stop()
        client = await system.open()
        assert (await client.ask(MAIL)).startswith("250")
        assert (await client.ask(RCPT)).startswith("451 4.3.0")
        assert (await client.ask("DATA")).startswith("554")
        submitting = await system.open("submissions")
        assert (await submitting.ask("AUTH PLAIN AGEAYg==")).startswith("454 4.7.0")
        await core.start()
        for _ in range(50):
            await client.ask("RSET")
            await client.ask(MAIL)
            if (await client.ask(RCPT)).startswith("250"):
                break
            await asyncio.sleep(0.1)
        await client.ask("RSET")
        assert (await deliver(client)).startswith("250")
        await core.stop()
        await client.ask(MAIL)
        assert (await client.ask("RCPT TO:<bob@example.test>")).startswith("451 4.3.0")
        await core.start()
        await asyncio.sleep(1.2)
        await client.ask("RSET")
        assert (await deliver(client, rcpt="RCPT TO:<bob@example.test>")).startswith("250")


async def test_a_small_submission_is_one_operation(core: LocalCore, certificate: CertificateFiles) -> None:
    async with running(core, certificate) as system:
        client = await system.login()
        mail = "MAIL FROM:<alice@example.test> RET=HDRS"
        reply = await deliver(client, OWN, mail=mail, rcpt="RCPT TO:<bob@example.test>")
        assert reply.startswith("250 2.6.0 Message accepted as ")
        (request,) = system.requests(AcceptSubmissionRequest)
        assert request.submission.content == OWN
        assert request.submission.reverse_path == "alice@example.test"
        assert " with ESMTPSA id " in request.trace_field
        tokens = [token for token, _ in system.link.contexts]
        assert tokens == [b"", tokens[-1], tokens[-1]] and tokens[-1]
        (login,) = system.requests(AuthenticateRequest)
        assert (login.client.tls, login.client.loopback, login.client.listener) == (True, True, "submissions")
        (message,) = await inbox(core, "bob")
        assert message.endswith(OWN.partition(b"\r\n\r\n")[2])


async def test_a_large_submission_is_uploaded_first(core: LocalCore, certificate: CertificateFiles) -> None:
    async with running(core, certificate) as system:
        client = await system.login()
        assert (await deliver(client, OWN + BIG * 4, FROM_ALICE)).startswith("250")
        assert system.link.calls.count("UploadContent") == 1
        (request,) = system.requests(AcceptSubmissionRequest)
        assert request.submission.upload_id and not request.submission.content
        (message,) = await inbox(core)
        assert message.endswith(BIG * 4)


async def test_an_upload_that_fails_is_answered_at_the_end_of_the_content(
    core: LocalCore, certificate: CertificateFiles
) -> None:
    async with running(core, certificate) as system:
        system.link.refuse(errors.StoreFull(), "UploadContent")
        client = await system.login()
        assert (await deliver(client, OWN + BIG * 6, FROM_ALICE)).startswith("452 4.3.1")
        assert (await client.ask("NOOP")).startswith("250")
        assert "AcceptSubmission" not in system.link.calls


async def test_a_submission_broken_off_is_forgotten(core: LocalCore, certificate: CertificateFiles) -> None:
    async with running(core, certificate) as system:
        client = await system.login()
        assert (await deliver(client, OWN + BIG * 2 + b"\0\r\n", FROM_ALICE)).startswith("550")
        assert "AcceptSubmission" not in system.link.calls  # no message uses the upload, which lapses


async def test_a_sender_who_is_not_permitted(core: LocalCore, certificate: CertificateFiles) -> None:
    async with running(core, certificate) as system:
        client = await system.login()
        content = OWN.replace(b"alice@", b"bob@")
        assert (
            await deliver(client, content, FROM_ALICE) == "550 5.7.1 You may not send as bob@example.test (From)"
        )  # RFC 6409 6.1


async def test_a_lost_answer_to_a_submission_is_settled(core: LocalCore, certificate: CertificateFiles) -> None:
    async with running(core, certificate) as system:
        client = await system.login()
        system.link.lose_answers("AcceptSubmission", 1)
        assert (await deliver(client, OWN, FROM_ALICE)).startswith("250")
        assert len(system.requests(AcceptSubmissionRequest)) == 2
        assert len(await inbox(core)) == 1


@pytest.mark.parametrize("token_seconds", [2.0])
@pytest.mark.parametrize("content", [OWN, OWN + BIG * 2])
async def test_a_content_that_comes_for_longer_than_a_token_lives_is_taken(
    core: LocalCore, certificate: CertificateFiles, content: bytes
) -> None:
    async with running(core, certificate) as system:
        client = await system.login()
        await client.send(b"MAIL FROM:<alice@example.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n")
        assert await client.codes(3) == [250, 250, 354]
        for at in range(0, 5 * len(content), len(content)):
            await client.send(content[at // 5 : (at + len(content)) // 5])
            await asyncio.sleep(0.6)
        await client.send(b".\r\n")
        assert (await client.reply()).startswith("250")
        tokens = [token for token, _ in system.link.contexts if token]
        assert system.link.calls.count("RenewSession") >= 2
        assert tokens[-1] not in tokens[:2]


@pytest.mark.parametrize("token_seconds", [1.0])
async def test_a_session_that_cannot_be_renewed_is_ended(core: LocalCore, certificate: CertificateFiles) -> None:
    async with running(core, certificate) as system:
        client = await system.login()
        system.link.watch.lossy = True  # no announcement comes
        await core.end_sessions("alice")
        assert (await client.reply()).startswith("421 4.7.0")


@pytest.mark.parametrize("token_seconds", [1.0])
async def test_a_session_that_is_over_is_renewed_no_more(core: LocalCore, certificate: CertificateFiles) -> None:
    async with running(core, certificate) as system:
        client = await system.login()
        await client.ask("QUIT")
        await client.close()
        await asyncio.sleep(0.1)
        before = len(system.link.calls)
        await asyncio.sleep(1.2)
        assert len(system.link.calls) == before


async def test_sessions_of_an_old_credential_are_ended(core: LocalCore, certificate: CertificateFiles) -> None:
    async with running(core, certificate) as system:
        client = await system.login()
        await until(lambda: system.link.watch.connected)
        await core.end_sessions("bob")
        assert (await client.ask("NOOP")).startswith("250")
        await core.end_sessions("alice")
        assert (await client.reply()).startswith("421 4.7.0")
