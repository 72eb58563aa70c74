"""The cost of searching a folder on SQLite: `python tests/bench/bench_search.py [MESSAGES]`.

Prints one line of JSON: milliseconds of the best and the median run of each kind of search in the store.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from sqlalchemy import Connection

from restante_mail.mime import parts
from restante_mail.mime.facts import scan
from restante_server.db import schema
from restante_server.db.engine import Database, open_database
from restante_server.directory.rights import Place
from restante_server.store import contents, search
from restante_server.store.contents import NewContent
from restante_server.store.messages import NewMessage
from restante_server.store.restriction import (
    EVERYTHING,
    HasFlags,
    HasHeader,
    HasText,
    Moment,
    Restriction,
    TextField,
    Within,
)
from restante_server.store.search import Key, Query, Step
from tests.server.store.material import NOW, Box, add_to, make_box

HOUR = 3_600_000_000
RUNS = 7
SEARCHES: dict[str, Restriction] = {
    "all": EVERYTHING,
    "unseen": HasFlags(1, 0),
    "since": Within(Moment.RECEIVED_AT, NOW + 5_000 * HOUR, None, local=True),
    "sent since": Within(Moment.SENT_AT, NOW, None, local=True),
    "subject": HasText(TextField.SUBJECT, "number 77"),
    "from": HasText(TextField.FROM, "user77@"),
    "header": HasHeader("message-id", "<77@example.org>"),
    "body": HasText(TextField.BODY, "needle77 "),
    "text": HasText(TextField.ANY, "needle77 "),
}
WORDS = "lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut labore".split()


def compose(rng: random.Random, number: int) -> bytes:
    """About 2 kB; one in four is multipart/alternative with HTML."""
    lines = (" ".join(rng.choices(WORDS, k=10)) for _ in range(20))
    text = "\r\n".join([*lines, f"needle{number} ends it."])
    kind, body = "text/plain; charset=utf-8", text
    if number % 4 == 0:
        kind = "multipart/alternative; boundary=bb"
        body = (
            f"--bb\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{text}\r\n"
            f"--bb\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>{text}</p>\r\n--bb--"
        )
    header = (
        f"From: User {number} <user{number}@example.org>\r\nTo: alice@example.test\r\n"
        f"Subject: Report number {number} of the quarter\r\nDate: Mon, 21 Sep 2026 12:00:00 +0200\r\n"
        f"Message-ID: <{number}@example.org>\r\nMIME-Version: 1.0\r\nContent-Type: {kind}\r\n"
    )
    return f"{header}\r\n{body}\r\n".encode()


def fill(tx: Connection, place: Place, folder_id: int, rng: random.Random, numbers: range) -> None:
    items = []
    octets = [compose(rng, number) for number in numbers]
    facts = [scan(one) for one in octets]
    new = [
        NewContent(len(one), b"", parts.encode(known.tree), one, None) for one, known in zip(octets, facts, strict=True)
    ]
    ids = contents.insert_many(tx, new, NOW)
    for content_id, number, one, known in zip(ids, numbers, octets, facts, strict=True):
        items.append(
            NewMessage(
                content_id,
                len(one),
                known,
                head=b"Return-Path: <bob@example.org>\r\nReceived: by core with ESMTPS id 1234567890; Mon\r\n" * 3,
                flags=number % 10 != 0,
                received_at=NOW + number * HOUR,
            )
        )
    add_to(tx, place, folder_id, items)


class Unhurried:
    """A watch that never ends a search."""

    over = False

    def check(self) -> None: ...


def _step(tx: Connection, box: Box, query: Query, after: Key | None) -> Step:
    return search.matches(tx, box.place(tx, box.inbox), Path(), query, after)


async def answer(db: Database, box: Box, restriction: Restriction) -> int:
    after: Key | None = None
    found = 0
    while True:
        step = await db.read(_step, box, Query(restriction), after)
        await asyncio.to_thread(step.confirm, Unhurried())
        found += len(step.hits)
        if step.after is None:
            return found
        after = step.after


async def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        db = open_database(f"sqlite:///{Path(directory) / 'store.db'}")
        schema.metadata.create_all(db.engine)
        box = await make_box(db)
        rng = random.Random(1)
        for start in range(0, count, 500):
            await box.write(fill, box.inbox, rng, range(start, min(count, start + 500)))
        figures: dict[str, object] = {"messages": count}
        for name, restriction in SEARCHES.items():
            times = []
            found = 0
            for _ in range(RUNS):
                began = time.perf_counter()
                found = await answer(db, box, restriction)
                times.append((time.perf_counter() - began) * 1_000)
            best, middle = round(min(times), 2), round(statistics.median(times), 2)
            figures[name] = {"found": found, "best_milliseconds": best, "median_milliseconds": middle}
        await db.close()
        print(json.dumps(figures))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
