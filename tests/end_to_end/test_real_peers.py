"""Postfix and Exim as other organisations: mail, reports and deferrals cross by MX and SMTP in both directions.

All servers receive on the same port, each on a loopback address of its own, like hosts on port 25.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any

import pytest
import pytest_asyncio

from restante.v1 import methods
from restante.v1.admin_pb2 import CreateAliasRequest, UpdateAccountRequest
from restante_mail.authentication.dkim.verify import Verifier
from restante_mail.authentication.results import Result
from tests.harness.certificates import pair_maker
from tests.harness.dns_server import dns_server
from tests.harness.memory_dns import MemoryDns
from tests.harness.organisation import Organisation, eventually, organisation
from tests.harness.peers.exim import Exim, exim, find
from tests.harness.peers.milters import SELECTOR, make_key, milters
from tests.harness.peers.place import DNS_PORT, Place, free_port, public_directory, require_root
from tests.harness.peers.postfix import Postfix, postfix
from tests.harness.requirements import program

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

NAMESERVER = f"127.{secrets.randbelow(250) + 2}.{secrets.randbelow(256)}.53"  # several runs may go side by side
OURS, POSTFIX, EXIM = "127.0.0.2", "127.0.0.3", "127.0.0.4"
ZONE = f"""
example.test    MX 10 mx.example.test.
mx.example.test A  {OURS}
example.net     MX 10 mx.example.net.
mx.example.net  A  {POSTFIX}
example.org     MX 20 backup.example.org.
example.org     MX 10 mx.example.org.
mx.example.org  A  {EXIM}
backup.example.org A 127.0.0.9
""" + "".join(
    f"""
{domain}        TXT "v=spf1 ip4:127.0.0.1 -all"
mx.{domain}     TXT "v=spf1 ip4:127.0.0.1 -all"
_dmarc.{domain} TXT "v=DMARC1; p=reject"
"""
    for domain in ("example.test", "example.net", "example.org")
)
ZONE += """
bank.example        TXT "v=spf1 -all"
_dmarc.bank.example TXT "v=DMARC1; p=reject"
"""
ALICE = "alice@example.test"
MANY = 1_200
DOMAINS = ["example.net", "example.org"]


@dataclass
class World:
    """Our installation with a few users, Postfix as example.net, Exim as example.org, and the DNS between them."""

    ours: Organisation
    postfix: Postfix
    exim: Exim
    published: dict[tuple[str, str], list[str]]  # the keys of both, by name and "TXT"

    def peer(self, domain: str) -> Postfix | Exim:
        return self.postfix if domain == "example.net" else self.exim

    def log(self) -> str:
        """The log of our processes."""
        return (self.ours.settings.directory / "up.log").read_text()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    require_root()
    program("postfix")
    find()
    async with AsyncExitStack() as stack:
        dns = await stack.enter_async_context(dns_server(ZONE, NAMESERVER, DNS_PORT))
        port = free_port([OURS, POSTFIX, EXIM])
        overrides = {
            "relay.nameservers": [dns.address],
            "checks.nameservers": [dns.address],
            "checks.exempt": [],
            "transport.trusted_authserv_ids": ["mx.example.net"],
            "relay.port": port,
            "relay.allow_private": ["127.0.0.0/8"],
            "limits.max_recipients": 2 * MANY,
        }
        people = ["alice", "carol", "dave", "erin", "frank"]
        directory = tmp_path_factory.mktemp("organisation") / "ours"
        ours = await stack.enter_async_context(
            organisation(directory, "example.test", people, mx=(OURS, port), overrides=overrides)
        )
        keys = await ours.admin("domain", "key", "create", "example.test")
        records = [f"{key['record_name']} TXT {' '.join(map(json.dumps, key['record_strings']))}" for key in keys]
        places, signing, published = [], [], dict[tuple[str, str], list[str]]()
        for domain, host in (("example.net", POSTFIX), ("example.org", EXIM)):
            folder = stack.enter_context(public_directory())
            shutil.copy(directory / "ca.pem", folder / "ca.pem")
            pair = pair_maker(folder)("peer", f"mx.{domain}")
            places.append(Place(folder, domain, host, port, NAMESERVER, pair, folder / "ca.pem"))
            key, strings = make_key(folder)
            signing.append(key)
            name = f"{SELECTOR}._domainkey.{domain}"
            records.append(f"{name} TXT {' '.join(map(json.dumps, strings))}")
            published[name, "TXT"] = ["".join(strings)]
        dns.load("\n".join([ZONE, *records]))
        routes = {f"{name}@example.test": f"lmtp:inet:127.0.0.1:{ours.port('lmtp')}" for name in ("carol", "dave")}
        filters = await stack.enter_async_context(milters(places[0], signing[0]))
        theirs = await stack.enter_async_context(
            postfix(places[0], verified=["example.test"], transports=routes, milters=filters)
        )
        others = await stack.enter_async_context(
            exim(places[1], verified=["mx.example.test"], selector=SELECTOR, signing_key=signing[1])
        )
        yield World(ours, theirs, others, published)


def message(sender: str, to: str, text: str = "Hello.\n") -> EmailMessage:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = sender, to, f"subject {secrets.token_hex(6)}"
    made["Message-ID"] = f"<{secrets.token_hex(8)}@{sender.partition('@')[2]}>"
    made["Date"] = format_datetime(datetime.now(UTC))  # Postfix would add one, and break signatures that cover it
    made.set_content(text)
    return made


def octets(mail: EmailMessage) -> bytes:
    return mail.as_bytes(policy=policy.SMTP)


def submit(
    ours: Organisation, mail: EmailMessage, recipients: Sequence[str], mail_options: Sequence[str] = (),
    rcpt_options: Sequence[str] = (),
) -> None:  # fmt: skip
    with ours.submission("alice") as client:
        client.sendmail(ALICE, recipients, octets(mail), mail_options, rcpt_options)


async def steps(where: Organisation, mail: EmailMessage) -> list[dict[str, Any]]:
    """The steps of a message so far."""
    try:
        found = await where.admin("trace", str(mail["Message-ID"]))
    except AssertionError as error:
        if "no trace matches" not in str(error):
            raise
        return []  # it is still with the other server
    return [event for one in found for event in one["events"]]


async def traced(where: Organisation, mail: EmailMessage, recipient: str, state: str, detail: str = "") -> Any:
    """Wait for the trace's step of a recipient with a state and this text in its detail, and return it."""
    deadline = asyncio.get_running_loop().time() + 30
    while True:
        events = await steps(where, mail)
        for event in events:
            if (event["recipient"], event["state"]) == (recipient, state) and detail in event["detail"]:
                return event
        assert asyncio.get_running_loop().time() < deadline, "\n".join(map(str, events))
        await asyncio.sleep(0.3)


