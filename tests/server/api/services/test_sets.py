"""Sets of messages in bulk requests: a restriction selects what a query would find, and nothing that changed since."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from google.protobuf.message import Message
from sqlalchemy import Connection

from restante.errors import (
    FolderNotFound,
    InvalidArgument,
    MailboxNotFound,
    MessageNotFound,
    RequestIdReused,
    TooComplex,
)
from restante.methods import Method
from restante.v1 import message_pb2 as v1
from restante.v1 import methods
from restante.v1 import search_pb2 as s1
from restante.v1.message_pb2 import MatchingMessages, MessageSet
from restante.v1.search_pb2 import Restriction
from restante.v1.types_pb2 import IdRange, MessageIdSet, UidSet
from restante_mail.ranges import runs
from restante_server.db.operation import Write
from restante_server.directory import rights
from restante_server.store import messages
from tests.server.api.people import Bench
from tests.server.api.services.test_mail import Mail, bench, bob, carol  # noqa: F401 - fixtures
from tests.server.store.material import new_messages

REQUEST_ID = b"0123456789abcdef"
SUBJECTS = ("Lunch", "Supper", "Report", "Lunch and report")
BODIES = ("At noon?", "See the annex.", "Nothing new.")


def letter(subject: str, body: str) -> bytes:
    return f"From: bob@example.test\r\nSubject: {subject}\r\n\r\n{body}\r\n".encode()


def text(value: str, field: s1.TextField.ValueType = s1.TEXT_FIELD_ANY) -> Restriction:
    return Restriction(text=s1.TextRestriction(field=field, value=value))


def flagged(bit: int, present: bool = True) -> Restriction:
    return Restriction(flags=s1.FlagRestriction(mask=bit, value=bit if present else 0))


def both(*parts: Restriction) -> Restriction:
    return Restriction(all_of=s1.RestrictionList(restrictions=parts))


def matching(restriction: Restriction | None = None, folder_id: int = 0) -> MessageSet:
    return MessageSet(matching=MatchingMessages(folder_id=folder_id, restriction=restriction))


def by_id(*message_ids: int) -> MessageSet:
    return MessageSet(ids=MessageIdSet(message_ids=message_ids))


def by_uid(folder_id: int, *uids: int) -> MessageSet:
    ranges = [IdRange(first=first, last=last) for first, last in runs(uids)]
    return MessageSet(uids=UidSet(folder_id=folder_id, ranges=ranges))


def numbers(given: Any) -> list[int]:
    """The numbers of runs, in their order."""
    return [number for run in given for number in range(run.first, run.last + 1)]


RESTRICTIONS = (
    Restriction(),
    text("lunch"),
    text("annex", s1.TEXT_FIELD_BODY),
    text("report", s1.TEXT_FIELD_SUBJECT),
    flagged(1),
    flagged(4, present=False),
    both(flagged(1, present=False), text("noon")),
    Restriction(negation=text("annex")),
    Restriction(any_of=s1.RestrictionList(restrictions=[flagged(4), text("new")])),
    Restriction(header=s1.HeaderRestriction(name="Subject", value="supper")),
    Restriction(any_of=s1.RestrictionList()),
)


async def fill(mail: Mail, chance: random.Random, count: int) -> list[int]:
    """Put messages into some folders, move some, and return the folders' ids."""
    places = [(await mail.folder(name)).folder_id for name in ("Inbox", "Archive", "Drafts")]
    for _ in range(count):
        content = letter(chance.choice(SUBJECTS), chance.choice(BODIES))
        added = await mail.append(chance.choice(places), content, flags=chance.choice((0, 1, 4, 5)))
        if chance.random() < 0.3:  # ids and UIDs of a folder differ in their order
            await mail.call(
                methods.MOVE_MESSAGES,
                messages=by_id(max(1, added.message_id - 1)),
                target_folder_id=chance.choice(places),
            )
    return places


async def everything(mail: Mail) -> list[tuple[int, ...]]:
    """(folder, UID, message id, flags) of all messages of a mailbox."""
    found = await mail.call(
        methods.BATCH_GET_MESSAGES, messages=matching(), columns=[v1.MESSAGE_COLUMN_FOLDER, v1.MESSAGE_COLUMN_FLAGS]
    )
    rows = found.rows
    return sorted(zip(rows.folder_ids, rows.uids, rows.message_ids, rows.flags, strict=True))


