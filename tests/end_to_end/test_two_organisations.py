"""Two whole installations with a DNS server between them: mail, replies and reports cross by MX and SMTP.

Both receive mail on the same port, each on a different loopback address, like two hosts on port 25.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import smtplib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from email.message import EmailMessage, Message
from email.policy import SMTP
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from restante.v1 import methods
from restante.v1.admin_pb2 import CreateAccountRequest, CreateAliasRequest
from tests.harness.dns_server import DnsServer, dns_server
from tests.harness.organisation import Organisation, eventually, free_ports, organisation

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

ZONE = """
example.test    MX 10 mx.example.test.
mx.example.test A  127.0.0.2
example.net     MX 10 mx.example.net.
mx.example.net  A  127.0.0.3
quiet.example   MX 0 .
ring.example    MX 10 elsewhere.ring.example.
elsewhere.ring.example A 127.0.0.2
"""
ALICE, BOB = "alice@example.test", "bob@example.net"


@dataclass
class Two:
    """Two installations: ours with alice and carol, theirs with bob."""

    ours: Organisation
    theirs: Organisation
    dns: DnsServer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def two(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Two]:
    directory = tmp_path_factory.mktemp("organisations")
    async with dns_server(ZONE) as dns:
        port = free_ports(1, "127.0.0.2")[0]
        overrides = {"relay.nameservers": [dns.address], "relay.port": port, "relay.allow_private": ["127.0.0.0/8"]}
        ours = organisation(
            directory / "a", "example.test", ["alice", "carol"], mx=("127.0.0.2", port), overrides=overrides
        )
        theirs = organisation(directory / "b", "example.net", ["bob"], mx=("127.0.0.3", port), overrides=overrides)
        async with ours as first, theirs as second:
            yield Two(first, second, dns)


def message(sender: str, to: str, subject: str, text: str = "Hello.\n") -> EmailMessage:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = sender, to, subject
    made["Message-ID"] = f"<{secrets.token_hex(8)}@{sender.partition('@')[2]}>"
    made.set_content(text)
    return made


def send(
    sender: Organisation,
    mail: EmailMessage,
    recipients: list[str],
    mail_options: list[str] | None = None,
    rcpt_options: list[str] | None = None,
) -> None:
    name = str(mail["From"]).partition("@")[0]
    with sender.submission(name) as client:
        client.sendmail(
            str(mail["From"]), recipients, mail.as_bytes(policy=SMTP), mail_options or [], rcpt_options or []
        )


def subject() -> str:
    return f"subject {secrets.token_hex(6)}"


async def traced(where: Organisation, mail: EmailMessage) -> list[dict[str, Any]]:
    """The steps of a message, by its Message-ID."""
    found = await where.admin("trace", str(mail["Message-ID"]))
    return [event for one in found for event in one["events"]]


async def ended(where: Organisation, mail: EmailMessage, recipient: str, state: str) -> dict[str, Any]:
    """Wait for the trace's step of a recipient with a state, and return it."""
    for _ in range(40):
        for event in await traced(where, mail):
            if event["recipient"] == recipient and event["state"] == state:
                return event
        await asyncio.sleep(0.25)
    raise AssertionError(f"{recipient} is not {state}: {await traced(where, mail)}")


def report_fields(report: EmailMessage) -> tuple[dict[str, str], dict[str, str]]:
    """(fields of the message, fields of its one recipient) of a delivery report."""
    assert report.get_content_type() == "multipart/report"
    assert report.get_param("report-type") == "delivery-status"
    status = list(report.iter_parts())[1]
    assert status.get_content_type() == "message/delivery-status"
    blocks = status.get_payload()
    assert isinstance(blocks, list) and len(blocks) == 2
    whole, recipient = (
        {name: str(value) for name, value in block.items()} for block in blocks if isinstance(block, Message)
    )
    return whole, recipient


