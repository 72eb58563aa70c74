"""No open relay: the known tricks of unauthenticated clients are refused. RFC 5321 3.6.2."""

from __future__ import annotations

import pytest

from tests.gateways.smtp.conftest import Gateway

TRICKS = [
    "erin@example.net",
    '"erin@example.net"',
    '"erin@example.net"@example.test',
    "erin%example.net@example.test",
    "erin%example.net@[127.0.0.1]",
    '"erin%example.net"@example.test',
    "example.net!erin",
    "example.net!erin@example.test",
    "example.net!erin@[127.0.0.1]",
    "erin@example.net@example.test",
    "erin@example.test@example.net",
    "@example.test:erin@example.net",
    "@[127.0.0.1]:erin@example.net",
    "@example.test,@mx.example.test:erin@example.net",
    "erin@[192.0.2.1]",
    "erin@[127.0.0.1]",
    "erin@[IPv6:::1]",
    "erin@localhost",
    "erin@mx.example.test",
    "erin@example.test.",
    "erin@example.test.example.net",
    "erin@.example.test",
    "erin@example.net\\@example.test",
    '"erin@example.net,alice"@example.test',
    "erin@example.net,alice@example.test",
    "erin@example.net>,<alice@example.test",
    "erin@example.net> <alice@example.test",
    "alice@example.test,erin@example.net",
    "erin@example.net(alice@example.test)",
    "alice@example.test(erin@example.net)",
    "alice@example.net\t@example.test",
    "erin=example.net@example.test",
    "erin+example.net@example.test",
    "SRS0=abcd=yz=example.net=erin@example.test",
    "erin",
    "postmaster@example.net",
    "",
]


@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize("sender", ["<alice@example.test>", "<>", "<erin@example.net>", "<postmaster@[127.0.0.1]>"])
async def test_a_stranger_reaches_nobody_elsewhere(gateway: Gateway, trick: str, sender: str) -> None:
    client = await gateway.connect()
    await client.ask("EHLO mx.example.test")
    assert (await client.ask(f"MAIL FROM:{sender}")).startswith("250")
    reply = await client.ask(f"RCPT TO:<{trick}>")
    assert reply[0] == "5", reply
    assert (await client.ask("DATA"))[:3] in {"503", "554"}
    assert gateway.core.opened == []


async def test_what_cannot_be_read_as_one_address_never_reaches_the_core(gateway: Gateway) -> None:
    client = await gateway.connect()
    await client.ask("EHLO c")
    await client.ask("MAIL FROM:<>")
    for trick in ("erin@example.net@example.test", "erin@example.net>,<alice@example.test", "example.net!erin"):
        assert (await client.ask(f"RCPT TO:<{trick}>")).startswith("501 5.")
    assert gateway.core.verified == []


async def test_the_core_is_asked_about_the_final_address_alone(gateway: Gateway) -> None:
    client = await gateway.connect()
    await client.ask("EHLO c")
    await client.ask("MAIL FROM:<>")
    assert (await client.ask("RCPT TO:<@example.test:erin@example.net>")).startswith("550 5.7.1")
    assert (await client.ask('RCPT TO:<"erin@example.net"@example.test>')).startswith("550 5.1.1")
    assert gateway.core.verified == [["erin@example.net"], ['"erin@example.net"@example.test']]


async def test_nobody_submits_without_authentication(gateway: Gateway) -> None:
    for listener in ("submission", "submissions"):
        client = await gateway.connect(listener)
        await client.ask("EHLO c")
        assert (await client.ask("MAIL FROM:<alice@example.test>")).startswith("530 5.7.0")
        assert (await client.ask("RCPT TO:<bob@example.test>")).startswith("503")
        assert (await client.ask("DATA")).startswith("503")
    assert gateway.core.opened == []
    assert gateway.core.verified == []


async def test_helo_lets_nobody_past_authentication(gateway: Gateway) -> None:
    client = await gateway.connect("submissions")
    await client.ask("HELO c")
    assert (await client.ask("MAIL FROM:<alice@example.test>")).startswith("530 5.7.0")


async def test_a_failed_login_gives_no_rights(gateway: Gateway) -> None:
    client = await gateway.connect("submissions")
    await client.ask("EHLO c")
    assert (await client.ask("AUTH PLAIN AGFsaWNlQGV4YW1wbGUudGVzdAB3cm9uZw==")).startswith("535")
    assert (await client.ask("MAIL FROM:<alice@example.test>")).startswith("530 5.7.0")


async def test_a_user_may_write_elsewhere(gateway: Gateway) -> None:
    client = await gateway.logged_in()
    assert (await client.ask("MAIL FROM:<alice@example.test>")).startswith("250")
    assert (await client.ask("RCPT TO:<erin@example.net>")).startswith("250")