async def queried(mail: Mail, restriction: Restriction, folder_id: int) -> list[tuple[int, int]]:
    """(message id, UID) of the messages that a query finds, by UID in a folder and else by message id."""
    answer = await mail.call(methods.QUERY_MESSAGES, restriction=restriction, folder_id=folder_id, page_size=1000)
    found = list(zip(answer.rows.message_ids, answer.rows.uids, strict=True))
    return sorted(found, key=lambda one: one[1] if folder_id else one[0])


def requests(chance: random.Random, places: list[int]) -> tuple[Method[Any, Any], dict[str, Any]]:
    """A bulk request without its messages."""
    target = chance.choice(places)
    return chance.choice(
        (
            (methods.UPDATE_MESSAGES, {"operation": chance.choice((1, 2, 3)), "flags": chance.choice((1, 4, 8))}),
            (methods.UPDATE_MESSAGES, {"operation": chance.choice((1, 2)), "keywords": ["work"]}),
            (methods.COPY_MESSAGES, {"target_folder_id": target}),
            (methods.MOVE_MESSAGES, {"target_folder_id": target}),
            (methods.DELETE_MESSAGES, {"mode": chance.choice((1, 2, 3))}),
            (methods.DELETE_MESSAGES, {"mode": v1.DELETE_MODE_SOFT, "only_flagged_deleted": True}),
        )
    )


def comparable(answer: Message) -> dict[str, Any]:
    """The fields of an answer, without the ids of its mailbox and without UIDVALIDITY."""
    fields = {field.name: value for field, value in answer.ListFields() if not field.name.endswith("validity")}
    if "commit" in fields:
        fields["commit"] = answer.commit.change_number  # type: ignore[attr-defined]
    return {name: numbers(value) if name.endswith(("_ids", "_uids")) else value for name, value in fields.items()}


@pytest.mark.parametrize("seed", range(4))
async def test_a_bulk_request_with_a_restriction_does_what_a_query_and_a_bulk_request_with_ids_do(
    bob: Mail,  # noqa: F811
    carol: Mail,  # noqa: F811
    seed: int,
) -> None:
    """Two mailboxes get the same mail, so that they give the same ids."""
    places = await fill(bob, random.Random(seed), 24)
    assert await fill(carol, random.Random(seed), 24) == places
    assert await everything(bob) == await everything(carol)
    chance = random.Random(seed)
    for _ in range(25):
        method, fields = requests(chance, places)
        if method is methods.COPY_MESSAGES and len(await everything(bob)) > 200:
            method, fields = methods.DELETE_MESSAGES, {"mode": v1.DELETE_MODE_HARD}
        restriction, folder_id = chance.choice(RESTRICTIONS), chance.choice((0, *places))
        found = await queried(carol, restriction, folder_id)
        named = by_uid(folder_id, *(uid for _, uid in found)) if folder_id else by_id(*(one for one, _ in found))
        done = await bob.call(method, messages=matching(restriction, folder_id), **fields)
        expected = await carol.call(method, messages=named, **fields)
        assert comparable(done) == comparable(expected), (method.path, fields, restriction, folder_id)
        assert await everything(bob) == await everything(carol)
        if chance.random() < 0.5:
            for mail in (bob, carol):
                await mail.append(places[0], letter("Lunch", BODIES[0]), flags=8)


