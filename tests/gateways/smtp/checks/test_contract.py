"""Results in the contract: a round trip through the core's conversion, and acceptances with results by a real core."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from restante.v1.checks_pb2 import CHECK_RESULT_NONE, CHECK_RESULT_PASS
from restante.v1.transport_pb2 import AcceptMessageRequest
from restante_gateways.smtp.checks.contract import message_checks
from restante_gateways.smtp.checks.settings import CheckSettings
from restante_mail.authentication.results import (
    ArcResult,
    Checks,
    DkimResult,
    DmarcResult,
    DnsListResult,
    Identity,
    Policy,
    Result,
    ReverseDnsResult,
    SpfResult,
)
from restante_process.tls import CertificateFiles
from restante_server.transport.results import results_of
from tests.gateways.smtp.test_upstream import MAIL, RCPT, running
from tests.harness.dns_server import dns_server
from tests.harness.local_core import LocalCore, open_local_core

CHECKS = Checks(
    spf=(SpfResult(Result.FAIL, Identity.HELO, "a.example", "-all", "why", "", "v=spf1 -all"),),
    dkim=(DkimResult(Result.PASS, "b.example", "s", "@b.example", "rsa-sha256", 2048, "abc", True, True, ""),),
    dmarc=DmarcResult(
        Result.FAIL,
        "c.example",
        "example",
        "d.example",
        Policy.REJECT,
        "v=DMARC1",
        True,
        True,
        False,
        "p",
        ("r@c.example",),
        ("f@c.example",),
    ),
    arc=ArcResult(Result.FAIL, ("e.example",), 1, ("spf=pass",), "problem"),
    reverse_dns=ReverseDnsResult(Result.PASS, "f.example"),
    dns_lists=(DnsListResult("bl.example", True, ("127.0.0.2",), 2.5, ""),),
)


@pytest.mark.parametrize("checks", [Checks(), CHECKS])
def test_the_core_reads_what_the_gateway_writes(checks: Checks) -> None:
    assert results_of(message_checks(checks)) == checks


def test_only_failure_reports_need_spf_records() -> None:
    assert CHECKS.dmarc is not None
    unreported = dataclasses.replace(CHECKS, dmarc=dataclasses.replace(CHECKS.dmarc, failures_to=()))
    assert message_checks(CHECKS).spf[0].record == "v=spf1 -all"
    assert message_checks(unreported).spf[0].record == ""


def test_what_is_too_long_is_cut_so_that_the_core_takes_it() -> None:
    spf = SpfResult(Result.PERMERROR, Identity.MAILFROM, "x" * 300, "\x00" * 999, "e" * 999, "\u00e4" * 999)
    assert results_of(message_checks(Checks(spf=(spf,) * 9, dns_lists=CHECKS.dns_lists * 99))).spf


@pytest.fixture
async def core(store_template: Path, tmp_path: Path) -> AsyncIterator[LocalCore]:
    async with open_local_core(store_template, tmp_path / "core") as core:
        yield core


@pytest.mark.parametrize("octets", [100, 700_000])
async def test_the_results_go_with_the_acceptance(core: LocalCore, certificate: CertificateFiles, octets: int) -> None:
    content = b"From: dora@example.net\r\nSubject: hello\r\n\r\n" + (b"b" * 98 + b"\r\n") * (octets // 100)
    async with (
        dns_server('example.net TXT "v=spf1 ip4:127.0.0.1 -all"\n_dmarc.example.net TXT "v=DMARC1; p=none"') as server,
        running(core, certificate, checks=CheckSettings("mx.example.test", nameservers=(server.address,))) as gateway,
    ):
        client = await gateway.open()
        for line in (MAIL, RCPT, "DATA"):
            assert (await client.ask(line))[0] in "23"
        await client.send(content + b".\r\n")
        assert (await client.reply()).startswith("250")
        for request in gateway.requests(AcceptMessageRequest):
            assert [each.result for each in request.checks.spf] == [CHECK_RESULT_NONE, CHECK_RESULT_PASS]
            assert request.checks.dmarc.result == CHECK_RESULT_PASS
        assert len(gateway.requests(AcceptMessageRequest)) == (octets < 1000)
        assert len(await core.inbox("alice")) == 1
