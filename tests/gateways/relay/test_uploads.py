"""TLS reports to web servers: sent by the relay, kept and tried again by a real core."""

from __future__ import annotations

import asyncio
import gzip
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import update

from restante.link import CoreLink
from restante.v1 import methods, tls_pb2
from restante.v1 import tls_reports_pb2 as v1
from restante_gateways.net.resolver import Resolver
from restante_gateways.relay.routes import is_public
from restante_gateways.relay.tls.https import Bounds, Https
from restante_gateways.relay.tls.security import verified_context
from restante_gateways.relay.tls.uploads import Uploads
from restante_server.db import schema
from restante_server.db.operation import Write
from restante_server.transport.feedback import outgoing
from restante_server.transport.feedback.outgoing import Reporter
from restante_server.transport.feedback.tls_reports import DailyTls
from tests.gateways.relay.conftest import running
from tests.harness.certificates import Authority
from tests.harness.dns_server import DnsServer, dns_server
from tests.harness.local_core import LocalCore, open_local_core, prepare_store
from tests.harness.policy_server import PolicyServer, policy_server, response
from tests.harness.requirements import program

NAME = "reports.example.net"
ZONE = f"{NAME} A 127.0.0.1\n"
DAY_SECONDS = 86_400
WAITING, DELIVERED = v1.TLS_REPORT_DELIVERY_STATE_WAITING, v1.TLS_REPORT_DELIVERY_STATE_DELIVERED


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("store") / "template"
    prepare_store(directory)
    return directory


@dataclass
class Reports:
    """A core with counted sessions, a web server and the DNS."""

    core: LocalCore
    web: PolicyServer
    zone: DnsServer
    authority: Authority

    async def due(self, *urls: str) -> None:
        """Let a report of yesterday be due to these addresses; default: the web server's."""
        record = "v=TLSRPTv1; rua=" + ",".join(urls or [f"https://{NAME}:{self.web.port}/tls?v=1"])
        counted = tls_pb2.TlsSessions(
            policy_domain="example.net", kind=tls_pb2.TLS_POLICY_KIND_NONE, successful_count=3, report_record=record
        )
        now = int(time.time())
        relay: CoreLink = await self.core.link("relay")
        request = tls_pb2.ReportTlsSessionsRequest(
            request_id=secrets.token_bytes(16), counted_at=Timestamp(seconds=now - DAY_SECONDS), sessions=[counted]
        )
        await relay.execute(methods.REPORT_TLS_SESSIONS, request)
        core, reporter = self.core.process.core, Reporter("Example", "postmaster@example.test", "example.test")
        noon = (now // DAY_SECONDS * DAY_SECONDS + DAY_SECONDS // 2) * 1_000_000
        assert await outgoing.send(core.db, core.transport.settings, reporter, DailyTls(), noon) == 1

    async def uploads(self, *, private: bool = True) -> Uploads:
        resolver = Resolver([self.zone.address], [], lookup_seconds=1.0)
        context = verified_context(str(self.authority.pem))
        allowed = (lambda address: True) if private else is_public
        return Uploads(
            Https(resolver, allowed, context, Bounds(seconds=0.7, connect_seconds=0.3)), await self.core.link("relay")
        )

    async def shown(self) -> list[v1.TlsReportDelivery]:
        answer = await self.core.admin.execute(methods.LIST_TLS_REPORTS, v1.ListTlsReportsRequest())
        return [one for report in answer.reports for one in report.deliveries]


@pytest.fixture
async def reports(template: Path, tmp_path: Path) -> AsyncIterator[Reports]:
    authority = Authority(tmp_path)
    async with (
        open_local_core(template, tmp_path / "data", **{"reports.send": False}) as core,
        policy_server(authority.issue(NAME, with_root=False).server()) as web,
        dns_server(ZONE) as zone,
    ):
        web.answer = response(b"", status="201 Created")
        yield Reports(core, web, zone, authority)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await condition():
            await asyncio.sleep(0.02)


async def test_a_running_relay_posts_the_report(reports: Reports) -> None:  # RFC 8460 5.4
    await reports.due()
    link: CoreLink = await reports.core.link("relay")
    settings = {
        "nameservers": (reports.zone.address,),
        "allow_private": ("127.0.0.0/8",),
        "authorities": str(reports.authority.pem),
        "report_seconds": 0.1,
    }

    async def delivered() -> bool:
        return [one.state for one in await reports.shown()] == [DELIVERED]

    async with running(link, {}, **settings):  # type: ignore[arg-type]
        await until(delivered)
    (head,), (body,) = reports.web.requests, reports.web.bodies
    assert head.startswith(b"POST /tls?v=1 HTTP/1.1\r\n")
    assert f"host: {NAME}:{reports.web.port}\r\n".encode() in head.lower()
    assert b"content-type: application/tlsrpt+gzip\r\n" in head.lower()
    report = json.loads(gzip.decompress(body))
    assert report["policies"][0]["summary"]["total-successful-session-count"] == 3
    (one,) = await reports.shown()
    assert (one.attempt_count, one.detail) == (1, "HTTP status 201") and one.HasField("finished_at")


# A web server of another author: it prints its port, and then the request with the report.
NODE = """
const fs = require("fs"), https = require("https"), zlib = require("zlib");
const [certificate, key] = process.argv.slice(1).map((name) => fs.readFileSync(name));
const server = https.createServer({cert: certificate, key: key}, (request, response) => {
  const pieces = [];
  request.on("data", (piece) => pieces.push(piece));
  request.on("end", () => {
    const report = JSON.parse(zlib.gunzipSync(Buffer.concat(pieces)));
    const type = request.headers["content-type"];
    console.log(JSON.stringify({method: request.method, url: request.url, type, report}));
    response.writeHead(202).end("thanks");
  });
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
"""


@pytest.mark.needs("node")
async def test_node_takes_the_report(reports: Reports) -> None:
    files = reports.authority.issue(NAME, with_root=False).files
    node = await asyncio.create_subprocess_exec(
        program("node"), "-e", NODE, files.certificate, files.key, stdout=asyncio.subprocess.PIPE
    )
    assert node.stdout is not None
    try:
        async with asyncio.timeout(20):
            await reports.due(f"https://{NAME}:{int(await node.stdout.readline())}/v1/reports?of=tls")
            await (await reports.uploads()).deliver()
            seen = json.loads(await node.stdout.readline())
    finally:
        node.terminate()
        await node.wait()
    assert (seen["method"], seen["url"]) == ("POST", "/v1/reports?of=tls")
    assert seen["type"] == "application/tlsrpt+gzip"
    assert seen["report"]["policies"][0]["summary"]["total-successful-session-count"] == 3
    assert [(one.state, one.detail) for one in await reports.shown()] == [(DELIVERED, "HTTP status 202")]


async def test_a_long_report_arrives_whole(reports: Reports) -> None:
    await reports.due()
    document = secrets.token_bytes(300_000)  # which nothing can compress
    change = update(schema.report).values(document=document)
    await reports.core.process.core.db.write(Write(lambda tx: tx.execute(change).rowcount))
    await (await reports.uploads()).deliver()
    assert reports.web.bodies == [document] and [one.state for one in await reports.shown()] == [DELIVERED]


async def test_a_relay_that_does_not_send_posts_nothing(reports: Reports) -> None:
    await reports.due()
    async with running(await reports.core.link("relay"), {}, send=False, report_seconds=0.05):
        await asyncio.sleep(0.3)
    assert [one.attempt_count for one in await reports.shown()] == [0]


async def test_a_restart_of_the_core_loses_nothing(reports: Reports) -> None:
    await reports.due()
    await reports.core.stop()
    await reports.core.start()
    assert await (await reports.uploads()).deliver() == 1
    assert [one.state for one in await reports.shown()] == [DELIVERED]


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        (response(b"", status="301 Moved", headers=("Location: https://reports.example.net/x",)), "HTTP status 301"),
        (response(b"busy", status="503 Service Unavailable"), "HTTP status 503"),
        ([b"220 mail.example ESMTP\r\n"], "is not HTTP"),
        ([b"HTTP/1.1 200 OK\r\n", *[b"X-Header: y\r\n"] * 20_000], "is not HTTP"),
        ([b"HTTP/1.1 103 Early\r\n\r\n" * 10_000], "too long"),
        ([], "closed the connection"),
    ],
)
async def test_a_report_that_is_not_taken_waits_with_the_reason(
    reports: Reports, answer: list[bytes], detail: str
) -> None:
    await reports.due()
    reports.web.answer = answer
    uploads = await reports.uploads()
    assert await uploads.deliver() == 1
    (one,) = await reports.shown()
    assert one.state == WAITING and detail in one.detail and one.HasField("next_attempt_at")
    assert await uploads.deliver() == 0 and len(reports.web.requests) == 1


