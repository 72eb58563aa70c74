"""A signed zone on a name server of its own, and Debian's `unbound`, which validates it with the test's trust anchor.

    async with signed_dns_server("example.net", RECORDS) as server, unbound(tmp_path, server, others) as resolver:
        Resolver([resolver], [], validating=True)

The signatures are made by dnspython. `unbound` runs on loopback, as the user of the test.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import dns.asyncquery
import dns.dnssec
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.node
import dns.rcode
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.rrset
import dns.zone
from cryptography.hazmat.primitives.asymmetric import ec
from dns.dnssectypes import Algorithm

from tests.harness.dns_server import DnsServer, dns_server
from tests.harness.requirements import program

TTL_SECONDS = 60
START_SECONDS = 10.0


class SignedZone(DnsServer):
    """A name server of one signed zone. It answers as RFC 4035 3.1 says, with NSEC records for denials."""

    def __init__(self, origin: str, records: str) -> None:
        super().__init__()
        self.origin = dns.name.from_text(origin)
        text = f"$TTL {TTL_SECONDS}\n@ SOA ns hostmaster 1 60 60 60 60\n@ NS ns\nns A 127.0.0.1\n{records}"
        self._zone = dns.zone.from_text(text, self.origin, relativize=False)
        key = ec.generate_private_key(ec.SECP256R1())
        self._dnskey = dns.dnssec.make_dnskey(key.public_key(), Algorithm.ECDSAP256SHA256, flags=257)
        with self._zone.writer() as writer:
            dns.dnssec.sign_zone(self._zone, writer, keys=[(key, self._dnskey)], lifetime=86_400)
        self._names = sorted(self._zone.nodes)

    @property
    def anchor(self) -> str:
        """The trust anchor, as a line of a zone file."""
        return f"{self.origin} IN DNSKEY {self._dnskey}"

    def spoil(self, name: str, kind: str) -> None:
        """Change the signed data of a name, so that its signature is wrong."""
        node = self._node(dns.name.from_text(name))
        assert node is not None
        rdataset = node.get_rdataset(dns.rdataclass.IN, dns.rdatatype.from_text(kind))
        other = node.get_rdataset(dns.rdataclass.IN, dns.rdatatype.RRSIG, dns.rdatatype.from_text(kind))
        assert rdataset is not None and other is not None
        data = next(iter(rdataset)).to_text()
        changed = data[:-1] + ("0" if data[-1] != "0" else "1")
        spoilt = dns.rdataset.from_text(dns.rdataclass.IN, rdataset.rdtype, TTL_SECONDS, changed)
        with self._zone.writer() as writer:
            writer.replace(dns.name.from_text(name), spoilt)
            writer.add(dns.name.from_text(name), other)

    def _node(self, name: dns.name.Name) -> dns.node.Node | None:
        return self._zone.get_node(name)

    def _fill(self, response: dns.message.Message, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> None:
        response.flags = (response.flags | dns.flags.AA) & ~dns.flags.RA
        node = self._node(name)
        if node is not None:
            alias = node.get_rdataset(dns.rdataclass.IN, dns.rdatatype.CNAME)
            if self._add(response.answer, name, dns.rdatatype.CNAME if alias is not None else kind):
                return
        elif not any(known.is_subdomain(name) for known in self._names):
            response.set_rcode(dns.rcode.NXDOMAIN)
            self._deny(response, dns.name.Name(("*", *name.parent().labels)))
        self._add(response.authority, self.origin, dns.rdatatype.SOA)
        self._deny(response, name)

    def _deny(self, response: dns.message.Message, name: dns.name.Name) -> None:
        before = max((known for known in self._names if known <= name), default=self.origin)
        if not any(rrset.name == before and rrset.rdtype == dns.rdatatype.NSEC for rrset in response.authority):
            self._add(response.authority, before, dns.rdatatype.NSEC)

    def _add(self, section: list[Any], name: dns.name.Name, kind: dns.rdatatype.RdataType) -> bool:
        """Add the records of a name with their signatures; whether there are any."""
        node = self._node(name)
        rdataset = node.get_rdataset(dns.rdataclass.IN, kind) if node is not None else None
        if node is None or rdataset is None:
            return False
        found = (rdataset, node.get_rdataset(dns.rdataclass.IN, dns.rdatatype.RRSIG, kind))
        section += [dns.rrset.from_rdata_list(name, TTL_SECONDS, list(each)) for each in found if each is not None]
        return True


@contextlib.asynccontextmanager
async def signed_dns_server(origin: str, records: str) -> AsyncIterator[SignedZone]:
    """A server of a zone with these records, which are lines of a zone file, for the time of the context."""
    async with dns_server(server=SignedZone(origin, records)) as server:
        assert isinstance(server, SignedZone)
        yield server


@contextlib.asynccontextmanager
async def unbound(folder: Path, signed: SignedZone, others: DnsServer, domains: Sequence[str]) -> AsyncIterator[str]:
    """`unbound` with the signed zone's key as its trust anchor; `domains` are asked at `others`, and are not signed.

    Yields its address in the form of `relay.nameservers`.
    """
    command, port = program("unbound"), _free_port()
    (folder / "anchor").write_text(signed.anchor + "\n")
    (folder / "unbound.conf").write_text(_configuration(folder, port, signed, others, domains))
    process = await asyncio.create_subprocess_exec(
        command, "-d", "-c", folder / "unbound.conf", stderr=(folder / "unbound.log").open("w")
    )
    try:
        await _answering(port, signed.origin)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


def _configuration(folder: Path, port: int, signed: SignedZone, others: DnsServer, domains: Sequence[str]) -> str:
    stubs = [(signed.origin.to_text(), signed.port), *((domain, others.port) for domain in domains)]
    return "\n".join(
        [
            "server:",
            f'  directory: "{folder}"\n  chroot: ""\n  username: ""\n  pidfile: ""\n  logfile: ""\n  use-syslog: no',
            f"  interface: 127.0.0.1@{port}\n  port: {port}\n  do-ip6: no\n  access-control: 127.0.0.0/8 allow",
            f'  module-config: "validator iterator"\n  trust-anchor-file: "{folder / "anchor"}"',
            "  do-not-query-localhost: no\n  qname-minimisation: no\n  num-threads: 1\n  val-log-level: 2",
            *(f'stub-zone:\n  name: "{name}"\n  stub-addr: 127.0.0.1@{number}' for name, number in stubs),
            "remote-control:\n  control-enable: no\n",
        ]
    )


async def _answering(port: int, origin: dns.name.Name) -> None:
    """Wait until the resolver answers."""
    question = dns.message.make_query(origin, dns.rdatatype.SOA)
    async with asyncio.timeout(START_SECONDS):
        while True:
            with contextlib.suppress(dns.exception.DNSException, OSError):
                answer = await dns.asyncquery.udp(question, "127.0.0.1", port=port, timeout=0.5)
                if answer.rcode() == dns.rcode.NOERROR:
                    return
            await asyncio.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
