"""AUTH and TLS on the submission listeners."""

from __future__ import annotations

import asyncio
import base64
import smtplib
import ssl

import pytest

from restante import errors
from tests.gateways.smtp.conftest import Client, Gateway, MakeGateway


def b64(octets: bytes) -> bytes:
    return base64.b64encode(octets)


PLAIN = b64(b"\0alice@example.test\0alice-demo")
MAIL = "MAIL FROM:<alice@example.test>"


async def submission(gateway: Gateway) -> Client:
    """A client of port 587 after STARTTLS and EHLO."""
    client = await gateway.connect("submission")
    await client.ask("EHLO c")
    assert (await client.ask("STARTTLS")).startswith("220 2.0.0")
    await client.start_tls(gateway.tls)
    await client.ask("EHLO c")
    return client


async def test_auth_is_offered_on_465_and_starttls_is_not(gateway: Gateway) -> None:
    client = await gateway.connect("submissions")  # aiosmtpd alone has both the other way round
    offers = await client.ask("EHLO c")
    assert "250 AUTH PLAIN LOGIN" in offers
    assert "STARTTLS" not in offers
    assert (await client.ask("STARTTLS")).startswith("503 5.5.1")
    assert (await client.ask(b"AUTH PLAIN " + PLAIN)).startswith("235 2.7.0")


async def test_offers_change_with_starttls(gateway: Gateway) -> None:
    client = await gateway.connect("submission")  # RFC 4954 4
    offers = await client.ask("EHLO c")
    assert "STARTTLS" in offers
    assert "AUTH" not in offers
    assert (await client.ask(b"AUTH PLAIN " + PLAIN)).startswith("538 5.7.11")
    assert (await client.ask(MAIL)).startswith("530 5.7.0 Must issue a STARTTLS")
    assert (await client.ask("STARTTLS now")).startswith("501")
    assert (await client.ask("STARTTLS")).startswith("220")
    await client.start_tls(gateway.tls)
    assert (await client.ask(MAIL)).startswith("503")  # all is forgotten, EHLO too
    offers = await client.ask("EHLO c")
    assert "STARTTLS" not in offers
    assert "AUTH PLAIN LOGIN" in offers
    assert (await client.ask(MAIL)).startswith("530 5.7.0 Authentication required")
    assert gateway.core.mechanisms == []


async def test_octets_sent_in_clear_behind_starttls_are_dropped(gateway: Gateway) -> None:
    client = await gateway.connect("mx")  # RFC 3207 4.2, CVE-2024-34083
    await client.ask("EHLO c")
    await client.send(b"STARTTLS\r\nEHLO injected\r\nMAIL FROM:<mallory@example.net>\r\n")
    assert (await client.reply()).startswith("220")
    await client.start_tls(gateway.tls)
    assert (await client.ask("NOOP")).startswith("250 2.0.0")
    assert (await client.ask("RCPT TO:<alice@example.test>")).startswith("503")


async def test_octets_in_clear_at_the_time_of_the_handshake_break_it(gateway: Gateway) -> None:
    client = await gateway.connect("mx")
    await client.ask("EHLO c")
    await client.ask("STARTTLS")
    await client.send(b"MAIL FROM:<mallory@example.net>\r\n")
    with pytest.raises((ConnectionError, OSError)):
        await client.start_tls(gateway.tls)


async def test_commands_at_once_after_the_handshake_are_heard(gateway: Gateway) -> None:
    for _ in range(5):
        client = await gateway.connect("submission")
        await client.ask("EHLO c")
        await client.ask("STARTTLS")
        await client.start_tls(gateway.tls)
        await client.send(b"EHLO c\r\nAUTH PLAIN " + PLAIN + b"\r\nNOOP\r\n")
        assert await client.codes(3) == [250, 235, 250]


async def test_the_transaction_is_forgotten_by_starttls(gateway: Gateway) -> None:
    client = await gateway.connect("mx")
    await client.send(b"EHLO c\r\nMAIL FROM:<dora@example.net>\r\n")
    assert await client.codes(2) == [250, 250]
    assert (await client.ask("STARTTLS")).startswith("503")
    await client.ask("RSET")
    assert (await client.ask("STARTTLS")).startswith("220")
    await client.start_tls(gateway.tls)
    assert (await client.ask("STARTTLS")).startswith("503")


