"""The changes that bring a copy up to date, and the time for which they are kept."""

from __future__ import annotations

import pytest

from restante.errors import CursorInvalid, FolderNotFound, ResultTooLarge
from restante_mail.idset import EMPTY, IdSet
from restante_server.store import changed, changes, flags, mailboxes, removal, rows
from restante_server.store.changed import Behind
from restante_server.store.flags import FlagChange
from restante_server.store.removal import Mode
from tests.server.store.material import NOW, Box, uids


async def test_only_changes_above_a_number_are_returned(box: Box) -> None:  # RFC 3501 5.2
    await box.fill(box.inbox, 5)
    since = await box.read(mailboxes.change_number)
    nothing = await box.read_in(box.inbox, changes.folder_changes, since)
    assert (nothing.uids, nothing.vanished, nothing.change_number) == ([], EMPTY, since)
    await box.write(flags.change_flags, uids(box.inbox, 2, 4), FlagChange.ADD, 1)
    await box.write(removal.remove, uids(box.inbox, 1, 4), Mode.SOFT, NOW)
    await box.fill(box.inbox, 1)
    await box.fill(box.archive, 3)
    found = await box.read_in(box.inbox, changes.folder_changes, since)
    assert (found.uids, found.flags, found.vanished) == ([2, 6], [1, 0], IdSet.of([1, 4]))
    assert (found.change_number, found.uid_next) == (since + 3, 7)


async def test_too_many_changes_are_refused(box: Box) -> None:
    await box.fill(box.inbox, 3)
    with pytest.raises(ResultTooLarge):
        await box.read_in(box.inbox, changes.folder_changes, 0, most=2)
    with pytest.raises(FolderNotFound):
        await box.read_in(999, changes.folder_changes, 0)


async def test_too_many_removals_are_refused(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "MOST_VANISHED_OCTETS", 4)
    await box.fill(box.inbox, 8)
    await box.write(removal.remove, uids(box.inbox, 1, 3), Mode.SOFT, NOW)
    since = await box.read(mailboxes.change_number)
    await box.write(removal.remove, uids(box.inbox, 2), Mode.SOFT, NOW)
    await box.write(removal.remove, uids(box.inbox, 5), Mode.SOFT, NOW)
    assert (await box.read_in(box.inbox, changes.folder_changes, since)).vanished == IdSet.of([2, 5])
    with pytest.raises(ResultTooLarge):
        await box.read_in(box.inbox, changes.folder_changes, 0)
    monkeypatch.setattr(changes, "MOST_VANISHED", 1)  # the tombstone that reaches the octets may be large itself
    with pytest.raises(ResultTooLarge):
        await box.read_in(box.inbox, changes.folder_changes, since)


async def test_changes_in_pages_are_those_of_one_read(box: Box) -> None:
    await box.fill(box.inbox, 12)
    await box.fill(box.archive, 3)
    since = await box.read(mailboxes.change_number)
    await box.write(flags.change_flags, uids(box.inbox, (2, 9)), FlagChange.ADD, 4)
    for uid in (1, 4, 11, 12):
        await box.write(removal.remove, uids(box.inbox, uid), Mode.SOFT, NOW)
    await box.write(flags.change_flags, uids(box.inbox, 3), FlagChange.ADD, 1)
    vanished, flagged, behind, ended = EMPTY, dict[int, int](), Behind.number(since), False
    sizes = []
    while not ended:
        delta, behind, ended = await box.read_in(box.inbox, changed.page, since, behind, 3)
        vanished = vanished.union(delta.vanished)
        flagged.update(zip(delta.uids, delta.flags, strict=True))
        sizes.append((len(delta.uids), len(delta.vanished)))
    whole = await box.read_in(box.inbox, changes.folder_changes, since)
    assert (vanished, flagged) == (whole.vanished, dict(zip(whole.uids, whole.flags, strict=True)))
    assert (sizes, behind.removed) == ([(3, 3), (3, 1), (1, 0)], whole.change_number)