async def arrived(world: World, mail: EmailMessage, look: Callable[[], list[bytes]]) -> bytes:
    """The one message that `look` finds in the end. A failure shows the trace of `mail` here, and the peers' logs."""
    try:
        (came,) = await eventually(look, 30)
    except AssertionError as error:
        trace = "\n".join(map(str, await steps(world.ours, mail)))
        logs = "\n".join(peer.log[-4_000:] for peer in (world.postfix, world.exim))
        raise AssertionError(f"{error}\n{trace}\n{logs}") from None
    return came


async def until(look: Callable[[], Awaitable[bool]], what: str, seconds: float = 30) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not await look():
        assert asyncio.get_running_loop().time() < deadline, what
        await asyncio.sleep(0.3)


@pytest.mark.parametrize("domain", DOMAINS)
async def test_they_send_to_us_under_verified_tls(world: World, domain: str) -> None:  # RFC 5321 5.1
    peer = world.peer(domain)
    mail = message(f"bob@{domain}", ALICE, "Dear Alice,\n.\n..two dots\nFrom here\n")
    await asyncio.to_thread(peer.send, f"bob@{domain}", [ALICE], octets(mail))
    (came,) = await eventually(lambda: world.ours.mail("alice", str(mail["Subject"])), 30)
    assert came["Return-Path"] == f"<bob@{domain}>"
    assert came.get_content().replace("\r\n", "\n") == mail.get_content()
    assert "by mx.example.test with ESMTPS id" in came.get_all("Received", [])[0]
    if domain == "example.net":
        assert re.search(r"Verified TLS connection established to mx\.example\.test", peer.log)
    else:
        (line,) = [line for line in peer.log.splitlines() if f"=> {ALICE}" in line]
        assert " CV=yes" in line  # the certificate was verified
        assert " K " in line  # by BDAT
        await eventually(lambda: '"BDAT"' in world.log())


