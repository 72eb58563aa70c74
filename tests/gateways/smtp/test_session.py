"""Sessions over real sockets: command order, state, pipelining, content, limits, the end."""

from __future__ import annotations

import asyncio

import pytest

from restante import errors
from restante_gateways.net.bounds import ConnectionBounds
from restante_gateways.net.runtime import Port, Runtime, RuntimeSettings
from restante_gateways.smtp.gateway import SmtpListener, SmtpSettings, listen
from restante_gateways.smtp.settings import Role, SessionSettings
from restante_process.limits import ConnectionLimits
from restante_process.tls import CertificateFiles
from tests.gateways.smtp.conftest import Client, Gateway, MakeGateway
from tests.gateways.smtp.recording import RecordingCore

MAIL = "MAIL FROM:<dora@example.net>"
RCPT = "RCPT TO:<alice@example.test>"
MESSAGE = b"From: dora@example.net\r\nSubject: hello\r\n\r\nHi.\r\n"


async def test_ehlo_lists_what_holds(gateway: Gateway) -> None:
    client = await gateway.connect()
    assert (await client.ask("EHLO client.example.net")).splitlines() == [
        "250-mx.example.test", "250-PIPELINING", "250-SIZE 100000", "250-8BITMIME", "250-SMTPUTF8",
        "250-ENHANCEDSTATUSCODES", "250-DSN", "250-CHUNKING", "250-LIMITS RCPTMAX=1000", "250 STARTTLS",
    ]  # fmt: skip


async def test_a_message_reaches_the_core_as_it_was(gateway: Gateway) -> None:
    client = await gateway.connect()
    await client.ask("EHLO client.example.net")
    assert (await client.ask(MAIL + " BODY=8BITMIME RET=HDRS ENVID=Qq1")).startswith("250 2.1.0")
    assert (await client.ask(RCPT + " NOTIFY=SUCCESS ORCPT=rfc822;Alice@Example.test")).startswith("250 2.1.5")
    assert (await client.ask("DATA")).startswith("354")
    await client.send(MESSAGE + b"..dot\r\n.\r\n")
    assert await client.reply() == "250 2.6.0 Message accepted as T1"
    (accepted,) = gateway.core.accepted
    assert bytes(accepted.content) == MESSAGE + b".dot\r\n"
    assert accepted.envelope.mail.envid == "Qq1"
    assert accepted.envelope.recipients[0].orcpt == "rfc822;Alice@Example.test"
    assert accepted.envelope.recipients[0].notify == {"SUCCESS"}
    trace = accepted.envelope.trace_field
    assert trace.startswith(b"Received: from client.example.net ([127.0.0.1])\r\n by mx.example.test with ESMTP id ")
    assert trace.endswith(b"+0000\r\n")
    assert (await client.ask("QUIT")).startswith("221 2.0.0")
    assert await client.reply() == ""


async def test_pipelined_commands_are_answered_in_order_and_verified_together(gateway: Gateway) -> None:
    client = await gateway.connect()
    await client.ask("EHLO client.example.net")
    await client.send(
        (f"{MAIL}\r\nRCPT TO:<nobody@example.test>\r\n{RCPT}\r\nRCPT TO:<>\r\n"
         "RCPT TO:<bob@example.test>\r\nDATA\r\n").encode()
    )  # fmt: skip
    assert await client.codes(6) == [250, 550, 250, 553, 250, 354]  # RFC 2920 3.1
    assert gateway.core.verified == [["nobody@example.test", "alice@example.test", "bob@example.test"]]
    await client.send(MESSAGE + b".\r\nNOOP\r\n")
    assert await client.codes(2) == [250, 250]
    assert [str(r.forward_path.address) for r in gateway.core.accepted[0].envelope.recipients] == [
        "alice@example.test", "bob@example.test",
    ]  # fmt: skip


async def test_content_pipelined_behind_data_is_content(gateway: Gateway) -> None:
    client = await gateway.connect()
    await client.send(
        f"EHLO c.example.net\r\n{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode() + MESSAGE + b".\r\nRSET\r\nQUIT\r\n"
    )
    assert await client.codes(7) == [250, 250, 250, 354, 250, 250, 221]
    assert bytes(gateway.core.accepted[0].content) == MESSAGE


