"""Placing messages: UIDs, ids, counters, quota; several mailboxes in one set."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection

from restante.errors import FolderNotFound, QuotaExceeded
from restante_server.db.effects import events, peek
from restante_server.db.operation import Write
from restante_server.directory.rights import Place
from restante_server.store import folders, mailboxes, messages
from restante_server.store.changes import CHANGED
from restante_server.store.messages import NewMessage, Placed, Placement
from tests.server.store.material import SIMPLE, Box, add_to, listings, new_messages, previews


async def test_messages_get_ascending_uids_and_one_change_number(box: Box) -> None:
    before = await box.read(mailboxes.change_number)
    placed = await box.fill(box.inbox, 3)
    again = await box.fill(box.inbox, 2, flags=1)
    assert [message.uid for message in placed + again] == [1, 2, 3, 4, 5]
    assert {message.change_number for message in placed} == {before + 1}
    assert {message.change_number for message in again} == {before + 2}
    facts = await box.read_in(box.inbox, folders.get)
    assert (facts.message_count, facts.unread_count, facts.uid_next) == (5, 3, 6)
    assert facts.size_octets == 5 * (len(SIMPLE) + 17)
    assert facts.change_number == before + 2


async def test_one_set_reaches_many_mailboxes_and_folders(box: Box, other: Box) -> None:
    def run(tx: Connection) -> list[Placed]:
        first, second, third = new_messages(tx, 3)
        assert peek(tx, CHANGED) is None
        placed = messages.add_all(
            tx,
            [
                Placement(box.place(tx, box.inbox), first),
                Placement(other.place(tx, other.inbox), second),
                Placement(box.place(tx, box.archive), third),
            ],
        )
        touched = events(tx, CHANGED)
        assert touched[box.id].folders.keys() == {box.inbox, box.archive}
        assert touched[other.id].folders.keys() == {other.inbox}
        return placed

    first, second, third = await box.database.write(Write(run, mailboxes=frozenset({box.id, other.id})))
    assert (first.uid, second.uid, third.uid) == (1, 1, 1)
    assert first.change_number == third.change_number
    assert third.message_id == first.message_id + 1


@pytest.mark.parametrize("is_new", [True, False])
async def test_a_content_has_one_listing_which_lies_under_the_mailbox_of_its_first_message(
    box: Box, other: Box, is_new: bool
) -> None:
    def place(tx: Connection, item: NewMessage, *wanted: Box) -> None:
        messages.add_all(tx, [Placement(one.place(tx, one.inbox), item) for one in wanted])

    def first(tx: Connection) -> NewMessage:
        (item,) = new_messages(tx, 1)
        place(tx, item._replace(content_is_new=is_new), other, box)
        return item

    both = frozenset({box.id, other.id})
    item = await box.database.write(Write(first, mailboxes=both))
    once = [(other.id, item.content_id)]
    assert await box.read(listings) == once
    await box.database.write(Write(lambda tx: place(tx, item, box, other), mailboxes=both))
    assert (await box.read(listings), await box.read(previews)) == (once, ["At noon?"] * 2)


async def test_quota_refuses_what_does_not_fit_and_writes_nothing(box: Box) -> None:
    size = len(SIMPLE) + 17
    await box.write(mailboxes.set_quota, 2 * size)
    await box.fill(box.inbox, 1)
    with pytest.raises(QuotaExceeded) as refused:
        await box.fill(box.inbox, 2)
    assert refused.value.metadata == {"limit_octets": str(2 * size), "used_octets": str(size)}
    assert (await box.read(mailboxes.get)).message_count == 1

    def promised(tx: Connection, place: Place) -> object:
        return add_to(tx, place, box.inbox, new_messages(tx, 2), within_quota=False)

    await box.write(promised)
    assert (await box.read(mailboxes.get)).message_count == 3


async def test_a_folder_that_is_not_there_takes_nothing(box: Box) -> None:
    with pytest.raises(FolderNotFound):
        await box.fill(999, 1)
