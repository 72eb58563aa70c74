"""The folder tree, its names and roles; subscriptions; recent messages."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from restante.errors import (
    ChangeConflict,
    FolderCycle,
    FolderExists,
    FolderIsSpecial,
    FolderNameInvalid,
    FolderNotFound,
    RestanteError,
)
from restante_server.store import folders, removal, subscriptions
from restante_server.store.folder_names import DEEPEST
from restante_server.store.folders import Role
from tests.server.store.material import NOW, Box


async def paths(box: Box) -> list[str]:
    return ["/".join(facts.path) for facts in await box.read(folders.tree)]


async def test_a_mailbox_begins_with_folders_that_are_subscribed(box: Box) -> None:
    found = await box.read(folders.tree)
    assert [(facts.display_name, facts.role) for facts in found] == [
        ("Inbox", Role.INBOX),
        ("Sent", Role.SENT),
        ("Drafts", Role.DRAFTS),
        ("Trash", Role.TRASH),
        ("Junk", Role.JUNK),
        ("Archive", Role.ARCHIVE),
    ]
    assert all(facts.subscribed for facts in found)
    assert len({facts.uid_validity for facts in found}) == 6


async def test_missing_parents_are_made_and_the_tree_shows_them_first(box: Box) -> None:
    made = await box.write(folders.create, ["Work", "2026", "Plans"], NOW)
    assert (await paths(box))[-3:] == ["Work", "Work/2026", "Work/2026/Plans"]
    facts = await box.read_in(made, folders.get)
    assert facts.path == ("Work", "2026", "Plans")
    assert (await box.read(folders.find, ["Work", "2026", "Plans"])) == made
    below = await box.write(folders.create, ["Notes"], NOW, parent=facts.parent_folder_id)
    assert (await box.read_in(below, folders.get)).path == ("Work", "2026", "Notes")


@pytest.mark.parametrize("name", ["INBOX", "inbox", "InBox"])
async def test_inbox_is_found_in_any_case_at_the_top_alone(box: Box, name: str) -> None:  # RFC 3501 5.1
    assert await box.read(folders.find, [name]) == box.inbox
    with pytest.raises(FolderExists):
        await box.write(folders.create, [name], NOW)
    child = await box.write(folders.create, [name, "x"], NOW)
    assert (await box.read_in(child, folders.get)).path == ("Inbox", "x")
    inner = await box.write(folders.create, ["Work", name], NOW)
    assert (await box.read_in(inner, folders.get)).path == ("Work", name)


@pytest.mark.parametrize("name", ["", "a/b", "a\x00b", "a\nb", "x" * 256, "\u00e4" * 128, "\ud800"])
async def test_names_that_folders_cannot_have(box: Box, name: str) -> None:
    with pytest.raises(FolderNameInvalid):
        await box.write(folders.create, [name], NOW)
    assert await box.read(folders.find, [name]) is None


async def test_names_are_kept_composed_and_distinguished_by_case(box: Box) -> None:
    made = await box.write(folders.create, ["Gru\u0308\u00dfe"], NOW)
    assert (await box.read_in(made, folders.get)).display_name == "Gr\u00fc\u00dfe"
    assert await box.read(folders.find, ["Gr\u00fc\u00dfe"]) == made
    assert await box.write(folders.create, ["gr\u00fc\u00dfe"], NOW) != made


async def test_a_folder_moves_with_its_children_and_subscriptions(box: Box) -> None:  # RFC 3501 6.3.5
    parent = await box.write(folders.create, ["a"], NOW)
    child = await box.write(folders.create, ["a", "b"], NOW)
    await box.write(folders.create, ["ab"], NOW)
    for path in (["a"], ["a", "b"], ["ab"], ["a", "gone"]):
        await box.write(subscriptions.add, path)
    change = await box.write_in(parent, folders.move, ["new", "place"], NOW)
    assert (await box.read_in(child, folders.get)).path == ("new", "place", "b")
    facts = await box.read_in(parent, folders.get)
    assert (facts.change_number, facts.subscribed) == (change, True)
    known = await box.read(subscriptions.paths)
    assert [path for path in known if path[0] in ("a", "ab", "new")] == [
        ("ab",),
        ("new", "place"),
        ("new", "place", "b"),
        ("new", "place", "gone"),
    ]
    assert await box.write_in(parent, folders.move, ["new", "place"], NOW) is None


async def test_moves_that_cannot_be(box: Box) -> None:
    parent = await box.write(folders.create, ["a"], NOW)
    child = await box.write(folders.create, ["a", "b"], NOW)
    refused: list[tuple[type[RestanteError], int, list[str], int]] = [
        (FolderExists, child, ["Sent"], 0),
        (FolderExists, child, ["iNBOX"], 0),
        (FolderIsSpecial, box.inbox, ["Old"], 0),
        (FolderCycle, parent, ["a", "b", "c"], 0),
        (FolderCycle, parent, ["c"], child),
        (FolderNotFound, 999, ["c"], 0),
        (FolderNotFound, child, ["c"], 999),
        (FolderNameInvalid, child, [], 0),
    ]
    before = await paths(box)
    for error, folder_id, path, target in refused:
        with pytest.raises(error):
            await box.write_in(folder_id, folders.move, path, NOW, parent=target)
    assert await paths(box) == before


async def test_a_moved_tree_stays_within_the_deepest_level(box: Box) -> None:
    at_end = await box.write(folders.create, [str(level) for level in range(DEEPEST - 1)], NOW)
    high = await box.write(folders.create, ["a"], NOW)
    await box.write(folders.create, ["a", "b"], NOW)
    before = await paths(box)
    with pytest.raises(FolderNameInvalid):
        await box.write_in(high, folders.move, ["a"], NOW, parent=at_end)
    assert await paths(box) == before
    low = await box.write(folders.create, ["c"], NOW)
    await box.write_in(low, folders.move, ["c"], NOW, parent=at_end)
    with pytest.raises(FolderNameInvalid):
        await box.write_in(high, folders.move, ["a"], NOW, parent=low)


async def test_a_role_belongs_to_one_folder(box: Box) -> None:
    made = await box.write(folders.create, ["Old mail"], NOW)
    refused: list[tuple[int, Role]] = [(made, Role.ARCHIVE), (made, Role.INBOX), (box.inbox, Role.NONE)]
    for folder_id, role in refused:
        with pytest.raises(FolderIsSpecial):
            await box.write_in(folder_id, folders.set_role, role)
    await box.write_in(box.archive, folders.set_role, Role.NONE)
    await box.write_in(made, folders.set_role, Role.ARCHIVE)
    found = await box.read(folders.with_role, Role.ARCHIVE)
    assert found is not None and found.folder_id == made
    with pytest.raises(FolderIsSpecial):
        await box.write(folders.create, ["Another"], NOW, role=Role.ARCHIVE)


async def test_changes_are_made_only_to_what_was_seen(box: Box) -> None:
    seen = (await box.read_in(box.archive, folders.get)).change_number
    await box.fill(box.archive, 1)
    changes: list[Callable[[], object]] = [
        lambda: box.write_in(box.archive, folders.move, ["Old"], NOW, if_change_number=seen),
        lambda: box.write_in(box.archive, folders.set_role, Role.NONE, if_change_number=seen),
    ]
    for change in changes:
        with pytest.raises(ChangeConflict):
            await change()  # type: ignore[misc]


async def test_the_same_name_again_has_another_uidvalidity(box: Box) -> None:  # RFC 3501 2.3.1.1
    first = await box.write(folders.create, ["x"], NOW)
    before = await box.read_in(first, folders.get)
    await box.write_in(first, removal.delete_folder, NOW)
    second = await box.write(folders.create, ["x"], NOW)
    assert second > first
    assert (await box.read_in(second, folders.get)).uid_validity > before.uid_validity


async def test_recent_messages_are_claimed_once(box: Box) -> None:
    await box.fill(box.inbox, 2)
    assert await box.write_in(box.inbox, folders.claim_recent) == (1, 3)
    assert await box.write_in(box.inbox, folders.claim_recent) == (3, 3)
    await box.fill(box.inbox, 1)
    assert await box.write_in(box.inbox, folders.claim_recent) == (3, 4)


async def test_names_are_subscribed_whether_or_not_a_folder_is_there(box: Box) -> None:  # RFC 3501 6.3.9
    await box.write(subscriptions.add, ["nowhere", "yet"])
    await box.write(subscriptions.add, ["nowhere", "yet"])
    assert ("nowhere", "yet") in await box.read(subscriptions.paths)
    await box.write(subscriptions.remove, ["iNbox"])
    assert not (await box.read_in(box.inbox, folders.get)).subscribed
    await box.write(subscriptions.remove, ["nowhere", "yet"])
    assert ("nowhere", "yet") not in await box.read(subscriptions.paths)
