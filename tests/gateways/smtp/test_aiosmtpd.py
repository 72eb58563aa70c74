"""The use of aiosmtpd in a session: none of its own commands, limits and logs is reachable."""

from __future__ import annotations

import asyncio
import logging

import aiosmtpd.smtp
import pytest

from restante_gateways.net.transport import ConnectionTransport
from restante_gateways.smtp.session import SmtpSession
from restante_gateways.smtp.transaction import Transaction
from tests.gateways.smtp.conftest import MakeGateway

THEIRS = sorted(name for name in vars(aiosmtpd.smtp.SMTP) if name.startswith("smtp_"))


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[SmtpSession]:
    """Every session served from now on."""
    served: list[SmtpSession] = []
    serve = SmtpSession.serve

    async def noted(self: SmtpSession) -> None:
        served.append(self)
        await serve(self)

    monkeypatch.setattr(SmtpSession, "serve", noted)
    return served


@pytest.mark.parametrize("name", THEIRS)
def test_every_command_of_theirs_is_replaced(name: str) -> None:
    assert getattr(SmtpSession, name) is not getattr(aiosmtpd.smtp.SMTP, name)


def test_they_have_commands_to_replace() -> None:
    assert {"smtp_EHLO", "smtp_MAIL", "smtp_DATA", "smtp_AUTH", "smtp_STARTTLS"} <= set(THEIRS)


async def test_a_connection_gets_their_session_object_and_our_envelope(
    make_gateway: MakeGateway, sessions: list[SmtpSession]
) -> None:
    async with make_gateway() as gateway:
        client = await gateway.connect()
        await client.ask("EHLO client.example.net")
        (session,) = sessions
        assert isinstance(session.transport, ConnectionTransport)
        assert session.transport.get_extra_info("peername")[0] == "127.0.0.1"
        assert type(session.session) is aiosmtpd.smtp.Session
        assert (session.session.peer or "")[0] == "127.0.0.1"
        assert (session.session.host_name, session.session.extended_smtp) == ("client.example.net", True)
        assert type(session.envelope) is Transaction
        await client.ask("QUIT")
        assert await client.reply() == ""


async def test_what_they_push_and_close_goes_by_our_connection(
    make_gateway: MakeGateway, sessions: list[SmtpSession]
) -> None:
    async with make_gateway() as gateway:
        client = await gateway.connect()
        (session,) = sessions
        await session.push("250 2.0.0 pushed")
        assert await client.reply() == "250 2.0.0 pushed"
        transport = session.transport
        assert transport is not None and not transport.is_closing()
        transport.close()
        assert await client.reply() == ""
        assert transport.is_closing()


async def test_the_end_of_a_session_leaves_no_task(make_gateway: MakeGateway) -> None:
    before = asyncio.all_tasks()
    async with make_gateway() as gateway:
        for goodbye in (b"QUIT\r\n", b"NOOP", b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\nx"):
            client = await gateway.connect()
            await client.send(goodbye)
            client.writer.write_eof()
            while await client.reply():
                pass
            await client.close()
    assert asyncio.all_tasks() == before


def test_their_log_which_prints_addresses_is_silent() -> None:
    assert not logging.getLogger("mail.log").isEnabledFor(logging.CRITICAL)