async def test_mail_submitted_names_its_user_and_protocol(gateway: Gateway) -> None:
    client = await submission(gateway)
    assert (await client.ask(b"AUTH PLAIN " + PLAIN)).startswith("235 2.7.0")
    await client.send(f"{MAIL} AUTH=<>\r\nRCPT TO:<erin@example.net>\r\nDATA\r\nSubject: x\r\n\r\n.\r\n".encode())
    assert await client.codes(4) == [250, 250, 354, 250]
    envelope = gateway.core.accepted[0].envelope
    assert envelope.identity is gateway.core.identities[0]
    assert b" with ESMTPSA id " in envelope.trace_field  # RFC 3848 1
    assert gateway.core.peers[0].tls is not None


@pytest.mark.parametrize(
    "lines",
    [
        [b"AUTH PLAIN " + PLAIN],
        [b"auth plain " + PLAIN],  # aiosmtpd alone answers 504
        [b"AUTH PLAIN", PLAIN],
        [b"AUTH LOGIN", b64(b"alice@example.test"), b64(b"alice-demo")],
        [b"Auth Login " + b64(b"alice@example.test"), b64(b"alice-demo")],
    ],
)
async def test_mechanisms_in_any_case_with_and_without_initial_response(gateway: Gateway, lines: list[bytes]) -> None:
    client = await submission(gateway)
    replies = [await client.ask(line) for line in lines]
    assert [reply[:4] for reply in replies[:-1]] == ["334 "] * (len(lines) - 1)
    assert replies[-1].startswith("235 2.7.0")
    assert (await client.ask(MAIL)).startswith("250")


async def test_the_challenge_of_plain_is_a_blank(gateway: Gateway) -> None:
    client = await submission(gateway)
    assert await client.ask("AUTH PLAIN") == "334 "  # RFC 4954 4


@pytest.mark.parametrize(
    ("lines", "last"),
    [
        ([b"AUTH PLAIN", b"*"], "501 5.7.0"),  # RFC 4954 4
        ([b"AUTH LOGIN", b64(b"alice"), b"*"], "501 5.7.0"),
        ([b"AUTH PLAIN ="], "535 5.7.8"),  # an empty response, which is no PLAIN message
        ([b"AUTH PLAIN " + b64(b"\0alice@example.test\0wrong")], "535 5.7.8"),
        ([b"AUTH PLAIN " + b64(b"\0nobody@example.test\0nobody")], "535 5.7.8"),
        ([b"AUTH PLAIN !!!"], "501 5.5.2"),
        ([b"AUTH PLAIN", b"not base64"], "501 5.5.2"),
        ([b"AUTH"], "501 5.5.4"),
        ([b"AUTH PLAIN a b"], "501 5.5.4"),
        ([b"AUTH DIGEST-MD5"], "504 5.5.4"),
        ([b"AUTH \xff"], "504 5.5.4"),
        ([b"AUTH LOGIN", b64(b"alice\0x"), b64(b"y")], "501 5.5.2"),  # a NUL would shift the fields
    ],
)
async def test_failed_exchanges(gateway: Gateway, lines: list[bytes], last: str) -> None:
    client = await submission(gateway)
    replies = [await client.ask(line) for line in lines]
    assert replies[-1].startswith(last)
    assert (await client.ask(b"AUTH PLAIN " + PLAIN)).startswith("235")  # another attempt may follow


async def test_long_responses_pass_and_longer_ones_do_not(gateway: Gateway) -> None:
    client = await submission(gateway)
    long = b64(b"\0alice@example.test\0" + b"p" * 9000)
    assert 12_000 < len(long) <= 12_288  # RFC 4954 4; aiosmtpd alone stops at 512
    assert (await client.ask(b"AUTH PLAIN " + long)).startswith("535 5.7.8")
    assert await client.ask(b"AUTH PLAIN") == "334 "
    assert (await client.ask(long)).startswith("535 5.7.8")
    assert await client.ask(b"AUTH PLAIN") == "334 "
    assert (await client.ask(b"A" * 13_000)).startswith("500 5.5.6")
    assert (await client.ask("NOOP")).startswith("250")


