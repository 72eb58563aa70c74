"""Hints between cores."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, cast

import psycopg
import pytest
from sqlalchemy import Connection, make_url

from restante.errors import RestanteError, StoreBusy
from restante_server.api.engine import peer_hints
from restante_server.api.engine.notify import Notifier
from restante_server.api.engine.peer_hints import CHANNEL, PAYLOAD_OCTETS, PeerHints, decode, encode
from restante_server.db.engine import Database, open_database
from restante_server.db.operation import Write
from restante_server.directory import rights
from restante_server.directory.rights import Claim
from restante_server.opening import create_store
from restante_server.store import changes, mailboxes
from restante_server.store.changes import Touched

NOW = 1_700_000_000_000_000  # microseconds


def test_a_payload_names_its_sender_and_the_changes() -> None:
    payload, left = encode("a1", {7: 12, 9: 1})
    assert decode(payload) == ("a1", {7: 12, 9: 1})
    assert not left


def test_what_does_not_fit_is_left_for_the_next() -> None:
    numbers = dict.fromkeys(range(10**9, 10**9 + 1000), 1 << 60)
    told: dict[int, int] = {}
    rounds = 0
    while numbers:
        payload, numbers = encode("origin", numbers)
        assert len(payload) <= PAYLOAD_OCTETS
        told |= decode(payload)[1]
        rounds += 1
    assert len(told) == 1_000
    assert rounds > 1


def test_a_late_hint_takes_nothing_back() -> None:
    core = PeerHints("postgresql:///nowhere", cast(Any, None))
    core.announce({7: Touched(6), 9: Touched(3)})
    core.announce({7: Touched(5), 9: Touched(4)})  # one lane's effects may come after another's
    assert core._waiting == {7: 6, 9: 4}


@pytest.mark.postgres
@pytest.mark.parametrize("dialect", ["postgresql"])  # one core alone opens a SQLite store
async def test_a_commit_of_one_core_reaches_the_watchers_of_another(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_hints, "RECONNECT_SECONDS", 0.05)
    databases = [open_database(database_url) for _ in range(2)]
    notifiers = [Notifier(database) for database in databases]
    cores = [PeerHints(database_url, notifier) for notifier in notifiers]
    tasks = [asyncio.create_task(work()) for core in cores for work in (core.send, core.listen)]
    heard: asyncio.Queue[int] = asyncio.Queue()
    notifiers[1].watch(Claim(1, 5), lambda number, *_: heard.put_nowait(number), ignore)
    try:
        await _until_heard(cores[0], heard, 1)
        await _break_connections(database_url)
        await _until_heard(cores[0], heard, 2)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(database.close() for database in databases))


@pytest.mark.postgres
@pytest.mark.parametrize("dialect", ["postgresql"])
async def test_a_store_that_is_busy_interrupts_listening_and_does_not_end_it(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_hints, "RECONNECT_SECONDS", 0.05)
    database = open_database(database_url)
    notifier, teller = Notifier(database), PeerHints(database_url, Notifier(database))
    compare, asked = notifier.compare, 0

    async def busy_once() -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise StoreBusy
        await compare()

    monkeypatch.setattr(notifier, "compare", busy_once)
    tasks = [
        asyncio.create_task(PeerHints(database_url, notifier).listen()),
        asyncio.create_task(teller.send()),
    ]
    heard: asyncio.Queue[int] = asyncio.Queue()
    notifier.watch(Claim(1, 5), lambda number, *_: heard.put_nowait(number), ignore)
    try:
        await _until_heard(teller, heard, 1)
        assert asked == 2
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await database.close()


def ignore(_why: RestanteError) -> None:
    """The loss of a right, which these tests do not examine."""


async def _until_heard(teller: PeerHints, heard: asyncio.Queue[int], number: int) -> None:
    """Send a hint until it arrives: one may be lost during the connection's setup."""
    async with asyncio.timeout(20):
        while True:
            teller.announce({5: Touched(number)})
            try:
                async with asyncio.timeout(0.2):
                    assert await heard.get() == number
                    return
            except TimeoutError:
                continue


async def _break_connections(url: str) -> None:
    address = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    async with await psycopg.AsyncConnection.connect(address, autocommit=True) as connection:
        found = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE %s AND pid <> pg_backend_pid()"
        await connection.execute(found, (f"%{CHANNEL}%",))


async def test_comparing_finds_a_change_without_a_hint(database: Database) -> None:
    def make(tx: Connection) -> int:
        create_store(tx, NOW)
        return mailboxes.create(tx, NOW, account_id=1)

    mailbox_id = await database.write(Write(make))
    notifier = Notifier(database)
    heard: list[int] = []
    notifier.watch(Claim(1, mailbox_id), lambda number, *_: heard.append(number), ignore)
    notifier.watch(Claim(1, mailbox_id + 1), lambda *_: pytest.fail("there is no such mailbox"), ignore)
    await notifier.compare()
    await notifier.compare()
    told = await database.read(mailboxes.change_number, rights.system(mailbox_id))
    assert heard == [told], "once, and what the database says"
    change = Write(partial(changes.next_number, place=rights.system(mailbox_id)), mailboxes=frozenset({mailbox_id}))
    await database.write(change)
    await notifier.compare()
    assert heard == [told, told + 1]


async def test_comparing_finds_the_watchers_whose_right_another_core_has_taken(database: Database) -> None:
    def make(tx: Connection) -> list[int]:
        create_store(tx, NOW)
        return [mailboxes.create(tx, NOW, account_id=1) for _ in range(2)]

    mine, given_away = await database.write(Write(make))
    notifier = Notifier(database)
    lost: list[tuple[int, str]] = []
    for claim in (Claim(1, mine), Claim(1, given_away), Claim(1, given_away, 1), Claim(2, given_away)):
        notifier.watch(
            claim,
            lambda *_: None,
            lambda why, claim=claim: lost.append((claim.mailbox_id, why.reason)),  # type: ignore[misc]
        )
    await database.write(Write(lambda tx: mailboxes.assign(tx, rights.system(given_away), 2)))
    await notifier.compare()
    assert lost == [(given_away, "MAILBOX_NOT_FOUND")] * 2, "both places of the former owner, and no other"
