"""The same sessions on uvloop, which has different transports and TLS."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import uvloop

from restante_gateways.net.bounds import ConnectionBounds
from tests.gateways.smtp.conftest import MakeGateway

PLAIN = b"AUTH PLAIN AGFsaWNlQGV4YW1wbGUudGVzdABhbGljZS1kZW1v"
MAIL = b"MAIL FROM:<alice@example.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n"


def on_uvloop(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await main()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bounded())


def test_starttls_login_and_mail(make_gateway: MakeGateway) -> None:
    async def main() -> None:
        async with make_gateway() as gateway:
            client = await gateway.connect("submission")
            await client.ask("EHLO c")
            await client.send(b"STARTTLS\r\nNOOP\r\n")
            assert (await client.reply()).startswith("220")
            await client.start_tls(gateway.tls)
            await client.send(b"EHLO c\r\n" + PLAIN + b"\r\n" + MAIL)
            assert await client.codes(5) == [250, 235, 250, 250, 354]
            await client.send(b"Subject: x\r\n\r\n.\r\n")
            assert (await client.reply()).startswith("250 2.6.0")
            assert b" with ESMTPSA " in gateway.core.accepted[0].envelope.trace_field
            assert (await client.ask("QUIT")).startswith("221")
            assert await client.reply() == ""

    on_uvloop(main)


def test_implicit_tls(make_gateway: MakeGateway) -> None:
    async def main() -> None:
        async with make_gateway() as gateway:
            client = await gateway.logged_in()
            assert (await client.ask("NOOP")).startswith("250")
            assert gateway.core.peers[0].tls is not None

    on_uvloop(main)


def test_half_close_and_large_content(make_gateway: MakeGateway) -> None:
    async def main() -> None:
        async with make_gateway(max_message_octets=20 << 20) as gateway:
            client = await gateway.connect()
            await client.send(b"EHLO c\r\n" + MAIL)
            assert await client.codes(4) == [250, 250, 250, 354]
            content = (b"u" * 76 + b"\r\n") * 100_000
            await client.send(content + b".\r\n")
            client.writer.write_eof()
            assert (await client.reply()).startswith("250 2.6.0")
            assert await client.reply() == ""
            assert bytes(gateway.core.accepted[0].content) == content

    on_uvloop(main)


def test_timeouts_and_draining(make_gateway: MakeGateway) -> None:
    async def main() -> None:
        async with make_gateway(command_timeout_seconds=0.1) as gateway:
            client = await gateway.connect()
            assert (await client.reply()).startswith("421 4.4.2")
        async with make_gateway() as gateway:
            client = await gateway.connect()
            await asyncio.sleep(0.02)
            draining = asyncio.create_task(gateway.runtime.drain())
            assert (await client.reply()).startswith("421 4.3.2")
            await client.close()
            await draining

    on_uvloop(main)


def test_a_reader_that_stops_is_cut_off(make_gateway: MakeGateway) -> None:
    async def main() -> None:
        bounds = ConnectionBounds(stalled_timeout_seconds=0.2)
        async with make_gateway(bounds=bounds, max_idle_commands=10**9) as gateway:
            client = await gateway.connect()
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            try:
                while True:
                    await client.send(b"HELP\r\n" * 1000)
            except ConnectionError:
                return

    on_uvloop(main)