async def test_matching_messages_are_read_in_the_order_of_uids_or_of_ids(bob: Mail) -> None:  # noqa: F811
    inbox, archive = (await bob.folder("Inbox")).folder_id, (await bob.folder("Archive")).folder_id
    ids = [(await bob.append(inbox, letter("Lunch", body))).message_id for body in BODIES]
    await bob.append(inbox, letter("Supper", "No."))
    await bob.call(methods.MOVE_MESSAGES, messages=by_id(ids[0]), target_folder_id=archive)
    await bob.call(methods.MOVE_MESSAGES, messages=by_id(ids[0]), target_folder_id=inbox)  # now the last of the folder
    lunch = text("lunch", s1.TEXT_FIELD_SUBJECT)
    got = await bob.call(methods.BATCH_GET_MESSAGES, messages=matching(lunch, inbox))
    assert list(got.rows.message_ids) == [ids[1], ids[2], ids[0]]
    got = await bob.call(methods.BATCH_GET_MESSAGES, messages=matching(lunch), mark_seen=True)
    assert list(got.rows.message_ids) == ids
    streamed = await bob.stream(
        "MessageService", "StreamMessages", v1.StreamMessagesRequest(messages=matching(flagged(1), inbox))
    )
    assert [one for batch in streamed for one in batch.rows.message_ids] == [ids[1], ids[2], ids[0]]
    (empty,) = [await bob.call(methods.BATCH_GET_MESSAGES, messages=matching(text("absent"), inbox))]
    assert not empty.rows.message_ids


@pytest.mark.parametrize("whole_mailbox", [False, True])
async def test_a_stream_that_is_opened_again_goes_on_with_the_messages_of_the_first(
    bob: Mail,  # noqa: F811
    whole_mailbox: bool,
) -> None:
    inbox = (await bob.folder("Inbox")).folder_id
    folder_id = 0 if whole_mailbox else inbox
    ids = [(await bob.append(inbox, letter("Lunch", body))).message_id for body in BODIES]
    condition = text("lunch")
    for _ in range(15):  # the deepest tree
        condition = both(condition)
    request = v1.StreamMessagesRequest(messages=matching(condition, folder_id))
    first, *others = await bob.stream("MessageService", "StreamMessages", request)
    assert list(first.rows.message_ids) == ids and not others
    await bob.append(inbox, letter("Lunch", "Too late."))
    request.messages.matching.above = first.rows.message_ids[0] if whole_mailbox else first.rows.uids[0]
    request.messages.matching.below = first.matching_below
    (again,) = await bob.stream("MessageService", "StreamMessages", request)
    assert list(again.rows.message_ids) == ids[1:]


async def test_answers_pair_ids_with_uids_by_position(bob: Mail) -> None:  # noqa: F811
    inbox, archive = (await bob.folder("Inbox")).folder_id, (await bob.folder("Archive")).folder_id
    ids = [(await bob.append(inbox)).message_id for _ in range(4)]
    await bob.call(methods.MOVE_MESSAGES, messages=by_id(ids[0]), target_folder_id=archive)
    await bob.call(methods.MOVE_MESSAGES, messages=by_id(ids[0]), target_folder_id=inbox)
    order = [ids[1], ids[2], ids[3], ids[0]]  # by UID 2, 3, 4, 5
    search = await bob.call(methods.SEARCH_MESSAGES, folder_id=inbox, with_message_ids=True)
    assert (numbers(search.uids), numbers(search.message_ids)) == ([2, 3, 4, 5], order)
    assert not (await bob.call(methods.SEARCH_MESSAGES, folder_id=inbox)).message_ids
    copied = await bob.call(methods.COPY_MESSAGES, messages=by_uid(inbox, 2, 3, 5), target_folder_id=archive)
    assert (numbers(copied.source_uids), numbers(copied.source_message_ids)) == ([2, 3, 5], [*order[:2], order[3]])
    rows = (await bob.call(methods.BATCH_GET_MESSAGES, messages=by_uid(archive, *numbers(copied.target_uids)))).rows
    assert list(rows.message_ids) == numbers(copied.target_message_ids)
    moved = await bob.call(methods.MOVE_MESSAGES, messages=matching(None, inbox), target_folder_id=archive)
    assert (numbers(moved.source_uids), numbers(moved.message_ids)) == ([2, 3, 4, 5], order)
    assert len(numbers(moved.target_uids)) == 4
    gone = await bob.call(methods.DELETE_MESSAGES, messages=by_id(*order), mode=v1.DELETE_MODE_SOFT)
    assert (numbers(gone.deleted_message_ids), list(gone.deleted_uids)) == (sorted(order), [])
    back = await bob.call(methods.RECOVER_MESSAGES, message_ids=[order[3], order[1]], target_folder_id=inbox)
    assert (list(back.message_ids), list(back.folder_ids), list(back.uids)) == ([ids[0], ids[2]], [inbox] * 2, [6, 7])