@pytest.mark.parametrize("domain", DOMAINS)
async def test_we_send_to_them_under_tls(world: World, domain: str) -> None:
    peer, mail = world.peer(domain), message(ALICE, f"bob@{domain}", "Dear Bob,\n.\n..two dots\nFrom here\n")
    await asyncio.to_thread(submit, world.ours, mail, [f"bob@{domain}"])
    (came,) = await eventually(lambda: peer.mail("bob", str(mail["Subject"])), 30)
    read = _read(came)
    assert read.get_content().replace("\r\n", "\n") == mail.get_content()
    hop = read.get_all("Received", [])[0]
    assert "mx.example.test" in hop and re.search(r"with (ESMTPS|esmtps)", hop), hop


@pytest.mark.parametrize("domain", DOMAINS)
async def test_success_is_reported_in_both_directions(world: World, domain: str) -> None:  # RFC 3461 5.2
    peer, bob = world.peer(domain), f"bob@{domain}"
    options = ["RET=HDRS", "ENVID=QQ+2B314159"]
    mail = message(ALICE, bob)
    await asyncio.to_thread(
        submit, world.ours, mail, [bob], options, ["NOTIFY=SUCCESS,FAILURE", f"ORCPT=rfc822;B+2BB@{domain}"]
    )
    (report,) = await eventually(
        lambda: [one for one in world.ours.mail("alice") if str(mail["Message-ID"]) in one.as_string()], 30
    )
    assert report.get_content_type() == "multipart/report"
    status = list(report.iter_parts())[1].as_string()
    assert re.search(r"QQ\+(2B)?314159", status), status  # Exim repeats it undecoded
    assert re.search(r"(?i)original-recipient: *rfc822; ?B\+2?B?B?", status), status
    assert re.search(r"(?i)action: *(delivered|relayed)", status), status
    back = message(bob, ALICE)
    notify = ["NOTIFY=SUCCESS", "ORCPT=rfc822;Al+2Bice@example.test"]
    await asyncio.to_thread(peer.send, bob, [ALICE], octets(back), options, notify)
    (theirs,) = await eventually(lambda: peer.mail("bob", str(back["Message-ID"])), 30)
    assert b"Reporting-MTA: dns; mx.example.test" in theirs
    assert b"Original-Envelope-Id: QQ+314159" in theirs
    assert b"Original-Recipient: rfc822; Al+ice@example.test" in theirs
    assert b"Action: delivered" in theirs


@pytest.mark.parametrize("domain", DOMAINS)
async def test_unknown_people_come_back_as_reports(world: World, domain: str) -> None:  # RFC 5321 6.1, RFC 3464
    peer, nobody = world.peer(domain), f"nobody.here@{domain}"
    mail = message(ALICE, nobody)
    await asyncio.to_thread(submit, world.ours, mail, [nobody])
    await traced(world.ours, mail, nobody, "failed", "5.1.1")
    back = message(f"bob@{domain}", "nobody@example.test")
    await asyncio.to_thread(peer.send, f"bob@{domain}", ["nobody@example.test"], octets(back))
    (theirs,) = await eventually(lambda: peer.mail("bob", str(back["Message-ID"])), 30)
    assert b"550 5.1.1 No such recipient here" in theirs.replace(b"\r\n   ", b"")


