"""Flags and keywords of many messages at once."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from sqlalchemy import Connection, delete

from restante.errors import FolderNotFound, InvalidArgument, LimitExceeded, TooComplex
from restante_mail.idset import EMPTY
from restante_server.db.schema import message
from restante_server.directory.rights import Place
from restante_server.store import changes, flags, folders, keywords, messages
from restante_server.store.flags import FlagChange, Updated
from restante_server.store.selection import Selection, members
from tests.server.store.material import Box, ids, new_messages, uids

SEEN, ANSWERED, FLAGGED, DELETED = 1, 2, 4, 8


async def change(
    box: Box, selection: Selection, how: FlagChange, bits: int, names: Sequence[str] = (), since: int | None = None
) -> Updated:
    return await box.write(flags.change_flags, selection, how, bits, names, if_change_number=since)


async def shown(box: Box) -> dict[int, tuple[int, str]]:
    """{UID: (flags, keywords)} of the Inbox."""
    found = await box.read_in(box.inbox, changes.folder_changes, 0)
    return dict(zip(found.uids, zip(found.flags, found.keywords, strict=True), strict=True))


@pytest.mark.parametrize(
    ("how", "bits", "after"),
    [
        (FlagChange.ADD, SEEN | DELETED, [9, 9, 13, 11]),
        (FlagChange.REMOVE, SEEN | DELETED, [0, 0, 4, 2]),
        (FlagChange.REPLACE, FLAGGED, [4, 4, 4, 4]),
        (FlagChange.REPLACE, 0, [0, 0, 0, 0]),
    ],
)
async def test_counts_stay_exact_whatever_was_set(box: Box, how: FlagChange, bits: int, after: list[int]) -> None:
    for before in (0, SEEN, FLAGGED | DELETED, SEEN | ANSWERED | DELETED):
        await box.fill(box.inbox, 1, flags=before)
    done = await change(box, uids(box.inbox, (1, 4)), how, bits)
    assert done.found == 4
    assert [bits for bits, _ in (await shown(box)).values()] == after


@pytest.mark.parametrize("runs", [[(1, 100)], [1, (3, 5), 7, (50, 1000)]])
async def test_ranges_of_any_shape_touch_exactly_what_they_name(box: Box, runs: list[int | tuple[int, int]]) -> None:
    await box.fill(box.inbox, 60)
    wanted = uids(box.inbox, *runs)
    done = await change(box, wanted, FlagChange.ADD, SEEN)
    seen = [uid for uid, (bits, _) in (await shown(box)).items() if bits]
    assert seen == [uid for uid in range(1, 61) if uid in wanted.ids]
    assert done.found == len(seen)


async def test_ten_thousand_runs_are_one_operation(box: Box) -> None:
    await box.fill(box.inbox, 300)
    done = await change(box, uids(box.inbox, *range(1, 20_001, 2)), FlagChange.ADD, SEEN)
    assert done.found == 150
    assert (await box.read_in(box.inbox, folders.get)).unread_count == 150


async def test_messages_are_named_by_id_across_folders(box: Box) -> None:
    first, second = (await box.fill(box.inbox, 1))[0], (await box.fill(box.archive, 1))[0]
    done = await change(box, ids(first.message_id, second.message_id, 999), FlagChange.ADD, SEEN)
    assert done.found == 2
    for folder_id in (box.inbox, box.archive):
        facts = await box.read_in(folder_id, folders.get)
        assert (facts.unread_count, facts.change_number) == (0, done.change_number)


async def test_what_does_not_differ_keeps_its_change_number(box: Box) -> None:
    await box.fill(box.inbox, 2)
    await change(box, uids(box.inbox, 1), FlagChange.ADD, SEEN)
    done = await change(box, uids(box.inbox, (1, 2)), FlagChange.ADD, SEEN)
    found = await box.read_in(box.inbox, changes.folder_changes, 0)
    assert found.change_numbers == [done.change_number - 1, done.change_number]  # type: ignore[operator]
    assert (await change(box, uids(box.inbox, (1, 2)), FlagChange.ADD, SEEN)) == Updated(None, 2)


async def test_a_message_changed_meanwhile_is_left_and_named(box: Box) -> None:  # RFC 7162 3.1.3.3
    await box.fill(box.inbox, 4)
    since = (await box.read_in(box.inbox, folders.get)).change_number
    await change(box, uids(box.inbox, 2, 3), FlagChange.ADD, FLAGGED)
    done = await change(box, uids(box.inbox, (1, 4)), FlagChange.ADD, SEEN, since=since)
    assert (done.found, done.left.uids) == (2, [2, 3])
    assert [bits for bits, _ in (await shown(box)).values()] == [SEEN, FLAGGED, FLAGGED, SEEN]
    named = await change(box, uids(box.inbox, (1, 4)), FlagChange.ADD, 0, ["x"], since=since)
    assert (named.found, named.left.uids) == (0, [1, 2, 3, 4])


async def test_keywords_keep_their_first_spelling_in_any_case(box: Box) -> None:  # RFC 3501 2.3.2
    await box.fill(box.inbox, 2)
    await change(box, uids(box.inbox, 1), FlagChange.ADD, 0, ["$Forwarded", "Work"])
    await change(box, uids(box.inbox, (1, 2)), FlagChange.ADD, SEEN, ["WORK", "apple"])
    assert await shown(box) == {1: (SEEN, " $Forwarded apple Work "), 2: (SEEN, " apple Work ")}
    await change(box, uids(box.inbox, (1, 2)), FlagChange.REMOVE, 0, ["work", "unknown"])
    assert await shown(box) == {1: (SEEN, " $Forwarded apple "), 2: (SEEN, " apple ")}
    await change(box, uids(box.inbox, 1), FlagChange.REPLACE, FLAGGED, ["WoRk"])
    assert await shown(box) == {1: (FLAGGED, " Work "), 2: (SEEN, " apple ")}


async def test_messages_with_different_keywords_change_in_one_operation(box: Box) -> None:
    for names in (["a"], ["b"], ["a"], ["new"], [], ["a", "b"]):
        await box.fill(box.inbox, 1, keywords=names)
        await box.fill(box.archive, 1, keywords=["a"])  # its message id lies between the others
    done = await change(box, uids(box.inbox, (1, 6)), FlagChange.ADD, 0, ["new"])
    sets = {1: " a new ", 2: " b new ", 3: " a new ", 4: " new ", 5: " new ", 6: " a b new "}
    assert await shown(box) == {uid: (0, names) for uid, names in sets.items()}
    delta = await box.read_in(box.inbox, changes.folder_changes, 0)
    assert [number == done.change_number for number in delta.change_numbers] == [True, True, True, False, True, True]
    assert set((await box.read_in(box.archive, changes.folder_changes, 0)).keywords) == {" a "}
    await change(box, uids(box.inbox, (1, 6)), FlagChange.REMOVE, SEEN, ["A"])
    assert [names for _, names in (await shown(box)).values()] == [
        " new ",
        " b new ",
        " new ",
        " new ",
        " new ",
        " b new ",
    ]


@pytest.mark.parametrize(
    "name", ["", "two words", "a" * 65, "par(en", "per%cent", "back\\slash", "n\u00e4me", 'q"', "]"]
)
async def test_keywords_are_atoms(box: Box, name: str) -> None:
    await box.fill(box.inbox, 1)
    with pytest.raises(InvalidArgument):
        await change(box, uids(box.inbox, 1), FlagChange.ADD, 0, [name])


async def test_a_mailbox_holds_so_many_keywords_and_unused_ones_make_room(box: Box) -> None:
    await box.fill(box.inbox, 1)
    many = [f"k{number}" for number in range(keywords.MOST_KEYWORDS)]
    await change(box, uids(box.inbox, 1), FlagChange.ADD, 0, many)
    with pytest.raises(LimitExceeded):
        await change(box, uids(box.inbox, 1), FlagChange.ADD, 0, ["onemore"])
    await change(box, uids(box.inbox, 1), FlagChange.REMOVE, 0, ["k7"])
    await change(box, uids(box.inbox, 1), FlagChange.ADD, 0, ["onemore"])
    assert " onemore " in (await shown(box))[1][1]


async def test_a_request_names_no_more_keywords_than_a_message_can_have(box: Box) -> None:
    await box.fill(box.inbox, 1)
    many = [f"k{number}" for number in range(keywords.MOST_KEYWORDS + 1)]
    for how in FlagChange:
        with pytest.raises(TooComplex):
            await change(box, uids(box.inbox, 1), how, 0, many)


async def test_keywords_of_messages_placed_together_make_no_room_for_each_other(box: Box) -> None:
    await box.fill(box.inbox, 1)
    many = [f"k{number}" for number in range(keywords.MOST_KEYWORDS - 1)]
    await change(box, uids(box.inbox, 1), FlagChange.ADD, 0, many)

    def place_two(tx: Connection, place: Place) -> None:
        new = [one for name in ("first", "second") for one in new_messages(tx, 1, keywords=(name,))]
        messages.add(tx, place, new)

    with pytest.raises(LimitExceeded):
        await box.write_in(box.inbox, place_two)


async def test_a_folder_that_is_not_there_is_an_error_and_missing_uids_are_none(box: Box) -> None:
    with pytest.raises(FolderNotFound):
        await change(box, uids(999, 1), FlagChange.ADD, SEEN)
    assert await change(box, uids(box.inbox, 1), FlagChange.ADD, SEEN) == Updated(None, 0)
    assert await change(box, Selection(box.inbox, EMPTY), FlagChange.ADD, SEEN) == Updated(None, 0)


async def test_neighbours_with_equal_ids_are_untouched(box: Box, other: Box) -> None:
    await box.fill(box.inbox, 3)
    await other.fill(other.inbox, 3)
    await change(box, uids(box.inbox, 1, 3), FlagChange.ADD, SEEN)
    await change(box, ids(2), FlagChange.ADD, FLAGGED)
    assert [bits for bits, _ in (await shown(other)).values()] == [0, 0, 0]


@pytest.mark.parametrize(
    ("how", "bits", "names"),
    [
        (FlagChange.ADD, ANSWERED, []),
        (FlagChange.REMOVE, SEEN, []),
        (FlagChange.REPLACE, DELETED, ["b"]),
        (FlagChange.ADD, FLAGGED, ["b"]),
        (FlagChange.REMOVE, FLAGGED, ["a"]),
    ],
)
@pytest.mark.parametrize("runs", [[(1, 9)], [5, (1, 3), 9]])
async def test_an_update_gives_the_changes_that_a_read_after_it_would_give(
    box: Box, how: FlagChange, bits: int, names: list[str], runs: list[int | tuple[int, int]]
) -> None:
    await box.fill(box.inbox, 2, flags=SEEN | FLAGGED, keywords=["a"])
    await box.fill(box.inbox, 2, flags=ANSWERED)
    await box.fill(box.inbox, 2, flags=DELETED, keywords=["b"])
    since = (await box.read_in(box.inbox, changes.folder_state)).change_number

    async def update(changes_since: int) -> Updated:
        return await box.write(
            flags.change_flags, uids(box.inbox, *runs), how, bits, names, changes_since=changes_since
        )

    first = await update(since)
    assert first.delta is not None
    assert first.delta == await box.read_in(box.inbox, changes.folder_changes, since)
    again = await update(first.delta.change_number)
    assert (again.change_number, again.delta) == (None, None)


async def test_an_update_gives_no_changes_to_a_client_that_misses_earlier_ones(box: Box) -> None:
    await box.fill(box.inbox, 2)
    since = (await box.read_in(box.inbox, changes.folder_state)).change_number
    await change(box, uids(box.inbox, 1), FlagChange.ADD, SEEN)
    done = await box.write(flags.change_flags, uids(box.inbox, 2), FlagChange.ADD, SEEN, changes_since=since)
    assert (done.found, done.delta) == (1, None)


async def test_scattered_messages_are_found_by_their_keys(box: Box) -> None:
    """SQLite plans the statement with the whole key: it does not look at all messages of the mailbox."""
    if box.database.file is None:
        return
    scattered = uids(box.inbox, 1, 3)

    def plan(tx: Connection, place: Place) -> str:
        statement = delete(message).where(members(scattered.kind)).compile(dialect=tx.dialect)
        values = [scattered.parameters(place.mailbox_id).get(name) for name in statement.positiontup or ()]
        return str(tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", tuple(values)).all())

    assert "SEARCH message USING PRIMARY KEY (mailbox_id=? AND message_id=?)" in await box.read(plan)