async def test_the_whole_mailbox_is_searched_without_a_folder(bob: Mail) -> None:  # noqa: F811
    inbox, archive = (await bob.folder("Inbox")).folder_id, (await bob.folder("Archive")).folder_id
    ids = [(await bob.append(folder, letter("Lunch", BODIES[0]))).message_id for folder in (archive, inbox, archive)]
    await bob.append(inbox, letter("Supper", BODIES[1]))
    await bob.call(methods.DELETE_MESSAGES, messages=by_id(ids[1]), mode=v1.DELETE_MODE_SOFT)
    found = await bob.call(methods.SEARCH_MESSAGES, restriction=text("lunch"))
    assert (numbers(found.message_ids), list(found.uids)) == ([ids[0], ids[2]], [])
    assert found.change_number == (await bob.call(methods.GET_MAILBOX)).mailbox.change_number


async def test_a_set_that_names_nothing_is_refused_and_an_empty_one_does_nothing(bob: Mail) -> None:  # noqa: F811
    inbox = (await bob.folder("Inbox")).folder_id
    added = await bob.append(inbox)
    requests: list[tuple[Method[Any, Any], dict[str, Any]]] = [
        (methods.UPDATE_MESSAGES, {"operation": 1, "flags": 1}),
        (methods.COPY_MESSAGES, {"target_folder_id": inbox}),
        (methods.MOVE_MESSAGES, {"target_folder_id": inbox}),
        (methods.DELETE_MESSAGES, {"mode": v1.DELETE_MODE_HARD}),
        (methods.BATCH_GET_MESSAGES, {}),
    ]
    nothing = (MessageSet(ids=MessageIdSet()), by_uid(inbox), matching(text("absent")), matching(text("absent"), inbox))
    for method, fields in requests:
        for unset in (None, MessageSet()):
            with pytest.raises(InvalidArgument) as refused:
                await bob.call(method, messages=unset, **fields)
            assert [one.field for one in refused.value.violations or ()] in (["messages"], [])
            assert refused.value.metadata["field"] == "messages"
        with pytest.raises(InvalidArgument) as refused:
            await bob.call(method, messages=MessageSet(uids=UidSet()), **fields)
        assert refused.value.metadata["field"] == "messages.uids.folder_id"
        for empty in nothing:
            await bob.call(method, messages=empty, **fields)
    assert await everything(bob) == [(inbox, 1, added.message_id, 0)]


async def test_a_bad_restriction_is_refused_with_its_field(bob: Mail) -> None:  # noqa: F811
    deep = Restriction()
    for _ in range(16):
        deep = Restriction(negation=deep)
    for method, fields in (
        (methods.DELETE_MESSAGES, {"mode": v1.DELETE_MODE_HARD}),
        (methods.COPY_MESSAGES, {"target_folder_id": 1}),
        (methods.BATCH_GET_MESSAGES, {}),
    ):
        with pytest.raises(TooComplex):
            await bob.call(method, messages=matching(deep), **fields)
        with pytest.raises(InvalidArgument) as refused:
            await bob.call(method, messages=matching(Restriction(text=s1.TextRestriction(value="x"))), **fields)
        assert refused.value.metadata["field"] == "messages.matching.restriction.text.field"
        with pytest.raises(FolderNotFound):
            await bob.call(method, messages=matching(None, 999), **fields)
        with pytest.raises(MailboxNotFound):
            await bob.call(method, messages=matching(), mailbox_id=999, **fields)