@pytest.mark.parametrize("domain", DOMAINS)
async def test_addresses_beyond_ascii_cross(world: World, domain: str) -> None:  # RFC 6531 3.2
    peer, joerg = world.peer(domain), f"jörg@{domain}"
    mail = message(ALICE, "placeholder@example.net", "Grüße\n")
    mail.replace_header("To", joerg)
    written = mail.as_bytes(policy=policy.SMTPUTF8)

    def send() -> None:
        with world.ours.submission("alice") as client:
            client.sendmail(ALICE, [joerg], written, ["SMTPUTF8", "BODY=8BITMIME"])

    await asyncio.to_thread(send)
    (came,) = await eventually(lambda: peer.mail("utf", str(mail["Subject"])), 30)
    assert f"To: {joerg}".encode() in came
    back = message("placeholder@example.net", ALICE, "Grüße\n")
    back.replace_header("From", joerg)
    reply = back.as_bytes(policy=policy.SMTPUTF8)
    await asyncio.to_thread(peer.send, joerg, [ALICE], reply, ["SMTPUTF8", "BODY=8BITMIME"])
    (answer,) = await eventually(lambda: world.ours.mail("alice", str(back["Subject"])), 30)
    assert str(answer["From"]) == joerg
    assert answer["Return-Path"] == f"<{joerg}>"
    assert "with UTF8SMTPS" in answer.get_all("Received", [])[0]


@pytest.mark.parametrize("domain", DOMAINS)
async def test_more_than_a_thousand_recipients(world: World, domain: str) -> None:  # RFC 5321 4.5.3.1.8
    peer = world.peer(domain)
    mail = message(ALICE, f"people@{domain}")
    recipients = [f"person{number}@{domain}" for number in range(MANY)]
    await asyncio.to_thread(submit, world.ours, mail, recipients)
    await until(lambda: _all_relayed(world, mail), "all relayed", 90)
    back = message(f"bob@{domain}", ALICE)
    details = [f"erin+{number}@example.test" for number in range(MANY)]
    await asyncio.to_thread(peer.send, f"bob@{domain}", details, octets(back))
    await until(lambda: _delivered(world, back, MANY), f"{MANY} delivered", 90)


async def _all_relayed(world: World, mail: EmailMessage) -> bool:
    states = {event["recipient"]: event["state"] for event in await steps(world.ours, mail)}
    assert "failed" not in states.values()
    return list(states.values()).count("relayed") == MANY


async def _delivered(world: World, mail: EmailMessage, count: int) -> bool:
    states = {event["recipient"]: event["state"] for event in await steps(world.ours, mail)}
    return list(states.values()).count("delivered") == count


async def test_postfix_defers_us_and_gets_the_mail_later(world: World) -> None:  # RFC 5321 4.2.1
    mail = message(ALICE, "bob@example.net")
    await world.postfix.set_access("/./ 451 4.3.0 later\n")
    await asyncio.to_thread(submit, world.ours, mail, ["bob@example.net"])
    await traced(world.ours, mail, "bob@example.net", "pending", "4.3.0")
    await world.postfix.set_access("")
    await traced(world.ours, mail, "bob@example.net", "relayed")
    assert len(await asyncio.to_thread(world.postfix.mail, "bob", str(mail["Subject"]))) == 1


async def test_exim_defers_us_and_gets_the_mail_later(world: World) -> None:
    mail = message(ALICE, "bob@example.org")
    world.exim.defer(True)
    await asyncio.to_thread(submit, world.ours, mail, ["bob@example.org"])
    await traced(world.ours, mail, "bob@example.org", "pending", "4.3.0")
    world.exim.defer(False)
    await traced(world.ours, mail, "bob@example.org", "relayed")
    assert len(await eventually(lambda: world.exim.mail("bob", str(mail["Subject"])))) == 1


async def _set_quota(world: World, name: str, quota_octets: int) -> None:
    request = UpdateAccountRequest(address=f"{name}@example.test", quota_octets=quota_octets)
    await world.ours.call(methods.UPDATE_ACCOUNT, request)


