"""Greylisting at the gateway: the replies to RCPT and DATA, what it tells the core, and a retry over the real core."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from restante.link import CoreLink
from restante.v1 import methods
from restante.v1.admin_pb2 import UpdateDomainRequest
from restante.v1.checks_pb2 import CHECK_RESULT_PASS, SPF_IDENTITY_HELO, SPF_IDENTITY_MAILFROM
from restante.v1.greylist_pb2 import ClientEvidence, ListGreylistTripletsRequest
from restante_gateways.net.runtime import Port, Runtime, RuntimeSettings
from restante_gateways.smtp.gateway import SmtpListener, SmtpSettings, run
from restante_gateways.smtp.settings import Role, SessionSettings
from tests.gateways.smtp.checks.test_session import ZONE, connect
from tests.gateways.smtp.checks.test_session import settings as check_settings
from tests.gateways.smtp.conftest import Client, Gateway, MakeGateway
from tests.gateways.smtp.test_clients import call
from tests.harness.dns_server import dns_server
from tests.harness.local_core import LocalCore, open_local_core

MAIL = "MAIL FROM:<dora@example.net>"
GREY = "RCPT TO:<grey@example.test>"
MESSAGE = b"From: dora@example.net\r\nSubject: hello\r\n\r\nHi.\r\n"
REPLY = "This client is new here; try again in 300 seconds"


# -- over the recording core


async def test_rcpt_of_a_greylisted_recipient_is_deferred_alone(gateway: Gateway) -> None:
    client = await gateway.connect()
    await client.send(f"EHLO c\r\n{MAIL}\r\n{GREY}\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n".encode())
    assert (await client.codes(2)) == [250, 250]
    assert await client.reply() == f"450 4.7.1 {REPLY}"
    assert (await client.codes(2)) == [250, 354]
    await client.send(MESSAGE + b".\r\n")
    assert (await client.codes(1)) == [250]
    (accepted,) = gateway.core.accepted
    assert [one.forward_path.local_part for one in accepted.envelope.recipients] == ["alice"]


@pytest.mark.parametrize("command", ["DATA", "BDAT 3 LAST\r\nx\r\n"])
async def test_the_null_path_is_deferred_at_the_content(gateway: Gateway, command: str) -> None:
    client = await gateway.connect()
    await client.ask("EHLO c")
    await client.ask("MAIL FROM:<>")
    assert (await client.ask(GREY)).startswith("250 2.1.5")  # another server that verifies an address goes away now
    assert (await client.ask(command.strip() if command == "DATA" else command[:-2])) == f"450 4.7.1 {REPLY}"
    assert (await client.ask("RSET")).startswith("250")
    await client.ask("MAIL FROM:<>")
    await client.ask("RCPT TO:<alice@example.test>")
    assert (await client.ask("DATA")).startswith("354")
    assert gateway.core.opened[0].envelope.mail.reverse_path is None


async def test_only_mail_from_other_servers_comes_with_evidence(gateway: Gateway) -> None:
    mx = await gateway.connect()
    await mx.send(f"EHLO c\r\n{MAIL}\r\nRCPT TO:<alice@example.test>\r\n".encode())
    assert await mx.codes(3) == [250] * 3
    lmtp = await gateway.connect("lmtp")
    await lmtp.send(f"LHLO c\r\n{MAIL}\r\nRCPT TO:<alice@example.test>\r\n".encode())
    assert await lmtp.codes(3) == [250] * 3
    user = await gateway.logged_in()
    await user.send(b"MAIL FROM:<alice@example.test>\r\nRCPT TO:<bob@example.test>\r\n")
    assert await user.codes(2) == [250] * 2
    assert gateway.core.evidence == [ClientEvidence(), None, None]


@pytest.mark.parametrize("wanted", [("spf",), ("helo", "reverse-dns"), ()])
async def test_the_evidence_has_what_the_configuration_asks_for(
    make_gateway: MakeGateway, wanted: tuple[str, ...]
) -> None:
    async with (
        dns_server(ZONE) as server,
        make_gateway(checks=check_settings(server), evidence=frozenset(wanted)) as gateway,
    ):
        client = await connect(gateway)
        await client.ask("MAIL FROM:<ann@example.com>")
        assert (await client.ask("RCPT TO:<alice@example.test>")).startswith("250")
        (evidence,) = gateway.core.evidence
    assert evidence is not None
    found = {(one.identity, one.result) for one in evidence.spf}
    passed = {(SPF_IDENTITY_HELO, CHECK_RESULT_PASS), (SPF_IDENTITY_MAILFROM, CHECK_RESULT_PASS)}
    assert found == (passed if {"spf", "helo"} & set(wanted) else set())
    assert evidence.HasField("reverse_dns") is ("reverse-dns" in wanted)
    if "reverse-dns" in wanted:
        assert (evidence.reverse_dns.result, evidence.reverse_dns.name) == (CHECK_RESULT_PASS, "mx.example.com")


# -- over a real core


@pytest.fixture
async def core(store_template: Path, tmp_path: Path) -> AsyncIterator[LocalCore]:
    settings = {"greylisting.wait_seconds": 0.5, "checks.exempt": ()}
    async with open_local_core(store_template, tmp_path / "core", **settings) as core:
        await core.admin.execute(methods.UPDATE_DOMAIN, UpdateDomainRequest(name="example.test", greylisting=True))
        yield core


@contextlib.asynccontextmanager
async def served(core: LocalCore) -> AsyncIterator[int]:
    """The port of a gateway of its own."""
    runtime = Runtime(RuntimeSettings("smtp", drain_seconds=2.0))
    settings = SmtpSettings(
        {"mx": SmtpListener(Port(tls="none"), Role.MX)}, SessionSettings(Role.MX, "mx.example.test")
    )
    link: CoreLink = await core.link("smtp")
    serving = asyncio.create_task(run(settings, link, runtime))
    while not runtime.listeners:
        await asyncio.sleep(0)
    try:
        yield runtime.addresses()["mx"][0].port
    finally:
        runtime.draining.set()
        await serving


async def send(port: int, sender: str = "dora@example.net") -> str:
    """Send a message; returns the reply to RCPT, or to the content if RCPT is accepted."""
    client = Client(*await asyncio.open_connection("127.0.0.1", port))
    await client.reply()
    await client.ask("EHLO c.example.net")
    await client.ask(f"MAIL FROM:<{sender}>")
    reply = await client.ask("RCPT TO:<alice@example.test>")
    if reply.startswith("250") and (reply := await client.ask("DATA")).startswith("354"):
        await client.send(MESSAGE + b".\r\n")
        reply = await client.reply()
    await client.close()
    return reply


async def test_a_client_that_comes_again_gets_its_mail_in_and_a_restart_keeps_what_was_seen(core: LocalCore) -> None:
    async with served(core) as one, served(core) as other:
        replies = await asyncio.gather(*(send(port) for port in (one, other, one, other)))
        assert {reply[:9] for reply in replies} == {"450 4.7.1"}
        assert all("try again in 1 seconds" in reply for reply in replies)
        await core.stop()
        await core.start()
        await asyncio.sleep(0.5)
        assert (await send(other)).startswith("250 2.6.0")
        assert (await send(one)).startswith("250 2.6.0")  # known: no verdict of this gateway's was kept
        assert (await send(one, "other@example.net")).startswith("450 4.7.1")
        assert (await send(one, "")).startswith("450 4.7.1")
        await asyncio.sleep(0.5)
        assert (await send(other, "")).startswith("250 2.6.0")
    assert len(await core.inbox("alice")) == 3
    answer = await core.admin.execute(methods.LIST_GREYLIST_TRIPLETS, ListGreylistTripletsRequest())
    assert {(one.network, one.reverse_path, one.known) for one in answer.triplets} == {
        ("127.0.0.0/24", "dora@example.net", True),
        ("127.0.0.0/24", "other@example.net", False),
        ("127.0.0.0/24", "", True),
    }
    value = core.process.registry.get_sample_value
    assert value("restante_mail_greylisting_total", {"outcome": "retried"}) == 2


@pytest.mark.needs("swaks")
async def test_swaks_is_deferred_and_comes_again(core: LocalCore) -> None:
    async with served(core) as port:
        command = ("swaks", "--server", "127.0.0.1", "--port", str(port), "--helo", "mta.example.net",
                   "--from", "dora@example.net", "--to", "alice@example.test")  # fmt: skip
        done = await call(*command)
        assert b"450 4.7.1 This client is new here; try again in 1 seconds" in done.stdout
        await asyncio.sleep(0.6)
        done = await call(*command)
        assert b"250 2.6.0" in done.stdout
