"""BDAT: chunks of exact lengths, in any division, with DATA's checks (RFC 3030)."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante import errors
from restante_gateways.smtp.chunks import BAD_CHUNK, Chunk, parse_chunk
from restante_gateways.smtp.replies import SessionOver
from tests.gateways.smtp.conftest import Client, Gateway, MakeGateway

MAIL = "MAIL FROM:<dora@example.net>"
RCPT = "RCPT TO:<alice@example.test>"
MESSAGE = b"From: dora@example.net\r\nSubject: hello\r\n\r\n.\r\n..Hi.\r\n"
OPENING = f"EHLO c\r\n{MAIL}\r\n{RCPT}\r\n".encode()


def bdat(octets: bytes, *, last: bool = False) -> bytes:
    """The command and its chunk."""
    return b"BDAT %d%s\r\n" % (len(octets), b" LAST" if last else b"") + octets


async def opened(gateway: Gateway) -> Client:
    """A client with an open transaction."""
    client = await gateway.connect()
    await client.send(OPENING)
    assert await client.codes(3) == [250, 250, 250]
    return client


@pytest.mark.parametrize(
    ("argument", "chunk"),
    [
        (b"0", Chunk(0, False)),
        (b"0 LAST", Chunk(0, True)),
        (b"1024", Chunk(1024, False)),
        (b"1024 last", Chunk(1024, True)),
        (b"00012  LAST", Chunk(12, True)),
        (b"99999999999999999999", Chunk(99999999999999999999, False)),
    ],
)
def test_arguments(argument: bytes, chunk: Chunk) -> None:
    assert parse_chunk(argument) == chunk


@pytest.mark.parametrize(
    "argument", [b"", b"LAST", b"-1", b"+1", b"1 FIRST", b"1 LAST x", b"1.0", b"0x10", b"1LAST", b"1" * 21, b"\xd9\xa1"]
)
def test_a_bad_argument_ends_the_session(argument: bytes) -> None:
    with pytest.raises(SessionOver) as over:
        parse_chunk(argument)
    assert over.value.reply is BAD_CHUNK


@given(st.one_of(st.binary(max_size=40), st.from_regex(rb"[0-9 ]{0,30}(LAST|last)?[ 0-9]{0,3}", fullmatch=True)))
def test_junk_is_a_chunk_or_the_end(argument: bytes) -> None:
    try:
        chunk = parse_chunk(argument)
    except SessionOver:
        return
    number, _, last = argument.partition(b" ")
    assert (int(number), last.strip(b" ").upper()) == (chunk.size_octets, b"LAST" if chunk.last else b"")


async def test_chunks_make_a_message_without_any_meaning_of_dots(gateway: Gateway) -> None:
    client = await opened(gateway)
    await client.send(bdat(MESSAGE[:7]))
    assert await client.reply() == "250 2.0.0 7 octets received"
    await client.send(bdat(MESSAGE[7:], last=True))
    assert await client.reply() == "250 2.6.0 Message accepted as T1"
    (accepted,) = gateway.core.accepted
    assert bytes(accepted.content) == MESSAGE
    assert await client.ask(MAIL) == "250 2.1.0 Sender OK"


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize("packet", [1, 3, 100_000])
async def test_any_division_into_chunks_and_packets_gives_the_same(gateway: Gateway, size: int, packet: int) -> None:
    client = await gateway.connect()
    chunks = [bdat(MESSAGE[start : start + size]) for start in range(0, len(MESSAGE), size)]
    octets = OPENING + b"".join(chunks) + b"BDAT 0 LAST\r\nQUIT\r\n"
    for start in range(0, len(octets), packet):
        await client.send(octets[start : start + packet])
        await asyncio.sleep(0)
    assert await client.codes(3 + len(chunks) + 2) == [250] * (3 + len(chunks) + 1) + [221]
    assert bytes(gateway.core.accepted[0].content) == MESSAGE


async def test_a_pipelined_message_follows_the_last_chunk(gateway: Gateway) -> None:
    client = await gateway.connect()
    await client.send(OPENING + (bdat(MESSAGE, last=True) + f"{MAIL}\r\n{RCPT}\r\n".encode()) * 3 + b"QUIT\r\n")
    assert await client.codes(3 + 9 + 1) == [250] * 12 + [221]
    assert [bytes(accepted.content) for accepted in gateway.core.accepted] == [MESSAGE] * 3


@pytest.mark.parametrize(
    ("content", "reply"),
    [
        (b"a\nb\r\n", "550 5.5.2"),  # RFC 5321 2.3.8, as DATA does
        (b"a\rb\r\n", "550 5.5.2"),
        (b"a\r\nb\r", "550 5.5.2"),
        (b"a\0b\r\n", "550 5.6.0"),
        (b"x" * 2001 + b"\r\n", "550 5.6.0"),
        (b"Received: from a by b; now\r\n" * 101, "554 5.4.6"),
    ],
)
async def test_contents_are_refused_as_data_refuses_them(make_gateway: MakeGateway, content: bytes, reply: str) -> None:
    async with make_gateway(max_content_line_octets=2000) as gateway:
        for size in (1, 1500, 10_000):
            client = await opened(gateway)
            chunks = [content[start : start + size] for start in range(0, len(content), size)]
            for chunk in chunks[:-1]:
                await client.send(bdat(chunk))
                await client.reply()
            await client.send(bdat(chunks[-1], last=True))
            assert (await client.reply()).startswith(reply)
            assert (await client.ask(RCPT)).startswith("503")  # the transaction is over
        assert {acceptance.state for acceptance in gateway.core.opened} == {"abandoned"}


async def test_the_failure_is_the_reply_to_the_rest_of_the_pipeline(gateway: Gateway) -> None:
    client = await opened(gateway)
    await client.send(bdat(b"a\nb") + bdat(b"fine\r\n") + b"NOOP\r\n" + bdat(b"fine\r\n", last=True) + b"NOOP\r\n")
    replies = [await client.reply() for _ in range(5)]  # RFC 3030 2: later chunks are consumed
    assert [reply[:9] for reply in replies] == ["550 5.5.2", "550 5.5.2", "250 2.0.0", "550 5.5.2", "250 2.0.0"]
    assert gateway.core.opened[0].state == "abandoned"
    assert len(gateway.core.opened) == 1


async def test_a_failure_of_the_core_stays_temporary(gateway: Gateway) -> None:
    client = await opened(gateway)
    gateway.core.failures["feed"] = errors.Draining()
    await client.send(bdat(MESSAGE))
    assert (await client.reply()).startswith("451 4.3.0")
    del gateway.core.failures["feed"]
    await client.send(bdat(MESSAGE, last=True))
    assert (await client.reply()).startswith("451 4.3.0")
    assert gateway.core.accepted == []


async def test_a_chunk_above_the_limit_is_consumed_and_refused(gateway: Gateway) -> None:
    client = await opened(gateway)
    await client.send(bdat((b"x" * 98 + b"\r\n") * 1500) + b"RSET\r\n")
    assert (await client.reply()).startswith("552 5.3.4")  # RFC 1870 6.3
    assert (await client.reply()).startswith("250 2.0.0")
    await client.send(f"{MAIL}\r\n{RCPT}\r\n".encode() + bdat(MESSAGE, last=True))
    assert await client.codes(3) == [250, 250, 250]


@pytest.mark.parametrize("opening", [OPENING, b"EHLO c\r\n"])
async def test_a_chunk_without_reasonable_end_is_cut_off(gateway: Gateway, opening: bytes) -> None:
    client = await gateway.connect()
    await client.send(opening + b"BDAT 99999999999\r\n")
    await client.codes(opening.count(b"\r\n"))
    for _ in range(210):
        await client.send((b"x" * 98 + b"\r\n") * 10)
    assert (await client.reply())[:3] in ("552", "503")
    assert await client.reply() == ""


@pytest.mark.parametrize(
    ("before", "reply"),
    [
        (b"", "503 5.5.1"),
        (b"EHLO c\r\n", "503 5.5.1"),
        (f"EHLO c\r\n{MAIL}\r\n".encode(), "503 5.5.1"),
        (f"EHLO c\r\n{MAIL}\r\nRCPT TO:<nobody@example.test>\r\n".encode(), "554 5.5.1"),  # RFC 2920 3.1
        (OPENING + b"RSET\r\n", "503 5.5.1"),
        (OPENING + bdat(MESSAGE, last=True), "503 5.5.1"),  # RFC 3030 2: after LAST
        (OPENING + b"DATA\r\n" + b".\r\n", "503 5.5.1"),
    ],
)
async def test_a_chunk_out_of_order_is_consumed_and_refused(gateway: Gateway, before: bytes, reply: str) -> None:
    client = await gateway.connect()
    await client.send(before + bdat(b"QUIT\r\n" * 3) + bdat(b"QUIT\r\n", last=True) + b"NOOP\r\n")
    while not (answer := await client.reply()).startswith(("503", "554")):
        pass
    assert answer.startswith(reply)
    assert (await client.reply()).startswith(reply)
    assert (await client.reply()).startswith("250 2.0.0")  # of NOOP


@pytest.mark.parametrize("command", ["DATA", RCPT, MAIL])
async def test_data_and_recipients_do_not_mix_with_chunks(gateway: Gateway, command: str) -> None:
    client = await opened(gateway)
    await client.send(bdat(MESSAGE))
    assert (await client.reply()).startswith("250")
    assert (await client.ask(command)).startswith("503 5.5.1")
    await client.send(b"BDAT 0 LAST\r\n")
    assert (await client.reply()).startswith("250 2.6.0")
    assert len(gateway.core.accepted[0].envelope.recipients) == 1


@pytest.mark.parametrize("command", ["RSET", "EHLO c", "HELO c"])
async def test_chunks_are_forgotten_by_what_clears_a_transaction(gateway: Gateway, command: str) -> None:
    client = await opened(gateway)
    await client.send(bdat(b"Subject: first\r\n"))
    assert (await client.reply()).startswith("250")
    assert (await client.ask(command)).startswith("250")
    assert gateway.core.opened[0].state == "abandoned"
    await client.send(f"{MAIL}\r\n{RCPT}\r\n".encode() + bdat(MESSAGE, last=True))
    assert await client.codes(3) == [250, 250, 250]
    assert bytes(gateway.core.accepted[0].content) == MESSAGE


@pytest.mark.parametrize("end", [b"QUIT\r\n", b"BDAT x\r\n", b"BDAT 5\r\nab", b""])
async def test_a_session_that_ends_between_chunks_leaves_nothing(gateway: Gateway, end: bytes) -> None:
    client = await opened(gateway)
    await client.send(bdat(MESSAGE) + end)
    assert (await client.reply()).startswith("250")
    client.writer.write_eof()
    while await client.reply():
        pass
    await gateway.runtime.drain()
    assert gateway.core.opened[0].state == "abandoned"
    assert gateway.core.accepted == []


async def test_an_unknown_length_ends_the_session(gateway: Gateway) -> None:
    client = await opened(gateway)
    await client.send(b"BDAT many LAST\r\nRSET\r\n")
    assert await client.reply() == "501 5.5.4 Syntax: BDAT octets [LAST]; closing the connection"
    assert await client.reply() == ""
    client = await opened(gateway)
    await client.send(b"BDAT 5" + b" " * 5000 + b"x\r\nRSET\r\n")
    assert (await client.reply()).startswith("501")
    assert await client.reply() == ""


async def test_a_slow_chunk_is_closed(make_gateway: MakeGateway) -> None:
    async with make_gateway(data_timeout_seconds=0.1) as gateway:
        for opening in (OPENING, b"EHLO c\r\n"):
            client = await gateway.connect()
            await client.send(opening + b"BDAT 100\r\nabc")
            await client.codes(opening.count(b"\r\n"))
            assert (await client.reply()).startswith("421 4.4.2")
            assert await client.reply() == ""


async def test_chunks_together_have_the_longest_time_of_one_content(make_gateway: MakeGateway) -> None:
    async with make_gateway(max_data_seconds=0.3) as gateway:
        client = await opened(gateway)
        await client.send(bdat(b"x"))
        while (reply := await client.reply()).startswith("250"):
            await asyncio.sleep(0.05)
            await client.send(bdat(b"x"))
        assert reply.startswith("421 4.4.2")
        assert await client.reply() == ""


async def test_empty_chunks_count_as_commands_without_mail(make_gateway: MakeGateway) -> None:
    async with make_gateway(max_idle_commands=10) as gateway:
        client = await opened(gateway)
        await client.send(b"BDAT 0\r\n" * 20)
        codes = []
        while reply := await client.reply():
            codes.append(int(reply[:3]))
        assert codes[-1] == 421
        assert len(codes) < 12


async def test_a_large_content_flows_through_a_small_memory(make_gateway: MakeGateway) -> None:
    async with make_gateway(max_message_octets=64 << 20) as gateway:
        gateway.core.keep_contents = False
        client = await opened(gateway)
        size = 20 << 20
        await client.send(b"BDAT %d LAST\r\n" % size)
        line = b"z" * 998 + b"\r\n"
        for _ in range(size // 65_536):
            await client.send((line * 66)[:65_000] + b"\r\n" + b"y" * 532 + b"\r\n")
        assert (await client.reply(30))[:3] in ("250", "550")
        assert gateway.core.opened[0].largest_piece < 400_000
