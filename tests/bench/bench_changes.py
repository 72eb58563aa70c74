"""The cost of changing mail in a SQLite store: `python -m tests.bench.bench_changes [MESSAGES]` prints one JSON object.

For each operation: the statements it runs, the microseconds of CPU a message in the function and in the commit, and the
octets a message that it writes to the log. Statements and octets are exact; the least time of three rounds is shown.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, make_url

from restante_mail.idset import IdSet
from restante_mail.mime import parts
from restante_mail.mime.facts import scan
from restante_server.db import schema
from restante_server.db.effects import begin, take
from restante_server.db.sqlite import SqliteBackend, SqliteSettings
from restante_server.directory import rights
from restante_server.directory.rights import Place
from restante_server.store import contents, flags, folders, mailboxes, messages, removal, requests, transfer
from restante_server.store.contents import NewContent
from restante_server.store.flags import FlagChange
from restante_server.store.folders import Role
from restante_server.store.listing import listing_of
from restante_server.store.messages import NewMessage
from restante_server.store.removal import Mode
from restante_server.store.selection import Selection
from tests.server.store.material import NOW, OWNER, SIMPLE, begin_store

BODY = SIMPLE + b"The quick brown fox jumps over the lazy dog, as always.\r\n" * 30
HEAD = b"Return-Path: <alice@example.test>\r\nDelivered-To: bob@example.test\r\n" + b"Received: from x by y; z\r\n" * 8
ROUNDS, SINGLE_ROUNDS = 3, 100
Change = Callable[[Connection, Place], object]


class Store:
    """One mailbox in a file, without the pipeline: each operation is a transaction of its own."""

    def __init__(self, file: Path) -> None:
        self.backend = SqliteBackend(make_url(f"sqlite:///{file}"), SqliteSettings())
        schema.metadata.create_all(self.backend.writer_engine)
        self.log = file.with_name(file.name + "-wal")
        self.tx = self.backend.writer()
        self.driver: Any = self.tx.connection.dbapi_connection
        with self.tx.begin():
            begin_store(self.tx)
        self.enter_mailbox()

    def enter_mailbox(self) -> None:
        """Make a mailbox, in which the next operations run."""
        with self.tx.begin():
            self.mailbox_id = mailboxes.create(self.tx, NOW, quota_octets=None, account_id=OWNER)
            tree = folders.tree(self.tx, rights.decide(self.tx, OWNER, self.mailbox_id))
            self.by_role = {Role(facts.role): facts.folder_id for facts in tree}

    def run(self, change: Change) -> dict[str, float]:
        """Run an operation; returns CPU microseconds of the function and of its commit, and octets of log."""
        self.driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        with self.tx.begin():  # after the checkpoint, SQLite first forgets the pages that it has in memory
            began = time.process_time_ns()
            begin(self.tx)
            change(self.tx, rights.decide(self.tx, OWNER, self.mailbox_id))
            take(self.tx)
            done = time.process_time_ns()
        ended = time.process_time_ns()
        return {
            "function_us": (done - began) / 1_000,
            "commit_us": (ended - done) / 1_000,
            "log_octets": self.log.stat().st_size,
        }

    def statements(self, change: Change) -> list[str]:
        """The statements of an operation, shortened, with a count where one runs more than once."""
        seen: dict[str, int] = {}

        def note(statement: str) -> None:
            text = " ".join(statement.split())[:90]
            seen[text] = seen.get(text, 0) + 1

        self.driver.set_trace_callback(note)
        try:
            self.run(change)
        finally:
            self.driver.set_trace_callback(None)
        return [text if count == 1 else f"{count} times {text}" for text, count in seen.items()]


def placing(store: Store, count: int, separate: bool) -> Change:
    """Place messages in the Inbox: with separate contents and request ids, as APPEND does, or with one content."""
    facts = scan(BODY)
    shown, new = listing_of(facts), NewContent(len(BODY), bytes(32), parts.encode(facts.tree), BODY, None)

    def run(tx: Connection, place: Place) -> None:
        made = contents.insert_many(tx, [new] * count, NOW) if separate else contents.insert_many(tx, [new], NOW)
        at = made if separate else made * count
        items = [
            NewMessage(content_id, len(BODY), shown, HEAD, received_at=NOW, content_is_new=True) for content_id in at
        ]
        for number in range(count if separate else 0):
            key = requests.Key(place.mailbox_id, "account:1", made[number].to_bytes(16, "big"))
            requests.keep(tx, [(requests.Request(key, "Append", bytes(32), NOW), bytes(40))], is_locked=True)
        messages.add(tx, rights.within(tx, place, store.by_role[Role.INBOX]), items)

    return run


def changing(store: Store, count: int) -> dict[str, tuple[Change, Change, int]]:
    """{name: (operation, what undoes it, messages)}."""
    inbox, archive = store.by_role[Role.INBOX], store.by_role[Role.ARCHIVE]
    whole, one = IdSet(((1, 1 << 31),)), IdSet(((7, 7),))
    scattered = IdSet.of(range(1, count + 1, 2))

    def flag(ids: IdSet, change: FlagChange, bits: int, names: tuple[str, ...] = ()) -> Change:
        return lambda tx, place: flags.change_flags(tx, place, Selection(inbox, ids), change, bits, names)

    def copy(ids: IdSet) -> Change:
        return lambda tx, place: transfer.copy(tx, place, Selection(inbox, ids), rights.within(tx, place, archive))

    def clear(folder_id: int) -> Change:
        return lambda tx, place: removal.remove(tx, place, Selection(folder_id, whole), Mode.HARD, NOW)

    def move(source: int, target: int) -> Change:
        into = partial(rights.within, folder_id=target)
        return lambda tx, place: transfer.move(tx, place, Selection(source, whole), into(tx, place), NOW)

    def expunge(tx: Connection, place: Place) -> None:
        removal.remove(tx, place, Selection(inbox, whole, only_deleted=True), Mode.SOFT, NOW)

    def recover(tx: Connection, place: Place) -> None:
        removal.recover(tx, place, whole, NOW)
        flags.change_flags(tx, place, Selection(inbox, whole), FlagChange.ADD, 8)

    add, drop = FlagChange.ADD, FlagChange.REMOVE
    return {
        "store": (flag(whole, add, 4), flag(whole, drop, 4), count),
        "store_keyword": (flag(whole, add, 1, ("Bench",)), flag(whole, drop, 1, ("Bench",)), count),
        "store_runs": (flag(scattered, add, 4), flag(scattered, drop, 4), count // 2),
        "store_one": (flag(one, FlagChange.REPLACE, 3), flag(one, FlagChange.REPLACE, 0), 1),
        "copy": (copy(whole), clear(archive), count),
        "copy_runs": (copy(scattered), clear(archive), count // 2),
        "copy_one": (copy(one), clear(archive), 1),
        "move": (move(inbox, archive), move(archive, inbox), count),
        "flag_deleted": (flag(whole, add, 8), flag(whole, drop, 8), count),
        "expunge": (expunge, recover, count),
        "delete_hard": (clear(inbox), lambda tx, place: None, count),
    }


def measure(file: Path, count: int) -> dict[str, Any]:
    store = Store(file)
    figures: dict[str, Any] = {}

    def note(name: str, rounds: list[dict[str, float]], each: int, statements: list[str]) -> None:
        least = {key: round(min(one[key] for one in rounds) / each, 3) for key in rounds[0]}
        figures[name] = {**least, "statements": statements}

    for name, size in (("append_one", 1), ("append_16", 16)):
        change = placing(store, size, separate=True)
        note(name, [store.run(change) for _ in range(SINGLE_ROUNDS)], size, store.statements(change))
    store.enter_mailbox()
    for _ in range(0, count, 500):
        store.run(placing(store, 500, separate=True))
    for name, (change, undo, each) in changing(store, count).items():
        rounds = []
        store.run(undo)
        for _ in range(1 if name == "delete_hard" else ROUNDS if each > 1 else SINGLE_ROUNDS):
            rounds.append(store.run(change))
            store.run(undo)
        note(name, rounds, each, store.statements(change) if name != "delete_hard" else [])
        store.run(undo)
    store.backend.close()
    return figures


def main(count: str = "4000") -> None:
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder) / "store.db", int(count)), indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
