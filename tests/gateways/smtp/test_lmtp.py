"""LMTP sessions: an answer for each recipient, over a recording core and over a real one (RFC 2033)."""

from __future__ import annotations

import asyncio
import contextlib
import smtplib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from restante import errors, query
from restante.calls import request_id
from restante.checked import short_line
from restante.link import CoreLink
from restante.rows import Message
from restante.v1 import methods, submission_pb2
from restante.v1.admin_pb2 import CreateAccountRequest, CreateDomainRequest, TraceMessagesRequest, UpdateDomainRequest
from restante.v1.checks_pb2 import CHECK_RESULT_FAIL, DMARC_POLICY_REJECT, FailedCheckPolicy
from restante.v1.transport_pb2 import AcceptBegin, AcceptMessageRequest, AcceptMessageResponse
from restante_gateways.net.runtime import Port, Runtime, RuntimeSettings
from restante_gateways.smtp.gateway import SmtpListener, SmtpSettings, listen, run
from restante_gateways.smtp.settings import Role, SessionSettings
from tests.gateways.smtp.conftest import Client, Gateway, MakeGateway
from tests.gateways.smtp.test_clients import call
from tests.harness.local_core import LocalCore, open_local_core

MAIL = "MAIL FROM:<dora@example.net>"
MESSAGE = b"From: dora@example.net\r\nSubject: hello\r\n\r\nHi.\r\n"


def rcpt(*names: str) -> bytes:
    return b"".join(f"RCPT TO:<{name}@example.test>\r\n".encode() for name in names)


async def opened(gateway: Gateway, *names: str) -> Client:
    """A client with an open transaction for recipients who are all accepted at RCPT."""
    client = await gateway.connect("lmtp")
    await client.send(f"LHLO c.example.net\r\n{MAIL}\r\n".encode() + rcpt(*names))
    assert await client.codes(2 + len(names)) == [250] * (2 + len(names))
    return client


async def test_lhlo_lists_what_holds_and_hello_is_unknown(gateway: Gateway) -> None:
    client = await gateway.connect("lmtp")
    assert await client.ask(MAIL) == "503 5.5.1 Send LHLO first"
    for command in ("EHLO c.example.net", "HELO c.example.net", "AUTH PLAIN AGEAYg=="):
        assert (await client.ask(command)).startswith("500 5.5.1")  # RFC 2033 4.1
    assert (await client.ask("LHLO c.example.net")).splitlines() == [
        "250-mx.example.test", "250-PIPELINING", "250-SIZE 100000", "250-8BITMIME", "250-SMTPUTF8",
        "250-ENHANCEDSTATUSCODES", "250-DSN", "250-CHUNKING", "250 LIMITS RCPTMAX=1000",
    ]  # fmt: skip
    assert "LHLO" in await client.ask("HELP")
    other = await gateway.connect("mx")
    assert (await other.ask("LHLO c.example.net")).startswith("500 5.5.1")


async def test_each_recipient_has_its_answer_after_the_content(gateway: Gateway) -> None:
    client = await opened(gateway, "alice", "late", "bob")
    assert (await client.ask("RCPT TO:<nobody@example.test>")).startswith("550 5.1.1")
    await client.send(b"DATA\r\n" + MESSAGE + b".\r\nQUIT\r\n")
    replies = [await client.reply() for _ in range(5)]
    assert [reply[:9] for reply in replies] == ["354 End d", "250 2.6.0", "452 4.2.2", "250 2.6.0", "221 2.0.0"]
    assert await client.reply() == ""
    (accepted,) = gateway.core.accepted
    assert accepted.envelope.lmtp
    assert b" with LMTP id " in accepted.envelope.trace_field


async def test_a_recipient_named_twice_is_answered_twice(gateway: Gateway) -> None:
    client = await opened(gateway, "late", "alice", "late", "alice", "alice")
    await client.send(b"DATA\r\n" + MESSAGE + b".\r\n")
    assert await client.codes(6) == [354, 452, 250, 452, 250, 250]  # RFC 2033 4.2
    assert len(gateway.core.accepted[0].envelope.recipients) == 2


