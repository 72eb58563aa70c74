"""Listeners and connections over real sockets, on asyncio's loop and on uvloop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from restante_gateways.net.addresses import Peer
from restante_gateways.net.bounds import ConnectionBounds, ConnectionLost, Draining, Interruption, TimedOut
from restante_gateways.net.connection import Connection
from restante_gateways.net.listener import Listener, ListenerSettings
from restante_gateways.net.metrics import GatewayMetrics
from restante_process import sockets
from restante_process.addresses import Endpoint, parse_networks
from restante_process.limits import ConnectionLimiter, ConnectionLimits, Refusal
from restante_process.tls import Certificates
from tests.harness.certificates import MakePair

Run = Callable[[Callable[[], Awaitable[Any]]], Any]
Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]
LOCAL = parse_networks(("127.0.0.1",))


def insecure() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@contextlib.asynccontextmanager
async def listening(
    session: Callable[[Connection], Awaitable[None]],
    certificates: Certificates | None = None,
    limits: ConnectionLimits | None = None,
    **settings: Any,
) -> AsyncIterator[Listener]:
    listener = Listener(
        ListenerSettings("test", **settings),
        sockets.bind("127.0.0.1", 0),
        session,
        limiter=ConnectionLimiter(limits or ConnectionLimits()),
        metrics=GatewayMetrics("test", CollectorRegistry()),
        certificates=certificates,
    )
    listener.start()
    try:
        yield listener
    finally:
        await listener.drain(1.0)


async def dial(listener: Listener, **options: Any) -> Client:
    host, port = listener.addresses[0]
    return await asyncio.open_connection(host, port, **options)


async def echo(connection: Connection) -> None:
    while data := await connection.read():
        connection.write(data)
        await connection.drain()


def value(listener: Listener, name: str, **labels: str) -> float | None:
    registry = listener._metrics.registry
    return registry.get_sample_value(name, {"gateway": "test", "listener": "test", **labels})


def test_octets_go_round_and_the_peer_is_known(run: Run) -> None:
    peers: list[Peer] = []

    async def session(connection: Connection) -> None:
        peers.append(connection.peer)
        await echo(connection)

    async def main() -> None:
        async with listening(session) as listener:
            reader, writer = await dial(listener)
            ours: tuple[str, int] = writer.get_extra_info("sockname")
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            writer.write_eof()  # half-close: the earlier input is answered, then the connection ends
            assert await reader.read() == b""
            writer.close()
            assert peers == [Peer(Endpoint(*ours), listener.addresses[0], "test", loopback=True)]
        assert value(listener, "restante_gateway_connections") == 0
        assert value(listener, "restante_gateway_connections_opened_total") == 1

    run(main)


def test_a_big_answer_to_a_slow_reader_waits_instead_of_growing(run: Run) -> None:
    unsent: list[int] = []
    octets = 64 << 20

    async def session(connection: Connection) -> None:
        chunk = bytes(100_000)
        for _ in range(octets // len(chunk)):
            connection.write(chunk)
            await connection.drain()
            assert connection._transport is not None
            unsent.append(connection._transport.get_write_buffer_size())

    async def main() -> None:
        async with listening(session) as listener:
            reader, writer = await dial(listener, limit=1000)
            total = 0
            while data := await reader.read(1 << 20):
                total += len(data)
                if total < 1_000_000:
                    await asyncio.sleep(0.005)
            assert total == octets // 100_000 * 100_000
            writer.close()
        assert max(unsent) < 500_000

    run(main)


def test_a_client_that_sends_without_end_is_held_back(run: Run) -> None:
    held: list[int] = []

    async def session(connection: Connection) -> None:
        await asyncio.sleep(0.2)
        data = await connection.read()
        held.append(len(data))
        while await connection.read():
            pass

    async def main() -> None:
        async with listening(session) as listener:
            _, writer = await dial(listener)
            for _ in range(64):
                writer.write(bytes(1 << 20))
            writer.close()
            await writer.wait_closed()
        # one read of the loop (256 KiB) may come on top of the bound
        assert 65_536 <= held[0] <= 65_536 + (256 << 10)

    run(main)


def test_a_client_that_stops_reading_is_dropped(run: Run) -> None:
    ended = asyncio.Event()

    async def session(connection: Connection) -> None:
        try:
            while True:
                connection.write(bytes(100_000))
                await connection.drain()
        except ConnectionLost:
            ended.set()

    async def main() -> None:
        bounds = ConnectionBounds(stalled_timeout_seconds=0.3)
        async with listening(session, bounds=bounds) as listener:
            client = socket.create_connection(listener.addresses[0])
            await asyncio.wait_for(ended.wait(), 10)
            client.close()

    run(main)


def test_idle_and_absolute_timeouts_reach_the_session(run: Run) -> None:
    seen: list[str] = []

    async def session(connection: Connection) -> None:
        if not seen:
            connection.idle_timeout_seconds = 0.2
        else:
            connection.set_deadline(0.3)
        try:
            await echo(connection)
        except TimedOut:
            seen.append("timed out")
            connection.write(b"bye\r\n")

    async def main() -> None:
        async with listening(session) as listener:
            reader, writer = await dial(listener)
            for _ in range(4):  # every octet puts the idle timeout off
                await asyncio.sleep(0.1)
                writer.write(b"x")
                assert await reader.readexactly(1) == b"x"
            assert await reader.read() == b"bye\r\n"
            writer.close()
            reader, writer = await dial(listener)
            for _ in range(100):  # nothing puts the deadline off
                if len(seen) == 2:  # what is written to a closed connection would end it before the answer is read
                    break
                writer.write(b"x")
                await asyncio.sleep(0.01)
            assert (await reader.read()).endswith(b"bye\r\n")
            writer.close()
        assert seen == ["timed out", "timed out"]

    run(main)


def test_draining_tells_sessions_waits_for_them_and_cuts_the_rest(run: Run) -> None:
    async def polite(connection: Connection) -> None:
        try:
            await echo(connection)
        except Draining:
            connection.write(b"* BYE\r\n")

    async def stubborn(connection: Connection) -> None:
        await asyncio.sleep(3600)

    async def main() -> None:
        async with listening(polite) as listener, listening(stubborn) as other:
            address = listener.addresses[0]
            reader, writer = await dial(listener)
            writer.write(b"x")
            await reader.readexactly(1)
            second, second_writer = await dial(other)
            await asyncio.sleep(0.05)
            began = asyncio.get_running_loop().time()
            await asyncio.gather(listener.drain(5.0), other.drain(0.3), reading_bye(reader, writer))
            assert asyncio.get_running_loop().time() - began < 2.0
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(*address)
            with contextlib.suppress(ConnectionResetError):
                assert await second.read() == b""
            second_writer.close()

    async def reading_bye(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.read() == b"* BYE\r\n"
        writer.close()

    run(main)


def test_who_waits_in_the_queue_when_draining_begins_is_told_too(run: Run) -> None:
    async def polite(connection: Connection) -> None:
        connection.write(b"hello\r\n")
        try:
            await echo(connection)
        except Draining:
            connection.write(b"* BYE\r\n")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with listening(polite) as listener:
            client = socket.create_connection(listener.addresses[0])  # without a turn of the loop: nobody accepts
            client.setblocking(False)
            began = loop.time()
            draining = asyncio.ensure_future(listener.drain(5.0))
            heard = b""
            while piece := await loop.sock_recv(client, 100):
                heard += piece
            client.close()
            await draining
            assert heard == b"hello\r\n* BYE\r\n"
            assert loop.time() - began < 2.0

    run(main)


def test_an_uninterruptible_read_is_ended_by_time_alone(run: Run) -> None:
    outcome: list[object] = []

    async def session(connection: Connection) -> None:
        connection.idle_timeout_seconds = 0.3
        connection.interrupt(Draining())
        outcome.append(await connection.read(interruptible=False))
        try:
            await connection.read(interruptible=False)
        except Interruption as error:
            outcome.append(type(error))

    async def main() -> None:
        async with listening(session) as listener:
            reader, writer = await dial(listener)
            writer.write(b"rest of a literal")
            assert await reader.read() == b""
            writer.close()
        assert outcome == [b"rest of a literal", TimedOut]

    run(main)


def test_connections_above_the_limit_get_the_protocols_line(run: Run) -> None:
    limits = ConnectionLimits(connections_per_address=1, exempt=())
    refusals = {Refusal.TOO_MANY_FROM_ADDRESS: b"-ERR too many\r\n"}

    async def main() -> None:
        async with listening(echo, limits=limits, refusals=refusals) as listener:
            reader, writer = await dial(listener)
            writer.write(b"x")
            await reader.readexactly(1)
            refused, refused_writer = await dial(listener)
            assert await refused.read() == b"-ERR too many\r\n"
            refused_writer.close()
            writer.close()
            assert await reader.read() == b""
            await asyncio.sleep(0.05)
            reader, writer = await dial(listener)
            writer.write(b"y")
            assert await reader.readexactly(1) == b"y"
            writer.close()
            refusals_seen = value(
                listener, "restante_gateway_connections_refused_total", reason="too_many_from_address"
            )
            assert refusals_seen == 1

    run(main)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_start_tls_forgets_what_was_sent_in_clear(run: Run, make_pair: MakePair, version: ssl.TLSVersion) -> None:
    """RFC 3501 6.2.1, RFC 2595 4 and RFC 3207 4.2 require it."""
    certificates = Certificates([make_pair("server", "localhost")])
    peers: list[Peer] = []
    all_sent = asyncio.Event()

    async def session(connection: Connection) -> None:
        assert (await connection.read()).startswith(b"STLS\r\n")
        await all_sent.wait()  # the rest of the clear text has arrived apart
        connection.write(b"+OK\r\n")
        await connection.start_tls(certificates.context)
        peers.append(connection.peer)
        await echo(connection)

    async def main() -> None:
        async with listening(session) as listener:
            loop = asyncio.get_running_loop()
            reader, writer = await dial(listener)
            writer.write(b"STLS\r\nUSER ")
            await asyncio.sleep(0.02)
            writer.write(b"mallory\r\n")
            await asyncio.sleep(0.05)
            all_sent.set()
            assert await reader.readline() == b"+OK\r\n"
            context = insecure()
            context.minimum_version = context.maximum_version = version
            transport = await loop.start_tls(
                writer.transport, writer.transport.get_protocol(), context, server_hostname="localhost"
            )
            assert transport is not None
            reader._transport = transport  # type: ignore[attr-defined]
            octets = bytes(range(256)) * 2000
            transport.write(octets)
            assert await reader.readexactly(len(octets)) == octets
            transport.close()
        assert peers[0].tls is not None
        assert peers[0].tls.version == version.name.replace("_", ".")

    run(main)


def test_implicit_tls_chooses_the_certificate_by_name(run: Run, make_pair: MakePair) -> None:
    pairs = [make_pair("first", "first.example.test"), make_pair("second", "*.second.example.test")]
    certificates = Certificates(pairs)

    async def names(listener: Listener, server_name: str) -> str:
        _, writer = await dial(listener, ssl=insecure(), server_hostname=server_name)
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return "first" if ssl.DER_cert_to_PEM_cert(der).strip() in pairs[0].certificate.read_text() else "second"

    async def main() -> None:
        async with listening(echo, certificates, implicit_tls=True) as listener:
            assert await names(listener, "first.example.test") == "first"
            assert await names(listener, "POP.second.example.test") == "second"
            assert await names(listener, "unknown.example.test") == "first"

    run(main)


def test_a_tls_client_that_closes_properly_ends_the_session(run: Run, make_pair: MakePair) -> None:
    certificates = Certificates([make_pair("server", "localhost")])
    ended = asyncio.Event()

    async def session(connection: Connection) -> None:
        await echo(connection)
        ended.set()

    async def main() -> None:
        async with listening(session, certificates, implicit_tls=True) as listener:
            reader, writer = await dial(listener, ssl=insecure())
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            writer.close()
            await asyncio.wait_for(ended.wait(), 5)

    run(main)


def test_what_is_no_tls_is_dropped_and_counted(run: Run, make_pair: MakePair) -> None:
    certificates = Certificates([make_pair("server", "localhost")])

    async def main() -> None:
        bounds = ConnectionBounds(handshake_timeout_seconds=0.2, linger_seconds=0.1)
        async with listening(echo, certificates, implicit_tls=True, bounds=bounds) as listener:
            reader, writer = await dial(listener)
            writer.write(b"USER alice\r\n")
            await reader.read()
            writer.close()
            silent, silent_writer = await dial(listener)
            assert await silent.read() == b""
            silent_writer.close()
            await asyncio.sleep(0.2)
            assert value(listener, "restante_gateway_connections_refused_total", reason="tls") == 2
            assert value(listener, "restante_gateway_connections") == 0

    run(main)


def test_the_proxy_header_names_the_client_before_tls(run: Run, make_pair: MakePair) -> None:
    certificates = Certificates([make_pair("server", "localhost")])
    peers: list[Peer] = []

    async def session(connection: Connection) -> None:
        peers.append(connection.peer)
        await echo(connection)

    async def main() -> None:
        async with listening(session, certificates, implicit_tls=True, proxy_from=LOCAL) as listener:
            host, port = listener.addresses[0]
            loop = asyncio.get_running_loop()
            raw = socket.create_connection((host, port))
            raw.setblocking(False)
            for piece in (b"PROXY TCP4 192.0.2.1 ", b"198.51.100.7 40000 995", b"\r", b"\n"):
                await loop.sock_sendall(raw, piece)
                await asyncio.sleep(0.02)
            reader, writer = await asyncio.open_connection(sock=raw, ssl=insecure(), server_hostname="localhost")
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            writer.close()
        assert peers[0].client == Endpoint("192.0.2.1", 40000)
        assert peers[0].local == Endpoint("198.51.100.7", 995)

    run(main)


def test_behind_a_proxy_nobody_is_on_loopback(run: Run) -> None:
    peers: list[Peer] = []

    async def session(connection: Connection) -> None:
        peers.append(connection.peer)
        await echo(connection)

    async def main() -> None:
        async with listening(session, proxy_from=LOCAL) as listener:
            for header in (b"PROXY UNKNOWN\r\n", b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n"):
                reader, writer = await dial(listener)
                writer.write(header + b"x")
                assert await reader.readexactly(1) == b"x"
                writer.close()
        assert [peer.loopback for peer in peers] == [False, False]
        assert peers[0].client.host == "127.0.0.1"

    run(main)


def test_only_listed_proxies_are_served_and_only_with_a_header(run: Run) -> None:
    async def main() -> None:
        async with listening(echo, proxy_from=LOCAL) as listener:
            reader, writer = await dial(listener)
            writer.write(b"USER alice\r\n")
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
            assert value(listener, "restante_gateway_connections_refused_total", reason="proxy header") == 1
        async with listening(echo, proxy_from=parse_networks(("192.0.2.0/24",))) as listener:
            reader, writer = await dial(listener)
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
            assert value(listener, "restante_gateway_connections_refused_total", reason="no proxy") == 1

    run(main)


def test_a_client_that_resets_the_connection_fails_nothing(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    async def session(connection: Connection) -> None:
        connection.write(b"x")
        await asyncio.sleep(0.05)

    async def main() -> None:
        async with listening(session) as listener:
            for _ in range(5):
                client = socket.create_connection(listener.addresses[0])
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                client.setblocking(False)
                await asyncio.get_running_loop().sock_recv(client, 1)
                client.close()  # a reset
            await asyncio.sleep(0.3)
            assert value(listener, "restante_gateway_connections") == 0

    run(main)
    assert "session failed" not in capsys.readouterr().out


def test_a_failing_session_ends_alone_and_is_logged(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    async def session(connection: Connection) -> None:
        if (await connection.read()) == b"fail":
            raise ValueError("inside")
        connection.write(b"fine")

    async def main() -> None:
        async with listening(session) as listener:
            reader, writer = await dial(listener)
            writer.write(b"fail")
            assert await reader.read() == b""
            writer.close()
            reader, writer = await dial(listener)
            writer.write(b"x")
            assert await reader.read() == b"fine"
            writer.close()
        assert value(listener, "restante_gateway_connections") == 0

    run(main)
    out = capsys.readouterr()
    assert "session failed" in out.out + out.err


def test_what_is_gathered_leaves_with_the_next_write_or_read(run: Run) -> None:
    async def session(connection: Connection) -> None:
        connection.gather(b"a")
        await asyncio.sleep(0.1)
        connection.gather(b"b")
        connection.write(b"c")
        await asyncio.sleep(0.1)
        connection.gather(b"d")
        await connection.read()

    async def main() -> None:
        async with listening(session) as listener:
            reader, writer = await dial(listener)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    raise AssertionError(await reader.read(1))
            assert await reader.read(10) == b"abc"
            assert await reader.read(10) == b"d"
            writer.close()

    run(main)


class Exhausted(socket.socket):
    """A listening socket in a process that has no free file descriptor for a moment."""

    def __init__(self, fileno: int, failures: int) -> None:
        super().__init__(fileno=fileno)
        self.failures = failures

    def accept(self) -> tuple[socket.socket, Any]:
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, "too many open files")
        return super().accept()


def test_running_out_of_descriptors_pauses_accepting_and_no_more(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        (bound,) = sockets.bind("127.0.0.1", 0)
        listener = Listener(
            ListenerSettings("test", accept_pause_seconds=0.05),
            [Exhausted(bound.detach(), failures=2)],
            echo,
            limiter=ConnectionLimiter(ConnectionLimits()),
            metrics=GatewayMetrics("test", CollectorRegistry()),
        )
        listener.start()
        reader, writer = await dial(listener)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        writer.close()
        await listener.drain(1.0)

    run(main)
    assert capsys.readouterr().out.count("cannot accept") == 2
