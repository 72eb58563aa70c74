"""pyspf judges generated records: both evaluators come to one result, but for the differences that the test names."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import ip_address
from random import Random
from typing import Any

import pytest
import spf

from restante_mail.authentication.results import SpfResult
from restante_mail.authentication.spf.evaluation import Client, check_mail_from
from tests.harness.memory_dns import MemoryDns

UNTYPED: Any = spf

NAMES = [f"{letter}.example.org" for letter in "abcdefgh"]
IPV4 = ["192.0.2.1", "192.0.2.65", "198.51.100.7"]
IPV6 = ["2001:db8::1", "2001:db8:1::9"]
TARGETS = [
    *NAMES,
    "none.example.org",
    "%{d}",
    "%{l}.%{o}",
    "%{ir}.%{v}.example.org",
    "%{d2}",
    "%{h}",
    "%{l1r-}.example.org",
]
BAD_TERMS = ["moo", "a:", "ip4:1.2.3", "all:x", "a:foo", "include", "exists:", "a/33", "%", "a:%{z}.org", "ip6:::1/129"]
CASES = 500
SEED = 7208


def term(random: Random) -> str:
    qualifier = random.choice(["", "", "", "-", "~", "?", "+"])
    target = random.choice(TARGETS)
    match random.choice(["ip4", "ip6", "a", "mx", "include", "exists", "ptr", "all", "modifier", "bad"]):
        case "ip4":
            return f"{qualifier}ip4:{random.choice(IPV4)}{random.choice(['', '/24', '/26', '/0'])}"
        case "ip6":
            return f"{qualifier}ip6:{random.choice(IPV6)}{random.choice(['', '/32', '/64'])}"
        case "a" | "mx" as name:
            prefixes = random.choice(["", "", "/24", "//32", "/26//64"])
            return f"{qualifier}{name}{random.choice(['', ':' + target])}{prefixes}"
        case "include" | "exists" as name:
            return f"{qualifier}{name}:{target}"
        case "ptr":
            return f"{qualifier}ptr{random.choice(['', ':example.org', ':' + random.choice(NAMES)])}"
        case "modifier":
            return random.choice(
                ["mx", f"x.{random.getrandbits(32)}=y", f"redirect={target}", f"exp={random.choice(NAMES)}"]
            )
        case "bad":
            return random.choice([*BAD_TERMS, *["a"] * 60])
        case _:
            return random.choice([f"{qualifier}all", "a"])


def zone(random: Random) -> MemoryDns:
    """Domains with and without records; some questions for TXT and MX fail."""
    table: dict[tuple[str, str], list[str | bytes]] = {}
    failing: set[str | tuple[str, str]] = set()
    for name in NAMES:
        if random.random() < 0.9:
            record = "v=spf1 " + " ".join(term(random) for _ in range(random.randint(0, 4)))
            table[name, "TXT"] = [record if random.random() < 0.9 else "other text"]
        if random.random() < 0.05:
            failing.add((name, random.choice(["TXT", "MX"])))
        if random.random() < 0.7:
            table[name, "A"] = [*random.sample(IPV4, random.randint(1, 2))]
        if random.random() < 0.4:
            table[name, "AAAA"] = [random.choice(IPV6)]
        if random.random() < 0.5:
            table[name, "MX"] = [*random.sample(NAMES, random.randint(1, 3))]
    for address in IPV4 + IPV6:
        if random.random() < 0.6:
            table[ip_address(address).reverse_pointer, "PTR"] = [*random.sample(NAMES, random.randint(1, 3))]
    return MemoryDns(table, frozenset(failing))


def pyspf(dns: MemoryDns, address: str, sender: str, helo: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """The result of pyspf, and its words."""

    def lookup(name: str, kind: str, strict: bool = True, timeout: float = 20) -> list[tuple[tuple[str, str], object]]:
        key = name.lower().rstrip(".")
        if (key, kind) in dns.failing:
            raise UNTYPED.TempError("no answer in time")
        shapes = {"TXT": lambda value: (value.encode(),), "MX": lambda value: (10, value)}
        return [((key, kind), shapes.get(kind, str)(value)) for value in dns.records.get((key, kind), ())]

    monkeypatch.setattr(spf, "DNSLookup", lookup)
    result, _, words = UNTYPED.query(address, sender, helo, receiver="receiver.example", strict=1).check()
    return result, words


def agree(ours: SpfResult, theirs: str, words: str, dns: MemoryDns) -> bool:
    if ours.result.value == theirs:
        return True
    # pyspf refuses a record that includes its own domain before the term is reached; RFC 7208 has no such rule.
    if "trivial recursion" in words:
        return True
    # pyspf counts empty answers about the client's PTR names. RFC 7208 4.6.4 counts terms.
    return "Void lookup limit" in words and any(kind == "PTR" for _, kind in dns.asked)


async def test_pyspf_comes_to_the_same_results(monkeypatch: pytest.MonkeyPatch) -> None:
    results: dict[str, int] = {}
    for number in range(CASES):
        random = Random(SEED * CASES + number)
        dns, address, domain = zone(random), random.choice(IPV4 + IPV6), random.choice(NAMES)
        client = Client(ip_address(address), "a.example.org", "receiver.example", datetime(2026, 1, 2, tzinfo=UTC))
        ours = await check_mail_from(client, "user-x", domain, dns)
        theirs, words = pyspf(dns, address, f"user-x@{domain}", client.helo, monkeypatch)
        assert agree(ours, theirs, words, dns), (number, address, domain, ours, theirs, words, dns.records)
        results[theirs] = results.get(theirs, 0) + 1
    assert results.keys() == {"none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"}