async def test_repetitions_are_bounded(make_gateway: MakeGateway) -> None:
    async with make_gateway(max_recipients=5) as gateway:
        client = await opened(gateway, "alice", "alice")
        await client.send(rcpt(*["alice"] * 10))
        codes = await client.codes(10)
        assert codes == [250, 250, 250] + [452] * 7
        await client.send(b"DATA\r\n" + MESSAGE + b".\r\n")
        assert await client.codes(6) == [354] + [250] * 5


async def test_a_refused_content_is_refused_for_each(gateway: Gateway) -> None:
    for content in (b"a\nb\r\n", b"a\0b\r\n"):
        client = await opened(gateway, "alice", "bob")
        await client.send(b"DATA\r\n" + content + b".\r\nNOOP\r\n")
        assert await client.codes(4) == [354, 550, 550, 250]


@pytest.mark.parametrize("step", ["feed", "commit"])
async def test_a_failure_of_the_core_is_temporary_for_each(gateway: Gateway, step: str) -> None:
    gateway.core.failures[step] = errors.StoreBusy()
    client = await opened(gateway, "alice", "bob")
    await client.send(b"DATA\r\n" + MESSAGE + b".\r\n")
    assert await client.codes(3) == [354, 451, 451]


async def test_only_the_last_chunk_has_an_answer_for_each(gateway: Gateway) -> None:
    client = await opened(gateway, "alice", "late")
    await client.send(b"BDAT %d\r\n" % len(MESSAGE) + MESSAGE + b"BDAT 0 LAST\r\nNOOP\r\n")
    assert await client.codes(4) == [250, 250, 452, 250]
    client = await opened(gateway, "alice", "late")
    await client.send(b"BDAT 3\r\na\nbBDAT 0 LAST\r\nNOOP\r\n")
    assert await client.codes(4) == [550, 550, 550, 250]


async def test_without_a_recipient_no_content_begins(gateway: Gateway) -> None:
    client = await gateway.connect("lmtp")
    await client.send(f"LHLO c\r\n{MAIL}\r\nDATA\r\nRCPT TO:<nobody@example.test>\r\nDATA\r\n".encode())
    assert await client.codes(5) == [250, 250, 503, 550, 554]  # RFC 2033 4.2


async def test_errors_of_many_users_do_not_end_the_session(gateway: Gateway) -> None:
    client = await gateway.connect("lmtp")
    await client.send(f"LHLO c\r\n{MAIL}\r\n".encode() + rcpt(*["nobody"] * 50) + rcpt("alice"))
    assert await client.codes(53) == [250, 250] + [550] * 50 + [250]


async def test_strangers_are_not_served(gateway: Gateway) -> None:
    runtime = Runtime(RuntimeSettings("smtp"))
    listener = SmtpListener(Port(tls="none", allow_from=("192.0.2.0/24",)), Role.LMTP)
    listen(SmtpSettings({"lmtp": listener}, SessionSettings(Role.LMTP, "mx.example.test")), gateway.core, runtime)
    reader, writer = await asyncio.open_connection("127.0.0.1", runtime.addresses()["lmtp"][0].port)
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()
    await runtime.drain()


async def test_processes_share_a_unix_socket_one_at_a_time(gateway: Gateway, tmp_path: Path) -> None:
    path = str(tmp_path / "lmtp.sock")
    listeners = {"lmtp": SmtpListener(Port(tls="none", path=path, allow_from=()), Role.LMTP)}
    settings = SmtpSettings(listeners, SessionSettings(Role.LMTP, "mx.example.test"))
    processes = [Runtime(RuntimeSettings("smtp", reuse_port=True, drain_seconds=1.0)) for _ in range(3)]
    for process in processes[:2]:
        listen(settings, gateway.core, process)
    assert [len(process.listeners) for process in processes] == [1, 0, 0]
    await processes[0].drain()
    listen(settings, gateway.core, processes[2])  # the supervisor's next process
    client = Client(*await asyncio.open_unix_connection(path))
    assert (await client.reply()).startswith("220 mx.example.test LMTP")
    alone = Runtime(RuntimeSettings("smtp"))
    with pytest.raises(OSError, match="another program serves"):
        listen(settings, gateway.core, alone)
    await client.close()
    await processes[2].drain()