async def test_messages_that_changed_stay_and_are_listed(bob: Mail) -> None:  # noqa: F811
    inbox, archive = await bob.folder("Inbox"), (await bob.folder("Archive")).folder_id
    ids = [(await bob.append(inbox.folder_id)).message_id for _ in range(4)]
    since = (await bob.folder("Inbox")).change_number
    await bob.call(methods.UPDATE_MESSAGES, messages=by_id(ids[1], ids[3]), operation=1, flags=4)
    everything_there = by_uid(inbox.folder_id, 1, 2, 3, 4)
    condition = {"messages": everything_there, "if_change_number": since}
    with pytest.raises(MessageNotFound):
        await bob.call(methods.MOVE_MESSAGES, **condition, target_folder_id=archive, if_message_count=3)
    moved = await bob.call(methods.MOVE_MESSAGES, **condition, target_folder_id=archive, if_message_count=4)
    assert (numbers(moved.message_ids), numbers(moved.modified_message_ids)) == ([ids[0], ids[2]], [ids[1], ids[3]])
    assert (numbers(moved.source_uids), numbers(moved.modified_uids)) == ([1, 3], [2, 4])
    for mode in (v1.DELETE_MODE_HARD, v1.DELETE_MODE_SOFT, v1.DELETE_MODE_TO_TRASH):
        kept = await bob.call(methods.DELETE_MESSAGES, **condition, mode=mode)
        assert (list(kept.deleted_uids), numbers(kept.modified_uids)) == ([], [2, 4])
        assert not kept.HasField("commit")
    named = {"messages": by_id(*ids), "if_change_number": moved.commit.change_number - 1}
    gone = await bob.call(methods.DELETE_MESSAGES, **named, mode=v1.DELETE_MODE_TO_TRASH)
    assert numbers(gone.deleted_message_ids) == [ids[1], ids[3]]
    assert (numbers(gone.modified_message_ids), list(gone.modified_uids)) == ([ids[0], ids[2]], [])


@asynccontextmanager
async def held_writes(bench: Bench, mailbox_id: int) -> AsyncIterator[None]:  # noqa: F811
    """Hold every write to a mailbox for the block."""
    begun, release = threading.Event(), threading.Event()

    def hold(_: Any) -> None:
        begun.set()
        assert release.wait(20)

    holding = asyncio.create_task(bench.core.db.write(Write(hold, mailboxes=frozenset({mailbox_id}))))
    assert await asyncio.to_thread(begun.wait, 20)
    try:
        yield
    finally:
        release.set()
        await holding


@pytest.mark.parametrize("whole_mailbox", [False, True])
@pytest.mark.parametrize("by_text", [False, True])
async def test_what_changes_between_the_evaluation_and_the_write_stays_and_is_listed(
    bench: Bench,  # noqa: F811
    bob: Mail,  # noqa: F811
    whole_mailbox: bool,
    by_text: bool,
) -> None:
    inbox, archive = (await bob.folder("Inbox")).folder_id, (await bob.folder("Archive")).folder_id
    ids = [(await bob.append(inbox, letter("Lunch", body))).message_id for body in BODIES]
    lunch = text("lunch", s1.TEXT_FIELD_ANY if by_text else s1.TEXT_FIELD_SUBJECT)
    chosen = matching(lunch, 0 if whole_mailbox else inbox)
    for method, fields in (
        (methods.UPDATE_MESSAGES, {"operation": 1, "flags": 1}),
        (methods.COPY_MESSAGES, {"target_folder_id": archive}),
        (methods.MOVE_MESSAGES, {"target_folder_id": archive}),
        (methods.DELETE_MESSAGES, {"mode": v1.DELETE_MODE_SOFT}),
    ):
        if method is methods.DELETE_MESSAGES:
            await bob.call(methods.DELETE_MESSAGES, messages=matching(None, archive), mode=v1.DELETE_MODE_HARD)
            await bob.append(inbox, letter("Lunch", "Again."))
        before = await everything(bob)
        async with held_writes(bench, bob.caller.mailbox_id):
            changing = asyncio.create_task(
                bob.call(methods.UPDATE_MESSAGES, messages=by_id(ids[1]), operation=1, flags=4, keywords=[method.field])
            )
            arriving = asyncio.create_task(bob.append(inbox, letter("Lunch", "Too late.")))
            await asyncio.sleep(0.1)  # both wait for the lane
            bulk = asyncio.create_task(bob.call(method, messages=chosen, **fields))
            await asyncio.sleep(0.3)  # the evaluation reads; its write waits behind them
        answer, arrived, _ = await bulk, await arriving, await changing
        assert numbers(answer.modified_message_ids) == [ids[1]], method.path
        assert len(numbers(answer.modified_uids)) == (0 if whole_mailbox else 1)
        after = {message_id: (folder_id, flags) for folder_id, _, message_id, flags in await everything(bob)}
        assert after[ids[1]] == (inbox, 4 | {row[2]: row[3] for row in before}[ids[1]])
        assert after[arrived.message_id] == (inbox, 0)
        await bob.call(methods.DELETE_MESSAGES, messages=by_id(arrived.message_id), mode=v1.DELETE_MODE_HARD)


