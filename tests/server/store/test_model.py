"""Any sequence of operations agrees with a model of a few lines of Python, and a copy kept by changes stays equal."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from restante_mail.idset import IdSet
from restante_server.db import schema
from restante_server.db.engine import open_database
from restante_server.store import changes, erasure, flags, folders, mailboxes, removal, rows
from restante_server.store.changes import FolderDelta
from restante_server.store.check import check
from restante_server.store.flags import FlagChange
from restante_server.store.removal import Mode
from restante_server.store.selection import Selection
from tests.server.store.material import NOW, Box, copy_to, make_box, move_to

R = TypeVar("R")
FOLDERS = st.sampled_from(["inbox", "trash", "archive"])
UIDS = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 6)), min_size=1, max_size=4)
WORDS = st.lists(st.sampled_from(["work", "Home", "later"]), max_size=2)
BACK = st.integers(-1, 3)  # how far a limit of change numbers lies back; -1: no limit
BITS = st.integers(0, 31)
SEEN, DELETED = 1, 8


@dataclass(frozen=True)
class Known:
    """One message of the model."""

    message_id: int
    flags: int
    words: frozenset[str]
    change: int


@dataclass
class Place:
    """One folder of the model."""

    messages: dict[int, Known] = field(default_factory=dict)  # by UID
    uid_next: int = 1

    def add(self, known: Known) -> int:
        self.messages[self.uid_next] = known
        self.uid_next += 1
        return self.uid_next - 1


class StoreMachine(RuleBasedStateMachine):
    """Each rule makes one change of the store and of the model; the invariant compares them."""

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.mkdtemp()
        self.database = open_database(f"sqlite:///{Path(self.folder) / 'store.db'}")
        schema.metadata.create_all(self.database.engine)
        self.box: Box = self.run(make_box(self.database))
        self.places = {name: Place() for name in ("inbox", "trash", "archive")}
        self.gone: dict[int, tuple[str, Known]] = {}  # recoverable: {id: (folder, message)}
        self.leased: set[int] = set()  # removed permanently, and not erased yet
        self.next_id = 1
        self.change: int = self.run(self.box.read(mailboxes.change_number))
        self.copies: dict[str, tuple[int, dict[int, tuple[int, ...]]]] = {name: (0, {}) for name in self.places}
        for name, bits in (("inbox", 0), ("inbox", SEEN | DELETED), ("archive", SEEN), ("trash", DELETED)):
            self.put(name, 3, bits, ["work"])  # something to work with

    def teardown(self) -> None:
        if hasattr(self, "database"):
            try:
                assert self.run(self.database.read(check)) == []
            finally:
                self.run(self.database.close())
                self.loop.close()
                shutil.rmtree(self.folder)

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        return self.loop.run_until_complete(work)

    def write(self, function: Callable[..., R], *args: object, **named: object) -> R:
        return self.run(self.box.write(function, *args, **named))

    def id_of(self, name: str) -> int:
        folder_id: int = getattr(self.box, name)
        return folder_id

    def select(self, name: str, runs: list[tuple[int, int]], **named: bool) -> tuple[Selection, list[int]]:
        ids = IdSet.from_runs((first, first + length) for first, length in runs)
        there = [uid for uid in sorted(self.places[name].messages) if uid in ids]
        return Selection(self.id_of(name), ids, **named), there

    def split(self, name: str, there: list[int], back: int) -> tuple[int | None, list[int], list[int]]:
        """(a limit of change numbers, UIDs not above it, UIDs above it); a negative `back` is no limit."""
        limit = None if back < 0 else self.change - back
        messages = self.places[name].messages
        left = [uid for uid in there if limit is not None and messages[uid].change > limit]
        return limit, [uid for uid in there if uid not in left], left

    @rule(name=FOLDERS, count=st.integers(1, 4), bits=BITS, words=WORDS)
    def add(self, name: str, count: int, bits: int, words: list[str]) -> None:
        self.put(name, count, bits, words)

    def put(self, name: str, count: int, bits: int, words: list[str]) -> None:
        placed = self.run(self.box.fill(self.id_of(name), count, flags=bits, keywords=tuple(words)))
        self.change += 1
        for where in placed:
            known = Known(self.next_id, bits, frozenset(words), self.change)
            assert (where.message_id, where.uid) == (self.next_id, self.places[name].add(known))
            self.next_id += 1

    @rule(name=FOLDERS, runs=UIDS, how=st.sampled_from(FlagChange), bits=BITS, words=WORDS, back=BACK)
    def set_flags(
        self, name: str, runs: list[tuple[int, int]], how: FlagChange, bits: int, words: list[str], back: int
    ) -> None:
        selection, there = self.select(name, runs)
        limit, _, left = self.split(name, there, back)
        done = self.write(flags.change_flags, selection, how, bits, words, if_change_number=limit)
        messages = self.places[name].messages
        assert (list(done.left.uids), done.found) == (left, len(there) - len(left))
        assert list(done.left.message_ids) == [messages[uid].message_id for uid in left]
        changed = {}
        for uid in set(there) - set(left):
            known = messages[uid]
            if how is FlagChange.ADD:
                after = replace(known, flags=known.flags | bits, words=known.words | set(words))
            elif how is FlagChange.REMOVE:
                after = replace(known, flags=known.flags & ~bits, words=known.words - set(words))
            else:
                after = replace(known, flags=bits, words=frozenset(words))
            if after != known:
                changed[uid] = after
        self.raise_change(bool(changed), done.change_number)
        messages.update({uid: replace(known, change=self.change) for uid, known in changed.items()})

    @rule(name=FOLDERS, runs=UIDS, into=FOLDERS, back=BACK)
    def copy(self, name: str, runs: list[tuple[int, int]], into: str, back: int) -> None:
        selection, there = self.select(name, runs)
        limit, there, left = self.split(name, there, back)
        done = self.write(copy_to, selection, self.id_of(into), if_change_number=limit)
        assert list(done.left.uids) == left
        self.raise_change(bool(there), done.change_number)
        made = []
        for known in [self.places[name].messages[uid] for uid in there]:
            made.append(self.places[into].add(replace(known, message_id=self.next_id, change=self.change)))
            self.next_id += 1
        assert (list(done.source.uids), done.target_uids) == (there, IdSet.of(made))
        assert list(done.source.message_ids) == [self.places[name].messages[uid].message_id for uid in there]
        assert done.target_ids == IdSet.of(self.places[into].messages[uid].message_id for uid in made)

    @rule(name=FOLDERS, runs=UIDS, into=FOLDERS, back=BACK)
    def move(self, name: str, runs: list[tuple[int, int]], into: str, back: int) -> None:
        selection, there = self.select(name, runs)
        limit, there, left = self.split(name, there, back)
        done = self.write(move_to, selection, self.id_of(into), NOW, if_change_number=limit)
        assert list(done.left.uids) == left
        self.raise_change(bool(there), done.change_number)
        moved = [self.places[name].messages.pop(uid) for uid in there]
        made = [self.places[into].add(replace(known, change=self.change)) for known in moved]
        assert (list(done.source.uids), done.target_uids) == (there, IdSet.of(made))
        assert list(done.source.message_ids) == [known.message_id for known in moved]

    @rule(name=FOLDERS, runs=UIDS, mode=st.sampled_from(Mode), marked=st.sampled_from([False, False, True]), back=BACK)
    def delete(self, name: str, runs: list[tuple[int, int]], mode: Mode, marked: bool, back: int) -> None:
        selection, there = self.select(name, runs, only_deleted=marked)
        place = self.places[name]
        if marked:
            there = [uid for uid in there if place.messages[uid].flags & DELETED]
        limit, there, left = self.split(name, there, back)
        done = self.write(removal.remove, selection, mode, NOW, if_change_number=limit)
        self.raise_change(bool(there), done.change_number)
        assert (list(done.messages.uids), list(done.left.uids)) == (there, left)
        assert list(done.messages.message_ids) == [place.messages[uid].message_id for uid in there]
        for uid in there:
            known = replace(place.messages.pop(uid), change=self.change)
            if mode is Mode.TO_TRASH and name != "trash":
                self.places["trash"].add(known)
            elif mode is not Mode.HARD:
                self.gone[known.message_id] = (name, known)
            else:
                self.leased.add(known.message_id)

    @precondition(lambda self: bool(self.gone))
    @rule(data=st.data())
    def recover(self, data: st.DataObject) -> None:
        wanted = self.some_gone(data)
        done = self.write(removal.recover, IdSet.of(wanted), NOW)
        assert list(done.message_ids) == sorted(wanted & self.gone.keys())
        self.raise_change(bool(done.message_ids), done.change_number)
        for message_id, folder_id, uid in zip(done.message_ids, done.folder_ids, done.uids, strict=True):
            name, known = self.gone.pop(message_id)
            made = self.places[name].add(replace(known, flags=known.flags & ~DELETED, change=self.change))
            assert (folder_id, uid) == (self.id_of(name), made)

    @precondition(lambda self: bool(self.gone))
    @rule(data=st.data())
    def purge(self, data: st.DataObject) -> None:
        wanted = self.some_gone(data)
        assert self.write(removal.purge, IdSet.of(wanted), NOW) == len(wanted & self.gone.keys())
        self.leased |= wanted & self.gone.keys()
        for message_id in wanted:
            self.gone.pop(message_id, None)

    @rule(before=st.integers(1, 40))
    def erase(self, before: int) -> None:
        """End the leases of some messages; other messages in the selection must not change."""
        ended = {message_id for message_id in self.leased if message_id <= before}
        everything = Selection(None, IdSet(((1, 1 << 40),)), removed=True)
        assert self.write(erasure.end_leases, IdSet(((1, before),)), NOW) == len(ended)
        self.leased -= ended
        placed = {known.message_id for place in self.places.values() for known in place.messages.values()}
        found = self.run(self.box.read(rows.page, everything, frozenset(), most=10_000))
        assert set(found.columns["message_id"]) == placed | self.gone.keys() | self.leased

    @rule(name=FOLDERS)
    def catch_up(self, name: str) -> None:
        """Bring the copy of one folder up to date."""
        since, copy = self.copies[name]
        found = self.run(self.box.read_in(self.id_of(name), changes.folder_changes, since))
        for uid in [uid for uid in copy if uid in found.vanished]:
            del copy[uid]
        copy.update(
            zip(found.uids, zip(found.message_ids, found.flags, found.change_numbers, strict=True), strict=True)
        )
        self.copies[name] = (found.change_number, copy)
        whole = self.run(self.box.read_in(self.id_of(name), changes.folder_changes, 0))
        fresh = dict(
            zip(whole.uids, zip(whole.message_ids, whole.flags, whole.change_numbers, strict=True), strict=True)
        )
        assert copy == fresh

    def some_gone(self, data: st.DataObject) -> set[int]:
        """Ids of some recoverable messages, and perhaps of one that is not recoverable."""
        wanted: set[int] = data.draw(st.sets(st.sampled_from([*self.gone, self.next_id]), min_size=1))
        return wanted

    def raise_change(self, changed: bool, number: int | None) -> None:
        if changed:
            self.change += 1
        assert number == (self.change if changed else None)

    @invariant()
    def the_store_is_as_the_model_says(self) -> None:
        if not hasattr(self, "places"):
            return
        for name, place in self.places.items():
            found = self.run(self.box.read_in(self.id_of(name), changes.folder_changes, 0))
            here = {
                uid: Known(message_id, bits, frozenset(words.split()), change)
                for uid, message_id, bits, words, change in zip(
                    found.uids, found.message_ids, found.flags, found.keywords, found.change_numbers, strict=True
                )
            }
            assert here == place.messages
            assert found.uid_next == place.uid_next
            facts = self.run(self.box.read_in(self.id_of(name), folders.get))
            assert facts.unread_count == sum(not known.flags & SEEN for known in here.values())
        total = self.run(self.box.read(mailboxes.get))
        assert total.message_count == sum(len(place.messages) for place in self.places.values())
        assert (total.recoverable_count, total.change_number) == (len(self.gone), self.change)


def _columns(delta: FolderDelta) -> dict[int, tuple[int, ...]]:
    facts = zip(delta.message_ids, delta.flags, delta.change_numbers, strict=True)
    return dict(zip(delta.uids, facts, strict=True))


@pytest.mark.slow
def test_any_sequence_of_operations_agrees_with_the_model() -> None:
    run_state_machine_as_test(
        StoreMachine,
        settings=settings(
            max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
