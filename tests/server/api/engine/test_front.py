"""The TCP ports of the core: limits, certificates, addresses, and unchanged octets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio

from restante import errors
from restante.v1.content_pb2 import UPLOAD_KIND_MESSAGE, ReadContentRequest, UploadContentRequest
from restante.v1.mailbox_pb2 import GetMailboxRequest
from restante.v1.message_pb2 import SECTION_KIND_WHOLE, AppendMessageRequest, Section
from restante.v1.session_pb2 import GetMechanismsRequest
from restante.v1.sync_pb2 import SyncMailboxRequest
from restante_server.api.engine.identity import Channel
from tests.harness.requirements import missing
from tests.server.api import http2
from tests.server.api.served import Authority, Served, request_id, served, token_metadata

together = pytest.mark.asyncio(loop_scope="module")

SECONDS = 30.0
QUICK = 3.0  # api_handshake_seconds of the core of this module


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def core(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    bounds = {"CORE__API_CONNECTIONS": "12", "CORE__API_CONNECTIONS_PER_ADDRESS": "5"}
    async with served(Path(tmp_path_factory.mktemp("front")), **bounds, CORE__API_HANDSHAKE_SECONDS=str(QUICK)) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def undisturbed(request: pytest.FixtureRequest) -> None:
    """Wait until the connections of the previous test have closed."""
    if "core" in request.fixturenames:
        assert await eventually(request.getfixturevalue("core"))


def context(core: Served, *protocols: str) -> ssl.SSLContext:
    made = ssl.create_default_context(cadata=core.authority.certificate.decode())
    if protocols:
        made.set_alpn_protocols(list(protocols))
    return made


async def by_tls(core: Served, host: str = "127.0.0.1", *protocols: str) -> tuple[Any, Any]:
    tls = context(core, *(protocols or ("h2",)))
    return await asyncio.wait_for(
        asyncio.open_connection(host, core.process.api_port, ssl=tls, server_hostname="localhost"), SECONDS
    )


async def closed(reader: asyncio.StreamReader, seconds: float = SECONDS) -> float:
    """Wait until the server closes, and return the seconds waited."""
    began = time.monotonic()
    with contextlib.suppress(ConnectionError):
        await asyncio.wait_for(reader.read(), seconds)
    return time.monotonic() - began


async def answers(core: Served, address: str = "") -> bool:
    """Whether the API serves a new connection, on the gateways' socket or by TLS."""
    channel = core.channel(address)
    try:
        await core.call("SessionService/GetMechanisms", GetMechanismsRequest(), channel=channel, timeout=5)
    except errors.UnknownReason:
        return False
    finally:
        await channel.close()
    return True


async def eventually(core: Served) -> bool:
    """Whether the API serves a new connection by TLS, once the core has noticed closed ones."""
    until = time.monotonic() + SECONDS
    while not await answers(core, core.tls_address):
        if time.monotonic() > until:
            return False
    return True


# --- Bounds ----------------------------------------------------------------------------------------------------------


@together
async def test_one_address_has_so_many_connections_and_the_others_theirs(core: Served) -> None:
    held = [await asyncio.open_connection("127.0.0.1", core.process.api_port) for _ in range(5)]
    late, _ = await asyncio.open_connection("127.0.0.1", core.process.api_port)
    assert await closed(late) < QUICK
    other, writer = await asyncio.open_connection("127.0.0.1", core.process.api_port, local_addr=("127.0.0.3", 0))
    writer.write(b"not TLS\r\n\r\n")
    assert await closed(other) < SECONDS
    assert await answers(core), "mail goes on"
    for _, writer in held:
        writer.close()
    assert await eventually(core)


@together
async def test_the_port_has_so_many_connections_in_all_and_mail_goes_on(core: Served) -> None:
    held = []
    for number in range(12):
        source = (f"127.0.1.{number}", 0)
        held.append(await asyncio.open_connection("127.0.0.1", core.process.api_port, local_addr=source))
    late, _ = await asyncio.open_connection("127.0.0.1", core.process.api_port, local_addr=("127.0.2.1", 0))
    assert await closed(late) < QUICK
    assert await answers(core)
    for _, writer in held:
        writer.close()
    assert await eventually(core)


