"""Request ids of no mailbox, such as an administrator's, when two cores are asked at once."""

from __future__ import annotations

import asyncio
import time

import pytest
from sqlalchemy import Connection

from restante.errors import StoreBusy
from restante_server.db.engine import open_database
from restante_server.db.group import Locks
from restante_server.db.operation import Write
from restante_server.store import requests

KEY = requests.Key(0, "gateway:admin", b"r" * 16)


@pytest.mark.postgres
@pytest.mark.parametrize("dialect", ["postgresql"], indirect=True)
async def test_the_second_of_two_cores_is_asked_to_try_again_and_finds_the_answer(
    database_url: str, locks: Locks
) -> None:
    def create(tx: Connection) -> bytes:
        known = requests.find(tx, KEY, "Create", b"f")
        if known is not None:
            return known
        time.sleep(0.3)  # both have looked before either writes
        requests.remember(tx, KEY, "Create", b"f", b"answer", 1)
        return b"answer"

    cores = [open_database(database_url, locks=locks) for _ in range(2)]
    try:
        outcomes = await asyncio.gather(*(core.write(Write(create)) for core in cores), return_exceptions=True)
        assert sorted(type(outcome).__name__ for outcome in outcomes) == sorted(["bytes", StoreBusy.__name__])
        assert await asyncio.gather(*(core.write(Write(create)) for core in cores)) == [b"answer"] * 2
    finally:
        for core in cores:
            await core.close()
