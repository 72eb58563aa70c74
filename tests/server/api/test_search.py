"""Restrictions from the wire: their bounds, their meaning, and a search through the handler."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from restante.errors import FolderNotFound, InvalidArgument, MailboxNotFound, TooComplex
from restante.v1 import search_pb2 as v1
from restante.v1.message_pb2 import SearchMessagesRequest
from restante.v1.types_pb2 import IdRange, MessageSet
from restante_server.api import search as api
from restante_server.api.caller import Call, Caller
from restante_server.store import folders, search
from restante_server.store.idset import IdSet
from restante_server.store.restriction import (
    EVERYTHING,
    AllOf,
    Among,
    HasHeader,
    HasText,
    Moment,
    Restriction,
    TextField,
    Within,
)
from tests.server.store.conftest import box, other
from tests.server.store.material import Box
from tests.server.store.search_material import fill, holds

__all__ = ["box", "other"]  # fixtures


def negated(times: int) -> v1.Restriction:
    given = v1.Restriction(flags=v1.FlagRestriction(mask=1, value=1))
    for _ in range(times):
        given = v1.Restriction(negation=given)
    return given


def text(value: str, field: v1.TextField.ValueType = v1.TEXT_FIELD_BODY) -> v1.Restriction:
    return v1.Restriction(text=v1.TextRestriction(field=field, value=value))


def test_a_tree_is_at_most_16_deep_with_256_nodes() -> None:
    api.restriction(negated(15))
    with pytest.raises(TooComplex):
        api.restriction(negated(16))
    flat = [text("x")] * 255
    api.restriction(v1.Restriction(any_of=v1.RestrictionList(restrictions=flat)))
    with pytest.raises(TooComplex):
        api.restriction(v1.Restriction(any_of=v1.RestrictionList(restrictions=[*flat, text("y")])))


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (v1.Restriction(), EVERYTHING),
        (text(""), EVERYTHING),
        (text("\u00ad"), EVERYTHING),  # folds to nothing
        (text("CAFÉ"), HasText(TextField.BODY, "cafe")),
        (v1.Restriction(header=v1.HeaderRestriction(name="X-Note")), HasHeader("x-note", "")),
        (v1.Restriction(ids=MessageSet(message_ids=[3, 1])), Among(None, IdSet.of([1, 3]))),
        (v1.Restriction(ids=MessageSet(folder_id=7)), Among(7, IdSet(()))),
        (v1.Restriction(all_of=v1.RestrictionList()), AllOf()),
    ],
)
def test_what_a_condition_means(given: v1.Restriction, meant: Restriction) -> None:
    assert api.restriction(given) == meant


def test_times_finer_than_a_microsecond_are_rounded_so_that_nothing_before_the_bound_matches() -> None:
    given = v1.Restriction(time=v1.TimeRestriction(property=v1.TIME_PROPERTY_SENT_AT))
    given.time.not_before.seconds, given.time.not_before.nanos = 1, 1
    given.time.before.seconds = 1 << 60
    assert api.restriction(given) == Within(Moment.SENT_AT, 1_000_001, 1 << 60, False)


@pytest.mark.parametrize(
    "given",
    [
        v1.Restriction(text=v1.TextRestriction(value="x")),
        v1.Restriction(compare=v1.CompareRestriction(property=v1.COMPARE_PROPERTY_UID)),
        v1.Restriction(time=v1.TimeRestriction()),
        v1.Restriction(header=v1.HeaderRestriction(value="x")),
        v1.Restriction(ids=MessageSet()),
        v1.Restriction(ids=MessageSet(folder_id=1, uids=[IdRange(first=0, last=2)])),
    ],
)
def test_a_condition_that_says_half_is_refused(given: v1.Restriction) -> None:
    with pytest.raises(InvalidArgument):
        api.restriction(given)


def call_of(box: Box, directory: Path) -> Call:
    core: Any = SimpleNamespace(db=box.database, contents=SimpleNamespace(directory=directory), epoch=1)
    return Call(cast(Any, core), Caller(account_id=1, mailbox_id=box.id), 0, float("inf"))


async def test_a_search_answers_uids_and_change_numbers(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "CANDIDATES", 5)
    known = await fill(box, random.Random(5), 30, files=0.3, directory=tmp_path)
    answer = await api.search_messages(
        call_of(box, tmp_path), SearchMessagesRequest(folder_id=box.inbox, restriction=text("rest"))
    )
    wanted = [one for one in known if one.folder_id == box.inbox and holds(one, HasText(TextField.BODY, "rest"))]
    assert 0 < len(wanted) < 30
    found = [uid for run in answer.uids for uid in range(run.first, run.last + 1)]
    assert found == [one.placed.uid for one in wanted]
    assert answer.highest_match_change_number == max(one.placed.change_number for one in wanted)
    assert answer.change_number == (await box.read(folders.get, box.inbox)).change_number


async def test_a_search_of_nothing_or_of_another_mailbox(box: Box, other: Box, tmp_path: Path) -> None:
    call = call_of(box, tmp_path)
    answer = await api.search_messages(call, SearchMessagesRequest(folder_id=box.inbox))
    assert (list(answer.uids), answer.highest_match_change_number) == ([], 0)
    with pytest.raises(FolderNotFound):
        await api.search_messages(call, SearchMessagesRequest(folder_id=999))
    with pytest.raises(MailboxNotFound):
        await api.search_messages(call, SearchMessagesRequest(mailbox_id=other.id, folder_id=other.inbox))
