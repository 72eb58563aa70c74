"""Restrictions from the wire: their limits, their meaning, and a search through the handler."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from restante.errors import (
    FolderNotFound,
    InvalidArgument,
    InvalidPageToken,
    MailboxNotFound,
    ResultTooLarge,
    TooComplex,
)
from restante.v1 import message_pb2 as m1
from restante.v1 import search_pb2 as v1
from restante.v1.message_pb2 import QueryMessagesRequest, SearchMessagesRequest
from restante.v1.types_pb2 import IdRange, MessageIdSet, UidSet
from restante_mail.idset import IdSet
from restante_mail.text.fold import fold
from restante_server.api.engine.call import Call
from restante_server.api.engine.caller import Caller
from restante_server.api.engine.search_threads import Searches
from restante_server.api.services import search as api
from restante_server.api.services.restrictions import restriction
from restante_server.directory import keys
from restante_server.directory.keys import KeyRing
from restante_server.store import folders, removal, search
from restante_server.store.listing import base_subject, microseconds
from restante_server.store.removal import Mode
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
from restante_server.store.selection import Selection
from tests.server.store.conftest import box, other
from tests.server.store.material import NOW, Box, ids
from tests.server.store.search_material import Known, fill, holds

__all__ = ["box", "other"]  # fixtures


def negated(times: int) -> v1.Restriction:
    given = v1.Restriction(flags=v1.FlagRestriction(mask=1, value=1))
    for _ in range(times):
        given = v1.Restriction(negation=given)
    return given


def text(value: str, field: v1.TextField.ValueType = v1.TEXT_FIELD_BODY) -> v1.Restriction:
    return v1.Restriction(text=v1.TextRestriction(field=field, value=value))


def test_a_tree_is_at_most_16_deep_with_256_nodes() -> None:
    restriction(negated(15))
    with pytest.raises(TooComplex) as refused:
        restriction(negated(16))
    assert refused.value.metadata == {"limit": "16", "value": "17"}
    flat = [text("x")] * 255
    restriction(v1.Restriction(any_of=v1.RestrictionList(restrictions=flat)))
    with pytest.raises(TooComplex) as refused:
        restriction(v1.Restriction(any_of=v1.RestrictionList(restrictions=[*flat, text("y")])))
    assert refused.value.metadata == {"limit": "256", "value": "257"}


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (v1.Restriction(), EVERYTHING),
        (text(""), EVERYTHING),
        (text("\u00ad"), EVERYTHING),  # folds to nothing
        (text("CAFÉ"), HasText(TextField.BODY, "cafe")),
        (v1.Restriction(header=v1.HeaderRestriction(name="X-Note")), HasHeader("x-note", "")),
        (v1.Restriction(ids=MessageIdSet(message_ids=[3, 1])), Among(None, IdSet.of([1, 3]))),
        (v1.Restriction(uids=UidSet(folder_id=7)), Among(7, IdSet(()))),
        (v1.Restriction(all_of=v1.RestrictionList()), AllOf()),
    ],
)
def test_what_a_condition_means(given: v1.Restriction, meant: Restriction) -> None:
    assert restriction(given) == meant


def test_times_finer_than_a_microsecond_are_rounded_so_that_nothing_before_the_bound_matches() -> None:
    given = v1.Restriction(time=v1.TimeRestriction(property=v1.TIME_PROPERTY_SENT_AT))
    given.time.not_before.seconds, given.time.not_before.nanos = 1, 1
    given.time.before.seconds = 1 << 60
    assert restriction(given) == Within(Moment.SENT_AT, 1_000_001, 1 << 60, False)


@pytest.mark.parametrize(
    "given",
    [
        v1.Restriction(text=v1.TextRestriction(value="x")),
        v1.Restriction(compare=v1.CompareRestriction(property=v1.COMPARE_PROPERTY_UID)),
        v1.Restriction(time=v1.TimeRestriction()),
        v1.Restriction(header=v1.HeaderRestriction(value="x")),
        v1.Restriction(uids=UidSet()),
        v1.Restriction(uids=UidSet(folder_id=1, ranges=[IdRange(first=0, last=2)])),
        v1.Restriction(ids=MessageIdSet(message_ids=[0])),
    ],
)
def test_a_condition_that_says_half_is_refused(given: v1.Restriction) -> None:
    with pytest.raises(InvalidArgument):
        restriction(given)


def call_of(box: Box, directory: Path) -> Call:
    ring = KeyRing({1: b"k" * 32})
    core: Any = SimpleNamespace(
        db=box.database,
        contents=SimpleNamespace(directory=directory),
        epoch=1,
        directory=SimpleNamespace(keys=ring),
        searches=Searches(),
    )
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
    assert answer.change_number == (await box.read_in(box.inbox, folders.get)).change_number


async def test_a_search_of_nothing_or_of_another_mailbox(box: Box, other: Box, tmp_path: Path) -> None:
    call = call_of(box, tmp_path)
    answer = await api.search_messages(call, SearchMessagesRequest(folder_id=box.inbox))
    assert (list(answer.uids), answer.highest_match_change_number) == ([], 0)
    with pytest.raises(FolderNotFound):
        await api.search_messages(call, SearchMessagesRequest(folder_id=999))
    with pytest.raises(MailboxNotFound):
        await api.search_messages(call, SearchMessagesRequest(mailbox_id=other.id, folder_id=other.inbox))


# --- QueryMessages ------------------------------------------------------------------------------------------------

SORTS: dict[int, Any] = {
    v1.SORT_PROPERTY_RECEIVED_AT: lambda one: one.received_at,
    v1.SORT_PROPERTY_SENT_AT: lambda one: (
        one.received_at if one.facts.summary.sent_at is None else microseconds(one.facts.summary.sent_at)
    ),
    v1.SORT_PROPERTY_SIZE_OCTETS: lambda one: one.size,
    v1.SORT_PROPERTY_SUBJECT: lambda one: base_subject(fold(one.facts.summary.subject)[:2_000]),
    v1.SORT_PROPERTY_FROM: lambda one: fold(one.facts.summary.from_[0].address),
    v1.SORT_PROPERTY_UID: lambda one: one.placed.uid,
}


async def pages_of(call: Call, request: QueryMessagesRequest) -> list[int]:
    """The message ids of all pages."""
    found: list[int] = []
    while True:
        answer = await api.query_messages(call, request)
        assert len(answer.rows.message_ids) <= request.page_size
        found += answer.rows.message_ids
        if not answer.next_page_token:
            return found
        assert len(answer.rows.message_ids) == request.page_size
        request.page_token = answer.next_page_token


def in_order(known: list[Known], sort: list[v1.SortKey]) -> list[int]:
    found = sorted(known, key=lambda one: (one.placed.uid, one.placed.message_id))
    for key in reversed(sort):
        found.sort(key=SORTS[key.property], reverse=key.descending)
    # A reversed sort keeps ties in their order, and so does ours.
    return [one.placed.message_id for one in found]


@pytest.mark.parametrize("whole_mailbox", [False, True])
async def test_pages_are_the_matches_in_order_whatever_the_order(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole_mailbox: bool
) -> None:
    monkeypatch.setattr(search, "CANDIDATES", 6)
    monkeypatch.setattr(search, "BATCH", 4)
    rng = random.Random(9)
    known = await fill(box, rng, 40, files=0.2, directory=tmp_path)
    call, folder_id = call_of(box, tmp_path), 0 if whole_mailbox else box.inbox
    for wanted in (None, HasText(TextField.BODY, "rest"), HasText(TextField.SUBJECT, "cafe")):
        matching = [
            one
            for one in known
            if (whole_mailbox or one.folder_id == box.inbox) and (wanted is None or holds(one, wanted))
        ]
        for number in range(8):
            sort = [
                v1.SortKey(property=cast(Any, chosen), descending=rng.random() < 0.5)
                for chosen in rng.sample(list(SORTS), number % 3 + 1)
            ]
            request = QueryMessagesRequest(folder_id=folder_id, sort=sort, page_size=rng.choice([1, 3, 7, 100]))
            if wanted is not None:
                request.restriction.CopyFrom(text(wanted.needle, cast(Any, int(wanted.field))))
            assert await pages_of(call, request) == in_order(matching, sort)


@pytest.mark.parametrize("seed", range(6))
async def test_cut_pages_lose_and_double_no_row(box: Box, tmp_path: Path, seed: int) -> None:
    """Messages come and go between the pages: those that stay have one row each, in order, whatever the sizes are."""
    rng = random.Random(seed)
    known = await fill(box, rng, 60, files=0.1, directory=tmp_path)
    sort = [
        v1.SortKey(property=cast(Any, chosen), descending=rng.random() < 0.5)
        for chosen in rng.sample(list(SORTS), rng.randint(0, 3))
    ] or [v1.SortKey(property=v1.SORT_PROPERTY_RECEIVED_AT, descending=True)]
    others = [m1.MESSAGE_COLUMN_FLAGS, m1.MESSAGE_COLUMN_ENVELOPE, m1.MESSAGE_COLUMN_BODY_STRUCTURE]
    columns = [m1.MESSAGE_COLUMN_SUMMARY, *rng.sample(others, rng.randint(0, 3))]
    request = QueryMessagesRequest(sort=sort, columns=columns, page_size=rng.choice([5, 30, 1_000]))
    one_row = QueryMessagesRequest(columns=columns, page_size=1)
    largest = 0
    while (answer := await api.query_messages(call_of(box, tmp_path), one_row)).next_page_token:
        largest, one_row.page_token = max(largest, answer.ByteSize()), answer.next_page_token
    stays, found, cuts = {one.placed.message_id for one in known}, list[int](), 0
    while True:
        limit = largest + rng.randint(1_100, 4_000)
        while True:
            try:
                answer = await api.query_messages(replace(call_of(box, tmp_path), result_octets=limit), request)
                break
            except ResultTooLarge:  # a row that came later, or a token with long subjects, takes more room
                limit += 2_000
                assert limit < 100_000
        count = len(answer.rows.message_ids)
        assert 0 < count <= request.page_size and answer.ByteSize() <= limit
        cuts += count < request.page_size and bool(answer.next_page_token)
        found += answer.rows.message_ids
        if not answer.next_page_token:
            break
        request.page_token = answer.next_page_token
        gone = rng.choice(sorted(stays))
        stays.discard(gone)
        await box.write(removal.remove, Selection(None, IdSet.of([gone])), Mode.SOFT, NOW)
        await fill(box, rng, 1)
    assert len(set(found)) == len(found)
    wanted = [one for one in known if one.placed.message_id in stays]
    assert [message_id for message_id in found if message_id in stays] == in_order(wanted, sort)
    assert cuts or request.page_size == 5


async def test_one_row_that_is_too_large_names_the_stream(box: Box, tmp_path: Path) -> None:
    await box.fill(box.inbox, 2)
    small = replace(call_of(box, tmp_path), result_octets=1_040)
    with pytest.raises(ResultTooLarge) as refused:
        await api.query_messages(small, QueryMessagesRequest(columns=[m1.MESSAGE_COLUMN_SUMMARY]))
    assert refused.value.metadata["rpc"] == "MessageService/StreamMessages"


async def test_the_latest_come_first_unless_asked_otherwise_with_the_columns_asked_for(
    box: Box, tmp_path: Path
) -> None:
    for hours in (2, 3, 1):
        await box.fill(box.inbox, 1, received_at=NOW + hours * 3_600_000_000, flags=hours)
    columns = [m1.MESSAGE_COLUMN_FLAGS, m1.MESSAGE_COLUMN_SUMMARY]
    answer = await api.query_messages(call_of(box, tmp_path), QueryMessagesRequest(columns=columns))
    assert list(answer.rows.uids) == [2, 1, 3] and list(answer.rows.flags) == [3, 2, 1]
    assert [shown.subject for shown in answer.rows.summaries] == ["Lunch"] * 3
    assert not answer.rows.envelopes and not answer.next_page_token


async def test_a_page_token_is_good_for_its_question_alone(box: Box, other: Box, tmp_path: Path) -> None:
    await box.fill(box.inbox, 3)
    call = call_of(box, tmp_path)
    first = QueryMessagesRequest(folder_id=box.inbox, page_size=1)
    token = (await api.query_messages(call, first)).next_page_token
    assert (await api.query_messages(call, QueryMessagesRequest(folder_id=box.inbox, page_token=token))).rows.uids
    sort = [v1.SortKey(property=v1.SORT_PROPERTY_UID)]
    for changed in (
        QueryMessagesRequest(page_token=token),
        QueryMessagesRequest(folder_id=box.inbox, page_token=token, sort=sort),
        QueryMessagesRequest(folder_id=box.inbox, page_token=token, restriction=negated(0)),
        QueryMessagesRequest(folder_id=box.inbox, page_token=token[:-2]),
        QueryMessagesRequest(folder_id=box.inbox, page_token="x"),
        QueryMessagesRequest(folder_id=box.inbox, page_token="\u20ac" * 8),
    ):
        with pytest.raises(InvalidPageToken):
            await api.query_messages(call, changed)
    with pytest.raises(InvalidPageToken):  # a neighbour's, with equal ids and the same keys
        await api.query_messages(call_of(other, tmp_path), QueryMessagesRequest(folder_id=box.inbox, page_token=token))


async def test_a_token_sealed_by_a_newer_key_of_another_core_is_opened(box: Box, tmp_path: Path) -> None:
    await box.fill(box.inbox, 2)
    await box.write(lambda tx, _: keys.create(tx, NOW))
    ring = await box.database.read(keys.load)
    newer, older = call_of(box, tmp_path), call_of(box, tmp_path)
    cast(Any, newer.core).directory.keys = KeyRing(ring)
    cast(Any, older.core).directory.keys = KeyRing({0: b"o" * 32})
    token = (await api.query_messages(newer, QueryMessagesRequest(page_size=1))).next_page_token
    assert len((await api.query_messages(older, QueryMessagesRequest(page_token=token))).rows.uids) == 1


async def test_deleted_mail_is_in_no_answer(box: Box, tmp_path: Path) -> None:
    await box.fill(box.inbox, 2)
    await box.write(removal.remove, ids(1), Mode.SOFT, NOW)
    assert list((await api.query_messages(call_of(box, tmp_path), QueryMessagesRequest())).rows.message_ids) == [2]


async def test_at_most_four_sort_keys_and_none_unknown(box: Box, tmp_path: Path) -> None:
    key = v1.SortKey(property=v1.SORT_PROPERTY_UID)
    await api.query_messages(call_of(box, tmp_path), QueryMessagesRequest(sort=[key] * 4))
    with pytest.raises(TooComplex):
        await api.query_messages(call_of(box, tmp_path), QueryMessagesRequest(sort=[key] * 5))
    with pytest.raises(InvalidArgument):
        await api.query_messages(call_of(box, tmp_path), QueryMessagesRequest(sort=[v1.SortKey()]))
    with pytest.raises(FolderNotFound):
        await api.query_messages(call_of(box, tmp_path), QueryMessagesRequest(folder_id=999))