@pytest.mark.parametrize("domain", DOMAINS)
async def test_a_full_mailbox_defers_them_until_there_is_room(world: World, domain: str) -> None:
    peer, name = world.peer(domain), {"example.net": "erin", "example.org": "frank"}[domain]
    mail = message(f"bob@{domain}", f"{name}@example.test")
    await _set_quota(world, name, 1)
    await asyncio.to_thread(peer.send, f"bob@{domain}", [f"{name}@example.test"], octets(mail))
    await eventually(lambda: re.search(r"452[- ]4\.2\.2", peer.log), 30)
    await _set_quota(world, name, 0)
    await peer.flush()
    assert len(await eventually(lambda: world.ours.mail(name, str(mail["Subject"])), 60)) == 1


async def test_postfix_delivers_by_lmtp_with_an_answer_for_each(world: World) -> None:  # RFC 2033 4.2
    mail = message("bob@example.net", "carol@example.test", "x" * 70 + "\n" + ("y" * 70 + "\n") * 1_000)
    await _set_quota(world, "dave", 10_000)
    recipients = ["carol@example.test", "dave@example.test"]
    await asyncio.to_thread(world.postfix.send, "bob@example.net", recipients, octets(mail))
    (came,) = await eventually(lambda: world.ours.mail("carol", str(mail["Subject"])), 30)
    assert "by mx.example.test with LMTP id" in came.get_all("Received", [])[0]
    await eventually(lambda: re.search(r"to=<dave@example\.test>.*status=deferred .*452 4\.2\.2", world.postfix.log))
    await _set_quota(world, "dave", 0)
    await world.postfix.flush()
    assert len(await eventually(lambda: world.ours.mail("dave", str(mail["Subject"])), 60)) == 1
    assert len(await asyncio.to_thread(world.ours.mail, "carol", str(mail["Subject"]))) == 1


async def test_what_opendmarc_has_found_counts_by_lmtp(world: World) -> None:  # RFC 8601 5
    good, bad = message("bob@example.net", "carol@example.test"), message("info@bank.example", "carol@example.test")
    for mail in (good, bad):
        await asyncio.to_thread(world.postfix.send, "bob@example.net", ["carol@example.test"], octets(mail))
    why = "delivered to Junk: DMARC fails for bank.example, whose policy is reject"
    assert why in (await traced(world.ours, bad, "carol@example.test", "delivered"))["detail"]
    (came,) = await eventually(lambda: world.ours.mail("carol", str(good["Subject"])), 30)
    fields = [str(field) for field in came.get_all("Authentication-Results", [])]
    assert any(field.startswith("mx.example.net") and "dmarc=pass" in field for field in fields), fields
    assert not any(field.startswith("mx.example.test") for field in fields)
    (found,) = await world.ours.admin("trace", str(good["Message-ID"]))
    assert found["checks"].endswith("dmarc=pass by mx.example.net")


async def test_opendkim_and_opendmarc_pass_our_mail(world: World) -> None:  # RFC 6376 6, RFC 9989
    mail = message(ALICE, "bob@example.net", "Signed.\n")
    await asyncio.to_thread(submit, world.ours, mail, ["bob@example.net"])
    (came,) = await eventually(lambda: world.postfix.mail("bob", str(mail["Subject"])), 30)
    results = _results_of("mx.example.net", came)
    assert any("dkim=pass" in field and "header.d=example.test" in field for field in results), came.decode()
    assert any("dmarc=pass" in field and "header.from=example.test" in field for field in results), results


async def test_exim_passes_our_mail(world: World) -> None:
    mail = message(ALICE, "bob@example.org", "Signed.\n")
    await asyncio.to_thread(submit, world.ours, mail, ["bob@example.org"])
    (came,) = await eventually(lambda: world.exim.mail("bob", str(mail["Subject"])), 30)
    results = _results_of("mx.example.org", came)
    assert any("dkim=pass" in field and "header.d=example.test" in field for field in results), came.decode()


