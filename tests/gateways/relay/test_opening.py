"""Connections to real TLS servers, and the demands of a rule on them."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import pytest

from restante_gateways.relay.connection import Connection
from restante_gateways.relay.routes import Hop
from restante_gateways.relay.tls.rules import Demand, TlsRule
from restante_gateways.relay.tls.security import Security
from restante_gateways.relay.tls.sessions import Sessions
from restante_gateways.relay.transaction import Unreachable
from restante_mail.authentication.dane import TlsaRecord, public_key_info
from restante_mail.authentication.tls_result import TlsPolicy, TlsResult
from tests.gateways.relay.conftest import HASTE
from tests.harness.certificates import Authority, Issued
from tests.harness.smtp_peer import DROP, HANG, SmtpPeer, smtp_peer

MX = "mx.example.net"
POLICY = TlsPolicy("example.net")
ENFORCE = TlsRule((Demand.WEBPKI,), policy=POLICY)
TESTING = TlsRule((Demand.WEBPKI, Demand.ANY_CERTIFICATE, Demand.CLEAR), policy=POLICY)
ENCRYPTED = TlsRule((Demand.ANY_CERTIFICATE,), policy=POLICY)
OPPORTUNISTIC = TlsRule(policy=POLICY)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def dane(*records: TlsaRecord, name: str = MX, others: tuple[str, ...] = ()) -> TlsRule:
    return TlsRule((Demand.DANE,), name, others, records, POLICY)


def record(usage: int, selector: int, matching: int, certificate: bytes) -> TlsaRecord:
    selected = certificate if selector == 0 else public_key_info(certificate)
    digests = {0: selected, 1: hashlib.sha256(selected).digest(), 2: hashlib.sha512(selected).digest()}
    return TlsaRecord(usage, selector, matching, digests[matching])


async def session(peer: SmtpPeer, rule: TlsRule, authority: Authority | None = None) -> tuple[str, Counter[object]]:
    """(how the connection ended up: secured, clear, or the status of the deferral; the counted results)."""
    sessions = Sessions()
    security = Security(sessions, str(authority.pem) if authority else "")
    return await _session(peer, rule, security)


async def _session(peer: SmtpPeer, rule: TlsRule, security: Security) -> tuple[str, Counter[object]]:
    try:
        connection = await Connection.open(Hop(MX, peer.host, peer.port, rule), "mx.example.test", security, HASTE)
    except Unreachable as unreachable:
        end = unreachable.outcome.status
    else:
        end = "secured" if connection.secured else "clear"
        await connection.close()
    return end, Counter({kind.result: count for kind, count in security.sessions.taken().items()})


async def seen(issued: Issued, rule: TlsRule, authority: Authority) -> tuple[str, Counter[object]]:
    async with smtp_peer(tls=issued.server()) as peer:
        return await session(peer, rule, authority)


async def test_a_valid_certificate_meets_the_demand(authority: Authority) -> None:
    for rule in (ENFORCE, TESTING, ENCRYPTED, OPPORTUNISTIC):
        assert await seen(authority.issue(MX, with_root=False), rule, authority) == ("secured", Counter([None]))


@pytest.mark.parametrize(
    ("names", "days", "trusted", "result"),
    [
        (("other.example.net",), 90, True, TlsResult.CERTIFICATE_HOST_MISMATCH),
        ((MX,), -1, True, TlsResult.CERTIFICATE_EXPIRED),
        ((MX,), 90, False, TlsResult.CERTIFICATE_NOT_TRUSTED),
    ],
)
async def test_an_invalid_certificate_defers_or_is_counted(
    authority: Authority, tmp_path: Path, names: tuple[str, ...], days: int, trusted: bool, result: TlsResult
) -> None:  # RFC 8461 4.2, RFC 8460 4.3
    (tmp_path / "other").mkdir()
    issued = (authority if trusted else Authority(tmp_path / "other")).issue(*names, days=days)
    assert await seen(issued, ENFORCE, authority) == ("4.7.5", Counter([result]))
    assert await seen(issued, TESTING, authority) == ("secured", Counter([result]))
    assert await seen(issued, ENCRYPTED, authority) == ("secured", Counter([None]))


async def test_a_server_without_starttls(authority: Authority) -> None:
    async with smtp_peer() as peer:
        for rule, end in ((ENFORCE, "4.7.4"), (ENCRYPTED, "4.7.4"), (TESTING, "clear"), (OPPORTUNISTIC, "clear")):
            expected = (end, Counter([TlsResult.STARTTLS_NOT_SUPPORTED]))
            assert await session(peer, rule, authority) == expected
        assert peer.connections == 4  # a connection in clear is used as it is
        assert not any(command.startswith("MAIL") for command in peer.commands)


@pytest.mark.parametrize("answer", ["454 4.7.0 not now", "220 go DROP", DROP, HANG, b"220 go\r\nno TLS at all\r\n" * 9])
async def test_a_handshake_that_fails_half_way(authority: Authority, answer: str | bytes) -> None:  # RFC 8461 5
    async with smtp_peer(tls=authority.issue(MX).server()) as peer:
        peer.replies["STARTTLS"] = answer
        refused = answer == "454 4.7.0 not now"
        result = TlsResult.STARTTLS_NOT_SUPPORTED if refused else TlsResult.VALIDATION_FAILURE
        status = "4.7.4" if refused else "4.7.5"
        if isinstance(answer, bytes):  # the octets in clear are discarded, and the handshake succeeds
            assert await session(peer, ENFORCE, authority) == ("secured", Counter([None]))
            return
        for rule in (ENFORCE, ENCRYPTED, dane(TlsaRecord(3, 1, 1, b"x" * 32))):
            assert await session(peer, rule, authority) == (status, Counter([result]))
        for rule in (TESTING, OPPORTUNISTIC):
            assert await session(peer, rule, authority) == ("clear", Counter([result]))


async def test_ehlo_that_fails_after_tls(authority: Authority) -> None:
    async with smtp_peer(tls=authority.issue(MX).server()) as peer:
        for rule, end in ((ENFORCE, "4.7.5"), (OPPORTUNISTIC, "clear")):
            peer.replies = {"EHLO": ["250-peer.example\n250 STARTTLS", DROP, "250 peer.example"]}
            assert await session(peer, rule, authority) == (end, Counter([TlsResult.VALIDATION_FAILURE]))


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
async def test_dane_ee_names_the_certificate_of_the_server(authority: Authority, selector: int, matching: int) -> None:
    issued = authority.issue("another.name.example", days=-30)  # neither name nor date matters: RFC 7672 3.1.1
    other = authority.issue(MX)
    rule = dane(record(3, selector, matching, other.leaf), record(3, selector, matching, issued.leaf))
    assert await seen(issued, rule, authority) == ("secured", Counter([None]))
    rule = dane(record(3, selector, matching, other.leaf))
    assert await seen(issued, rule, authority) == ("4.7.5", Counter([TlsResult.VALIDATION_FAILURE]))


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
async def test_dane_ta_names_an_authority_in_the_chain(authority: Authority, selector: int, matching: int) -> None:
    issued = authority.issue(MX)  # RFC 7672 3.1.2
    async with smtp_peer(tls=issued.server()) as peer:
        for anchor in (authority.root, authority.intermediate):
            rule = dane(record(2, selector, matching, anchor))
            assert await session(peer, rule) == ("secured", Counter([None]))


async def test_a_chain_is_fetched_once(authority: Authority) -> None:
    async with smtp_peer(tls=authority.issue(MX).server()) as peer:
        security = Security()
        for connections in (2, 3, 4):
            found = await _session(peer, dane(record(2, 1, 1, authority.intermediate)), security)
            assert found == ("secured", Counter([None])) and peer.connections == connections


async def test_an_anchor_in_the_dns_need_not_be_presented(authority: Authority) -> None:
    async with smtp_peer(tls=authority.issue(MX, with_root=False).server()) as peer:
        assert (await session(peer, dane(record(2, 0, 0, authority.root))))[0] == "secured"
        assert (await session(peer, dane(record(2, 0, 1, authority.root))))[0] == "4.7.5"


@pytest.mark.parametrize(
    ("names", "days", "others", "result"),
    [
        ((MX,), 90, (), None),
        (("*.example.net",), 90, (), None),
        (("example.net",), 90, ("example.net",), None),  # the domain of the recipient: RFC 7672 3.2.2
        (("example.net",), 90, (), TlsResult.CERTIFICATE_HOST_MISMATCH),
        ((MX,), -1, (), TlsResult.CERTIFICATE_EXPIRED),
    ],
)
async def test_dane_ta_wants_a_name_and_a_date(
    authority: Authority, names: tuple[str, ...], days: int, others: tuple[str, ...], result: TlsResult | None
) -> None:
    rule = dane(record(2, 1, 1, authority.root), others=others)
    end = "secured" if result is None else "4.7.5"
    assert await seen(authority.issue(*names, days=days), rule, authority) == (end, Counter([result]))


async def test_a_certificate_of_another_authority_is_refused(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other")
    refused = Counter([TlsResult.VALIDATION_FAILURE])
    issued = authority.issue(MX)
    assert await seen(issued, dane(record(2, 1, 1, other.root)), authority) == ("4.7.5", refused)
    assert await seen(issued, dane(record(2, 1, 1, issued.leaf)), authority) == ("4.7.5", refused)  # no authority
    # The anchor stands in the chain, but has not signed it.
    chain = issued.files.certificate.read_bytes() + other.pem.read_bytes()
    issued.files.certificate.write_bytes(chain)
    end, _ = await seen(issued, dane(record(2, 1, 1, other.root)), authority)
    assert end == "4.7.5"


async def test_a_chain_that_cannot_be_fetched_defers(authority: Authority) -> None:
    async with smtp_peer(tls=authority.issue(MX).server()) as peer:
        for answer in ("454 4.7.0 not now", "220 go DROP", HANG, DROP):
            peer.replies["STARTTLS"] = ["220 go", answer]
            end, _ = await session(peer, dane(record(2, 1, 1, authority.root)))
            assert end == "4.7.5"


async def test_connections_are_used_again_under_an_equal_rule_only() -> None:
    assert Hop(MX, "192.0.2.1", 25, ENFORCE) != Hop(MX, "192.0.2.1", 25, OPPORTUNISTIC)
    other = TlsRule((Demand.WEBPKI,), policy=TlsPolicy("other.example"))
    assert Hop(MX, "192.0.2.1", 25, ENFORCE) == Hop(MX, "192.0.2.1", 25, other)
