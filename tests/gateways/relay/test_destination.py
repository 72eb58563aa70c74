"""The relay on the way to domains with MTA-STS policies and TLSA records."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from restante.v1.tls_pb2 import TlsPolicyKind, TlsResultType
from restante_mail.authentication.dane import public_key_info
from tests.gateways.relay.conftest import running
from tests.harness.certificates import Authority
from tests.harness.dns_server import DnsServer, dns_server
from tests.harness.outbound_queue import OutboundQueue
from tests.harness.signed_dns import signed_dns_server, unbound
from tests.harness.smtp_peer import SmtpPeer, smtp_peer

ZONE = """
example.net       MX   10 mx.example.net.
mx.example.net    A    127.0.0.1
two.example       MX   10 stranger.example.
two.example       MX   20 mx.example.net.
stranger.example  A    127.0.0.1
_smtp._tls.example.net TXT "v=TLSRPTv1; rua=mailto:reports@example.net"
"""
POLICY = "version: STSv1\nmode: {}\nmx: mx.example.net\nmax_age: 1000\n"
BOB = "bob@example.net"
RELAYED, REFUSED = [("relayed", "2.0.0")], [("deferred", "4.7.5")]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def zone() -> AsyncIterator[DnsServer]:
    async with dns_server(ZONE) as server:
        yield server


@pytest.fixture
async def peer(authority: Authority) -> AsyncIterator[SmtpPeer]:
    async with smtp_peer(tls=authority.issue("mx.example.net", with_root=False).server()) as peer:
        yield peer


def to(peer: SmtpPeer, nameserver: str, authority: Authority | None, **more: Any) -> dict[str, Any]:
    """Settings of a relay that finds the peer by the DNS."""
    return {
        "nameservers": (nameserver,),
        "allow_private": ("127.0.0.0/8",),
        "port": peer.port,
        "authorities": str(authority.pem) if authority is not None else "",
        "report_seconds": 0.05,
        **more,
    }


def with_policy(mode: str, domain: str = "example.net") -> OutboundQueue:
    core = OutboundQueue()
    core.store_policy(domain, "1", POLICY.format(mode).encode())
    return core


async def test_an_enforced_policy_demands_a_valid_certificate(
    zone: DnsServer, peer: SmtpPeer, authority: Authority
) -> None:  # RFC 8461 5
    core = with_policy("enforce")
    async with running(core, {}, **to(peer, zone.address, authority)):
        assert await core.outcomes(core.put(BOB)) == RELAYED
        assert peer.messages[0].secured
    core = with_policy("enforce")
    async with running(core, {}, **to(peer, zone.address, None)):  # the authority is not trusted
        lease = core.put(BOB)
        assert await core.outcomes(lease) == REFUSED
        assert "certificate refused" in core.reports[lease][0].diagnostic
    assert len(peer.messages) == 1
    for mode in ("testing", "none"):
        core = with_policy(mode)
        async with running(core, {}, **to(peer, zone.address, None)):
            assert await core.outcomes(core.put(BOB)) == RELAYED
            assert peer.messages[-1].secured


async def test_an_enforced_policy_leaves_no_way_in_clear(zone: DnsServer, authority: Authority) -> None:
    async with smtp_peer() as peer:
        core = with_policy("enforce")
        async with running(core, {}, **to(peer, zone.address, authority)):
            assert await core.outcomes(core.put(BOB)) == [("deferred", "4.7.4")]
        assert not any(command.startswith("MAIL") for command in peer.commands)
        core = with_policy("testing")
        async with running(core, {}, **to(peer, zone.address, authority)):
            assert await core.outcomes(core.put(BOB)) == RELAYED
        core = with_policy("enforce")
        async with running(core, {}, **to(peer, zone.address, authority, mta_sts=False)):
            assert await core.outcomes(core.put(BOB)) == RELAYED


async def test_servers_that_the_policy_does_not_name_are_passed_over(
    zone: DnsServer, peer: SmtpPeer, authority: Authority
) -> None:  # RFC 8461 4.1
    core = with_policy("enforce", "two.example")
    async with running(core, {}, **to(peer, zone.address, authority)):
        assert await core.outcomes(core.put("bob@two.example", destination="two.example")) == RELAYED
        assert peer.connections == 1
        zone.load("two.example MX 10 stranger.example.\nstranger.example A 127.0.0.1")
    core = with_policy("enforce", "two.example")
    async with running(core, {}, **to(peer, zone.address, authority)):
        lease = core.put("bob@two.example", destination="two.example")
        assert await core.outcomes(lease) == REFUSED
        assert "does not name this server" in core.reports[lease][0].diagnostic
    assert len(peer.messages) == 1


async def test_sessions_are_reported_to_the_core(zone: DnsServer, peer: SmtpPeer, authority: Authority) -> None:
    core, registry = with_policy("enforce"), CollectorRegistry()
    async with running(core, {}, registry=registry, **to(peer, zone.address, authority)):
        await core.outcomes(core.put(BOB))
        (counted,) = await core.tls_sessions(1)
        assert (counted.policy_domain, counted.successful_count, counted.failures[:]) == ("example.net", 1, [])
        assert counted.kind == TlsPolicyKind.TLS_POLICY_KIND_STS and counted.mx_patterns == ["mx.example.net"]
        assert counted.policy_lines == POLICY.format("enforce").split("\n")[:-1]
        assert counted.report_record == "v=TLSRPTv1; rua=mailto:reports@example.net"
    labels = {"policy": "sts", "result": "success"}
    assert registry.get_sample_value("restante_relay_tls_sessions_total", labels) == 1
    core.busy_tls_reports = 2  # the core is away; the counts come later
    async with smtp_peer() as clear, running(core, {}, **to(clear, zone.address, authority)):
        await core.outcomes(core.put("bob@mx.example.net", destination="mx.example.net"))
        _, counted = await core.tls_sessions(2)
    assert counted.kind == TlsPolicyKind.TLS_POLICY_KIND_NONE and counted.policy_domain == "mx.example.net"
    (failure,) = counted.failures
    assert failure.result == TlsResultType.TLS_RESULT_TYPE_STARTTLS_NOT_SUPPORTED and failure.session_count == 1
    assert failure.receiving_host == "mx.example.net"
    assert failure.sending_address == failure.receiving_address == "127.0.0.1"


async def test_octets_of_a_server_are_reported_as_text(zone: DnsServer, peer: SmtpPeer, authority: Authority) -> None:
    core = OutboundQueue()
    peer.replies["STARTTLS"] = b"454 4.7.0 caf\xe9\x07 later\r\n"
    async with running(core, {}, **to(peer, zone.address, authority)):
        assert await core.outcomes(core.put(BOB)) == RELAYED
        (counted,) = await core.tls_sessions(1)
    assert counted.failures[0].reason == "the server refused STARTTLS: 454 4.7.0 caf\ufffd later"


async def test_counts_are_reported_before_the_process_ends(
    zone: DnsServer, peer: SmtpPeer, authority: Authority
) -> None:
    core = OutboundQueue()
    async with running(core, {}, **to(peer, zone.address, authority, report_seconds=60.0)):
        await core.outcomes(core.put(BOB))
    (counted,) = await core.tls_sessions(1)
    assert counted.successful_count == 1


@pytest.mark.client
@pytest.mark.needs("unbound")
async def test_tlsa_records_decide_about_a_server(tmp_path: Path, authority: Authority) -> None:  # RFC 7672
    issued = authority.issue("mx.example.net")
    digest = hashlib.sha256(public_key_info(issued.leaf)).hexdigest()
    anchor = hashlib.sha256(authority.root).hexdigest()
    async with smtp_peer(tls=issued.server()) as peer, smtp_peer(port=peer.port, host="127.0.0.2") as clear:
        service = f"_{peer.port}._tcp"
        records = "\n".join(
            [
                *(f"{name} MX 10 {host}" for name, host in _DOMAINS.items()),
                *(f"{host} A 127.0.0.1" for host in ("ee", "ta", "wrong", "unusable", "broken", "none", "mx")),
                f"clear A 127.0.0.2\n{service}.clear TLSA 3 1 1 {digest}",
                f"{service}.ee TLSA 3 1 1 {digest}\n{service}.ta TLSA 2 0 1 {anchor}",
                f"{service}.wrong TLSA 3 1 1 {'00' * 32}\n{service}.broken TLSA 3 1 1 {digest}",
                f"{service}.unusable TLSA 1 1 1 {digest}\nalias CNAME mx\n{service}.mx TLSA 2 0 1 {anchor}",
            ]
        )
        async with signed_dns_server("example.net", records) as signed, dns_server() as others:
            signed.spoil(f"{service}.broken.example.net", "TLSA")
            async with unbound(tmp_path, signed, others, ["example.org"]) as nameserver:
                core = OutboundQueue()
                async with running(core, {}, **to(peer, nameserver, None, dnssec=True, mta_sts=False)):
                    ends = {name: await core.outcomes(_mail(core, name)) for name in _DOMAINS}
                    assert ends == {
                        "d-ee": RELAYED,
                        "d-ta": [("deferred", "4.7.5")],  # the certificate is for mx.example.net
                        "d-alias": RELAYED,  # whose TLSA records are those of mx.example.net
                        "d-wrong": [("deferred", "4.7.5")],
                        "d-unusable": RELAYED,  # RFC 7672 2.2: encrypted, not authenticated
                        "d-broken": [("deferred", "4.4.3")],
                        "d-none": RELAYED,
                        "d-clear": [("deferred", "4.7.4")],
                    }
        assert all(message.secured for message in peer.messages) and not clear.messages
    kinds: defaultdict[str, set[str]] = defaultdict(set)
    failures: defaultdict[str, set[str]] = defaultdict(set)
    for one in await core.tls_sessions(8):  # all of them: the relay has ended
        name = one.policy_domain.partition(".")[0]
        kinds[name].add(TlsPolicyKind.Name(one.kind).removeprefix("TLS_POLICY_KIND_"))
        failures[name] |= {TlsResultType.Name(each.result).removeprefix("TLS_RESULT_TYPE_") for each in one.failures}
    assert kinds == {name: {"NONE"} if name == "d-none" else {"TLSA"} for name in _DOMAINS}
    assert failures == {
        "d-ee": set(),
        "d-ta": {"CERTIFICATE_HOST_MISMATCH"},
        "d-alias": set(),
        "d-wrong": {"VALIDATION_FAILURE"},
        "d-unusable": {"TLSA_INVALID"},
        "d-broken": {"DNSSEC_INVALID"},
        "d-none": set(),
        "d-clear": {"STARTTLS_NOT_SUPPORTED"},
    }


_DOMAINS = {f"d-{host}": host for host in ("ee", "ta", "alias", "wrong", "unusable", "broken", "none", "clear")}


def _mail(core: OutboundQueue, name: str) -> int:
    domain = f"{name}.example.net"
    return core.put(f"bob@{domain}", destination=domain)
