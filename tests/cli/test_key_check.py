"""`restante admin domain key check` over a core of this process and a name server on loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from restante.v1 import methods
from restante.v1.signing_pb2 import CreateDomainKeysRequest, ListDomainKeysRequest, RevokeDomainKeyRequest
from restante_cli.admin import admin
from tests.harness.dns_server import DnsServer, dns_server
from tests.harness.local_core import DOMAIN, LocalCore, open_local_core, prepare_store


@dataclass
class Published:
    """A core with keys, and the name server of their domain."""

    core: LocalCore
    zone: DnsServer

    async def records(self) -> dict[str, str]:
        """The records to publish, by name."""
        keys = (await self.core.admin.execute(methods.LIST_DOMAIN_KEYS, ListDomainKeysRequest(domain=DOMAIN))).keys
        return {key.record_name: key.record_text for key in keys}

    def publish(self, records: dict[str, str]) -> None:
        lines = [
            f"{name} TXT " + " ".join(f'"{text[at : at + 200]}"' for at in range(0, len(text), 200))
            for name, text in records.items()
        ]
        self.zone.load("\n".join(lines))

    async def run(self, *options: str) -> Result:
        arguments = ["--data", str(self.core.directory), "domain", "key", "check", *options]
        return await asyncio.to_thread(CliRunner().invoke, admin, arguments)

    async def check(self, *options: str) -> tuple[int, list[dict[str, Any]]]:
        """The exit code, and the result of each key."""
        done = await self.run(DOMAIN, "--nameserver", self.zone.address, "--output", "json", *options)
        return done.exit_code, json.loads(done.stdout)


@pytest.fixture
async def published(tmp_path: Path) -> AsyncIterator[Published]:
    await asyncio.to_thread(prepare_store, tmp_path / "template")
    async with open_local_core(tmp_path / "template", tmp_path / "data") as core, dns_server("") as zone:
        await core.admin.execute(methods.CREATE_DOMAIN_KEYS, CreateDomainKeysRequest(domain=DOMAIN))
        made = Published(core, zone)
        made.publish(await made.records())
        yield made


async def test_published_keys_are_right(published: Published) -> None:
    code, rows = await published.check()
    assert code == 0 and len(rows) == 2
    assert all((row["published"], row["problem"], row["state"]) == ("yes", "", "active") for row in rows)
    done = await published.run("--nameserver", published.zone.address)  # of all domains
    assert done.exit_code == 0 and "yes" in done.stdout and "must be" not in done.stdout


async def test_a_missing_and_a_wrong_record_are_named_with_what_to_publish(published: Published) -> None:
    records = await published.records()
    missing, wrong = records
    published.publish({wrong: records[missing]})
    code, rows = await published.check()
    problems = {row["record_name"]: (row["published"], row["problem"]) for row in rows}
    assert code == 1 and problems[missing] == ("no", "there is no record")
    assert problems[wrong][0] == "wrong" and "another key" in problems[wrong][1]
    done = await published.run(DOMAIN, "--nameserver", published.zone.address)
    assert done.exit_code == 1 and "2 of 2 records are not as they must be" in done.stderr
    assert f"{missing}. IN TXT (" in done.stdout and "there is no record" in done.stdout


async def test_a_prepared_key_must_be_there_before_it_signs(published: Published) -> None:
    prepare = CreateDomainKeysRequest(domain=DOMAIN, only_prepare=True)
    await published.core.admin.execute(methods.CREATE_DOMAIN_KEYS, prepare)
    code, rows = await published.check()
    assert code == 1 and sorted((row["state"], row["published"]) for row in rows) == [
        ("active", "yes"),
        ("active", "yes"),
        ("prepared", "no"),
        ("prepared", "no"),
    ]
    published.publish(await published.records())
    assert (await published.check())[0] == 0


async def test_a_revoked_key_must_not_be_published(published: Published) -> None:
    before = await published.records()
    keys = await published.core.admin.execute(methods.LIST_DOMAIN_KEYS, ListDomainKeysRequest(domain=DOMAIN))
    revoke = RevokeDomainKeyRequest(domain=DOMAIN, selector=keys.keys[0].selector)
    await published.core.admin.execute(methods.REVOKE_DOMAIN_KEY, revoke)
    code, rows = await published.check()
    assert code == 1 and [row["problem"] for row in rows if row["problem"]] == ["the revoked key is still published"]
    del before[keys.keys[0].record_name]
    published.publish(before)
    assert (await published.check())[0] == 0


async def test_lying_and_silent_name_servers_are_bounded(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    records = await published.records()
    first, second = records
    lies = [f'{first} TXT "lie {number} \\027[2J"' for number in range(50)]
    published.zone.load("\n".join(lies))
    published.zone.servfail.add(second)
    code, rows = await published.check()
    by_name = {row["record_name"]: row for row in rows}
    assert code == 1 and by_name[second]["published"] == "unknown" and "no answer" in by_name[second]["problem"]
    assert "20 records" in by_name[first]["problem"] and len(by_name[first]["found"]) == 20
    assert not any("\x1b" in text for text in by_name[first]["found"])


@pytest.mark.parametrize("text", ["localhost", "127.0.0.1:x", "127.0.0.1:0", "[::1", ""])
async def test_a_name_server_is_an_address(published: Published, text: str) -> None:
    done = await published.run(DOMAIN, "--nameserver", text)
    assert done.exit_code == 2 and "is not ADDRESS" in done.stderr


async def test_an_unknown_domain_is_an_error(published: Published) -> None:
    done = await published.run("other.example", "--nameserver", published.zone.address)
    assert done.exit_code == 1 and "DOMAIN_NOT_FOUND" in done.stderr