async def test_mail_crosses_and_the_answer_comes_back(two: Two) -> None:  # RFC 5321 5.1
    title = subject()
    first = message(ALICE, BOB, title, "Dear Bob,\n.\n..two dots\nFrom here\n")
    await asyncio.to_thread(send, two.ours, first, [BOB])
    (came,) = await eventually(lambda: two.theirs.mail("bob", title))
    assert came["Return-Path"] == f"<{ALICE}>" and came["Message-ID"] == first["Message-ID"]
    assert came.get_content().replace("\r\n", "\n") == first.get_content()
    assert [
        bool(re.search(f"by mx.{domain} with ESMTPS", hop))
        for domain, hop in zip(("example.net", "example.test"), came.get_all("Received", []), strict=True)
    ] == [True, True]  # fmt: skip  (both hops were under TLS)
    answer = message(BOB, ALICE, f"Re: {title}")
    await asyncio.to_thread(send, two.theirs, answer, [ALICE])
    (back,) = await eventually(lambda: two.ours.mail("alice", f"Re: {title}"))
    assert back["Return-Path"] == f"<{BOB}>"
    assert ("example.net", "MX") in two.dns.asked and ("example.test", "MX") in two.dns.asked


async def test_an_unknown_user_comes_back_as_a_report(two: Two) -> None:  # RFC 3464 2, RFC 5321 6.1
    mail = message(ALICE, "nobody@example.net", subject())
    await asyncio.to_thread(send, two.ours, mail, ["nobody@example.net"])
    await ended(two.ours, mail, "nobody@example.net", "failed")
    (report,) = await eventually(
        lambda: [one for one in two.ours.mail("alice") if str(mail["Message-ID"]) in one.as_string()]
    )
    assert report["Return-Path"] == "<>" and report["To"] == ALICE
    assert "auto" in str(report["Auto-Submitted"])
    whole, recipient = report_fields(report)
    assert whole["Reporting-MTA"] == "dns; mx.example.test"
    assert recipient["Final-Recipient"] == "rfc822; nobody@example.net"
    assert recipient["Action"] == "failed" and recipient["Status"] == "5.1.1"
    assert recipient["Remote-MTA"] == "dns; mx.example.net"
    assert recipient["Diagnostic-Code"].startswith("smtp; 550 5.1.1")
    returned = list(report.iter_parts())[2]
    assert returned.get_content_type() in ("text/rfc822-headers", "message/rfc822")
    assert str(mail["Subject"]) in returned.as_string()


async def test_each_recipient_has_an_outcome_of_its_own(two: Two) -> None:  # RFC 5321 4.2.1
    title = subject()
    mail = message(ALICE, BOB, title)
    others = ["nobody@example.net", "someone@quiet.example", "someone@ring.example", "someone@nowhere.example"]
    await asyncio.to_thread(send, two.ours, mail, [BOB, *others])
    assert "mx.example.net" in (await ended(two.ours, mail, BOB, "relayed"))["detail"]
    assert "5.1.1" in (await ended(two.ours, mail, "nobody@example.net", "failed"))["detail"]
    assert "5.1.10" in (await ended(two.ours, mail, "someone@quiet.example", "failed"))["detail"]  # RFC 7505
    assert "5.4.6" in (await ended(two.ours, mail, "someone@ring.example", "failed"))["detail"]  # RFC 5321 5.1
    assert "5.1.2" in (await ended(two.ours, mail, "someone@nowhere.example", "failed"))["detail"]
    assert len(await eventually(lambda: two.theirs.mail("bob", title))) == 1


async def test_success_is_reported_by_who_delivers(two: Two) -> None:  # RFC 3461 5.2.3.3
    title = subject()
    mail = message(ALICE, BOB, title)
    options = ["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;B+2BB@example.net"]
    await asyncio.to_thread(send, two.ours, mail, [BOB], ["RET=HDRS", "ENVID=QQ+2B314159"], options)
    (report,) = await eventually(
        lambda: [one for one in two.ours.mail("alice") if str(mail["Message-ID"]) in one.as_string()]
    )
    whole, recipient = report_fields(report)
    assert whole["Reporting-MTA"] == "dns; mx.example.net"
    assert whole["Original-Envelope-Id"] == "QQ+314159"
    assert recipient["Action"] == "delivered" and recipient["Status"].startswith("2.")
    assert recipient["Original-Recipient"] == "rfc822; B+B@example.net"


async def test_never_is_silent(two: Two) -> None:  # RFC 3461 4.1
    mail = message(ALICE, "nobody@example.net", subject())
    await asyncio.to_thread(send, two.ours, mail, ["nobody@example.net"], [], ["NOTIFY=NEVER"])
    await ended(two.ours, mail, "nobody@example.net", "failed")
    await no_report_about(two.ours, mail)


