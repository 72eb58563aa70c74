"""CPU of the checks of one message from a new connection, with the answers of the DNS in the cache. Prints JSON.

python -m tests.bench.bench_checks [--messages 500] [--octets 20000]

The usual message has an RSA signature, the sealed one an Ed25519 signature and an ARC set, too. SPF, DMARC, reverse DNS
and three lists are checked for both. The other figures are those of one check alone, of the sealed message.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import uvloop
from prometheus_client import CollectorRegistry

from restante_gateways.net.dns_answers import DnsAnswers
from restante_gateways.smtp.checks.client import DnsList
from restante_gateways.smtp.checks.contract import message_checks
from restante_gateways.smtp.checks.metrics import CheckMetrics
from restante_gateways.smtp.checks.service import Checker
from restante_gateways.smtp.checks.settings import CheckSettings
from restante_mail.authentication.arc.seal import seal
from restante_mail.authentication.dkim.sign import sign
from restante_mail.authentication.dkim.signing_keys import SigningKey, generate_key, public_record
from restante_mail.authentication.results import Checks, Result
from restante_mail.envelope.paths import parse_path
from tests.harness import dns_server as harness

CLIENT = "192.0.2.1"
PIECE_OCTETS = 65_536  # as the gateway reads
TEXT_LINE = b"Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod temp\r\n"


@dataclass(frozen=True)
class Case:
    """The checks that are made, of the sealed message or of the plain one."""

    sealed: bool = True
    spf: bool = False
    dkim: bool = False
    arc: bool = False
    dmarc: bool = False
    client: bool = False


CASES = {
    "usual": Case(False, True, True, True, True, True),
    "sealed": Case(True, True, True, True, True, True),
    "client": Case(client=True),
    "spf": Case(spf=True),
    "dkim": Case(dkim=True),
    "arc": Case(arc=True),
}


def zone(keys: list[SigningKey]) -> str:
    """The domain of the sender: its server, three levels of SPF, keys and a DMARC policy."""
    records = [
        f"1.2.0.192.in-addr.arpa PTR mx.example.com.\nmx.example.com A {CLIENT}",
        'mx.example.com TXT "v=spf1 a -all"',
        'example.com TXT "v=spf1 ip4:198.51.100.0/24 include:a.example.com include:b.example.com -all"',
        'a.example.com TXT "v=spf1 ip4:203.0.113.0/24 a:x.example.com mx ~all"\nx.example.com A 203.0.113.1',
        'a.example.com MX 10 x.example.com.\nb.example.com TXT "v=spf1 mx:example.com ?all"',
        'example.com MX 10 mx.example.com.\n_dmarc.example.com TXT "v=DMARC1; p=reject; rua=mailto:d@example.com"',
    ]
    for key in keys:
        text = public_record(key)
        strings = " ".join(f'"{text[at : at + 250]}"' for at in range(0, len(text), 250))
        records.append(f"{key.selector}._domainkey.{key.domain} TXT {strings}")
    return "\n".join(records)


def message(octets: int, keys: list[SigningKey], now: datetime, *, sealed: bool) -> bytes:
    """A message signed with the first key, or with all keys and sealed."""
    header = (
        b"From: Ann <ann@news.example.com>\r\nTo: alice@example.test\r\nSubject: bench\r\n"
        b"Date: Tue, 1 Sep 2026 10:00:00 +0200\r\nMessage-ID: <abc.123@example.com>\r\nMIME-Version: 1.0\r\n\r\n"
    )
    content = header + TEXT_LINE * ((octets - len(header)) // len(TEXT_LINE))
    if not sealed:
        return sign(content, keys[:1], now) + content
    content = sign(content, keys, now) + content
    return seal(content, keys[0], now, Result.NONE, "example.com; spf=pass") + content


async def check(checker: Checker, content: bytes, now: Callable[[], datetime]) -> Checks:
    """One connection with one message."""
    connection = checker.connected(CLIENT, now)
    assert connection is not None
    checks = connection.message("mx.example.com", parse_path("ann@example.com"))
    for at in range(0, len(content), PIECE_OCTETS):
        await checks.feed(content[at : at + PIECE_OCTETS])
    results = await checks.results()
    message_checks(results)
    checks.close()
    connection.close()
    return results


async def measure(messages: int, octets: int) -> dict[str, float]:
    """CPU milliseconds of a message, by what is checked."""
    harness.TTL_SECONDS = 3_600
    keys = [generate_key("example.com", name[:2], name) for name in ("rsa-sha256", "ed25519-sha256")]
    now = datetime.now(UTC)
    contents = {sealed: message(octets, keys, now, sealed=sealed) for sealed in (False, True)}
    lists = tuple(DnsList(f"{name}.lists.example") for name in "abc")
    found: dict[str, float] = {}
    async with harness.dns_server(zone(keys)) as server:
        dns, metrics = DnsAnswers([server.address]), CheckMetrics(CollectorRegistry())
        for name, case in CASES.items():
            settings = CheckSettings(
                "mx.example.test",
                spf=case.spf,
                dkim=case.dkim,
                arc=case.arc,
                dmarc=case.dmarc,
                reverse_dns=case.client,
                dns_lists=lists if case.client else (),
            )
            checker, content = Checker(settings, metrics, dns), contents[case.sealed]
            results = await check(checker, content, lambda: now)
            assert {one.result for one in results.spf} | {one.result for one in results.dkim} <= {Result.PASS}, results
            asked, began = len(server.asked), time.process_time()
            for _ in range(messages):
                await check(checker, content, lambda: now)
            found[name] = round((time.process_time() - began) / messages * 1000, 3)
            assert len(server.asked) == asked, "the DNS is not warm"
    return found


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--messages", type=int, default=500)
    options.add_argument("--octets", type=int, default=20_000)
    given = options.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as the gateway
        found = runner.run(measure(given.messages, given.octets))
    print(json.dumps({"bench": "checks", "octets": given.octets, "cpu_milliseconds": found}))


if __name__ == "__main__":
    main()