@together
async def test_a_client_that_begins_no_handshake_is_not_waited_for(core: Served) -> None:
    reader, _ = await asyncio.open_connection("127.0.0.1", core.process.api_port)
    assert QUICK / 2 < await closed(reader) < 5 * QUICK


@together
async def test_a_client_that_says_nothing_by_tls_is_not_waited_for(core: Served) -> None:
    reader, writer = await by_tls(core)
    assert QUICK / 2 < await closed(reader) < 8 * QUICK
    writer.close()


@together
@pytest.mark.parametrize("octets", [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100, b"\x16\x03\x01\xff\xff" + b"x" * 70_000])
async def test_what_is_no_tls_ends_that_connection_alone(core: Served, octets: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", core.process.api_port)
    writer.write(octets)
    await closed(reader)
    writer.close()
    assert await eventually(core)


@together
async def test_a_client_of_another_protocol_is_sent_away(core: Served) -> None:
    reader, writer = await by_tls(core, "127.0.0.1", "http/1.1")
    assert await closed(reader) < QUICK
    writer.close()


# --- Client addresses ------------------------------------------------------------------------------------------------


@together
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_client_reaches_either_address_of_localhost_and_is_known_by_it(
    core: Served, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if host == "::1" and not _has_ipv6():
        missing("this machine has no IPv6")
    seen: list[Channel] = []
    whole = core.core.authenticator.caller

    async def caller(metadata: Any, channel: Channel) -> Any:
        seen.append(channel)
        return await whole(metadata, channel)

    monkeypatch.setattr(core.core.authenticator, "caller", caller)
    reader, writer = await by_tls(core, host)
    writer.write(http2.begin_call("/restante.v1.SyncService/Watch"))
    await asyncio.wait_for(reader.read(100), SECONDS)
    until = time.monotonic() + SECONDS
    while not seen and time.monotonic() < until:
        await asyncio.sleep(0.02)
    assert seen == [Channel(tls=True, peer_address=host)]
    writer.close()


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@together
async def test_a_call_of_a_connection_that_has_gone_has_no_caller(core: Served) -> None:
    front = core.process.fronts._api
    assert front is not None
    with pytest.raises(errors.Cancelled):
        front.channel("unix:/nowhere")


# --- Octets ----------------------------------------------------------------------------------------------------------


@together
async def test_much_comes_through_both_ways_unchanged_while_a_client_is_slow(core: Served) -> None:
    channel = core.channel(core.tls_address)
    session = await core.session("alice", channel=channel)
    metadata = token_metadata(session.session_token)
    line = bytes(range(33, 109)) + b"\r\n"
    content = b"Subject: large\r\n\r\n" + line * 100_000
    assert len(content) > 7_000_000

    async def pieces() -> AsyncIterator[UploadContentRequest]:
        for start in range(0, len(content), 256 << 10):
            yield UploadContentRequest(kind=UPLOAD_KIND_MESSAGE, octets=content[start : start + (256 << 10)])

    upload = await core.stub("ContentService/UploadContent", channel)(pieces(), metadata=metadata, timeout=60)
    request = AppendMessageRequest(folder_id=1, upload_id=upload.upload_id, request_id=request_id())
    message = await core.call("MessageService/AppendMessage", request, token=session.session_token, channel=channel)
    wanted = ReadContentRequest(message_id=message.message_id, section=Section(kind=SECTION_KIND_WHOLE))
    reading = core.stub("ContentService/ReadContent", channel)(wanted, metadata=metadata, timeout=60)
    got = bytearray((await reading.read()).octets)
    await asyncio.sleep(0.5)  # by now every buffer on the way is full
    assert await answers(core), "nobody else waits for a slow client"
    while (piece := await reading.read()) is not grpc.aio.EOF:
        got += piece.octets
    assert bytes(got).endswith(content[-1_000:]) and content.split(b"\r\n\r\n", 1)[1] in bytes(got)
    await channel.close()


# --- Certificates ----------------------------------------------------------------------------------------------------


async def shown(core: Served, name: str) -> bytes:
    """The certificate for a client that names `name`."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    tls.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection("127.0.0.1", core.process.api_port, ssl=tls, server_hostname=name)
    der: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return ssl.DER_cert_to_PEM_cert(der).strip().encode()


@pytest.mark.parametrize("bad", ["certificate", "key"])
async def test_a_new_pair_is_used_and_a_bad_one_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, bad: str
) -> None:
    async with served(tmp_path) as core:
        first = await shown(core, "localhost")
        key, chain = core.authority.pair("localhost", ("localhost",))
        (tmp_path / "key.pem").write_bytes(key)
        (tmp_path / "cert.pem").write_bytes(chain)
        core.process.reload(core.process.settings)
        second = await shown(core, "localhost")
        assert first != second == chain.strip()
        other_key, other_chain = Authority().pair("localhost", ("localhost",))
        (tmp_path / f"{'cert' if bad == 'certificate' else 'key'}.pem").write_bytes(
            b"no certificate" if bad == "certificate" else other_key
        )
        core.process.reload(core.process.settings)
        assert await shown(core, "localhost") == second
        assert await answers(core, core.tls_address)
        assert other_chain


async def test_files_that_change_are_read_without_being_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from restante_server import app

    monkeypatch.setattr(app, "CERTIFICATE_SECONDS", 0.2)
    async with served(tmp_path) as core:
        first = await shown(core, "localhost")
        key, chain = core.authority.pair("localhost", ("localhost",))
        for name, octets in (("key.pem", key), ("cert.pem", chain)):
            (tmp_path / f"new-{name}").write_bytes(octets)
            os.replace(tmp_path / f"new-{name}", tmp_path / name)
        until = time.monotonic() + SECONDS
        while (now := await shown(core, "localhost")) == first and time.monotonic() < until:
            await asyncio.sleep(0.1)
        assert now == chain.strip()


# --- The end ---------------------------------------------------------------------------------------------------------


async def test_the_end_of_the_core_is_announced_to_connected_clients(tmp_path: Path) -> None:
    async with served(tmp_path) as core:
        channel = core.channel(core.tls_address)
        session = await core.session("bob", channel=channel)
        call = core.stub("SyncService/SyncMailbox", channel)(
            SyncMailboxRequest(follow=True), metadata=token_metadata(session.session_token), timeout=30
        )
        assert (await call.read()).WhichOneof("change")
        await core.call("MailboxService/GetMailbox", GetMailboxRequest(), token=session.session_token, channel=channel)
        directory = Path(core.process.fronts._api._directory)  # type: ignore[union-attr]
        await core.process.stop()
        while await call.read() is not grpc.aio.EOF:
            pass
        assert await call.code() is grpc.StatusCode.OK, "a follower ends after a checkpoint"
        assert not directory.exists()
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", core.process.api_port)


@pytest.mark.parametrize("key", ["api", "gateway"])
async def test_a_port_that_is_taken_is_named_with_its_key(tmp_path: Path, key: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(OSError, match=f"core.{key}_port: cannot listen on 127.0.0.1:{port}: another program"):
            async with served(tmp_path, **{f"CORE__{key.upper()}_PORT": str(port)}):
                pass


def test_refusals_are_logged_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    from restante_process.limits import ConnectionLimits, Refusal
    from restante_server.api.engine.front import Front, FrontSettings

    async def refuse() -> None:
        front = Front(FrontSettings("api", ConnectionLimits()), (), None)  # type: ignore[arg-type]
        for _ in range(1_000):
            front._note_refusal(Refusal.TOO_MANY_CONNECTIONS)
        front._report()
        await front.close()

    with caplog.at_level(logging.WARNING):
        asyncio.run(refuse())
    assert [record.getMessage() for record in caplog.records] == [
        "api: connection refused: too many connections",
        "api: 1000 connections refused within a minute: too many connections",
    ]