async def test_order_of_auth(gateway: Gateway) -> None:
    client = await gateway.connect("submissions")
    assert (await client.ask(b"AUTH PLAIN " + PLAIN)).startswith("503")
    await client.ask("HELO c")
    assert (await client.ask(b"AUTH PLAIN " + PLAIN)).startswith("503")
    await client.ask("EHLO c")
    assert (await client.ask(b"AUTH PLAIN " + PLAIN)).startswith("235")
    assert (await client.ask(b"AUTH PLAIN " + PLAIN)).startswith("503")  # RFC 4954 4: only once
    assert (await client.ask(MAIL)).startswith("250")
    assert (await client.ask(b"AUTH PLAIN " + PLAIN)).startswith("503")


async def test_guessing_ends_the_session(gateway: Gateway) -> None:
    client = await submission(gateway)
    for _ in range(3):
        assert (await client.ask(b"AUTH PLAIN " + b64(b"\0alice@example.test\0guess"))).startswith("535")
    assert (await client.reply()).startswith("421 4.7.0")
    assert await client.reply() == ""


@pytest.mark.parametrize("failure", [errors.Draining(), errors.Internal(), RuntimeError("secret")])
async def test_a_core_that_is_away_is_no_wrong_password(gateway: Gateway, failure: Exception) -> None:
    gateway.core.failures["authenticate"] = failure
    client = await submission(gateway)
    for _ in range(5):
        reply = await client.ask(b"AUTH PLAIN " + PLAIN)
        assert reply.startswith(("454 4.7.0", "451 4.3.0"))
        assert "secret" not in reply


async def test_throttled_logins_are_454(gateway: Gateway) -> None:
    gateway.core.failures["authenticate"] = errors.TooManyAttempts()
    client = await submission(gateway)
    assert (await client.ask(b"AUTH PLAIN " + PLAIN)).startswith("454 4.7.0")


async def test_a_mechanism_with_challenges_of_the_core(make_gateway: MakeGateway) -> None:
    async with make_gateway(mechanisms=("PLAIN", "X-TWO-STEPS")) as gateway:
        client = await submission(gateway)
        assert await client.ask(b"AUTH X-TWO-STEPS " + b64(b"hello")) == "334 " + b64(b"how are you?").decode()
        assert (await client.ask(b64(b"well"))).startswith("235")


async def test_no_auth_on_the_mx_listener_even_under_tls(gateway: Gateway) -> None:
    client = await gateway.connect("mx")
    await client.ask("EHLO c")
    await client.ask("STARTTLS")
    await client.start_tls(gateway.tls)
    assert "AUTH" not in await client.ask("EHLO c")
    assert (await client.ask(b"AUTH PLAIN " + PLAIN)).startswith("502 5.5.1")
    assert gateway.core.mechanisms == []


async def test_loopback_may_be_excepted_from_tls(lenient: Gateway) -> None:
    client = await lenient.connect("submission")
    offers = await client.ask("EHLO c")
    assert "AUTH PLAIN LOGIN" in offers
    assert "STARTTLS" in offers
    assert (await client.ask(b"AUTH PLAIN " + PLAIN)).startswith("235")
    assert lenient.core.peers[0].loopback
    assert lenient.core.peers[0].tls is None


async def test_starttls_forgets_who_was_logged_in(lenient: Gateway) -> None:
    client = await lenient.connect("submission")
    await client.ask("EHLO c")
    assert (await client.ask(b"AUTH PLAIN " + PLAIN)).startswith("235")
    assert (await client.ask("STARTTLS")).startswith("220")
    await client.start_tls(lenient.tls)
    await client.ask("EHLO c")
    assert (await client.ask(MAIL)).startswith("530 5.7.0")
    assert lenient.core.identities[0].closed