async def no_report_about(where: Organisation, mail: EmailMessage) -> None:
    """Check for no report. One would have a trace now: the transaction of the recipient's outcome creates it."""
    (about,) = await where.admin("trace", str(mail["Message-ID"]))
    sent = await where.admin("trace", ALICE, "--limit", "1000")
    assert f"report on {about['id']}" not in {one["source"] for one in sent}


async def test_a_report_that_fails_makes_no_report(two: Two) -> None:  # RFC 5321 4.5.5, 6.1
    alias = CreateAliasRequest(
        address="forward@example.net", targets=["nobody@example.test"], request_id=secrets.token_bytes(16)
    )
    await two.theirs.call(methods.CREATE_ALIAS, alias)
    mail = message("mailer@example.org", "forward@example.net", subject())
    mx = two.theirs.settings.smtp.listeners["mx"]

    def deliver() -> None:
        with smtplib.SMTP(mx.host, mx.port, timeout=30) as client:
            client.sendmail("<>", ["forward@example.net"], mail.as_bytes(policy=SMTP))

    await asyncio.to_thread(deliver)
    failed = await ended(two.theirs, mail, "nobody@example.test", "failed")
    assert "5.1.1" in failed["detail"]
    (about,) = await two.theirs.admin("trace", str(mail["Message-ID"]))
    assert about["reverse_path"] == "<>"
    assert await two.theirs.admin("queue", "list") == []
    with pytest.raises(AssertionError, match="TRANSPORT_MESSAGE_NOT_FOUND"):
        await two.theirs.admin("trace", str(about["id"] + 1))  # the id that a next message would have


async def test_who_is_away_gets_the_mail_later_and_once(two: Two) -> None:  # RFC 5321 4.2.1, 4.5.4.1
    title = subject()
    mail = message(ALICE, BOB, title)
    await two.theirs.stop()
    await asyncio.to_thread(send, two.ours, mail, [BOB])
    waiting: list[dict[str, Any]] = []
    for _ in range(40):
        waiting = await two.ours.admin("queue", "list", "--destination", "example.net")
        if waiting and waiting[0]["attempts"] > 1:
            break
        await asyncio.sleep(0.25)
    assert waiting and waiting[0]["attempts"] > 1 and waiting[0]["status"] == "4.4.1"
    assert waiting[0]["recipient"] == BOB and waiting[0]["next_attempt_at"]
    await two.theirs.start()
    await ended(two.ours, mail, BOB, "relayed")
    assert await two.ours.admin("queue", "list", "--destination", "example.net") == []
    assert len(await asyncio.to_thread(two.theirs.mail, "bob", title)) == 1
    states = [event["state"] for event in await traced(two.ours, mail) if event["recipient"] == BOB]
    assert states.count("relayed") == 1 and states[-1] == "relayed"


async def test_a_hundred_recipients_in_both_domains(two: Two) -> None:
    names = [f"person{number}" for number in range(50)]
    for where in (two.ours, two.theirs):
        for name in names:
            request = CreateAccountRequest(
                address=where.address(name),
                display_name=name,
                password=f"{name}-secret",
                request_id=secrets.token_bytes(16),
            )
            await where.call(methods.CREATE_ACCOUNT, request)
    recipients = [where.address(name) for where in (two.ours, two.theirs) for name in names]
    title = subject()
    mail = message(ALICE, BOB, title)
    await asyncio.to_thread(send, two.ours, mail, recipients)
    await ended(two.ours, mail, recipients[-1], "relayed")
    final = {event["recipient"]: event["state"] for event in await traced(two.ours, mail)}
    assert final == {one: "delivered" if one.endswith("example.test") else "relayed" for one in recipients}
    there = await traced(two.theirs, mail)
    assert {event["recipient"]: event["state"] for event in there} == dict.fromkeys(recipients[50:], "delivered")
    for where in (two.ours, two.theirs):
        for name in (names[0], names[-1]):
            (came,) = await asyncio.to_thread(where.mail, name, title)
            assert came["Delivered-To"] == where.address(name) and came["Message-ID"] == mail["Message-ID"]


async def test_the_log_names_no_people(two: Two) -> None:
    lines = [line for line in _log(two.ours) if '"event": "attempt"' in line]
    assert lines
    assert not [line for line in lines if "@" in line or "bob" in line]


def _log(where: Organisation) -> list[str]:
    path: Path = where.settings.directory / "up.log"
    return path.read_text().splitlines()
