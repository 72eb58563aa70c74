"""Searches agree with a plain evaluation, by every query plan."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from sqlalchemy import Connection

from restante_server.directory.rights import Place
from restante_server.store import search
from restante_server.store.messages import Placed
from restante_server.store.restriction import (
    EVERYTHING,
    AllOf,
    AnyOf,
    HasFlags,
    HasHeader,
    HasText,
    Moment,
    Not,
    Restriction,
    TextField,
    Within,
)
from restante_server.store.search import Key, Query, Step
from tests.server.store.material import NOW, SIMPLE, Box, add_to, new_messages
from tests.server.store.search_material import Known, fill, holds, random_restriction


class Unhurried:
    """A watch that never ends a search."""

    over = False

    def check(self) -> None: ...


def _step(tx: Connection, box: Box, directory: Path, query: Query, after: Key | None) -> Step:
    return search.matches(tx, box.place(tx, box.inbox), directory, query, after)


async def found(box: Box, restriction: Restriction, directory: Path = Path("/nonexistent")) -> list[int]:
    """The UIDs of matching messages of the Inbox."""
    uids: list[int] = []
    after: Key | None = None
    while True:
        step: Step = await box.database.read(_step, box, directory, Query(restriction), after)
        step.confirm(Unhurried())
        uids += [hit[0] for hit in step.hits]
        if step.after is None:
            return uids
        after = step.after


def expected(known: list[Known], box: Box, restriction: Restriction) -> list[int]:
    return [one.placed.uid for one in known if one.folder_id == box.inbox and holds(one, restriction)]


@pytest.mark.parametrize("seed", range(4))
async def test_every_answer_equals_a_plain_evaluation(
    box: Box, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "CANDIDATES", 7)  # so that steps end everywhere
    monkeypatch.setattr(search, "BATCH", 3)
    monkeypatch.setattr(search, "STEP_OCTETS", 4_000)
    rng = random.Random(seed)
    known = await fill(box, rng, 40, files=0.2, directory=tmp_path)
    hits = 0
    for _ in range(150):
        restriction = random_restriction(rng, known)
        answer = await found(box, restriction, tmp_path)
        assert answer == expected(known, box, restriction), restriction
        hits += 0 < len(answer) < 30
    assert hits > 20  # conditions that distinguish messages


async def test_nothing_asked_is_everything_found(box: Box) -> None:
    await box.fill(box.inbox, 3)
    assert await found(box, EVERYTHING) == [1, 2, 3]
    assert await found(box, AnyOf()) == []


async def test_a_message_without_a_date_is_sent_at_no_time(box: Box) -> None:
    def run(tx: Connection, place: Place) -> list[Placed]:
        return add_to(tx, place, box.inbox, new_messages(tx, 1, SIMPLE.replace(b"Date:", b"X-Date:")))

    await box.fill(box.inbox, 1)
    await box.write(run)
    ever = Within(Moment.SENT_AT, None, None)
    assert await found(box, ever) == [1]
    assert await found(box, Within(Moment.SENT_AT, None, 1 << 59)) == [1]
    assert await found(box, Not(ever)) == [2]


async def test_a_day_is_the_one_that_was_written(box: Box) -> None:  # RFC 3501 6.4.4
    midnight = NOW - NOW % 86_400_000_000
    await box.fill(box.inbox, 1, received_at=midnight + 1, received_offset_minutes=-60)  # 23:00 the day before
    for local, answer in ((True, []), (False, [1])):
        assert await found(box, Within(Moment.RECEIVED_AT, midnight, None, local)) == answer


async def test_text_is_found_whatever_its_characters_mean_elsewhere(box: Box) -> None:
    await box.fill(box.inbox, 1)
    for pattern in ("%", "_unch", "l%h", "lunc\\h", "'"):
        assert await found(box, HasText(TextField.SUBJECT, pattern)) == []
    assert await found(box, HasText(TextField.SUBJECT, "unch")) == [1]


async def test_what_we_added_at_delivery_is_part_of_the_header(box: Box) -> None:
    await box.fill(box.inbox, 1, head=b"Return-Path: <bob@example.com>\r\n")
    assert await found(box, HasHeader("return-path", "bob@")) == [1]
    assert await found(box, HasHeader("return-path", "")) == [1]
    assert await found(box, HasText(TextField.ANY, "return-path: <bob")) == [1]
    assert await found(box, HasHeader("x-return-path", "")) == []


async def test_a_neighbour_with_equal_ids_is_never_found(box: Box, other: Box) -> None:
    await box.fill(box.inbox, 2, flags=1)
    await other.fill(other.inbox, 5, flags=4)
    assert await found(box, AllOf((HasFlags(1, 1), Not(HasText(TextField.BODY, "absent"))))) == [1, 2]
    assert await found(other, Not(HasFlags(1, 1))) == [1, 2, 3, 4, 5]


async def test_a_file_that_has_gone_is_a_message_that_has_gone(box: Box, tmp_path: Path) -> None:
    known = await fill(box, random.Random(1), 5, files=1.0, directory=tmp_path)
    assert await found(box, HasText(TextField.ANY, "subject"), tmp_path) == expected(known, box, EVERYTHING)
    for path in tmp_path.glob("m*"):
        path.unlink()
    assert await found(box, HasText(TextField.ANY, "subject"), tmp_path) == []