@pytest.mark.needs("swaks")
async def test_swaks_delivers(gateway: Gateway) -> None:
    done = await call(
        "swaks", "--protocol", "LMTP", "--server", "127.0.0.1", "--port", str(gateway.port("lmtp")),
        "--helo", "mta.example.net", "--from", "dora@example.net",
        "--to", "alice@example.test,late@example.test,bob@example.test", "--body", ".\\n..\\ntext",
    )  # fmt: skip
    assert b"250 2.6.0" in done.stdout
    (accepted,) = gateway.core.accepted
    assert len(accepted.envelope.recipients) == 3


async def test_smtplib_delivers(gateway: Gateway) -> None:
    def deliver() -> None:
        with smtplib.LMTP("127.0.0.1", gateway.port("lmtp"), timeout=10) as client:
            client.sendmail("dora@example.net", ["alice@example.test"], MESSAGE)

    await asyncio.to_thread(deliver)
    assert bytes(gateway.core.accepted[0].content) == MESSAGE


# -- over a real core


@pytest.fixture
async def core(store_template: Path, tmp_path: Path) -> AsyncIterator[LocalCore]:
    settings = {"transport.hostname": "mx.example.test", "transport.trusted_authserv_ids": ["Filter.example.test"]}
    async with open_local_core(store_template, tmp_path / "core", **settings) as core:
        yield core


@contextlib.asynccontextmanager
async def served(core: LocalCore, path: Path) -> AsyncIterator[Runtime]:
    """A gateway with a Unix socket for LMTP and an mx listener."""
    runtime = Runtime(RuntimeSettings("smtp", drain_seconds=2.0))
    settings = SmtpSettings(
        {
            "lmtp": SmtpListener(Port(tls="none", path=str(path), allow_from=()), Role.LMTP),
            "mx": SmtpListener(Port(tls="none"), Role.MX),
        },
        SessionSettings(Role.MX, "mx.example.test"),
    )
    link: CoreLink = await core.link("smtp")
    serving = asyncio.create_task(run(settings, link, runtime))
    while len(runtime.listeners) < 2:
        await asyncio.sleep(0)
    try:
        yield runtime
    finally:
        runtime.draining.set()
        await serving


async def inbox(core: LocalCore, name: str) -> list[bytes]:
    user = await core.user(name)
    return [await user.contents.read(message.message_id) for message in await core.inbox(name)]