async def test_an_ended_user_session_ends_here_too(gateway: Gateway) -> None:
    client = await gateway.logged_in()
    ended = gateway.core.identities[0].ended
    assert ended is not None
    ended()
    assert (await client.reply()).startswith("421 4.7.0")
    assert await client.reply() == ""
    await client.close()
    await asyncio.sleep(0.05)
    assert gateway.core.identities[0].closed


async def test_a_session_that_the_core_ended_meanwhile(gateway: Gateway) -> None:
    client = await gateway.logged_in()
    gateway.core.failures["verify"] = errors.SessionRevoked()
    await client.ask(MAIL)
    assert (await client.ask("RCPT TO:<bob@example.test>")).startswith("421 4.7.0")
    assert await client.reply() == ""


async def test_an_ended_session_interrupts_the_exchange(gateway: Gateway) -> None:
    client = await submission(gateway)
    await client.ask("AUTH PLAIN")
    draining = asyncio.create_task(gateway.runtime.drain())
    assert (await client.reply()).startswith("421 4.3.2")
    await client.close()
    await draining


async def test_who_does_not_log_in_has_little_time(make_gateway: MakeGateway) -> None:
    async with make_gateway(login_timeout_seconds=0.1) as gateway:
        client = await gateway.connect("submission")
        assert (await client.reply()).startswith("421 4.4.2")
    async with make_gateway(login_timeout_seconds=0.3) as gateway:
        client = await gateway.connect("submission")
        for _ in range(8):  # each within the time, all together not
            await asyncio.sleep(0.1)
            await client.send(b"NOOP\r\n")
        replies = [await client.reply() for _ in range(8)]
        assert any(reply.startswith("421 4.4.2") for reply in replies)


async def test_half_close_under_tls_takes_the_mail(gateway: Gateway) -> None:
    client = await gateway.logged_in()
    await client.send(f"{MAIL}\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n".encode())
    assert await client.codes(3) == [250, 250, 354]
    await client.send(b"Subject: x\r\n\r\n.\r\n")
    await client.close()
    await asyncio.sleep(0.1)
    assert [acceptance.state for acceptance in gateway.core.opened] == ["committed"]


def use_smtplib(port: int, context: ssl.SSLContext) -> dict[str, tuple[int, bytes]]:
    with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
        client._host = "localhost"  # type: ignore[attr-defined]
        client.starttls(context=context)
        client.login("alice@example.test", "alice-demo")
        return client.sendmail(
            "alice@example.test", ["bob@example.test", "nobody@example.test"], "Subject: x\r\n\r\n.dot\r\n"
        )


async def test_smtplib_logs_in_and_sends(gateway: Gateway) -> None:
    refused = await asyncio.to_thread(use_smtplib, gateway.port("submission"), gateway.tls)
    assert refused["nobody@example.test"][0] == 550
    assert bytes(gateway.core.accepted[0].content) == b"Subject: x\r\n\r\n.dot\r\n"


async def test_a_user_reads_at_rcpt_that_earlier_mail_to_an_address_has_failed(gateway: Gateway) -> None:
    client = await submission(gateway)
    await client.ask(b"AUTH PLAIN " + PLAIN)
    await client.ask(MAIL)
    await client.send(b"RCPT TO:<eve@gone.example>\r\nRCPT TO:<bob@example.test>\r\n")
    said = "250 2.1.5 Recipient OK, but mail to this address failed on 2026-11-30: 550 5.1.1 no eve 250 ?"
    assert [await client.reply(), await client.reply()] == [said, "250 2.1.5 Recipient OK"]
    assert len(await client.ask(f"RCPT TO:<{'a' * 60}.{'b' * 180}@gone.example>")) < 300  # one short line
    assert gateway.core.verified[0] == ["eve@gone.example", "bob@example.test"]  # no call more
    assert (await client.ask("DATA")).startswith("354")
    await client.send(b"From: alice@example.test\r\n\r\n.\r\n")
    assert (await client.reply()).startswith("250")
    assert len(gateway.core.accepted[0].envelope.recipients) == 3
