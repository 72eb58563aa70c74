"""Two installations: forged mail at one makes a failure report that arrives, and is read, at the other (RFC 9991)."""

from __future__ import annotations

import asyncio
import smtplib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from typing import Any

import pytest
import pytest_asyncio

from tests.harness.dns_server import DnsServer, dns_server
from tests.harness.organisation import Organisation, eventually, free_ports, organisation

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

ZONE = """
example.test         MX   10 mx.example.test.
mx.example.test      A    127.0.0.2
mx.example.test      TXT  "v=spf1 a -all"
example.test         TXT  "v=spf1 a:mx.example.test -all"
_dmarc.example.test  TXT  "v=DMARC1; p=none; ruf=mailto:reports@example.test"
example.net          MX   10 mx.example.net.
mx.example.net       A    127.0.0.3
mx.example.net       TXT  "v=spf1 ip4:127.0.0.0/8 -all"
_dmarc.example.net   TXT  "v=DMARC1; p=none; ruf=mailto:bob@example.net"
grabbing.example     TXT  "v=spf1 -all"
_dmarc.grabbing.example  TXT  "v=DMARC1; p=none; ruf=mailto:alice@example.test"
sharing.example      TXT  "v=spf1 -all"
_dmarc.sharing.example   TXT  "v=DMARC1; p=none; ruf=mailto:alice@example.test"
sharing.example._report._dmarc.example.test  TXT  "v=DMARC1"
"""
BOB = "bob@example.net"
STRANGE = "127.0.0.9"  # a client


@dataclass
class Two:
    """Two installations: ours, in whose name mail is forged, and theirs with bob, who gets it."""

    ours: Organisation
    theirs: Organisation
    dns: DnsServer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def two(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Two]:
    directory = tmp_path_factory.mktemp("failures")
    async with dns_server(ZONE) as dns:
        port = free_ports(1, "127.0.0.2")[0]
        both = {
            "relay.nameservers": [dns.address],
            "relay.port": port,
            "relay.allow_private": ["127.0.0.0/8"],
            "checks.exempt": [],
            "checks.nameservers": [dns.address],
            "reports.failure_domains": ["*"],
            "reports.failure_seconds": 0.5,
        }
        receiving = {"reports.addresses": ["reports@example.test"]}
        ours = organisation(
            directory / "a", "example.test", ["alice", "reports"], mx=("127.0.0.2", port), overrides=both | receiving
        )
        theirs = organisation(directory / "b", "example.net", ["bob"], mx=("127.0.0.3", port), overrides=both)
        async with ours as first, theirs as second:
            yield Two(first, second, dns)


async def forge(two: Two, author: str, subject: str) -> None:
    """Send mail in the name of an author to bob from a strange client."""
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = author, BOB, subject
    made.set_content("The body is secret.\n")
    theirs = two.theirs.settings.smtp.listeners["mx"]

    def send() -> None:
        with smtplib.SMTP(theirs.host, theirs.port, "strange.example", timeout=30, source_address=(STRANGE, 0)) as smtp:
            smtp.sendmail(author, [BOB], made.as_bytes(policy=SMTP))

    await asyncio.to_thread(send)


async def sent(two: Two, domain: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = await two.theirs.admin(
        "reports", "failures", "--direction", "sent", "--domain", domain
    )
    return found


async def test_forged_mail_is_reported_to_the_domain(two: Two) -> None:
    await forge(two, "alice@example.test", "forged")
    (mail,) = await eventually(lambda: two.ours.mail("reports", "DMARC failure report"), what="the report")
    octets = mail.as_bytes()
    assert mail["Return-Path"] == "<>" and mail.get_content_type() == "multipart/report"
    assert b"Subject: forged" in octets and b"Source-IP: 127.0.0.9" in octets
    assert BOB.encode() not in octets and b"secret" not in octets
    assert "dmarc=pass" in str(mail["Authentication-Results"])  # by SPF: the null path has the name in EHLO
    (report,) = await sent(two, "example.test")
    assert (report["source"], report["incidents"], report["address"]) == (STRANGE, 1, "reports@example.test")
    await two.ours.stop()
    await two.ours.start()  # it reads the mailbox as soon as it starts
    async with asyncio.timeout(30):
        while not (found := await two.ours.admin("reports", "failures")):
            await asyncio.sleep(0.1)
    (read,) = found
    assert (read["direction"], read["policy_domain"], read["source"]) == ("received", "example.test", STRANGE)
    details = await two.ours.admin("reports", "show", str(read["id"]))
    assert details["failed_mechanisms"] == ["dkim", "spf"] and "Subject: forged" in details["header"]
    assert details["spf_record"] == "v=spf1 a:mx.example.test -all"


async def test_an_address_elsewhere_gets_reports_only_if_it_agrees(two: Two) -> None:  # RFC 9991 5
    await forge(two, "x@grabbing.example", "without consent")
    await forge(two, "x@sharing.example", "with consent")
    (mail,) = await eventually(lambda: two.ours.mail("alice", "sharing.example"), what="the report")
    assert b"Reported-Domain: sharing.example" in mail.as_bytes()
    assert await sent(two, "grabbing.example") == []
    assert two.ours.mail("alice", "grabbing.example") == []
    assert ("grabbing.example._report._dmarc.example.test", "TXT") in two.dns.asked


async def test_a_report_that_fails_makes_no_report(two: Two) -> None:  # RFC 9991 5.1
    report = (await eventually(lambda: two.ours.mail("reports", "DMARC failure report"), what="the report"))[0]
    del report["From"]
    report["From"] = "postmaster@example.test"
    theirs = two.theirs.settings.smtp.listeners["mx"]

    def send() -> None:
        with smtplib.SMTP(theirs.host, theirs.port, "strange.example", timeout=30, source_address=(STRANGE, 0)) as smtp:
            smtp.sendmail("postmaster@example.test", [BOB], report.as_bytes(policy=SMTP))

    before = await sent(two, "example.test")
    await asyncio.to_thread(send)
    await eventually(lambda: two.theirs.mail("bob", "DMARC failure report"), what="the mail")
    await asyncio.sleep(1.5)
    assert await sent(two, "example.test") == before