async def test_the_same_recipient_twice_is_one(gateway: Gateway) -> None:
    client = await gateway.connect()
    await client.send(f"EHLO c\r\n{MAIL}\r\n{RCPT}\r\n{RCPT}\r\n".encode())
    assert await client.codes(4) == [250, 250, 250, 250]
    await client.send(f"{RCPT}\r\nDATA\r\n".encode() + MESSAGE + b".\r\n")
    assert await client.codes(3) == [250, 354, 250]
    assert len(gateway.core.accepted[0].envelope.recipients) == 1


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_chunks_of_any_size_make_the_same_conversation(gateway: Gateway, size: int) -> None:
    client = await gateway.connect()
    octets = f"EHLO c\r\n{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode() + MESSAGE + b"..\r\n.\r\nQUIT\r\n"
    for start in range(0, len(octets), size):
        await client.send(octets[start : start + size])
        await asyncio.sleep(0)
    assert await client.codes(6) == [250, 250, 250, 354, 250, 221]
    assert bytes(gateway.core.accepted[0].content) == MESSAGE + b".\r\n"


async def test_smuggled_mail_is_data_and_the_whole_is_refused(gateway: Gateway) -> None:
    for false_end in (b"\n.\n", b"\r.\r", b"\n.\r\n", b"\r\n.\n"):  # RFC 5321 2.3.8, 4.1.1.4
        client = await gateway.connect()
        await client.send(f"EHLO c\r\n{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode())
        assert await client.codes(4) == [250, 250, 250, 354]
        await client.send(MESSAGE + false_end + f"{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode() + MESSAGE + b".\r\nQUIT\r\n")
        assert (await client.reply()).startswith("550 5.5.2")
        assert (await client.reply()).startswith("221")
        assert await client.reply() == ""
    assert gateway.core.accepted == []
    assert {acceptance.state for acceptance in gateway.core.opened} == {"abandoned"}


async def test_nul_is_refused(gateway: Gateway) -> None:
    client = await gateway.connect()
    await client.send(f"EHLO c\r\n{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode() + b"a\0b\r\n.\r\n")
    assert await client.codes(4) == [250, 250, 250, 354]
    assert (await client.reply()).startswith("550 5.6.0")


async def test_too_big_content_is_consumed_and_refused(gateway: Gateway) -> None:
    client = await gateway.connect()
    await client.send(f"EHLO c\r\n{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode() + b"x" * 98 + b"\r\n")
    assert await client.codes(4) == [250, 250, 250, 354]
    await client.send((b"x" * 98 + b"\r\n") * 1500 + b".\r\nNOOP\r\n")
    assert (await client.reply()).startswith("552 5.3.4")  # RFC 1870 6.3
    assert (await client.reply()).startswith("250")


async def test_content_without_end_is_cut_off(gateway: Gateway) -> None:
    client = await gateway.connect()
    await client.send(f"EHLO c\r\n{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode())
    assert await client.codes(4) == [250, 250, 250, 354]
    for _ in range(50):
        await client.send(b"x" * 998 + b"\r\n" + b"y" * 998 + b"\r\n" * 5)
    for _ in range(100):
        await client.send((b"x" * 998 + b"\r\n") * 10)
    assert (await client.reply()).startswith("552 5.3.4")
    assert await client.reply() == ""
    assert gateway.core.opened[0].state == "abandoned"


async def test_endless_lines_in_content_are_refused(make_gateway: MakeGateway) -> None:
    async with make_gateway(max_content_line_octets=2000) as gateway:
        client = await gateway.connect()
        await client.send(f"EHLO c\r\n{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode() + b"y" * 2001 + b"\r\n.\r\n")
        assert await client.codes(4) == [250, 250, 250, 354]
        assert (await client.reply()).startswith("550 5.6.0")


async def test_loops_are_detected_by_their_hops(gateway: Gateway) -> None:
    client = await gateway.connect()
    await client.send(f"EHLO c\r\n{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode())
    await client.codes(4)
    await client.send(b"Received: from a by b; now\r\n" * 101 + MESSAGE + b".\r\n")
    assert (await client.reply()).startswith("554 5.4.6")  # RFC 5321 6.3, at receipt
    await client.send(f"{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode() + b"Received: from a by b; now\r\n" * 100 + MESSAGE)
    await client.send(b".\r\n")
    assert await client.codes(4) == [250, 250, 354, 250]


@pytest.mark.parametrize(
    ("commands", "codes"),
    [
        (["MAIL FROM:<a@example.net>"], [503]),  # RFC 5321 4.1.4
        (["EHLO c", "RCPT TO:<alice@example.test>"], [250, 503]),
        (["EHLO c", "DATA"], [250, 503]),
        (["EHLO c", MAIL, "DATA"], [250, 250, 503]),
        (["EHLO c", MAIL, "RCPT TO:<nobody@example.test>", "DATA"], [250, 250, 550, 554]),  # RFC 2920 3.1
        (["EHLO c", MAIL, MAIL], [250, 250, 503]),
        (["EHLO c", MAIL, RCPT, "RSET", "DATA"], [250, 250, 250, 250, 503]),  # RFC 5321 4.1.1.5
        (["EHLO c", MAIL, "EHLO c", RCPT], [250, 250, 250, 503]),
        (["EHLO c", MAIL, "NOOP", "HELP", "VRFY alice", RCPT], [250, 250, 250, 214, 252, 250]),
        (["EHLO c", "DATA x"], [250, 501]),
        (["EHLO c", "RSET x", "QUIT x"], [250, 501, 501]),
        (["EHLO c", "NOOP what ever"], [250, 250]),
        (["EHLO", "HELO", "EHLO a b"], [501, 501, 250]),
        (
            ["EHLO c", "VRFY", "VRFY alice@example.test", "VRFY nobody@example.test"],
            [250, 501, 252, 252],
        ),  # RFC 5321 7.3
        (["EHLO c", "EXPN staff"], [250, 502]),
        (["FROB", "", "MAILFROM:<a@b>"], [500, 500, 500]),
        (["HELO c", MAIL + " SIZE=1"], [250, 501]),
        (["EHLO c", MAIL + " SIZE=100001"], [250, 552]),  # RFC 1870 6.1
        (["EHLO c", MAIL + " SIZE=100000"], [250, 250]),
        (["EHLO c", "MAIL FROM:<> BODY=7BIT", RCPT], [250, 250, 250]),  # RFC 5321 4.5.5
        (["EHLO c", MAIL, "RCPT TO:<Postmaster>"], [250, 250, 250]),  # RFC 5321 4.1.1.3
        (["EHLO c", MAIL, "RCPT TO:<full@example.test>"], [250, 250, 452]),
        (["EHLO c", MAIL, "RCPT TO:<alice@[127.0.0.1]>"], [250, 250, 550]),  # RFC 5321 4.1.3: not one of our domains
        (["EHLO c", "AUTH PLAIN AGEAYg=="], [250, 502]),  # no AUTH on the mx listener
        (["helo c", "mail from:<a@example.net>", "rCpT tO:<alice@example.test>"], [250, 250, 250]),
        (["EHLO c", "BDAT 0 LAST"], [250, 503]),
    ],
)
async def test_commands_in_and_out_of_order(gateway: Gateway, commands: list[str], codes: list[int]) -> None:
    client = await gateway.connect()
    replies = [await client.ask(command) for command in commands]
    assert [int(reply[:3]) for reply in replies] == codes
    for reply in replies:
        if reply[:3] != "354" and not reply.startswith(("250-mx", "250 mx")):
            assert reply[4] == reply[0] and reply[5] == ".", reply  # RFC 2034 3


async def test_reading_stops_at_a_bare_lf_command(gateway: Gateway) -> None:
    client = await gateway.connect()
    await client.send(b"EHLO c\r\nMAIL FROM:<x@example.net>\nRCPT TO:<alice@example.test>\r\nNOOP\r\n")
    assert (await client.reply()).startswith("250-")
    assert (await client.reply()).startswith("500 5.5.2")
    assert await client.reply() == ""


async def test_command_lines_are_bounded(gateway: Gateway) -> None:
    client = await gateway.connect()
    assert (await client.ask(b"NOOP " + b"x" * 4091)).startswith("250")
    assert (await client.ask(b"NOOP " + b"x" * 4092)).startswith("500 5.5.2")
    assert (await client.ask(b"MAIL " + b"x" * 50_000)).startswith("500 5.5.2")
    assert (await client.ask("EHLO c")).startswith("250-")


async def test_an_endless_command_line_is_cut_off(gateway: Gateway) -> None:
    client = await gateway.connect()
    for _ in range(20):
        await client.send(b"z" * 65_536)
    assert (await client.reply()).startswith("500 5.5.2")
    assert await client.reply() == ""


async def test_recipients_are_bounded_with_452(make_gateway: MakeGateway) -> None:
    async with make_gateway(max_recipients=100) as gateway:
        client = await gateway.connect()
        await client.send(f"EHLO c\r\n{MAIL}\r\n".encode())
        await client.codes(2)
        await client.send("".join(f"RCPT TO:<alice+{n}@example.test>\r\n" for n in range(101)).encode())
        replies = [await client.reply() for _ in range(101)]
        assert all(reply.startswith("250 2.1.5") for reply in replies[:100])  # RFC 5321 4.5.3.1.8.8
        assert replies[100].startswith("452 4.5.3")
        await client.send(b"DATA\r\n" + MESSAGE + b".\r\n")
        assert await client.codes(2) == [354, 250]


async def test_too_many_errors_end_the_session(gateway: Gateway) -> None:
    client = await gateway.connect()
    await client.send(f"EHLO c\r\n{MAIL}\r\n".encode())
    await client.codes(2)
    await client.send("".join(f"RCPT TO:<guess{n}@example.test>\r\n" for n in range(30)).encode())
    replies = []
    while reply := await client.reply():
        replies.append(reply)
    assert replies[20].startswith("550")
    assert replies[-1].startswith("421 4.7.0")  # RFC 5321 3.8
    assert gateway.core.accepted == []


async def test_accepted_mail_clears_the_errors(gateway: Gateway) -> None:
    client = await gateway.connect()
    await client.ask("EHLO c")
    for _ in range(3):
        for _ in range(9):
            assert (await client.ask("FROB")).startswith("500")
        await client.send(f"{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode() + MESSAGE + b".\r\n")
        assert await client.codes(4) == [250, 250, 354, 250]


async def test_commands_without_mail_are_bounded(make_gateway: MakeGateway) -> None:
    async with make_gateway(max_idle_commands=5) as gateway:
        client = await gateway.connect()
        for _ in range(5):
            assert (await client.ask("NOOP")).startswith("250")
        assert (await client.ask("NOOP")).startswith("250")
        assert (await client.reply()).startswith("421 4.7.0")
        assert await client.reply() == ""


@pytest.mark.parametrize("step", ["verify", "feed", "commit"])
@pytest.mark.parametrize("failure", [RuntimeError("secret text"), errors.StoreBusy(), errors.Internal()])
async def test_failures_of_ours_are_451_without_text(gateway: Gateway, step: str, failure: Exception) -> None:
    gateway.core.failures[step] = failure
    client = await gateway.connect()
    await client.send(f"EHLO c\r\n{MAIL}\r\n{RCPT}\r\n".encode())
    replies = [await client.reply() for _ in range(3)]
    if step != "verify":
        await client.send(b"DATA\r\n" + MESSAGE + b".\r\n")
        replies += [await client.reply() for _ in range(2)]
    assert replies[-1] == "451 4.3.0 Temporary failure, try again later"
    gateway.core.failures.clear()
    await client.send(f"RSET\r\n{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode() + MESSAGE + b".\r\n")
    assert await client.codes(5) == [250, 250, 250, 354, 250]  # it recovers, and our place in the stream held


@pytest.mark.parametrize(
    ("failure", "reply"),
    [
        (errors.MailLoop(), "554 5.4.6"),
        (errors.InvalidContent(), "550 5.6.0"),
        (errors.MessageTooLarge(), "552 5.3.4"),
        (errors.StoreFull(), "452 4.3.1"),
        (errors.UnknownReason("x", errors.Internal.code), "451 4.3.0"),
    ],
)
async def test_refusals_of_the_core_have_their_codes(gateway: Gateway, failure: Exception, reply: str) -> None:
    gateway.core.failures["commit"] = failure
    client = await gateway.connect()
    await client.send(f"EHLO c\r\n{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode() + MESSAGE + b".\r\n")
    await client.codes(4)
    assert (await client.reply()).startswith(reply)


async def test_250_comes_after_the_core_has_committed_and_not_before(gateway: Gateway) -> None:
    client = await gateway.connect()
    await client.send(f"EHLO c\r\n{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode())
    await client.codes(4)
    gateway.core.gate.clear()
    await client.send(MESSAGE + b".\r\n")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.reader.read(1), 0.2)  # RFC 5321 6.1
    gateway.core.gate.set()
    assert (await client.reply()).startswith("250 2.6.0")
    assert gateway.core.accepted[0].state == "committed"


async def test_half_close_after_the_final_dot_is_answered(gateway: Gateway) -> None:
    client = await gateway.connect()
    await client.send(f"EHLO c\r\n{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode() + MESSAGE)
    await client.codes(4)
    gateway.core.gate.clear()
    await client.send(b".\r\n")
    client.writer.write_eof()
    await asyncio.sleep(0.05)
    gateway.core.gate.set()
    assert (await client.reply()).startswith("250 2.6.0")
    assert await client.reply() == ""
    assert len(gateway.core.accepted) == 1


async def test_half_close_before_the_final_dot_takes_nothing(gateway: Gateway) -> None:
    client = await gateway.connect()
    await client.send(f"EHLO c\r\n{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode() + MESSAGE + b".")
    await client.codes(4)
    client.writer.write_eof()
    assert await client.reply() == ""
    assert gateway.core.accepted == []
    assert gateway.core.opened[0].state == "abandoned"


async def test_a_client_that_vanishes_in_data_leaves_nothing(gateway: Gateway) -> None:
    client = await gateway.connect()
    await client.send(f"EHLO c\r\n{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode() + MESSAGE)
    await client.codes(4)
    client.writer.transport.abort()
    await asyncio.sleep(0.05)
    assert gateway.core.opened[0].state == "abandoned"


async def test_an_unfinished_last_command_is_no_command(gateway: Gateway) -> None:
    client = await gateway.connect()
    await client.send(b"EHLO c\r\nNOOP")
    client.writer.write_eof()
    assert (await client.reply()).startswith("250-")
    assert await client.reply() == ""


async def test_idle_clients_are_told_and_closed(make_gateway: MakeGateway) -> None:
    async with make_gateway(command_timeout_seconds=0.1) as gateway:
        client = await gateway.connect()
        assert (await client.reply()).startswith("421 4.4.2")
        assert await client.reply() == ""


async def test_a_stalled_content_is_closed(make_gateway: MakeGateway) -> None:
    async with make_gateway(data_timeout_seconds=0.1) as gateway:
        client = await gateway.connect()
        await client.send(f"EHLO c\r\n{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode() + MESSAGE)
        await client.codes(4)
        assert (await client.reply()).startswith("421 4.4.2")
        assert await client.reply() == ""
        assert gateway.core.opened[0].state == "abandoned"


async def test_trickling_buys_no_time(make_gateway: MakeGateway) -> None:
    async with make_gateway(command_timeout_seconds=0.3, max_data_seconds=0.3) as gateway:
        for opening in (b"", f"EHLO c\r\n{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode()):
            client = await gateway.connect()
            await client.send(opening)
            await client.codes(4 if opening else 0)
            trickling = asyncio.create_task(trickle(client))
            assert (await client.reply()).startswith("421 4.4.2")
            trickling.cancel()


async def trickle(client: Client, octets: bytes = b"x") -> None:
    while True:
        await client.send(octets)
        await asyncio.sleep(0.05)


async def drip(client: Client, octets: bytes = b"x") -> float:
    """Send `octets` every 50 ms, and return the seconds until the server closes."""
    began, trickling = asyncio.get_running_loop().time(), asyncio.create_task(trickle(client, octets))
    try:
        while reply := await client.reply():
            if reply.startswith("421"):
                assert reply.startswith("421 4.4.2")
                return asyncio.get_running_loop().time() - began
        raise AssertionError("closed without a word")
    finally:
        trickling.cancel()


async def test_a_content_must_come_at_the_least_rate(make_gateway: MakeGateway) -> None:
    async with make_gateway(data_seconds=0.3, data_octets_per_second=100) as gateway:
        client = await gateway.connect()
        await client.send(f"EHLO c\r\n{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode())
        await client.codes(4)
        assert 0.2 < await drip(client) < 2  # 20 octets a second: each pause is short, the sum is not
        assert await client.reply() == ""
        assert gateway.core.opened[0].state == "abandoned"
        client = await gateway.connect()
        await client.send(f"EHLO c\r\n{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode())
        await client.codes(4)
        for _ in range(20):
            await client.send(b"x" * 20)  # 400 octets a second, for longer than data_seconds
            await asyncio.sleep(0.05)
        await client.send(b"\r\n.\r\n")
        assert (await client.reply()).startswith("250 2.6.0")


async def test_commands_one_by_one_buy_no_time(make_gateway: MakeGateway) -> None:
    async with make_gateway(idle_seconds=0.4, max_idle_commands=10**9) as gateway:
        client = await gateway.connect()
        assert 0.3 < await drip(client, b"NOOP\r\n") < 2
        client = await gateway.connect()
        for _ in range(3):  # each message gives the time back
            await asyncio.sleep(0.25)
            await client.send(f"EHLO c\r\n{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode() + MESSAGE + b".\r\n")
            assert (await client.codes(5))[-1] == 250


async def test_a_recipient_that_is_taken_gives_a_second(make_gateway: MakeGateway) -> None:
    async with make_gateway(idle_seconds=0.2) as gateway:
        client = await gateway.connect()
        await client.send(f"EHLO c\r\n{MAIL}\r\n{RCPT}\r\n".encode())
        await client.codes(3)
        await asyncio.sleep(0.5)
        assert (await client.ask("NOOP")).startswith("250")


async def test_refused_contents_use_up_the_sessions_time(make_gateway: MakeGateway) -> None:
    async with make_gateway(idle_seconds=0.2) as gateway:
        client = await gateway.connect()
        await client.send(f"EHLO c\r\n{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode())
        await client.codes(4)
        await asyncio.sleep(1.4)
        await client.send(b"a\0b\r\n.\r\n")
        assert (await client.reply()).startswith("550 5.6.0")
        assert (await client.reply()).startswith("421 4.4.2")


async def test_a_large_content_that_is_refused_costs_no_time_of_the_session(make_gateway: MakeGateway) -> None:
    async with make_gateway(idle_seconds=0.3, data_octets_per_second=100) as gateway:
        client = await gateway.connect()
        await client.send(f"EHLO c\r\n{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode())
        await client.codes(4)
        for _ in range(40):  # for longer than a recipient and idle_seconds give, at four times the least rate
            await client.send(b"x" * 20)
            await asyncio.sleep(0.05)
        await client.send(b"\0\r\n.\r\n")
        assert (await client.reply()).startswith("550 5.6.0")
        assert (await client.ask("NOOP")).startswith("250")


async def test_waiting_for_the_core_is_not_the_clients_idleness(make_gateway: MakeGateway) -> None:
    async with make_gateway(command_timeout_seconds=0.1, data_timeout_seconds=0.1) as gateway:
        client = await gateway.connect()
        await client.send(f"EHLO c\r\n{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode())
        await client.codes(4)
        gateway.core.gate.clear()
        await client.send(MESSAGE + b".\r\n")
        await asyncio.sleep(0.4)
        gateway.core.gate.set()
        assert (await client.reply()).startswith("250 2.6.0")


async def test_a_client_that_reads_nothing_is_cut_off(make_gateway: MakeGateway) -> None:
    async with make_gateway(bounds=ConnectionBounds(stalled_timeout_seconds=0.2), max_idle_commands=10**9) as gateway:
        client = await gateway.connect()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        with pytest.raises((ConnectionError, TimeoutError)):  # noqa: PT012 - at some point of the loop
            async with asyncio.timeout(10):
                while True:
                    await client.send(b"HELP\r\n" * 1000)


async def test_draining_says_421_to_the_idle_and_finishes_the_busy(gateway: Gateway) -> None:
    idle, busy = await gateway.connect(), await gateway.connect()
    await busy.send(f"EHLO c\r\n{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode() + MESSAGE)
    await busy.codes(4)
    draining = asyncio.create_task(gateway.runtime.drain())
    assert (await idle.reply()).startswith("421 4.3.2")  # RFC 5321 3.8
    await busy.send(b".\r\nNOOP\r\n")
    assert (await busy.reply()).startswith("250 2.6.0")
    assert (await busy.reply()).startswith("421 4.3.2")
    await idle.close()
    await busy.close()
    await draining
    assert len(gateway.core.accepted) == 1


async def test_a_client_that_goes_in_the_moment_of_draining_holds_nothing_up(gateway: Gateway) -> None:
    client = await gateway.connect()
    client.writer.close()
    began = asyncio.get_running_loop().time()
    await gateway.runtime.drain()
    assert asyncio.get_running_loop().time() - began < 1


async def test_a_session_that_outlasts_the_draining_abandons_its_message_before_the_end(gateway: Gateway) -> None:
    client = await gateway.connect()
    await client.send(f"EHLO c\r\n{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode())
    await client.codes(4)
    gateway.core.gate.clear()  # the core does not read the content
    await client.send(MESSAGE)
    await asyncio.sleep(0.05)
    await gateway.runtime.drain()
    assert gateway.core.opened[0].state == "abandoned"


async def test_memory_stays_small_while_much_flows(make_gateway: MakeGateway) -> None:
    async with make_gateway(max_message_octets=100 << 20) as gateway:
        gateway.core.keep_contents = False
        client = await gateway.connect()
        await client.send(f"EHLO c\r\n{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode())
        await client.codes(4)
        piece = (b"m" * 76 + b"\r\n") * 1000
        for _ in range(300):
            await client.send(piece)
        await client.send(b".\r\n")
        assert (await client.reply()).startswith("250 2.6.0")
        # The session's buffer, and one read of the loop on top.
        assert gateway.core.opened[0].largest_piece <= ConnectionBounds.read_buffer_octets + 262_144


async def test_a_slow_core_slows_the_client(make_gateway: MakeGateway) -> None:
    async with make_gateway(max_message_octets=100 << 20) as gateway:
        client = await gateway.connect()
        await client.send(f"EHLO c\r\n{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode())
        await client.codes(4)
        gateway.core.gate.clear()
        sent = 0
        with pytest.raises(TimeoutError):  # noqa: PT012 - at some point of the loop
            async with asyncio.timeout(0.5):
                while sent < 64 << 20:
                    await client.send(b"m" * 65_534 + b"\r\n")
                    sent += 65_536
        assert sent < 32 << 20


async def test_behind_a_proxy_the_real_client_counts(certificate: CertificateFiles) -> None:
    limits = ConnectionLimits(connections_per_address=1, exempt=())
    runtime, core = Runtime(RuntimeSettings("smtp", certificates=(certificate,), limits=limits)), RecordingCore()
    listeners = {"mx": SmtpListener(Port(tls="none", proxy_from=("127.0.0.1",)), Role.MX)}
    listen(SmtpSettings(listeners, SessionSettings(Role.MX, "mx.example.test")), core, runtime)
    port = runtime.addresses()["mx"][0].port
    version_2 = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes([192, 0, 2, 8, 127, 0, 0, 1]) + b"\x9c\x40\x00\x19"
    for header, client in ((b"PROXY TCP4 192.0.2.7 127.0.0.1 40000 25\r\n", "192.0.2.7"), (version_2, "192.0.2.8")):
        first = Client(*await asyncio.open_connection("127.0.0.1", port))
        await first.send(header)
        assert (await first.reply()).startswith("220")
        second = Client(*await asyncio.open_connection("127.0.0.1", port))
        await second.send(header)
        assert (await second.reply()).startswith("421 4.7.0 Too many connections from your address")
        await first.send(f"EHLO c\r\n{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode() + MESSAGE + b".\r\n")
        assert (await first.codes(5))[-1] == 250
        envelope = core.accepted[-1].envelope
        assert envelope.peer.client.host == client
        assert f"([{client}])".encode() in envelope.trace_field
        await first.close()
    await runtime.drain()
