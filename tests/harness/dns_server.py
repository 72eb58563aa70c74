"""A real DNS server on loopback, over UDP and TCP. Its zones are text; a test sets its failures.

    async with dns_server(ZONE) as server:
        Resolver([server.address], [])

A zone is lines of `NAME TYPE DATA`, names with or without final dot:

    example.net       MX     10 mx.example.net.
    mx.example.net    A      127.0.0.3
    www.example.net   CNAME  mx.example.net.
    quiet.example     MX     0 .

Like a resolver, it follows CNAMEs and puts the chain into the answer. It truncates long answers over UDP.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

UDP_OCTETS = 512
MAX_CHAIN = 8
TTL_SECONDS = 1


def _name(text: str) -> dns.name.Name:
    return dns.name.from_text(text.lower())


@dataclass
class DnsServer:
    """The zone of a server and its failures. `asked` lists (name, type) of each question, as text."""

    zone: str = ""
    host: str = "127.0.0.1"
    port: int = 0
    servfail: set[str] = field(default_factory=set)  # names answered with SERVFAIL
    silent: set[str] = field(default_factory=set)  # names that get no answer
    delay_seconds: float = 0.0
    asked: list[tuple[str, str]] = field(default_factory=list)
    over_tcp: int = 0
    _records: dict[tuple[dns.name.Name, dns.rdatatype.RdataType], list[dns.rdata.Rdata]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.load(self.zone)

    @property
    def address(self) -> str:
        """The server's address in the form of `relay.nameservers`."""
        return f"{self.host}:{self.port}"

    def load(self, zone: str) -> None:
        """Replace the zone."""
        self._records = {}
        for line in zone.splitlines():
            if not line.strip():
                continue
            name, kind, data = line.split(None, 2)
            record_type = dns.rdatatype.from_text(kind)
            record = dns.rdata.from_text(dns.rdataclass.IN, record_type, data.strip())
            self._records.setdefault((_name(name), record_type), []).append(record)

    def answer(self, query: bytes, *, datagram: bool) -> bytes | None:
        """The answer to one query; None for no answer."""
        try:
            asked = dns.message.from_wire(query)
        except dns.exception.DNSException:
            return None
        question = asked.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        self.asked.append((name, dns.rdatatype.to_text(question.rdtype)))
        if name in self.silent:
            return None
        response = dns.message.make_response(asked, recursion_available=True)
        if name in self.servfail:
            response.set_rcode(dns.rcode.SERVFAIL)
        else:
            self._fill(response, dns.name.from_text(name), question.rdtype)
        limit = max(UDP_OCTETS, asked.payload) if datagram else 65_535
        try:
            return response.to_wire(max_size=limit)
        except dns.exception.TooBig:
            response.answer.clear()
            response.flags |= dns.flags.TC
            return response.to_wire()

    def _fill(self, response: dns.message.Message, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> None:
        for _ in range(MAX_CHAIN):
            if records := self._records.get((name, kind)):
                response.answer.append(dns.rrset.from_rdata_list(name, TTL_SECONDS, records))
                return
            alias = self._records.get((name, dns.rdatatype.CNAME))
            if alias is None:
                break
            response.answer.append(dns.rrset.from_rdata_list(name, TTL_SECONDS, alias))
            name = dns.name.from_text(alias[0].to_text())
        if not any(known.is_subdomain(name) for known, _ in self._records):
            response.set_rcode(dns.rcode.NXDOMAIN)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # asyncio's class does not inherit it

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        answer = self._server.answer(data, datagram=True)
        if answer is not None:
            asyncio.get_running_loop().call_later(self._server.delay_seconds, self._send, answer, address)

    def _send(self, answer: bytes, address: tuple[str, int]) -> None:
        assert self._transport is not None
        if not self._transport.is_closing():
            self._transport.sendto(answer, address)


@contextlib.asynccontextmanager
async def dns_server(
    zone: str = "", host: str = "127.0.0.1", port: int = 0, *, server: DnsServer | None = None
) -> AsyncIterator[DnsServer]:
    """A server, or `server`, for the time of the context; port 0 is a free port that is the same for UDP and TCP."""
    server = server or DnsServer(zone, host)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                size = int.from_bytes(await reader.readexactly(2), "big")
                server.over_tcp += 1
                answer = server.answer(await reader.readexactly(size), datagram=False)
                await asyncio.sleep(server.delay_seconds)
                if answer is not None:
                    writer.write(len(answer).to_bytes(2, "big") + answer)
                    await writer.drain()
        writer.close()

    stream = await asyncio.start_server(serve, host, port)
    server.port = stream.sockets[0].getsockname()[1]
    datagrams, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Datagrams(server), local_addr=(host, server.port)
    )
    try:
        yield server
    finally:
        datagrams.close()
        stream.close()
