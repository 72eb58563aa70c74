"""The throughput of the store alone: `python -m tests.bench.bench_store [sqlite|postgresql]` prints one JSON object.

Rates are messages a second, commit included, unless a name says otherwise. The mailbox holds 10,000 messages in the
Inbox for changes and 100,000 in another folder for reads.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from restante_mail.idset import IdSet
from restante_mail.mime import parts
from restante_mail.mime.facts import scan
from restante_server.db import schema
from restante_server.db.engine import Database, open_database
from restante_server.db.group import Locks
from restante_server.db.rowlocks import lock_rows
from restante_server.directory import rights
from restante_server.directory.rights import Place
from restante_server.store import changes, contents, flags, removal, rows
from restante_server.store.contents import NewContent
from restante_server.store.flags import FlagChange
from restante_server.store.listing import listing_of
from restante_server.store.messages import NewMessage
from restante_server.store.removal import Mode
from restante_server.store.selection import Selection
from tests.harness.postgres import PostgresServer, running_cluster
from tests.server.store.material import NOW, SIMPLE, Box, add_to, copy_to, make_box, move_to, new_content, uids

MESSAGES, LARGE = 10_000, 100_000
BODY = SIMPLE + b"The quick brown fox jumps over the lazy dog, as always.\r\n" * 30
HEAD = b"Return-Path: <alice@example.test>\r\nDelivered-To: bob@example.test\r\n" + b"Received: from x by y; z\r\n" * 8


async def timed(box: Box, function: Callable[..., Any], *args: object, **named: object) -> float:
    """Seconds of one operation, commit included."""
    began = time.perf_counter()
    await box.write(function, *args, **named)
    return time.perf_counter() - began


async def fill(box: Box, folder_id: int, count: int) -> float:
    """Messages with one content, 500 an operation; returns the seconds each took."""
    shown = listing_of(scan(BODY))

    def run(tx: Connection, place: Place, more: int) -> None:
        content_id = new_content(tx, BODY)
        item = NewMessage(content_id, len(BODY), shown, HEAD, received_at=NOW)
        add_to(tx, place, folder_id, [item] * more)

    began = time.perf_counter()
    for start in range(0, count, 500):
        await box.write(run, min(500, count - start))
    return (time.perf_counter() - began) / count


async def deliveries(box: Box, other: Box) -> dict[str, float]:
    """Milliseconds of one delivery with a separate content: alone, and 16 as one set."""
    facts = scan(BODY)
    shown, new = listing_of(facts), NewContent(len(BODY), bytes(32), parts.encode(facts.tree), BODY, None)

    def run(tx: Connection, place: Place, count: int) -> None:
        made = contents.insert_many(tx, [new] * count, NOW)
        items = [
            NewMessage(content_id, len(BODY), shown, HEAD, received_at=NOW, content_is_new=True) for content_id in made
        ]
        add_to(tx, place, other.inbox, items)

    result = {}
    for name, count, rounds in (("delivery_alone_ms", 1, 200), ("delivery_in_set_of_16_ms", 16, 60)):
        began = time.perf_counter()
        for _ in range(rounds):
            await other.write(run, count)
        result[name] = 1_000 * (time.perf_counter() - began) / rounds / count
    return result


async def flag_changes(box: Box) -> dict[str, float]:
    """Milliseconds of a flag change of one message, alone and 20 in a group."""
    result = {}
    for name, at_once in (("flag_alone_ms", 1), ("flag_in_group_of_20_ms", 20)):
        began = time.perf_counter()
        for number in range(20):
            await asyncio.gather(
                *(
                    box.write(flags.change_flags, uids(box.inbox, 1 + i), FlagChange.ADD, 1 << number % 3)
                    if number % 2
                    else box.write(flags.change_flags, uids(box.inbox, 1 + i), FlagChange.REMOVE, 7)
                    for i in range(at_once)
                )
            )
        result[name] = 1_000 * (time.perf_counter() - began) / 20 / at_once
    return result


async def changing(box: Box) -> dict[str, float]:
    """Bulk changes of the Inbox, each of all its messages."""
    whole = Selection(box.inbox, IdSet(((1, 1 << 31),)))
    scattered = Selection(box.inbox, IdSet.of(range(1, MESSAGES + 1, 2)))
    change = flags.change_flags
    store = [await timed(box, change, whole, FlagChange.ADD, 1), await timed(box, change, whole, FlagChange.REMOVE, 1)]
    seconds = {
        "store": min(store),
        "store_replace": await timed(box, change, whole, FlagChange.REPLACE, 3),
        "store_keyword": await timed(box, change, whole, FlagChange.ADD, 0, ["work"]),
        "store_5000_runs": 2 * await timed(box, change, scattered, FlagChange.ADD, 4),
        "copy": min([await timed(box, copy_to, whole, box.archive) for _ in range(2)]),
        "copy_5000_runs": 2 * await timed(box, copy_to, scattered, box.archive),
        "move": await timed(box, move_to, whole, box.trash, NOW),
    }
    there = Selection(box.trash, IdSet(((1, 1 << 31),)))
    seconds["move_back"] = await timed(box, move_to, there, box.inbox, NOW)
    low = MESSAGES + 1
    half = Selection(box.inbox, IdSet.of(range(low, low + MESSAGES, 2)))
    seconds["move_5000_runs"] = 2 * await timed(box, move_to, half, box.trash, NOW)
    await box.write(move_to, there, box.inbox, NOW)
    await box.write(change, whole, FlagChange.ADD, 8)
    flagged = Selection(box.inbox, whole.ids, only_deleted=True)
    seconds["expunge"] = await timed(box, removal.remove, flagged, Mode.SOFT, NOW)
    gone = IdSet(((1, MESSAGES),))
    seconds["recover"] = await timed(box, removal.recover, gone, NOW)
    seconds["delete_hard"] = await timed(box, removal.remove, whole, Mode.HARD, NOW)
    return {f"{name}_per_second": round(MESSAGES / took) for name, took in seconds.items()}


async def reading(box: Box, folder_id: int) -> dict[str, float]:
    """Reads of the large folder."""
    result: dict[str, float] = {}

    async def rate(name: str, function: Callable[..., Any], *args: object, **named: object) -> None:
        await box.read(function, *args, **named)
        began = time.perf_counter()
        await box.read(function, *args, **named)
        result[f"{name}_per_second"] = round(LARGE / (time.perf_counter() - began))

    def listed(tx: Connection, place: Place, names: frozenset[str]) -> None:
        selection, after = Selection(folder_id, IdSet(((1, 1 << 31),))), 0
        while True:
            page = rows.page(tx, place, selection, names, after=after, most=512)
            if page.after is None or not len(page):
                return
            after = page.after

    def opened(tx: Connection, place: Place, *args: int) -> object:
        return rows.folder_page(tx, rights.within(tx, place, folder_id), *args)

    def changed(tx: Connection, place: Place, since: int, most: int) -> object:
        return changes.folder_changes(tx, rights.within(tx, place, folder_id), since, most=most)

    await rate("open_folder", opened, 0, LARGE + 1)
    await rate("folder_changes", changed, 0, most=LARGE + 1)
    await rate("flags_rows", listed, frozenset({"flags", "keywords"}))
    await rate("list_rows", listed, frozenset({"flags", "keywords", "envelope", "size_octets", "received_at"}))
    return result


async def run(database: Database) -> dict[str, float]:
    box, other = await make_box(database), await make_box(database)
    figures = {"fill_ms": 1_000 * await fill(box, box.inbox, MESSAGES)}
    figures |= await deliveries(box, other)
    figures |= await flag_changes(box)
    figures |= await changing(box)
    await fill(other, other.archive, LARGE)
    figures |= await reading(other, other.archive)
    return {name: round(value, 4) for name, value in figures.items()}


def measure(url: str) -> dict[str, float]:
    locks = Locks(lock_rows(schema.mailbox.c.mailbox_id), lock_rows(schema.content.c.content_id))
    database = open_database(url, locks=locks)
    schema.metadata.create_all(database.engine)

    async def main() -> dict[str, float]:
        try:
            return await run(database)
        finally:
            await database.close()

    return asyncio.run(main())


def main(name: str = "sqlite") -> None:
    if name == "postgresql":
        with running_cluster() as maintenance, PostgresServer(maintenance).database() as url:
            print(json.dumps(measure(url), indent=1))
    else:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(f"sqlite:///{Path(folder) / 'store.db'}"), indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