async def test_a_smaller_if_change_number_goes_before_that_of_the_evaluation(bob: Mail) -> None:  # noqa: F811
    inbox = (await bob.folder("Inbox")).folder_id
    first = await bob.append(inbox)
    second = await bob.append(inbox)
    deleted = await bob.call(
        methods.DELETE_MESSAGES,
        messages=matching(None, inbox),
        mode=v1.DELETE_MODE_SOFT,
        if_change_number=first.commit.change_number,
    )
    assert numbers(deleted.deleted_message_ids) == [first.message_id]
    assert numbers(deleted.modified_message_ids) == [second.message_id]


@pytest.mark.parametrize("method", [methods.COPY_MESSAGES, methods.MOVE_MESSAGES], ids=lambda method: method.field)
async def test_a_repeated_request_gets_the_first_answer_and_evaluates_nothing(
    bob: Mail,  # noqa: F811
    method: Method[Any, Any],
) -> None:
    made = (await bob.call(methods.CREATE_FOLDER, path=["Source"])).folder
    archive = (await bob.folder("Archive")).folder_id
    for body in BODIES:
        await bob.append(made.folder_id, letter("Lunch", body))
    request = {"messages": matching(text("lunch"), made.folder_id), "target_folder_id": archive}
    first = await bob.call(method, **request, request_id=REQUEST_ID)
    assert len(numbers(first.target_uids)) == 3
    await bob.append(made.folder_id, letter("Lunch", "Another one."))
    there = await everything(bob)
    assert await bob.call(method, **request, request_id=REQUEST_ID) == first
    assert await everything(bob) == there
    await bob.call(methods.DELETE_FOLDER, folder_id=made.folder_id)
    assert await bob.call(method, **request, request_id=REQUEST_ID) == first  # an evaluation would miss the folder
    other = {**request, "messages": matching(text("supper"), made.folder_id)}
    with pytest.raises(RequestIdReused):
        await bob.call(method, **other, request_id=REQUEST_ID)


@pytest.mark.slow
async def test_a_hundred_thousand_messages_are_changed_in_one_folder_and_in_the_whole_mailbox(
    bench: Bench,  # noqa: F811
    bob: Mail,  # noqa: F811
) -> None:
    inbox, archive = (await bob.folder("Inbox")).folder_id, (await bob.folder("Archive")).folder_id

    def fill(tx: Connection) -> None:
        place = rights.system(bob.caller.mailbox_id, inbox)
        items = new_messages(tx, 20_000)
        messages.add(tx, place, [item._replace(flags=at % 2) for at, item in enumerate(items)])

    for _ in range(5):
        await bench.core.db.write(Write(fill, mailboxes=frozenset({bob.caller.mailbox_id})))
    seen, flagged_ones = flagged(1), flagged(4)
    updated = await bob.call(methods.UPDATE_MESSAGES, messages=matching(seen, inbox), operation=1, flags=4)
    assert (updated.updated_count, len(updated.modified_uids)) == (50_000, 0)
    moved = await bob.call(methods.MOVE_MESSAGES, messages=matching(flagged_ones), target_folder_id=archive)
    assert sum(run.last - run.first + 1 for run in moved.target_uids) == len(moved.message_ids) == 50_000
    copied = await bob.call(methods.COPY_MESSAGES, messages=matching(None, inbox), target_folder_id=archive)
    assert len(numbers(copied.target_message_ids)) == len(copied.source_uids) == 50_000
    found = await bob.call(methods.SEARCH_MESSAGES, restriction=Restriction(negation=seen))
    assert len(numbers(found.message_ids)) == 100_000
    deleted = await bob.call(methods.DELETE_MESSAGES, messages=matching(), mode=v1.DELETE_MODE_SOFT)
    assert len(numbers(deleted.deleted_message_ids)) == 150_000
    assert (await bob.call(methods.GET_MAILBOX)).mailbox.message_count == 0
    # The check at the end joins large tables that the planner still believes to be empty.
    await bench.core.db.write(Write(lambda tx: tx.exec_driver_sql("ANALYZE").close()))
