"""Two whole installations that check each other's mail: keys, SPF, DMARC and lists in one DNS between them."""

from __future__ import annotations

import asyncio
import smtplib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP

import pytest
import pytest_asyncio

from tests.harness.dns_server import DnsServer, dns_server
from tests.harness.organisation import Organisation, eventually, free_ports, organisation

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

ZONE = """
example.test    MX   10 mx.example.test.
mx.example.test A    127.0.0.2
mx.example.test A    127.0.0.1
mx.example.test TXT  "v=spf1 a -all"
example.test    TXT  "v=spf1 a:mx.example.test -all"
_dmarc.example.test  TXT  "v=DMARC1; p=reject"
1.0.0.127.in-addr.arpa  PTR  mx.example.test.
example.net     MX   10 mx.example.net.
mx.example.net  A    127.0.0.3
8.0.0.127.lists.example  A  127.0.0.2
"""
ALICE, BOB = "alice@example.test", "bob@example.net"
LISTED, STRANGE = "127.0.0.8", "127.0.0.9"  # clients


@dataclass
class Two:
    """Two installations: ours with alice, theirs with bob, which checks mail from loopback, too."""

    ours: Organisation
    theirs: Organisation
    dns: DnsServer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def two(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Two]:
    directory = tmp_path_factory.mktemp("checked")
    async with dns_server(ZONE) as dns:
        port = free_ports(1, "127.0.0.2")[0]
        relay = {"relay.nameservers": [dns.address], "relay.port": port, "relay.allow_private": ["127.0.0.0/8"]}
        checks = {
            "checks.exempt": [],
            "checks.nameservers": [dns.address],
            "checks.dns_lists": [{"zone": "lists.example", "weight": 1.5}],
        }
        ours = organisation(directory / "a", "example.test", ["alice"], mx=("127.0.0.2", port), overrides=relay)
        theirs = organisation(directory / "b", "example.net", ["bob"], mx=("127.0.0.3", port), overrides=relay | checks)
        async with ours as first, theirs as second:
            yield Two(first, second, dns)


def message(subject: str, sender: str = ALICE) -> EmailMessage:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = sender, BOB, subject
    made.set_content("Hello.\n")
    return made


def from_client(two: Two, client: str, mail: EmailMessage, sender: str) -> None:
    """Send mail to bob's server from a loopback address."""
    theirs = two.theirs.settings.smtp.listeners["mx"]
    with smtplib.SMTP(theirs.host, theirs.port, "strange.example", timeout=30, source_address=(client, 0)) as smtp:
        smtp.sendmail(sender, [BOB], mail.as_bytes(policy=SMTP))


def in_junk(where: Organisation, name: str) -> bytes:
    """All octets of a user's Junk folder."""
    with where.imap(name) as client:
        client.select("Junk", readonly=True)
        _, found = client.search(None, "ALL")
        octets = b""
        for number in found[0].split():
            _, answer = client.fetch(number.decode(), "(BODY.PEEK[])")
            octets += b"".join(item[1] for item in answer if isinstance(item, tuple))
        return octets


async def test_signed_mail_of_the_other_installation_passes(two: Two) -> None:
    keys = await two.ours.admin("domain", "key", "create", "example.test")
    records = [
        f"{key['record_name']} TXT {' '.join(f'{chr(34)}{text}{chr(34)}' for text in key['record_strings'])}"
        for key in keys
    ]
    two.dns.load(ZONE + "\n".join(records))
    with two.ours.submission("alice") as client:
        client.send_message(message("authentic"))
    (mail,) = await eventually(lambda: two.theirs.mail("bob", "authentic"), what="the mail")
    results = " ".join(str(mail["Authentication-Results"]).split())
    assert results.startswith("mx.example.net;")
    for expected in ("spf=pass", "dkim=pass", "dmarc=pass", "iprev=pass", "header.from=example.test"):
        assert expected in results
    assert results.count("dkim=pass") == len(keys)


async def test_a_forged_author_is_refused_with_the_reason(two: Two) -> None:
    with pytest.raises(smtplib.SMTPDataError) as caught:
        await asyncio.to_thread(from_client, two, STRANGE, message("forged"), ALICE)
    assert caught.value.smtp_code == 550
    assert b"5.7.1" in caught.value.smtp_error
    assert b"DMARC" in caught.value.smtp_error


async def test_mail_of_a_listed_client_goes_to_junk(two: Two) -> None:
    mail = message("listed", "news@unknown.example")
    await asyncio.to_thread(from_client, two, LISTED, mail, "news@unknown.example")
    assert await eventually(lambda: b"Subject: listed" in in_junk(two.theirs, "bob"), what="the mail in Junk")


async def test_the_other_installation_asked_nothing(two: Two) -> None:
    """Loopback clients are exempt by default: ours has asked its name servers for mail servers alone."""
    before = len(two.dns.asked)
    ours = two.ours.settings.smtp.listeners["mx"]
    with smtplib.SMTP(ours.host, ours.port, "strange.example", timeout=30) as smtp:
        await asyncio.to_thread(
            smtp.sendmail,
            "x@strange.example",
            [ALICE],
            message("unchecked", "x@strange.example").as_bytes(policy=SMTP),
        )
    (mail,) = await eventually(lambda: two.ours.mail("alice", "unchecked"), what="the mail")
    assert mail["Authentication-Results"] is None
    assert len(two.dns.asked) == before
