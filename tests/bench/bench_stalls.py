"""The longest time for which the checks of hostile messages hold up a gateway's event loop. Prints JSON, milliseconds.

python -m tests.bench.bench_stalls [--rounds 5]

The messages are valid and within the limits, or just beyond, so that everything is computed. The octets come in
pieces, and the DNS answers from memory. `checked` is the time of all checks of the message.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import cast

import uvloop
from prometheus_client import CollectorRegistry

from restante_gateways.command import SWITCH_SECONDS
from restante_gateways.net.dns_answers import DnsAnswers
from restante_gateways.smtp.checks.message import MessageChecks
from restante_gateways.smtp.checks.metrics import CheckMetrics
from restante_gateways.smtp.checks.settings import CheckSettings
from restante_mail.authentication.arc.seal import seal
from restante_mail.authentication.dkim.sign import sign
from restante_mail.authentication.dkim.signing_keys import generate_key, public_record
from restante_mail.authentication.results import Result

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
PIECE_OCTETS = 16_384  # handled on the loop
KEY = generate_key("example.org", "rsa", "rsa-sha256")
RESULTS = "mx.example.test; spf=pass smtp.mailfrom=bob@example.org; dkim=pass header.d=example.org"
TOP = b"From: bob@example.org\r\nTo: alice@example.test\r\nSubject: x\r\nDate: Mon, 30 Nov 2026 12:00:00 +0000\r\n"
BODY = b"\r\nhello\r\n"
FILLER = 890_000  # octets of a header field set that fits beside the signatures


class Memory:
    """A DNS that knows the key alone."""

    def until(self, loop_time: float) -> Memory:
        """Questions with a limit of time."""
        return self

    def knows_txt(self, name: str) -> bool:
        """Whether the answer is in the cache."""
        return True

    async def txt(self, name: str) -> list[bytes]:
        """The TXT records of a name."""
        return [public_record(KEY).encode()] if name.endswith("_domainkey.example.org") else []


def signatures(count: int, *, padded: bool) -> bytes:
    """A message with so many valid signatures; `padded`: over a header of about 1 MiB."""
    line = b"List-Unsubscribe: <https://example.org/" + b"x" * 2_200 + b">\r\n"
    head = TOP + (line * (FILLER // len(line)) if padded else b"")
    signed = sign(head + BODY, [KEY], NOW)
    return signed * count + head + BODY


def chain(count: int) -> bytes:
    """A message with a chain of so many valid sets."""
    message = TOP + BODY
    for number in range(count):
        validated = Result.PASS if number else Result.NONE
        message = seal(message, KEY, NOW, validated, RESULTS) + message
    return message


async def stall(message: bytes) -> tuple[float, float]:
    """(The longest stall, the time of all checks), in milliseconds."""
    gaps = [0.0]

    async def tick() -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0)
            now = time.perf_counter()
            gaps[0] = max(gaps[0], now - last)
            last = now

    async def no_client() -> tuple[None, tuple[()]]:
        return None, ()

    sys.setswitchinterval(SWITCH_SECONDS)
    settings = CheckSettings(host_name="mx.example.test", spf=False, dmarc=False, reverse_dns=False)
    dns, metrics = cast(DnsAnswers, Memory()), CheckMetrics(CollectorRegistry())
    address = ip_address("192.0.2.1")
    checks = MessageChecks(address, "mx.example.org", None, settings, metrics, dns, lambda: NOW, no_client)
    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0.01)
    gaps[0], began = 0.0, time.perf_counter()
    for start in range(0, len(message), PIECE_OCTETS):
        await checks.feed(message[start : start + PIECE_OCTETS])
        await asyncio.sleep(0)
    found = await checks.results()
    took = time.perf_counter() - began
    ticking.cancel()
    assert all(each.result in (Result.PASS, Result.POLICY) for each in found.dkim), found.dkim[0]
    return 1_000 * gaps[0], 1_000 * took


CASES: dict[str, Callable[[], bytes]] = {
    "2 signatures": lambda: signatures(2, padded=False),
    "1000 signatures": lambda: signatures(1_000, padded=False),
    "12 signatures over 1 MiB": lambda: signatures(12, padded=True),
    "chain of 5": lambda: chain(5),
    "chain of 50": lambda: chain(50),
    "10000 lines": lambda: TOP + b"x: y\r\n" * 9_990 + BODY,
}


async def main(rounds: int) -> dict[str, object]:
    """Run all cases; the least of the rounds counts, since other programs only add to it."""
    found: dict[str, object] = {}
    for name, make in CASES.items():
        message = make()
        runs = [await stall(message) for _ in range(rounds)]
        found[name] = {
            "octets": len(message),
            "longest_stall": round(min(each[0] for each in runs), 2),
            "checked": round(min(each[1] for each in runs), 2),
        }
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    print(json.dumps(uvloop.run(main(parser.parse_args().rounds)), indent=2))