async def test_history_is_kept_for_a_time_and_then_said_to_be_gone(box: Box) -> None:
    await box.fill(box.inbox, 3)
    await box.write(removal.remove, uids(box.inbox, 1), Mode.SOFT, NOW)
    first = await box.read(mailboxes.change_number)
    await box.write(removal.remove, uids(box.inbox, 2), Mode.SOFT, NOW + 10)
    assert await box.database.read(changes.with_old_history, NOW + 1) == [box.id]
    assert await box.write(changes.forget_history, NOW + 1) == 1
    assert await box.write(changes.forget_history, NOW + 1) == 0
    assert await box.read(changes.history_from) == first
    with pytest.raises(CursorInvalid):
        await box.read_in(box.inbox, changes.folder_changes, first - 1)
    with pytest.raises(CursorInvalid):
        await box.read(changes.removals, first - 1)
    assert (await box.read_in(box.inbox, changes.folder_changes, first)).vanished == IdSet.of([2])


async def test_nothing_is_missing_of_a_folder_that_was_quiet_for_longer(box: Box) -> None:
    await box.fill(box.archive, 2)
    quiet = await box.read(mailboxes.change_number)
    await box.fill(box.inbox, 2)
    await box.write(removal.remove, uids(box.inbox, 1), Mode.SOFT, NOW)
    assert await box.write(changes.forget_history, NOW + 1) == 1
    found = await box.read_in(box.archive, changes.folder_changes, quiet)
    assert (found.uids, found.vanished, found.change_number) == ([], EMPTY, quiet)
    with pytest.raises(CursorInvalid):
        await box.read_in(box.archive, changes.folder_changes, quiet - 1)


async def test_a_delta_is_cut_into_pieces_by_rows_and_by_keywords(box: Box) -> None:
    await box.fill(box.inbox, 5)
    await box.write(flags.change_flags, uids(box.inbox, 1), FlagChange.ADD, 0, ["aaaa"])
    await box.write(flags.change_flags, uids(box.inbox, 2), FlagChange.ADD, 0, ["bbbb"])
    await box.write(removal.remove, uids(box.inbox, 5), Mode.SOFT, NOW)
    whole = await box.read_in(box.inbox, changes.folder_changes, 0)
    assert [piece.uids for piece in whole.pieces(3, 1_000)] == [[1, 2], [3, 4]]
    assert [piece.uids for piece in whole.pieces(9, 6)] == [[1], [2], [3, 4]]
    assert [piece.vanished for piece in whole.pieces(3, 1_000)] == [IdSet.of([5]), EMPTY]
    await box.write(removal.remove, uids(box.inbox, 1, 3), Mode.SOFT, NOW)
    holes = await box.read_in(box.inbox, changes.folder_changes, 0)
    assert [(piece.uids, len(piece.vanished)) for piece in holes.pieces(2, 99)] == [([], 2), ([2], 1), ([4], 0)]
    nothing = await box.read_in(box.archive, changes.folder_changes, 0)
    assert [piece.uids for piece in nothing.pieces(3, 9)] == [[]]


@pytest.mark.parametrize("runs", [[(1, 1_000)], [1, 3, (5, 7), (10, 900)]])
@pytest.mark.parametrize("most", [1, 3, 100])
async def test_pages_cover_a_selection_once(box: Box, runs: list[int | tuple[int, int]], most: int) -> None:
    await box.fill(box.inbox, 12)
    await box.write(removal.remove, uids(box.inbox, 2, 6), Mode.HARD, NOW)
    wanted = uids(box.inbox, *runs)
    names = frozenset({"flags", "preview", "size_octets"})
    seen: list[int] = []
    after: int | None = 0
    while after is not None:
        page = await box.read(rows.page, wanted, names, after=after, most=most)
        assert len(page) <= most
        assert set(page.columns["preview"]) <= {"At noon?"}
        seen += page.columns["uid"]
        after = page.after
    assert seen == [uid for uid in range(1, 13) if uid in wanted.ids and uid not in (2, 6)]


async def test_pages_can_be_held_to_what_changed(box: Box) -> None:
    await box.fill(box.inbox, 3)
    since = await box.read(mailboxes.change_number)
    await box.write(flags.change_flags, uids(box.inbox, 2), FlagChange.ADD, 1)
    page = await box.read(rows.page, uids(box.inbox, (1, 3)), frozenset[str](), most=10, changed_since=since)
    assert (page.columns["uid"], page.after) == ([2], None)