@pytest.mark.parametrize("octets", [10_000, 400_000])  # by AcceptMessage, and by the Accept stream
async def test_a_full_mailbox_defers_one_recipient_alone(core: LocalCore, tmp_path: Path, octets: int) -> None:
    await core.set_quota("bob", octets // 2)
    async with served(core, tmp_path / "lmtp.sock"):
        client = Client(*await asyncio.open_unix_connection(str(tmp_path / "lmtp.sock")))
        assert (await client.reply()).startswith("220 mx.example.test LMTP")
        await client.send(f"LHLO c\r\n{MAIL}\r\n".encode() + rcpt("alice", "bob", "carol") + b"DATA\r\n")
        assert await client.codes(6) == [250, 250, 250, 250, 250, 354]  # there is room for a small message
        await client.send(MESSAGE + (b"x" * 98 + b"\r\n") * (octets // 100) + b".\r\n")
        assert [(await client.reply())[:9] for _ in range(3)] == ["250 2.6.0", "452 4.2.2", "250 2.6.0"]
        assert [len(await inbox(core, name)) for name in ("alice", "bob", "carol")] == [1, 0, 1]
        await client.send(f"{MAIL} SIZE={octets}\r\n".encode() + rcpt("bob"))
        assert await client.codes(2) == [250, 452]
        await client.send(f"RSET\r\n{MAIL}\r\n".encode() + rcpt("bob") + b"DATA\r\n" + MESSAGE + b".\r\n")
        assert await client.codes(5) == [250, 250, 250, 354, 250]
        await client.close()
        assert len(await inbox(core, "bob")) == 1


async def test_nobody_can_have_it_and_nothing_is_accepted(core: LocalCore, tmp_path: Path) -> None:
    await core.set_quota("bob", 5_000)
    async with served(core, tmp_path / "lmtp.sock"):
        client = Client(*await asyncio.open_unix_connection(str(tmp_path / "lmtp.sock")))
        await client.send(f"LHLO c\r\n{MAIL}\r\n".encode() + rcpt("bob") + b"DATA\r\n")
        assert await client.codes(5) == [220, 250, 250, 250, 354]
        await client.send(MESSAGE + (b"x" * 98 + b"\r\n") * 100 + b".\r\n")
        assert await client.codes(1) == [452]
        await client.close()
    assert await inbox(core, "bob") == []
    assert await inbox(core, "alice") == []  # no report to anybody


FIELDS = (
    b"Authentication-Results: filter.example.test; spf=pass smtp.mailfrom=example.net\r\n"
    b"Authentication-Results: mx.example.test; dmarc=pass header.from=example.net\r\n"
    b"Authentication-Results: other.example.org; dkim=pass\r\n"
)


@pytest.mark.parametrize("listener", ["mx", "lmtp"])
async def test_results_of_a_trusted_server_count_only_by_lmtp(core: LocalCore, tmp_path: Path, listener: str) -> None:
    path = str(tmp_path / "lmtp.sock")
    async with served(core, Path(path)) as runtime:
        port = runtime.addresses()["mx"][0].port
        by_lmtp = listener == "lmtp"
        client = Client(
            *await (asyncio.open_unix_connection(path) if by_lmtp else asyncio.open_connection("127.0.0.1", port))
        )
        hello = "LHLO" if by_lmtp else "EHLO"
        await client.send(
            f"{hello} c\r\n{MAIL}\r\n".encode() + rcpt("alice") + b"DATA\r\n" + FIELDS + MESSAGE + b".\r\n"
        )
        assert (await client.codes(6))[-1] == 250
        await client.close()
    (content,) = await inbox(core, "alice")
    assert (b"filter.example.test; spf=pass" in content) is (listener == "lmtp")  # RFC 8601 5
    assert b"mx.example.test; dmarc=pass" not in content
    assert b"other.example.org; dkim=pass" in content


async def test_a_repeated_acceptance_has_the_first_verdicts(core: LocalCore) -> None:
    await core.set_quota("alice", 15_000)
    await core.set_quota("bob", 1_000)
    link: CoreLink = await core.link("smtp")
    content = MESSAGE + (b"x" * 98 + b"\r\n") * 100
    start = AcceptBegin(
        request_id=request_id(),
        reverse_path="dora@example.net",
        recipients=[
            submission_pb2.EnvelopeRecipient(forward_path=f"{name}@example.test") for name in ("bob", "alice", "nobody")
        ],
        trace_field="Received: by mx.example.test with LMTP id 1;\r\n Mon, 23 Nov 2026 19:05:07 +0000\r\n",
        lmtp=True,
    )

    async def accept() -> AcceptMessageResponse:
        return await link.execute(methods.ACCEPT_MESSAGE, AcceptMessageRequest(start=start, content=content))

    def verdicts(answer: AcceptMessageResponse) -> list[str]:
        return ["" if verdict.accepted else errors.from_status(verdict.status).reason for verdict in answer.verdicts]

    first = await accept()
    assert first.transport_id > 0
    assert verdicts(first) == ["QUOTA_EXCEEDED", "", "RECIPIENT_NOT_FOUND"]
    assert len(await inbox(core, "alice")) == 1
    assert await accept() == first  # alice's mailbox has no room for another such message
    assert len(await inbox(core, "alice")) == 1
    start.request_id = request_id()
    again = await accept()
    assert (again.transport_id, verdicts(again)) == (0, ["QUOTA_EXCEEDED", "QUOTA_EXCEEDED", "RECIPIENT_NOT_FOUND"])


# -- results of a trusted server


BANK = b"From: info@bank.example\r\nSubject: your account\r\n\r\nClick here.\r\n"
FAILED = b"Authentication-Results: filter.example.test;\r\n dmarc=fail (p=reject dis=none) header.from=bank.example\r\n"


async def deliver(path: Path, content: bytes, *recipients: str) -> list[str]:
    """Deliver a message by LMTP; returns the beginnings of the final replies."""
    client = Client(*await asyncio.open_unix_connection(str(path)))
    paths = "".join(f"RCPT TO:<{one}>\r\n" for one in recipients)
    await client.send(f"LHLO c\r\nMAIL FROM:<info@bank.example>\r\n{paths}DATA\r\n".encode() + content + b".\r\n")
    assert await client.codes(4 + len(recipients)) == [220, 250, 250, *[250] * len(recipients), 354]
    replies = [await client.reply() for _ in recipients]
    await client.close()
    return replies


async def facts(core: LocalCore, folder: str) -> list[Message]:
    alice = await core.user("alice")
    return [one async for one in alice.messages.query(folder)]


async def test_a_failure_that_a_trusted_server_reports_counts_as_our_own(core: LocalCore, tmp_path: Path) -> None:
    other = b"Authentication-Results: other.example.org; dmarc=pass header.from=bank.example\r\n"
    async with served(core, tmp_path / "lmtp.sock"):
        (reply,) = await deliver(tmp_path / "lmtp.sock", FAILED + other + BANK, "alice@example.test")
    assert reply.startswith("250 2.6.0")
    assert await inbox(core, "alice") == []
    (found,) = await facts(core, "Junk")
    assert found.checks.checked_by == "filter.example.test"
    assert (found.checks.dmarc.result, found.checks.dmarc.policy) == (CHECK_RESULT_FAIL, DMARC_POLICY_REJECT)
    assert short_line(found.checks) == "dmarc=fail by filter.example.test"
    alice = await core.user("alice")
    assert len([one async for one in alice.messages.query("Junk", query.checked("dmarc", "fail"))]) == 1
    content = await alice.contents.read(found.message_id)
    assert content.count(b"Authentication-Results:") == 2  # those that came, and none of ours
    assert content.endswith(FAILED + other + BANK)
    trace = await core.admin.execute(methods.TRACE_MESSAGES, TraceMessagesRequest(address="info@bank.example"))
    assert trace.traces[0].checks.checked_by == "filter.example.test"
    assert "DMARC fails for bank.example, whose policy is reject" in trace.traces[0].events[0].detail


async def test_a_domain_that_refuses_such_mail_refuses_for_its_own_recipients(core: LocalCore, tmp_path: Path) -> None:
    await core.admin.execute(methods.CREATE_DOMAIN, CreateDomainRequest(name="example.com"))
    await core.admin.execute(
        methods.CREATE_ACCOUNT, CreateAccountRequest(address="zoe@example.com", password="correct horse battery")
    )
    reject = FailedCheckPolicy.FAILED_CHECK_POLICY_REJECT
    await core.admin.execute(methods.UPDATE_DOMAIN, UpdateDomainRequest(name="example.test", failed_dmarc=reject))
    recipients = ("alice@example.test", "zoe@example.com", "bob@example.test")
    async with served(core, tmp_path / "lmtp.sock"):
        replies = await deliver(tmp_path / "lmtp.sock", FAILED + BANK, *recipients)
        refusal = "550 5.7.1 DMARC fails for bank.example, whose policy is reject"
        assert [replies[0], replies[1][:9], replies[2]] == [refusal, "250 2.6.0", refusal]
        all_refused = await deliver(tmp_path / "lmtp.sock", FAILED + BANK, recipients[0], recipients[2])
        assert all_refused == [refusal] * 2
    assert await facts(core, "Junk") == await facts(core, "INBOX") == []


@pytest.mark.parametrize(
    ("field", "author", "folder"),
    [
        (b"other.example.org; dmarc=fail (p=reject) header.from=bank.example", b"info@bank.example", "INBOX"),
        (b"filter.example.test; dmarc=fail (p=none) header.from=bank.example", b"info@bank.example", "INBOX"),
        (b"filter.example.test; dmarc=pass header.from=example.test", b"bob@example.test", "INBOX"),
        (b"filter.example.test; spf=pass smtp.mailfrom=bank.example", b"bob@example.test", "Junk"),  # not its author's
        (b"filter.example.test; none", b"bob@example.test", "INBOX"),  # not checked
    ],
)
async def test_only_what_a_trusted_server_says_counts(
    core: LocalCore, tmp_path: Path, field: bytes, author: bytes, folder: str
) -> None:
    content = b"Authentication-Results: " + field + b"\r\n" + BANK.replace(b"info@bank.example", author)
    async with served(core, tmp_path / "lmtp.sock"):
        (reply,) = await deliver(tmp_path / "lmtp.sock", content, "alice@example.test")
    assert reply.startswith("250")
    assert len(await facts(core, folder)) == 1
