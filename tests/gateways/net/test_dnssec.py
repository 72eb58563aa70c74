"""Secure and insecure answers, from Debian's `unbound` with a trust anchor of the test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from restante_gateways.net.resolver import Host, LookupFailed, Resolver
from restante_mail.authentication.dane import TlsaRecord
from tests.harness.dns_server import dns_server
from tests.harness.signed_dns import SignedZone, signed_dns_server, unbound

pytestmark = [pytest.mark.needs("unbound"), pytest.mark.client]

DIGEST = "ab" * 32
SIGNED = f"""
@               MX     10 mx
@               MX     20 alias
mx              A      192.0.2.1
mx              AAAA   2001:db8::1
_25._tcp.mx     TLSA   3 1 1 {DIGEST}
alias           CNAME  mx
out             CNAME  mx.example.org.
_25._tcp.out    TLSA   3 1 1 {DIGEST}
_25._tcp.broken TLSA   3 1 1 {DIGEST}
broken          A      192.0.2.2
plain           A      192.0.2.3
text            TXT    "hello"
"""
UNSIGNED = f"""
example.org            MX    10 mx.example.org.
example.org            MX    20 mx.example.net.
mx.example.org         A     192.0.2.9
_25._tcp.mx.example.org TLSA 3 1 1 {DIGEST}
in.example.org         CNAME mx.example.net.
"""


@pytest.fixture
async def zone() -> AsyncIterator[SignedZone]:
    async with signed_dns_server("example.net", SIGNED) as server:
        server.spoil("_25._tcp.broken.example.net", "TLSA")
        yield server


@pytest.fixture
async def nameserver(zone: SignedZone, tmp_path: Path) -> AsyncIterator[str]:
    async with dns_server(UNSIGNED) as others, unbound(tmp_path, zone, others, ["example.org"]) as address:
        yield address


@pytest.fixture
def resolver(nameserver: str) -> Resolver:
    return Resolver([nameserver], [], lookup_seconds=5.0, validating=True)


async def test_answers_are_secure_as_the_resolver_says(resolver: Resolver) -> None:  # RFC 7672 2.1
    assert [(server.host, server.secure) for server in await resolver.servers("example.net")] == [
        ("mx.example.net", True),
        ("alias.example.net", True),
    ]
    assert not any(server.secure for server in await resolver.servers("example.org"))
    (implicit,) = await resolver.servers("plain.example.net")  # the denial of MX records is secure
    assert implicit.secure
    assert await resolver.txt("text.example.net") == [b"hello"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mx.example.net", Host(("2001:db8::1", "192.0.2.1"), "mx.example.net", True, False)),
        ("alias.example.net", Host(("2001:db8::1", "192.0.2.1"), "mx.example.net", True, True)),
        ("out.example.net", Host(("192.0.2.9",), "mx.example.org", False, True)),
        ("in.example.org", Host(("2001:db8::1", "192.0.2.1"), "mx.example.net", False, False)),
        ("mx.example.org", Host(("192.0.2.9",), "mx.example.org", False, False)),
        ("nothing.example.net", Host((), "nothing.example.net", False, False)),
    ],
)
async def test_aliases_are_secure_link_by_link(resolver: Resolver, name: str, expected: Host) -> None:
    assert await resolver.host(name) == expected  # RFC 7672 2.2.2


async def test_only_secure_tlsa_records_count(resolver: Resolver) -> None:  # RFC 7672 2.2
    record = TlsaRecord(3, 1, 1, bytes.fromhex(DIGEST))
    assert await resolver.tlsa("mx.example.net", 25) == [record]
    assert await resolver.tlsa("mx.example.net", 26) == []
    assert await resolver.tlsa("mx.example.org", 25) == []


async def test_records_with_a_wrong_signature_are_a_failure(resolver: Resolver) -> None:  # RFC 7672 2.1.2
    with pytest.raises(LookupFailed):
        await resolver.tlsa("broken.example.net", 25)


async def test_nothing_is_secure_unless_the_configuration_says_so(nameserver: str) -> None:
    trusting = Resolver([nameserver], [], lookup_seconds=5.0)
    assert not any(server.secure for server in await trusting.servers("example.net"))
    assert not (await trusting.host("mx.example.net")).secure
    assert await trusting.tlsa("mx.example.net", 25) == []


@pytest.mark.parametrize("nameservers", [[], ["192.0.2.53"], ["127.0.0.1", "2001:db8::53"]])
def test_only_servers_of_this_machine_are_trusted(nameservers: list[str]) -> None:  # RFC 7672 2.1.1
    with pytest.raises(ValueError, match=r"relay\.dnssec"):
        Resolver(nameservers, [], validating=True)