@pytest.mark.parametrize("domain", DOMAINS)
async def test_we_pass_their_mail(world: World, domain: str) -> None:  # RFC 8601 5
    mail = message(f"bob@{domain}", ALICE, "Signed.\n")
    mail["Authentication-Results"] = "mx.example.test; dkim=pass header.d=forged.example"
    await asyncio.to_thread(world.peer(domain).send, f"bob@{domain}", [ALICE], octets(mail))
    (came,) = await eventually(lambda: world.ours.mail("alice", str(mail["Subject"])), 30)
    results = [str(field) for field in came.get_all("Authentication-Results", [])]
    ours = [field for field in results if field.startswith("mx.example.test")]
    assert len(ours) == 1, results
    for part in ("spf=pass", "dkim=pass", f"header.d={domain}", "dmarc=pass", f"header.from={domain}"):
        assert part in ours[0]
    assert "forged.example" not in came.as_string()


@pytest.mark.parametrize("domain", DOMAINS)
async def test_their_signatures_survive_our_reception(world: World, domain: str) -> None:  # RFC 6376 6
    mail = message(f"bob@{domain}", ALICE, "Signed.\n.\n..\n\n")
    await asyncio.to_thread(world.peer(domain).send, f"bob@{domain}", [ALICE], octets(mail))
    found = await eventually(
        lambda: [one for one in world.ours.inbox("alice") if str(mail["Subject"]).encode() in one], 30
    )
    verifier = Verifier()
    verifier.feed(found[0])
    verifier.finish()
    results = await verifier.results(MemoryDns(world.published), datetime.now(UTC))
    assert [(one.result, one.domain) for one in results] == [(Result.PASS, domain)], results


async def _forward(world: World, name: str, target: str) -> str:
    """The address of a new alias that leads elsewhere."""
    address = f"{name}@example.test"
    request = CreateAliasRequest(address=address, targets=[target], request_id=secrets.token_bytes(16))
    await world.ours.call(methods.CREATE_ALIAS, request)
    return address


@pytest.mark.parametrize("domain", DOMAINS)
async def test_what_an_alias_sends_on_passes_there(world: World, domain: str) -> None:
    other = next(one for one in DOMAINS if one != domain)
    alias = await _forward(world, f"to-{other.replace('.', '-')}", f"bob@{other}")
    mail = message(f"bob@{domain}", alias, "Sent on.\n")
    await asyncio.to_thread(world.peer(domain).send, f"bob@{domain}", [alias], octets(mail))
    came = await arrived(world, mail, lambda: world.peer(other).mail("bob", str(mail["Subject"])))
    assert re.search(rb"(?i)return-path: <SRS0=[^ ]+@example\.test>", came), came.decode()
    assert b"ARC-Seal: i=1;" in came
    results = _results_of(f"mx.{other}", came)
    assert any("dkim=pass" in field and f"header.d={domain}" in field for field in results), came.decode()
    if other == "example.net":  # opendmarc judges there
        assert any("spf=pass smtp.mailfrom=example.test" in field for field in results), results
        assert any("dmarc=pass" in field and f"header.from={domain}" in field for field in results), results


@pytest.mark.parametrize("domain", DOMAINS)
async def test_a_report_about_forwarded_mail_finds_the_way_back(world: World, domain: str) -> None:
    other = next(one for one in DOMAINS if one != domain)
    alias = await _forward(world, f"lost-{other.replace('.', '-')}", f"nobody.here@{other}")
    mail = message(f"bob@{domain}", alias)
    await asyncio.to_thread(world.peer(domain).send, f"bob@{domain}", [alias], octets(mail))
    report = await arrived(
        world,
        mail,
        lambda: [one for one in world.peer(domain).mail("bob", str(mail["Message-ID"])) if b"nobody.here" in one],
    )
    assert f"nobody.here@{other}".encode() in report


def _results_of(host: str, octets: bytes) -> list[str]:
    """The Authentication-Results of one server; ours are in forwarded mail, too."""
    fields = (str(field) for field in _read(octets).get_all("Authentication-Results", []))
    return [field for field in fields if field.split(";")[0].strip() == host]


def _read(octets: bytes) -> EmailMessage:
    read = message_from_bytes(octets, policy=policy.default)
    assert isinstance(read, EmailMessage)
    return read