@pytest.mark.parametrize("status", ["200 OK", "413 Content Too Large"])
async def test_a_server_that_answers_before_it_has_read_is_understood(reports: Reports, status: str) -> None:
    await reports.due()
    reports.web.answer, reports.web.deaf = response(b"", status=status), True
    await (await reports.uploads()).deliver()
    (one,) = await reports.shown()
    assert one.detail == f"HTTP status {status[:3]}"


async def test_a_silent_server_ends_in_time(reports: Reports) -> None:
    await reports.due()
    reports.web.answer, reports.web.hangs = [], True
    await (await reports.uploads()).deliver()
    assert "no whole answer" in (await reports.shown())[0].detail


async def test_private_addresses_get_nothing(reports: Reports) -> None:
    await reports.due()
    await (await reports.uploads(private=False)).deliver()
    assert "only private addresses" in (await reports.shown())[0].detail and not reports.web.requests


async def test_an_untrusted_web_server_gets_nothing(reports: Reports) -> None:
    reports.zone.load(ZONE + "other.example.net A 127.0.0.1\n")
    await reports.due(f"https://other.example.net:{reports.web.port}/")
    await (await reports.uploads()).deliver()
    assert "certificate" in (await reports.shown())[0].detail and not reports.web.requests


async def test_every_destination_of_the_record_gets_the_report(reports: Reports) -> None:
    one, two = f"https://{NAME}:{reports.web.port}/1", f"https://{NAME}:{reports.web.port}/2"
    await reports.due(one, "mailto:alice@example.test", two, "https://gone.example.net/")
    await (await reports.uploads()).deliver()
    assert sorted(head.split()[1] for head in reports.web.requests) == [b"/1", b"/2"]
    states = {each.url: each.state for each in await reports.shown()}
    assert states == {one: DELIVERED, two: DELIVERED, "https://gone.example.net/": WAITING}
    (report,) = (await reports.core.admin.execute(methods.LIST_TLS_REPORTS, v1.ListTlsReportsRequest())).reports
    assert report.address == "alice@example.test"
