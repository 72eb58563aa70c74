"""Request ids: sorting a set of requests, and the same request at two cores at once (here by an administrator)."""

from __future__ import annotations

import asyncio
import time

import pytest
from sqlalchemy import Connection

from restante.errors import RequestIdReused
from restante_server.db.engine import open_database
from restante_server.db.group import Locks
from restante_server.db.operation import Write
from restante_server.store import requests

KEY = requests.Key(0, "gateway:admin", b"r" * 16)
REQUEST = requests.Request(KEY, "Create", b"f", 1)


def named(number: int, fingerprint: bytes = b"f", method: str = "Create") -> requests.Request:
    return requests.Request(KEY._replace(request_id=bytes([number]) * 16), method, fingerprint, 1)


async def test_a_set_is_sorted_into_the_known_the_repeated_and_the_new(database_url: str, locks: Locks) -> None:
    kept = [(named(number), bytes([number])) for number in (1, 2)]
    asked = [named(1), named(2, b"other"), named(3), named(4), named(3), named(4, method="Copy"), named(1)]
    core = open_database(database_url, locks=locks)
    try:
        await core.write(Write(lambda tx: requests.keep(tx, kept, is_locked=False)))
        found = await core.read(requests.sort, asked)
    finally:
        await core.close()
    assert {at: answer for at, answer in found.known.items() if isinstance(answer, bytes)} == {0: b"\1", 6: b"\1"}
    assert sorted(at for at, answer in found.known.items() if isinstance(answer, RequestIdReused)) == [1, 5]
    assert (found.repeats, found.fresh) == ({4: 2}, [2, 3])


@pytest.mark.postgres
@pytest.mark.parametrize("dialect", ["postgresql"], indirect=True)
async def test_the_second_of_two_cores_is_asked_to_try_again_and_finds_the_answer(
    database_url: str, locks: Locks
) -> None:
    def create(tx: Connection) -> bytes:
        known = requests.find(tx, REQUEST)
        if known is not None:
            return known
        time.sleep(0.3)  # both have looked before either writes
        requests.keep(tx, [(REQUEST, b"answer")], is_locked=False)
        return b"answer"

    cores = [open_database(database_url, locks=locks) for _ in range(2)]
    try:
        outcomes = await asyncio.gather(*(core.write(Write(create)) for core in cores), return_exceptions=True)
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["RequestRaced", "bytes"]
        assert await asyncio.gather(*(core.write(Write(create)) for core in cores)) == [b"answer"] * 2
    finally:
        for core in cores:
            await core.close()
