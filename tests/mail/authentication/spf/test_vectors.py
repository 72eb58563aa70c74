"""The RFC 7208 test suite of openspf.org, whole: ../shared/vectors/spf (BSD) beside the repository."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import yaml

from restante_mail.authentication.results import Result, SpfResult
from restante_mail.authentication.spf.evaluation import Client, check_helo, check_mail_from
from tests.harness.memory_dns import MemoryDns
from tests.harness.requirements import missing

SUITE = "shared/vectors/spf/rfc7208-tests.yml"
CASES = 203
OTHERWISE: dict[str, str] = {}
"""{case: why its result is another one}"""


@dataclass
class Case:
    """One case: its question, the DNS of its scenario, and what may come of it."""

    name: str
    host: str
    helo: str
    sender: str
    results: set[str]
    explanation: str | None
    zone: dict[str, list[Any]] = field(repr=False)


def cases() -> list[Case]:
    """The cases; none without the suite, so that one test says it."""
    found = next((folder / SUITE for folder in Path(__file__).parents if (folder / SUITE).exists()), None)
    if found is None:
        return []
    scenarios = yaml.safe_load_all(found.read_bytes().decode("latin-1"))
    return [case for scenario in scenarios for case in _cases(scenario)]


def _cases(scenario: dict[str, Any]) -> Iterator[Case]:
    for name, test in scenario["tests"].items():
        results = test["result"] if isinstance(test["result"], list) else [test["result"]]
        yield Case(
            name,
            str(test["host"]),
            test["helo"],
            test["mailfrom"],
            set(results),
            test.get("explanation"),
            scenario["zonedata"],
        )


ALL = cases()


def dns_of(zone: dict[str, list[Any]]) -> MemoryDns:
    """The suite's DNS: SPF records are TXT records, too, unless the name has TXT records of its own."""
    table: dict[tuple[str, str], list[bytes | str]] = {}
    failing: set[str | tuple[str, str]] = set()
    for name, records in zone.items():
        key = str(name).lower().removesuffix(".")
        own_texts = any("TXT" in record for record in records if isinstance(record, dict))
        for record in records:
            if record == "TIMEOUT":
                failing |= {(key, kind) for kind in ("TXT", "A", "AAAA", "MX", "PTR")}
                continue
            ((kind, value),) = record.items()
            if kind == "SPF":
                if own_texts:
                    continue
                kind = "TXT"
            if kind == "TXT":
                if value == "NONE":
                    continue
                text: bytes | str = "".join(value).encode("latin-1")
            else:
                text = str(value[1] if kind == "MX" else value)
            table.setdefault((key, kind), []).append(text)
    failing -= {pair for pair in failing if pair in table}  # what has an answer gives it
    return MemoryDns(table, frozenset(failing))


async def check(case: Case) -> SpfResult:
    client = Client(ip_address(case.host), case.helo, "receiver.example", datetime(2026, 1, 2, tzinfo=UTC))
    dns = dns_of(case.zone)
    if not case.sender:
        return await check_helo(client, dns)
    local_part, at, domain = case.sender.rpartition("@")
    return await check_mail_from(client, local_part if at else "", domain, dns)


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
async def test_the_case_has_its_result(case: Case) -> None:
    found = await check(case)
    assert (found.result.value in case.results) is (case.name not in OTHERWISE), found
    assert found.problem or found.result not in (Result.PERMERROR, Result.TEMPERROR, Result.NONE)
    if case.explanation is not None and case.name not in OTHERWISE:
        expected = "" if case.explanation == "DEFAULT" else case.explanation
        # RFC 7208 7.4 writes the nibbles of an address in lower case, the suite in upper case.
        assert found.explanation.lower() == expected.lower()


def test_the_suite_is_whole() -> None:
    if not ALL:
        missing("the SPF suite (../shared/vectors/spf beside the repository) is not there")
    assert len(ALL) == CASES
    assert {case.name for case in ALL} >= OTHERWISE.keys()
